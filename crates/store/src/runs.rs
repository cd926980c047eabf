//! Runs and their attempts. Every change goes through the engine: rows in, [`Run::advance`], rows
//! out, and a line in `run_event`, in one transaction.

use forebay_engine::{Effect, Event, Phase, Plan, Run as RunState, StopReason, Task, Verdict};
use forebay_types::{Error, JobId, Millis, Result, RunId, UserId};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, params_from_iter};
use serde_json::{Map, Value, json};

use crate::connection::sql;
use crate::jobs::document;
use crate::store::{Store, next_id};

/// What started a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    Job,
    Submit,
    /// `dbutils.notebook.run`.
    Workflow,
}

impl RunKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "JOB_RUN",
            Self::Submit => "SUBMIT_RUN",
            Self::Workflow => "WORKFLOW_RUN",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "JOB_RUN" => Self::Job,
            "WORKFLOW_RUN" => Self::Workflow,
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
    /// When its program began, after the environment was ready.
    pub executed_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    /// Cost and identity of what ran, as the attempt's end recorded them.
    pub facts: Value,
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
    /// Runs of the job that may be active at once; only counted when there is a job.
    pub concurrency_max: i64,
    /// Whether a run over that waits; otherwise it is skipped.
    pub queue: bool,
    /// 0 for no limit.
    pub timeout_ms: i64,
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
    pub facts: Value,
    /// Whether another attempt could end better.
    pub retry: bool,
}

#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub job_id: Option<JobId>,
    /// `Some(true)` for active runs, `Some(false)` for ended ones.
    pub active: Option<bool>,
    pub kind: Option<RunKind>,
    /// Only runs that ended badly, by their own fault, by time or by ours.
    pub failed: bool,
    pub started_from: Option<Millis>,
    pub started_to: Option<Millis>,
    pub before: Option<RunId>,
    pub offset: usize,
    pub limit: usize,
    /// Only runs of this user, and of jobs that were shared with the user or with everybody.
    pub visible_to: Option<(UserId, String)>,
}

impl RunFilter {
    /// Only the conditions that are asked for, so that each list finds its index.
    fn conditions(&self) -> (String, Vec<SqlValue>) {
        let mut texts: Vec<String> = Vec::new();
        let mut bounds: Vec<SqlValue> = Vec::new();
        let mut add = |text: &str, values: Vec<SqlValue>| {
            texts.push(text.to_owned());
            bounds.extend(values);
        };
        match self.kind {
            Some(kind) => add("run.kind = ?", vec![kind.as_str().to_owned().into()]),
            None => add("run.kind <> 'WORKFLOW_RUN'", Vec::new()),
        }
        if let Some(job) = self.job_id {
            add("run.job_id = ?", vec![job.0.into()]);
        }
        match self.active {
            Some(true) => add("run.phase <> 'ended'", Vec::new()),
            Some(false) => add("run.phase = 'ended'", Vec::new()),
            None => {}
        }
        if let Some(from) = self.started_from {
            add("run.created_at >= ?", vec![from.0.into()]);
        }
        if let Some(to) = self.started_to {
            add("run.created_at <= ?", vec![to.0.into()]);
        }
        if let Some(before) = self.before {
            add("run.id < ?", vec![before.0.into()]);
        }
        if self.failed {
            add(
                "run.verdict IN ('failed', 'timed_out', 'internal_error')",
                Vec::new(),
            );
        }
        if let Some((id, name)) = &self.visible_to {
            add(
                "(run.creator_id = ? OR run.job_id IN (
                   SELECT CAST(object_id AS INTEGER) FROM permission WHERE kind = 'jobs'
                     AND ((principal_kind = 'user' AND principal = ?)
                       OR (principal_kind = 'group' AND principal = 'users'))))",
                vec![id.0.into(), name.clone().into()],
            );
        }
        (texts.join(" AND "), bounds)
    }
}

