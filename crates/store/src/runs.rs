//! Runs and their attempts as clients ask for them. What changes them is in [`change`], and what
//! follows from a change in [`transition`].

mod admit;
mod brief;
mod change;
mod claim;
mod container;
mod files;
mod list;
mod repair;
mod resolved;
mod transition;

pub use admit::Standing;
pub(crate) use admit::{job_room, key_room, rooms_of};
pub use change::Created;
pub(crate) use change::create_on;
pub(crate) use claim::{count, one};
pub(crate) use transition::Head;

use forebay_engine::{Gate, Phase, StopReason, Verdict};
use forebay_types::{Error, JobId, Millis, Result, RunId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

use crate::connection::sql;
use crate::jobs::document;
use crate::store::Store;
use crate::triggers::Firing;

pub use self::brief::{RunBrief, TaskBrief};
pub use self::container::{ChildPlace, ChildRun};
pub use self::list::{RunCursor, RunFilter};
pub use self::repair::{NewRepair, Repair};

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    Job,
    Submit,
    /// `dbutils.notebook.run`.
    Workflow,
    /// One element of a for-each task.
    Iteration,
    /// An execution context, which takes its cells from a client.
    Context,
}

impl RunKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "JOB_RUN",
            Self::Submit => "SUBMIT_RUN",
            Self::Workflow => "WORKFLOW_RUN",
            Self::Iteration => "ITERATION",
            Self::Context => "CONTEXT",
        }
    }

    /// Whether it shares the code and the rights of the run above it.
    #[must_use]
    pub fn is_part(self) -> bool {
        matches!(self, Self::Workflow | Self::Iteration)
    }

    /// Whether its attempt begins at once, without a slot of its own: it shares that of the one that
    /// started it, or has a ceiling of its own.
    pub(crate) fn is_nested(self) -> bool {
        matches!(self, Self::Workflow | Self::Context)
    }

    fn parse(text: &str) -> Self {
        match text {
            "JOB_RUN" => Self::Job,
            "WORKFLOW_RUN" => Self::Workflow,
            "ITERATION" => Self::Iteration,
            "CONTEXT" => Self::Context,
            _ => Self::Submit,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Run {
    pub id: RunId,
    pub job_id: Option<JobId>,
    pub kind: RunKind,
    pub name: String,
    pub creator_id: UserId,
    pub creator_name: String,
    pub settings: Map<String, Value>,
    pub parameters: Map<String, Value>,
    pub trigger: String,
    pub parent_attempt: Option<RunId>,
    /// The commit its Git source was found at, once it was.
    pub used_commit: Option<String>,
    pub timeout_ms: i64,
    pub phase: Phase,
    pub stopping: Option<StopReason>,
    pub message: String,
    pub created_at: Millis,
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
}

/// One try of one task; the newest of a task stands for the task.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub id: RunId,
    pub run_id: RunId,
    pub task: usize,
    pub task_key: String,
    pub attempt: u32,
    /// Whether it needs a slot; otherwise nobody works on it, and its children decide its end.
    pub takes_slot: bool,
    pub phase: Phase,
    pub code: Option<String>,
    pub message: String,
    pub error: Option<String>,
    pub trace: Option<String>,
    pub exit_value: Option<String>,
    pub cluster_id: Option<String>,
    pub created_at: Millis,
    /// When it got its slot.
    pub started_at: Option<Millis>,
    /// When it starts at the earliest, where that was to be waited for.
    pub due_at: Option<Millis>,
    /// When its program began, after the environment was ready.
    pub executed_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    /// Cost and identity of what ran, as the attempt's end recorded them.
    pub facts: Value,
}

/// What changes of an attempt while it is under way; what its run was made from does not.
#[derive(Debug, Clone)]
pub struct LiveAttempt {
    pub attempt: Attempt,
    /// The wish that the whole run stop.
    pub stopping: Option<StopReason>,
    /// The last repair of the run: each makes it from something else.
    pub repair: Option<RunId>,
}

/// The time-out of an active run.
#[derive(Debug, Clone, Copy)]
pub struct RunLimit {
    pub id: RunId,
    /// Its last repair: each has a time-out of its own.
    pub repair: Option<RunId>,
    /// Its start, or that of its last repair.
    pub began: Millis,
    pub timeout_ms: i64,
}

impl RunLimit {
    #[must_use]
    pub fn due(&self) -> Millis {
        self.began.plus_ms(self.timeout_ms)
    }
}

#[derive(Debug, Clone)]
pub struct NewRun {
    pub job_id: Option<JobId>,
    pub kind: RunKind,
    pub name: String,
    pub creator_id: UserId,
    pub creator_name: String,
    pub settings: Map<String, Value>,
    pub parameters: Map<String, Value>,
    pub trigger: &'static str,
    pub idempotency_token: Option<String>,
    pub parent_attempt: Option<RunId>,
    /// Which of the parent's planned children it is, when the parent waits without a slot.
    pub child_number: Option<usize>,
    /// Runs of the job that may be active at once; only counted when there is a job.
    pub concurrency_max: i64,
    /// Whether a run over that waits; otherwise it is skipped.
    pub queue: bool,
    /// 0 for no limit.
    pub timeout_ms: i64,
    /// The firing that makes it, which is recorded with it or not at all.
    pub firing: Option<Firing>,
    /// Whether the day's budget lets it start.
    pub gate: Gate,
    pub standing: Standing,
}

impl NewRun {
    /// A run that is admitted at once and ends when its tasks have.
    #[must_use]
    pub fn new(
        kind: RunKind,
        (creator_id, creator_name): (UserId, String),
        name: impl Into<String>,
        settings: Map<String, Value>,
    ) -> Self {
        Self {
            job_id: None,
            kind,
            name: name.into(),
            creator_id,
            creator_name,
            settings,
            parameters: Map::new(),
            trigger: "ONE_TIME",
            idempotency_token: None,
            parent_attempt: None,
            child_number: None,
            concurrency_max: 0,
            queue: false,
            timeout_ms: 0,
            firing: None,
            gate: Gate::Open,
            standing: Standing::default(),
        }
    }
}

/// What is known of an attempt when its program begins.
#[derive(Debug, Clone, Default)]
pub struct AttemptStart {
    pub cluster_id: Option<String>,
    /// The parameters after their references were filled in.
    pub resolved: Option<Value>,
    /// The first of its facts; null leaves them as they are.
    pub facts: Value,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct AttemptEnd {
    pub verdict: Verdict,
    /// The API's termination code, such as `RUN_EXECUTION_ERROR`.
    pub code: &'static str,
    pub message: String,
    pub error: Option<String>,
    pub trace: Option<String>,
    pub exit_value: Option<String>,
    /// All of them; null leaves what its start recorded.
    pub facts: Value,
    /// Whether another attempt could end better.
    pub retry: bool,
}

/// Runs with a time-out that is still to come, in the words of the index of them.
const TIMED: &str =
    "phase <> 'ended' AND timeout_ms > 0 AND stopping IS NULL AND started_at IS NOT NULL";

/// Of the job `?1` and the user `?2`, where they are given, and only waiting ones if `?3` says so.
const STOPPABLE: &str = "FROM run
    WHERE run.phase <> 'ended' AND run.stopping IS NULL
      AND (?1 IS NULL OR run.job_id = ?1) AND (?2 IS NULL OR run.creator_id = ?2)
      AND (NOT ?3 OR run.phase = 'queued')
    ORDER BY run.created_at, run.id LIMIT 1000";

const RUN_COLUMNS: &str =
    "run.id, run.job_id, run.kind, run.name, run.creator_id, run.creator_name,
    run.settings, run.parameters, run.trigger, run.parent_attempt, run.timeout_ms, run.phase,
    run.verdict, run.stopping, run.message, run.created_at, run.started_at, run.ended_at,
    (SELECT used_commit FROM run_checkout WHERE run_id = run.id) AS used_commit";

fn phase(phase: &str, verdict: Option<&str>) -> Phase {
    Phase::parse(phase, verdict).unwrap_or(Phase::Ended(Verdict::InternalError))
}

fn stop_reason(text: &str) -> StopReason {
    if text == "timed_out" {
        StopReason::TimedOut
    } else {
        StopReason::Canceled
    }
}

fn run_from_row(row: &Row<'_>) -> rusqlite::Result<Run> {
    let verdict: Option<String> = row.get("verdict")?;
    Ok(Run {
        id: RunId(row.get("id")?),
        job_id: row.get::<_, Option<i64>>("job_id")?.map(JobId),
        kind: RunKind::parse(row.get_ref("kind")?.as_str()?),
        name: row.get("name")?,
        creator_id: UserId(row.get("creator_id")?),
        creator_name: row.get("creator_name")?,
        settings: document(row.get_ref("settings")?.as_str()?),
        parameters: document(row.get_ref("parameters")?.as_str()?),
        trigger: row.get("trigger")?,
        parent_attempt: row.get::<_, Option<i64>>("parent_attempt")?.map(RunId),
        used_commit: row.get("used_commit")?,
        timeout_ms: row.get("timeout_ms")?,
        phase: phase(row.get_ref("phase")?.as_str()?, verdict.as_deref()),
        stopping: row
            .get::<_, Option<String>>("stopping")?
            .as_deref()
            .map(stop_reason),
        message: row.get("message")?,
        created_at: Millis(row.get("created_at")?),
        started_at: row.get::<_, Option<i64>>("started_at")?.map(Millis),
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Millis),
    })
}

pub(super) const ATTEMPT_COLUMNS: &str =
    "id, run_id, task, task_key, attempt, takes_slot, phase, verdict, code, message,
    error, trace, exit_value, cluster_id, created_at, started_at, executed_at, ended_at, facts,
    due_at";

pub(super) fn attempt_from_row(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let verdict: Option<String> = row.get("verdict")?;
    let facts: Option<String> = row.get("facts")?;
    Ok(Attempt {
        id: RunId(row.get("id")?),
        run_id: RunId(row.get("run_id")?),
        task: row.get::<_, u32>("task")? as usize,
        task_key: row.get("task_key")?,
        attempt: row.get("attempt")?,
        takes_slot: row.get("takes_slot")?,
        phase: phase(row.get_ref("phase")?.as_str()?, verdict.as_deref()),
        code: row.get("code")?,
        message: row.get("message")?,
        error: row.get("error")?,
        trace: row.get("trace")?,
        exit_value: row.get("exit_value")?,
        cluster_id: row.get("cluster_id")?,
        created_at: Millis(row.get("created_at")?),
        started_at: row.get::<_, Option<i64>>("started_at")?.map(Millis),
        due_at: row.get::<_, Option<i64>>("due_at")?.map(Millis),
        executed_at: row.get::<_, Option<i64>>("executed_at")?.map(Millis),
        ended_at: row.get::<_, Option<i64>>("ended_at")?.map(Millis),
        facts: facts
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or(Value::Null),
    })
}

pub(crate) fn missing_run(id: RunId) -> Error {
    Error::invalid(format!("Run {id} does not exist."))
}

pub(crate) fn run_get_on(conn: &Connection, id: RunId) -> Result<Option<Run>> {
    conn.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM run WHERE id = ?1"))
        .and_then(|mut statement| statement.query_row([id.0], run_from_row).optional())
        .map_err(|e| sql("read a run", e))
}

pub(crate) fn attempts_on(conn: &Connection, run: RunId) -> Result<Vec<Attempt>> {
    conn.prepare_cached(&format!(
        "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE run_id = ?1 ORDER BY task, attempt"
    ))
    .and_then(|mut statement| statement.query_map([run.0], attempt_from_row)?.collect())
    .map_err(|e| sql("read a run's attempts", e))
}

impl Store {
    /// # Errors
    /// `Run N does not exist.`, in the form that clients recognise.
    pub async fn run_get(&self, id: RunId) -> Result<(Run, Vec<Attempt>)> {
        self.read(move |conn| {
            let run = run_get_on(conn, id)?.ok_or_else(|| missing_run(id))?;
            Ok((run, attempts_on(conn, id)?))
        })
        .await
    }

    /// A run without its attempts.
    ///
    /// # Errors
    /// `Run N does not exist.`, in the form that clients recognise.
    pub async fn run_look(&self, id: RunId) -> Result<Run> {
        self.glance(|conn| run_get_on(conn, id)?.ok_or_else(|| missing_run(id)))
    }

    /// The attempt that a client calls by its own run id, with its run.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_get(&self, id: RunId) -> Result<Option<(Run, Attempt)>> {
        self.read(move |conn| {
            let attempt = conn
                .prepare_cached(&format!(
                    "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE id = ?1"
                ))
                .and_then(|mut statement| statement.query_row([id.0], attempt_from_row).optional())
                .map_err(|e| sql("read an attempt", e))?;
            let Some(attempt) = attempt else {
                return Ok(None);
            };
            Ok(run_get_on(conn, attempt.run_id)?.map(|run| (run, attempt)))
        })
        .await
    }

    /// The same without what the run was made from.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_look(&self, id: RunId) -> Result<Option<LiveAttempt>> {
        self.glance(|conn| {
            let read = |row: &Row<'_>| {
                let stopping: Option<String> = row.get("stopping")?;
                Ok(LiveAttempt {
                    attempt: attempt_from_row(row)?,
                    stopping: stopping.as_deref().map(stop_reason),
                    repair: row.get::<_, Option<i64>>("repair")?.map(RunId),
                })
            };
            conn.prepare_cached(&format!(
                "SELECT {ATTEMPT_COLUMNS},
                   (SELECT stopping FROM run WHERE run.id = attempt.run_id) AS stopping,
                   (SELECT max(id) FROM repair WHERE repair.run_id = attempt.run_id) AS repair
                 FROM attempt WHERE id = ?1"
            ))
            .and_then(|mut statement| statement.query_row([id.0], read).optional())
            .map_err(|e| sql("look at an attempt", e))
        })
    }

    /// The runs that attempts of `run` started, oldest first, at most 100 of them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_list_children(&self, run: RunId) -> Result<Vec<Run>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {RUN_COLUMNS} FROM run
                 WHERE parent_attempt IN (SELECT id FROM attempt WHERE run_id = ?1)
                 ORDER BY run.id LIMIT 100"
            ))
            .and_then(|mut statement| statement.query_map([run.0], run_from_row)?.collect())
            .map_err(|e| sql("list nested runs", e))
        })
        .await
    }

    /// The nested runs of one attempt that have not ended.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_list_nested(&self, attempt: RunId) -> Result<Vec<Run>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!(
                "SELECT {RUN_COLUMNS} FROM run WHERE parent_attempt = ?1 AND phase <> 'ended'"
            ))
            .and_then(|mut statement| statement.query_map([attempt.0], run_from_row)?.collect())
            .map_err(|e| sql("list nested runs", e))
        })
        .await
    }

    /// Attempts that somebody must be working on: after a restart, those whose processes died with
    /// the server.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_list_live(&self) -> Result<Vec<Attempt>> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {ATTEMPT_COLUMNS} FROM attempt
                 WHERE phase IN ('running', 'terminating') AND takes_slot ORDER BY id"
            ))
            .and_then(|mut statement| statement.query_map([], attempt_from_row)?.collect())
            .map_err(|e| sql("list live attempts", e))
        })
        .await
    }

    /// Active runs whose own time-out has passed, at most `most`, and when the next timer of any kind
    /// is due.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_timers(
        &self,
        now: Millis,
        most: usize,
    ) -> Result<(Vec<RunId>, Option<Millis>)> {
        self.glance(|conn| {
            let timed_out = conn
                .prepare_cached(&format!(
                    // The time of a run that is repaired begins anew.
                    "SELECT id FROM run WHERE {TIMED} AND started_at + timeout_ms <= ?1
                       AND NOT EXISTS (SELECT 1 FROM repair WHERE repair.run_id = run.id
                         AND repair.created_at + run.timeout_ms > ?1)
                     ORDER BY started_at + timeout_ms LIMIT ?2"
                ))
                .and_then(|mut statement| {
                    statement
                        .query_map(params![now.0, most], |row| row.get("id").map(RunId))?
                        .collect()
                })
                .map_err(|e| sql("read timers", e))?;
            let first = |query: &str| {
                conn.prepare_cached(query)
                    .and_then(|mut statement| {
                        statement.query_row([now.0], |row| row.get::<_, Option<i64>>(0))
                    })
                    .map_err(|e| sql("read timers", e))
            };
            let run = first(&format!(
                "SELECT min(started_at + timeout_ms) FROM run
                 WHERE {TIMED} AND started_at + timeout_ms > ?1"
            ))?;
            let retry = first("SELECT min(due_at) FROM line WHERE state = 'due' AND due_at > ?1")?;
            let without_slot = first(
                "SELECT min(due_at) FROM attempt
                 WHERE phase IN ('pending', 'waiting_for_retry') AND NOT takes_slot AND due_at > ?1",
            )?;
            let timers = [run, retry, without_slot];
            Ok((timed_out, timers.into_iter().flatten().min().map(Millis)))
        })
    }

    /// Active runs with a time-out of their own that nobody has stopped yet.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_limits(&self) -> Result<Vec<RunLimit>> {
        self.read(|conn| {
            let limit = |row: &Row<'_>| {
                Ok(RunLimit {
                    id: RunId(row.get("id")?),
                    repair: row.get::<_, Option<i64>>("repair")?.map(RunId),
                    began: Millis(row.get("began")?),
                    timeout_ms: row.get("timeout_ms")?,
                })
            };
            conn.prepare_cached(&format!(
                "SELECT run.id AS id, timeout_ms, repair.id AS repair,
                   coalesce(repair.created_at, started_at) AS began
                 FROM run LEFT JOIN repair ON repair.id =
                   (SELECT max(id) FROM repair WHERE repair.run_id = run.id)
                 WHERE {TIMED}"
            ))
            .and_then(|mut statement| statement.query_map([], limit)?.collect())
            .map_err(|e| sql("read the limits of runs", e))
        })
        .await
    }

    /// Active runs that nobody has stopped yet, oldest first: of one job, of one user, or of all.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_list_stoppable(
        &self,
        job: Option<JobId>,
        creator: Option<UserId>,
        queued_only: bool,
    ) -> Result<Vec<Run>> {
        self.read(move |conn| {
            conn.prepare_cached(&format!("SELECT {RUN_COLUMNS} {STOPPABLE}"))
                .and_then(|mut statement| {
                    let bounds = params![job.map(|id| id.0), creator.map(|id| id.0), queued_only];
                    statement.query_map(bounds, run_from_row)?.collect()
                })
                .map_err(|e| sql("list active runs", e))
        })
        .await
    }

    /// All task values of a run as `(task key, key, value)`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn task_values(&self, run: RunId) -> Result<Vec<(String, String, Value)>> {
        self.read(move |conn| {
            conn.prepare_cached("SELECT task_key, key, value FROM task_value WHERE run_id = ?1")
                .and_then(|mut statement| {
                    statement
                        .query_map([run.0], |row| {
                            let text: String = row.get(2)?;
                            let value = serde_json::from_str(&text).unwrap_or(Value::Null);
                            Ok((row.get(0)?, row.get(1)?, value))
                        })?
                        .collect()
                })
                .map_err(|e| sql("read task values", e))
        })
        .await
    }

    /// How many runs are in each phase, for pages and metrics: `(active, failed since)`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_counts(
        &self,
        since: Millis,
        visible_to: Option<UserId>,
    ) -> Result<(u32, u32)> {
        self.read(move |conn| {
            let one = |condition: &str| {
                conn.prepare_cached(&format!(
                    "SELECT count(*) FROM run LEFT JOIN job ON job.id = run.job_id
                     WHERE run.kind NOT IN ('WORKFLOW_RUN', 'ITERATION')
                       AND (?2 IS NULL OR run.creator_id = ?2 OR job.creator_id = ?2)
                       AND {condition}"
                ))
                .and_then(|mut statement| {
                    let bounds = params![since.0, visible_to.map(|id| id.0)];
                    statement.query_row(bounds, |row| row.get(0))
                })
                .map_err(|e| sql("count runs", e))
            };
            let active = one("run.phase <> 'ended' AND ?1 IS NOT NULL")?;
            let failed = one("run.ended_at >= ?1
                   AND run.verdict IN ('failed', 'timed_out', 'internal_error')")?;
            Ok((active, failed))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