const RUN_COLUMNS: &str =
    "run.id, run.job_id, run.kind, run.name, run.creator_id, run.creator_name,
    run.settings, run.parameters, run.trigger, run.parent_attempt, run.timeout_ms, run.phase,
    run.verdict, run.stopping, run.message, run.created_at, run.started_at, run.ended_at";

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

fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::TimedOut => "timed_out",
        StopReason::Canceled => "canceled",
    }
}

fn run_from_row(row: &Row<'_>) -> rusqlite::Result<Run> {
    let verdict: Option<String> = row.get(12)?;
    Ok(Run {
        id: RunId(row.get(0)?),
        job_id: row.get::<_, Option<i64>>(1)?.map(JobId),
        kind: RunKind::parse(row.get_ref(2)?.as_str()?),
        name: row.get(3)?,
        creator_id: UserId(row.get(4)?),
        creator_name: row.get(5)?,
        settings: document(row.get_ref(6)?.as_str()?),
        parameters: document(row.get_ref(7)?.as_str()?),
        trigger: row.get(8)?,
        parent_attempt: row.get::<_, Option<i64>>(9)?.map(RunId),
        timeout_ms: row.get(10)?,
        phase: phase(row.get_ref(11)?.as_str()?, verdict.as_deref()),
        stopping: row
            .get::<_, Option<String>>(13)?
            .as_deref()
            .map(stop_reason),
        message: row.get(14)?,
        created_at: Millis(row.get(15)?),
        started_at: row.get::<_, Option<i64>>(16)?.map(Millis),
        ended_at: row.get::<_, Option<i64>>(17)?.map(Millis),
    })
}

const ATTEMPT_COLUMNS: &str = "id, run_id, task, task_key, attempt, phase, verdict, code, message,
    error, trace, exit_value, cluster_id, created_at, started_at, executed_at, ended_at, facts";

fn attempt_from_row(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let verdict: Option<String> = row.get(6)?;
    let facts: Option<String> = row.get(17)?;
    Ok(Attempt {
        id: RunId(row.get(0)?),
        run_id: RunId(row.get(1)?),
        task: row.get::<_, u32>(2)? as usize,
        task_key: row.get(3)?,
        attempt: row.get(4)?,
        phase: phase(row.get_ref(5)?.as_str()?, verdict.as_deref()),
        code: row.get(7)?,
        message: row.get(8)?,
        error: row.get(9)?,
        trace: row.get(10)?,
        exit_value: row.get(11)?,
        cluster_id: row.get(12)?,
        created_at: Millis(row.get(13)?),
        started_at: row.get::<_, Option<i64>>(14)?.map(Millis),
        executed_at: row.get::<_, Option<i64>>(15)?.map(Millis),
        ended_at: row.get::<_, Option<i64>>(16)?.map(Millis),
        facts: facts
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or(Value::Null),
    })
}

fn missing_run(id: RunId) -> Error {
    Error::invalid(format!("Run {id} does not exist."))
}

fn run_get_on(conn: &Connection, id: RunId) -> Result<Option<Run>> {
    conn.prepare_cached(&format!("SELECT {RUN_COLUMNS} FROM run WHERE id = ?1"))
        .and_then(|mut statement| statement.query_row([id.0], run_from_row).optional())
        .map_err(|e| sql("read a run", e))
}

fn attempts_on(conn: &Connection, run: RunId) -> Result<Vec<Attempt>> {
    conn.prepare_cached(&format!(
        "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE run_id = ?1 ORDER BY task, attempt"
    ))
    .and_then(|mut statement| statement.query_map([run.0], attempt_from_row)?.collect())
    .map_err(|e| sql("read a run's attempts", e))
}

impl Store {
    /// Records a run and, where its job allows, admits it. The same idempotency token gives the
    /// run of the first call. What finds a free slot under `cap` is claimed in the same commit;
    /// the caller starts it. A nested run takes no slot: only its own attempt is claimed.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_create(
        &self,
        new: NewRun,
        plan: Plan,
        cap: usize,
        now: Millis,
    ) -> Result<(RunId, Vec<Attempt>)> {
        self.write(move |tx| {
            if let Some(token) = &new.idempotency_token
                && let Some(id) = run_by_token(tx, token)?
            {
                return Ok((id, Vec::new()));
            }
            let admission = admission(tx, &new)?;
            let id = insert_run(tx, &new, &plan, now)?;
            match admission {
                Admission::Now => {
                    advance(tx, id, &plan, Event::Admitted, now)?;
                }
                Admission::Later => set_phase(tx, id, Phase::Queued, now)?,
                Admission::Never => skip(tx, id, &new, now)?,
            }
            if new.parent_attempt.is_some() {
                let own = claim_nested(tx, id, now)?;
                return Ok((id, own.into_iter().collect()));
            }
            Ok((id, claim(tx, cap, now)?))
        })
        .await
    }

    /// # Errors
    /// `Run N does not exist.`, in the form that clients recognise.
    pub async fn run_get(&self, id: RunId) -> Result<(Run, Vec<Attempt>)> {
        self.read(move |conn| {
            let run = run_get_on(conn, id)?.ok_or_else(|| missing_run(id))?;
            Ok((run, attempts_on(conn, id)?))
        })
        .await
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

    /// Runs by the filter, newest first, each with its attempts.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_list(&self, filter: RunFilter) -> Result<Vec<(Run, Vec<Attempt>)>> {
        self.read(move |conn| {
            let (conditions, bounds) = filter.conditions();
            let query = format!(
                "SELECT {RUN_COLUMNS} FROM run WHERE {conditions} ORDER BY run.id DESC LIMIT {} OFFSET {}",
                filter.limit, filter.offset
            );
            let runs: Vec<Run> = conn
                .prepare_cached(&query)
                .and_then(|mut statement| {
                    statement
                        .query_map(params_from_iter(bounds), run_from_row)?
                        .collect()
                })
                .map_err(|e| sql("list runs", e))?;
            runs.into_iter()
                .map(|run| Ok((attempts_on(conn, run.id)?, run)))
                .map(|row| row.map(|(attempts, run)| (run, attempts)))
                .collect()
        })
        .await
    }

    /// The runs that attempts of `run` started by `dbutils.notebook.run`, oldest first, at most
    /// 100 of them.
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

    /// Gives slots to the oldest waiting attempts, never more than `cap` at once in all.
    ///
    /// The count and the claim are one transaction, so the cap holds whoever asks.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_claim(&self, cap: usize, now: Millis) -> Result<Vec<Attempt>> {
        self.write(move |tx| claim(tx, cap, now)).await
    }

    /// Records where an attempt runs and that its program began.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_executing(
        &self,
        id: RunId,
        cluster_id: Option<String>,
        now: Millis,
    ) -> Result<()> {
        self.write(move |tx| {
            tx.prepare_cached("UPDATE attempt SET executed_at = ?2, cluster_id = ?3 WHERE id = ?1")
                .and_then(|mut statement| statement.execute(params![id.0, now.0, cluster_id]))
                .map_err(|e| sql("record a start", e))?;
            Ok(())
        })
        .await
    }

    /// Records the end of an attempt, moves its run on, and gives the slot to whoever is next: those
    /// attempts are the caller's to start. A report for an attempt that has ended changes nothing.
    ///
    /// # Errors
    /// When the run is gone or the database refuses.
    pub async fn attempt_end(
        &self,
        attempt: Attempt,
        plan: Plan,
        end: AttemptEnd,
        cap: usize,
        now: Millis,
    ) -> Result<Vec<Attempt>> {
        self.write(move |tx| {
            let recorded = tx
                .prepare_cached(
                    "UPDATE attempt SET phase = 'ended', verdict = ?2, code = ?3, message = ?4,
                       error = ?5, trace = ?6, exit_value = ?7, facts = ?8, ended_at = ?9
                     WHERE id = ?1 AND phase <> 'ended'",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        attempt.id.0,
                        end.verdict.as_str(),
                        end.code,
                        end.message,
                        end.error,
                        end.trace,
                        end.exit_value,
                        end.facts.to_string(),
                        now.0,
                    ])
                })
                .map_err(|e| sql("record an end", e))?;
            if recorded == 0 {
                return Ok(Vec::new());
            }
            let Attempt {
                task,
                attempt: number,
                ..
            } = attempt;
            let event = Event::AttemptEnded {
                task,
                attempt: number,
                verdict: end.verdict,
                retry: end.retry,
            };
            advance(tx, attempt.run_id, &plan, event, now)?;
            claim(tx, cap, now)
        })
        .await
    }

    /// Asks a run to stop. What waits is closed at once; the attempts returned still run.
    ///
    /// # Errors
    /// `Run N does not exist.`
    pub async fn run_stop(
        &self,
        id: RunId,
        plan: Plan,
        reason: StopReason,
        now: Millis,
    ) -> Result<Vec<Effect>> {
        self.write(move |tx| advance(tx, id, &plan, Event::StopRequested(reason), now))
            .await
    }

    /// Admits the oldest queued run of each job that has room. Returns the ids of queued runs that
    /// may go; the caller admits them with their plans.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_admissible(&self) -> Result<Vec<RunId>> {
        self.read(|conn| {
            conn.prepare_cached(
                "SELECT min(waiting.id) FROM run AS waiting
                 WHERE waiting.phase = 'queued' AND waiting.phase <> 'ended' AND waiting.concurrency_max > (
                   SELECT count(*) FROM run AS active
                   WHERE active.job_id = waiting.job_id
                     AND active.phase <> 'ended' AND active.phase <> 'queued')
                 GROUP BY waiting.job_id",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([], |row| row.get(0).map(RunId))?
                    .collect()
            })
            .map_err(|e| sql("look for queued runs", e))
        })
        .await
    }

    /// Admits a queued run; without effect when it is not queued any more.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_admit(&self, id: RunId, plan: Plan, now: Millis) -> Result<Vec<Effect>> {
        self.write(move |tx| {
            let queued = run_get_on(tx, id)?.is_some_and(|run| run.phase == Phase::Queued);
            if queued {
                advance(tx, id, &plan, Event::Admitted, now)
            } else {
                Ok(Vec::new())
            }
        })
        .await
    }

    /// Attempts that hold a slot: after a restart, those whose processes died with the server.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_list_live(&self) -> Result<Vec<Attempt>> {
        self.read(|conn| {
            conn.prepare_cached(&format!(
                "SELECT {ATTEMPT_COLUMNS} FROM attempt WHERE phase IN ('running', 'terminating')
                 ORDER BY id"
            ))
            .and_then(|mut statement| statement.query_map([], attempt_from_row)?.collect())
            .map_err(|e| sql("list live attempts", e))
        })
        .await
    }

    /// Active runs whose own time-out has passed, and when the next timer of any kind is due.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_timers(&self, now: Millis) -> Result<(Vec<RunId>, Option<Millis>)> {
        self.read(move |conn| {
            let timers: Vec<(i64, i64)> = conn
                .prepare_cached(
                    "SELECT id, started_at + timeout_ms FROM run
                     WHERE phase <> 'ended' AND timeout_ms > 0 AND started_at IS NOT NULL
                       AND stopping IS NULL",
                )
                .and_then(|mut statement| {
                    statement
                        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                        .collect()
                })
                .map_err(|e| sql("read timers", e))?;
            let retry: Option<i64> = conn
                .prepare_cached(
                    "SELECT min(due_at) FROM attempt
                     WHERE phase IN ('pending', 'waiting_for_retry') AND due_at > ?1",
                )
                .and_then(|mut statement| statement.query_row([now.0], |row| row.get(0)))
                .map_err(|e| sql("read timers", e))?;
            let (due, later): (Vec<_>, Vec<_>) =
                timers.into_iter().partition(|(_, at)| *at <= now.0);
            let next = later.into_iter().map(|(_, at)| at).chain(retry).min();
            Ok((
                due.into_iter().map(|(id, _)| RunId(id)).collect(),
                next.map(Millis),
            ))
        })
        .await
    }

    /// Ends a run whose definition cannot be read any more, so that nobody waits for it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_abandon(&self, id: RunId, message: String, now: Millis) -> Result<()> {
        self.write(move |tx| {
            let end =
                "SET phase = 'ended', verdict = 'internal_error', message = ?2, ended_at = ?3";
            for (table, key) in [("attempt", "run_id"), ("run", "id")] {
                tx.execute(
                    &format!("UPDATE {table} {end} WHERE {key} = ?1 AND phase <> 'ended'"),
                    params![id.0, message, now.0],
                )
                .map_err(|e| sql("abandon a run", e))?;
            }
            log(
                tx,
                id,
                now,
                &json!({"event": "abandoned", "message": message}),
            )
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
            conn.prepare_cached(&format!(
                "SELECT {RUN_COLUMNS} FROM run
                 WHERE run.phase <> 'ended' AND run.stopping IS NULL
                   AND (?1 IS NULL OR run.job_id = ?1) AND (?2 IS NULL OR run.creator_id = ?2)
                   AND (NOT ?3 OR run.phase = 'queued')
                 ORDER BY run.id LIMIT 1000"
            ))
            .and_then(|mut statement| {
                let bounds = params![job.map(|id| id.0), creator.map(|id| id.0), queued_only];
                statement.query_map(bounds, run_from_row)?.collect()
            })
            .map_err(|e| sql("list active runs", e))
        })
        .await
    }

    /// Removes an ended run with its attempts, events and values.
    ///
    /// # Errors
    /// `Run N does not exist.`; `INVALID_STATE` while it is active.
    pub async fn run_delete(&self, id: RunId) -> Result<Vec<RunId>> {
        self.write(move |tx| {
            let run = run_get_on(tx, id)?.ok_or_else(|| missing_run(id))?;
            if !run.phase.is_ended() {
                return Err(Error::state(format!(
                    "Run {id} is active; cancel it first."
                )));
            }
            let attempts = attempts_on(tx, id)?
                .into_iter()
                .map(|attempt| attempt.id)
                .collect();
            tx.execute("DELETE FROM run WHERE id = ?1", [id.0])
                .map_err(|e| sql("delete a run", e))?;
            Ok(attempts)
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn task_value_set(
        &self,
        run: RunId,
        task_key: String,
        key: String,
        value: Value,
    ) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO task_value VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET value = excluded.value",
                params![run.0, task_key, key, value.to_string()],
            )
            .map_err(|e| sql("set a task value", e))?;
            Ok(())
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
                     WHERE run.kind <> 'WORKFLOW_RUN'
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

/// Gives slots to the oldest waiting attempts, never more than `cap` in all.
fn claim(tx: &Transaction<'_>, cap: usize, now: Millis) -> Result<Vec<Attempt>> {
    let live: usize = tx
        .prepare_cached(
            "SELECT count(*) FROM attempt
             WHERE phase IN ('running', 'terminating') AND NOT nested",
        )
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, u32>(0)))
        .map_err(|e| sql("count slots", e))? as usize;
    let free = cap.saturating_sub(live);
    if free == 0 {
        return Ok(Vec::new());
    }
    tx.prepare_cached(&format!(
        "UPDATE attempt SET phase = 'running', started_at = ?1 WHERE id IN (
           SELECT id FROM attempt
           WHERE phase IN ('pending', 'waiting_for_retry') AND (due_at IS NULL OR due_at <= ?1)
             AND NOT nested
           ORDER BY id LIMIT ?2)
         RETURNING {ATTEMPT_COLUMNS}"
    ))
    .and_then(|mut statement| {
        statement
            .query_map(params![now.0, free], attempt_from_row)?
            .collect()
    })
    .map_err(|e| sql("claim attempts", e))
}

/// Gives the one attempt of a nested run the slot of its parent.
fn claim_nested(tx: &Transaction<'_>, run: RunId, now: Millis) -> Result<Option<Attempt>> {
    tx.prepare_cached(&format!(
        "UPDATE attempt SET phase = 'running', started_at = ?2
         WHERE run_id = ?1 AND nested AND phase IN ('pending', 'waiting_for_retry')
         RETURNING {ATTEMPT_COLUMNS}"
    ))
    .and_then(|mut statement| {
        statement
            .query_row(params![run.0, now.0], attempt_from_row)
            .optional()
    })
    .map_err(|e| sql("claim a nested attempt", e))
}

enum Admission {
    Now,
    Later,
    Never,
}

fn admission(tx: &Transaction<'_>, new: &NewRun) -> Result<Admission> {
    let Some(job) = new.job_id else {
        return Ok(Admission::Now);
    };
    let active: i64 = tx
        .prepare_cached("SELECT count(*) FROM run WHERE job_id = ?1 AND phase <> 'ended'")
        .and_then(|mut statement| statement.query_row([job.0], |row| row.get(0)))
        .map_err(|e| sql("count a job's runs", e))?;
    Ok(
        match (
            active < new.concurrency_max,
            new.queue && new.concurrency_max > 0,
        ) {
            (true, _) => Admission::Now,
            (false, true) => Admission::Later,
            (false, false) => Admission::Never,
        },
    )
}

fn run_by_token(tx: &Transaction<'_>, token: &str) -> Result<Option<RunId>> {
    tx.query_row(
        "SELECT id FROM run WHERE idempotency_token = ?1",
        [token],
        |row| row.get(0),
    )
    .optional()
    .map(|id| id.map(RunId))
    .map_err(|e| sql("look for a repeated call", e))
}

fn insert_run(tx: &Transaction<'_>, new: &NewRun, plan: &Plan, now: Millis) -> Result<RunId> {
    let id = next_id(tx)?;
    tx.prepare_cached(
        "INSERT INTO run (id, job_id, kind, name, creator_id, creator_name, settings, parameters,
           trigger, idempotency_token, parent_attempt, concurrency_max, timeout_ms, phase, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'pending', ?14)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            id,
            new.job_id.map(|id| id.0),
            new.kind.as_str(),
            new.name,
            new.creator_id.0,
            new.creator_name,
            serde_json::to_string(&new.settings).unwrap_or_default(),
            serde_json::to_string(&new.parameters).unwrap_or_default(),
            new.trigger,
            new.idempotency_token,
            new.parent_attempt.map(|id| id.0),
            new.concurrency_max,
            new.timeout_ms,
            now.0,
        ])
    })
    .map_err(|e| sql("create a run", e))?;
    for (task, policy) in plan.tasks.iter().enumerate() {
        let place = Place {
            run: RunId(id),
            task,
            key: &policy.key,
            nested: new.parent_attempt.is_some(),
        };
        insert_attempt(tx, &place, 0, (Phase::Blocked, None), now)?;
    }
    log(
        tx,
        RunId(id),
        now,
        &json!({"event": "created", "kind": new.kind.as_str()}),
    )?;
    Ok(RunId(id))
}

/// Which task of which run an attempt belongs to.
struct Place<'a> {
    run: RunId,
    task: usize,
    key: &'a str,
    nested: bool,
}

fn insert_attempt(
    tx: &Transaction<'_>,
    place: &Place<'_>,
    attempt: u32,
    (phase, due): (Phase, Option<Millis>),
    now: Millis,
) -> Result<()> {
    let id = next_id(tx)?;
    tx.prepare_cached(
        "INSERT INTO attempt (id, run_id, task, task_key, attempt, nested, phase, created_at, due_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            id,
            place.run.0,
            place.task,
            place.key,
            attempt,
            place.nested,
            phase.as_str(),
            now.0,
            due.map(|at| at.0),
        ])
    })
    .map_err(|e| sql("create an attempt", e))?;
    Ok(())
}

/// Takes one event through the engine and writes down all that follows from it.
fn advance(
    tx: &Transaction<'_>,
    id: RunId,
    plan: &Plan,
    event: Event,
    now: Millis,
) -> Result<Vec<Effect>> {
    let row = run_get_on(tx, id)?.ok_or_else(|| missing_run(id))?;
    let attempts = attempts_on(tx, id)?;
    let mut state = state_of(&row, &attempts, plan, event);
    let before = state.phase;
    let effects = state.advance(plan, event, now);
    for effect in &effects {
        apply(tx, &row, plan, *effect, now)?;
    }
    if state.phase != before && !state.phase.is_ended() {
        set_phase(tx, id, state.phase, now)?;
    }
    if let Some(reason) = state.stopping
        && row.stopping.is_none()
    {
        tx.execute(
            "UPDATE run SET stopping = ?2 WHERE id = ?1",
            params![id.0, stop_text(reason)],
        )
        .map_err(|e| sql("record a stop", e))?;
    }
    log(
        tx,
        id,
        now,
        &json!({"event": format!("{event:?}"), "effects": effects.len()}),
    )?;
    Ok(effects)
}

/// The engine's state from the rows. The row of an attempt that ends is written before the engine
/// is asked, so that attempt is shown to it as still running.
fn state_of(row: &Run, attempts: &[Attempt], plan: &Plan, event: Event) -> RunState {
    let mut state = RunState::new(plan);
    state.phase = row.phase;
    state.stopping = row.stopping;
    for attempt in attempts {
        if let Some(task) = state.tasks.get_mut(attempt.task) {
            *task = Task {
                phase: attempt.phase,
                attempt: attempt.attempt,
            };
        }
    }
    if let Event::AttemptEnded { task, attempt, .. } = event
        && let Some(current) = state.tasks.get_mut(task)
        && current.attempt == attempt
    {
        current.phase = Phase::Running;
    }
    state
}

fn apply(tx: &Transaction<'_>, run: &Run, plan: &Plan, effect: Effect, now: Millis) -> Result<()> {
    let start = |task: usize, attempt: u32, phase: Phase, due: Option<Millis>| {
        if attempt == 0 {
            return attempt_phase(tx, run.id, (task, attempt), phase, None);
        }
        let key = &plan.tasks[task].key;
        let nested = run.parent_attempt.is_some();
        insert_attempt(
            tx,
            &Place {
                run: run.id,
                task,
                key,
                nested,
            },
            attempt,
            (phase, due),
            now,
        )
    };
    match effect {
        Effect::Start { task, attempt } => start(task, attempt, Phase::Pending, None),
        Effect::StartAt { task, attempt, due } => {
            start(task, attempt, Phase::WaitingForRetry, Some(due))
        }
        Effect::Stop { task, attempt, .. } => {
            attempt_phase(tx, run.id, (task, attempt), Phase::Terminating, None)
        }
        Effect::Close { task, verdict } => close(tx, run.id, task, verdict, now),
        Effect::Finish(verdict) => finish(tx, run.id, plan, verdict, now),
    }
}

fn attempt_phase(
    tx: &Transaction<'_>,
    run: RunId,
    (task, attempt): (usize, u32),
    phase: Phase,
    at: Option<Millis>,
) -> Result<()> {
    tx.prepare_cached(
        "UPDATE attempt SET phase = ?4, started_at = coalesce(?5, started_at)
         WHERE run_id = ?1 AND task = ?2 AND attempt = ?3",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            run.0,
            task,
            attempt,
            phase.as_str(),
            at.map(|at| at.0)
        ])
    })
    .map_err(|e| sql("move an attempt", e))?;
    Ok(())
}

/// Closes a task that will not run (again); an attempt that ended by itself keeps its own words.
fn close(
    tx: &Transaction<'_>,
    run: RunId,
    task: usize,
    verdict: Verdict,
    now: Millis,
) -> Result<()> {
    tx.prepare_cached(
        "UPDATE attempt SET phase = 'ended', verdict = ?3, code = ?4, message = ?5, ended_at = ?6
         WHERE run_id = ?1 AND task = ?2 AND phase <> 'ended'",
    )
    .and_then(|mut statement| {
        let (code, message) = closing_words(verdict);
        statement.execute(params![run.0, task, verdict.as_str(), code, message, now.0])
    })
    .map_err(|e| sql("close a task", e))?;
    Ok(())
}

fn closing_words(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Canceled => ("USER_CANCELED", "Run cancelled."),
        Verdict::TimedOut => ("CANCELED", "The run exceeded its time limit."),
        Verdict::UpstreamFailed => ("SKIPPED", "An upstream task failed."),
        Verdict::UpstreamCanceled => ("SKIPPED", "An upstream task was cancelled."),
        Verdict::Excluded => (
            "SKIPPED",
            "The task's condition was not met, so it was left out.",
        ),
        Verdict::Disabled => ("DISABLED", "The task is disabled."),
        _ => ("INTERNAL_ERROR", ""),
    }
}

fn finish(
    tx: &Transaction<'_>,
    id: RunId,
    plan: &Plan,
    verdict: Verdict,
    now: Millis,
) -> Result<()> {
    let message = finish_message(plan, &attempts_on(tx, id)?, verdict);
    tx.prepare_cached(
        "UPDATE run SET phase = 'ended', verdict = ?2, message = ?3, ended_at = ?4 WHERE id = ?1",
    )
    .and_then(|mut statement| statement.execute(params![id.0, verdict.as_str(), message, now.0]))
    .map_err(|e| sql("finish a run", e))?;
    Ok(())
}

/// A run of one task speaks with the task's words; a larger one names the task that failed.
fn finish_message(plan: &Plan, attempts: &[Attempt], verdict: Verdict) -> String {
    let culprit = attempts.iter().rev().find(|attempt| {
        matches!(
            attempt.phase.verdict(),
            Some(Verdict::Failed | Verdict::TimedOut | Verdict::InternalError)
        )
    });
    match (verdict, culprit) {
        (Verdict::Succeeded, _) => String::new(),
        (Verdict::Canceled, _) => "Run cancelled.".to_owned(),
        (Verdict::TimedOut, _) => "The run exceeded its time limit.".to_owned(),
        (_, Some(attempt)) if plan.tasks.len() == 1 => attempt.message.clone(),
        (_, Some(attempt)) => {
            format!(
                "Task {} failed with message: {}.",
                attempt.task_key,
                attempt.message.trim_end_matches('.')
            )
        }
        (_, None) => String::new(),
    }
}

fn set_phase(tx: &Transaction<'_>, id: RunId, phase: Phase, now: Millis) -> Result<()> {
    let started = (phase == Phase::Running).then_some(now.0);
    tx.prepare_cached(
        "UPDATE run SET phase = ?2, started_at = coalesce(started_at, ?3) WHERE id = ?1",
    )
    .and_then(|mut statement| statement.execute(params![id.0, phase.as_str(), started]))
    .map_err(|e| sql("move a run", e))?;
    Ok(())
}

/// Ends a run that its job has no room for, before anything of it started.
fn skip(tx: &Transaction<'_>, id: RunId, new: &NewRun, now: Millis) -> Result<()> {
    let message = format!(
        "Skipped: the job already has {} active runs, as many as max_concurrent_runs allows.",
        new.concurrency_max
    );
    tx.execute(
        "UPDATE attempt SET phase = 'ended', verdict = 'skipped', message = ?2, ended_at = ?3,
           code = 'MAX_CONCURRENT_RUNS_EXCEEDED' WHERE run_id = ?1",
        params![id.0, message, now.0],
    )
    .map_err(|e| sql("skip a run", e))?;
    tx.execute(
        "UPDATE run SET phase = 'ended', verdict = 'skipped', message = ?2, started_at = ?3,
           ended_at = ?3 WHERE id = ?1",
        params![id.0, message, now.0],
    )
    .map_err(|e| sql("skip a run", e))?;
    log(tx, id, now, &json!({"event": "skipped"}))
}

fn log(tx: &Transaction<'_>, id: RunId, now: Millis, event: &Value) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO run_event
         SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3 FROM run_event WHERE run_id = ?1",
    )
    .and_then(|mut statement| statement.execute(params![id.0, now.0, event.to_string()]))
    .map_err(|e| sql("log an event", e))?;
    Ok(())
}
