//! Triggers: what is due, what became of it, and the one transaction in which a trigger fires.
//!
//! Everything that may make a trigger fire sets its `due_at`; whoever looks at it decides, and
//! writes only if the row is still the one that was looked at.

mod arrival;
mod events;
mod fire;
mod sync;

use forebay_types::{Error, JobId, Millis, Result, RunId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value};

pub use arrival::{FileChanges, KnownFile};
pub use events::{NewEvent, PendingEvent};
pub use fire::{Consumed, EndedRun, Firing};
pub(crate) use fire::{fired, run_ended, take};
pub use sync::NewTrigger;
pub(crate) use sync::{forget_triggers, sync_triggers};

use crate::connection::sql;
use crate::jobs::document;
use crate::store::Store;

/// How many due triggers are looked at in one go.
const DUE_MAX: usize = 100;

/// What makes a trigger fire; a job has one of each at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TriggerKind {
    /// Quartz cron.
    Schedule,
    Periodic,
    FileArrival,
    Continuous,
    AfterJob,
    Event,
}

impl TriggerKind {
    pub const ALL: [Self; 6] = [
        Self::Schedule,
        Self::Periodic,
        Self::FileArrival,
        Self::Continuous,
        Self::AfterJob,
        Self::Event,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Periodic => "periodic",
            Self::FileArrival => "file_arrival",
            Self::Continuous => "continuous",
            Self::AfterJob => "after_job",
            Self::Event => "event",
        }
    }

    /// Where in the job's settings its `pause_status` stands, as a JSON path.
    fn pause_path(self) -> &'static str {
        match self {
            Self::Schedule => "$.schedule.pause_status",
            Self::Periodic | Self::FileArrival => "$.trigger.pause_status",
            Self::Continuous => "$.continuous.pause_status",
            Self::AfterJob => "$.forebay.after_job.pause_status",
            Self::Event => "$.forebay.on_event.pause_status",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One trigger of one job, as it stands.
#[derive(Debug, Clone)]
pub struct Trigger {
    pub job_id: JobId,
    pub kind: TriggerKind,
    pub paused: bool,
    pub due_at: Option<Millis>,
    pub state: Map<String, Value>,
    pub version: i64,
    pub last_fired_at: Option<Millis>,
    pub last_run_id: Option<RunId>,
    pub error: Option<String>,
    pub brake: Option<String>,
}

/// A trigger that was paused because its job had too many runs by triggers.
#[derive(Debug, Clone)]
pub struct Braked {
    pub job_id: JobId,
    pub job_name: String,
    pub message: String,
}

/// What somebody who looked at a trigger writes down, when it did not fire.
#[derive(Debug, Clone, Default)]
pub struct TriggerNote {
    pub due_at: Option<Millis>,
    pub state: Map<String, Value>,
    pub error: Option<String>,
}

const COLUMNS: &str = "job_id, kind, paused, due_at, state, version, last_fired_at, last_run_id, \
                       error, brake";

fn trigger_from_row(row: &Row<'_>) -> rusqlite::Result<Trigger> {
    let kind = TriggerKind::parse(row.get_ref("kind")?.as_str()?);
    let unknown = || rusqlite::Error::InvalidColumnName("kind".to_owned());
    let millis = |name: &str| row.get::<_, Option<i64>>(name).map(|at| at.map(Millis));
    Ok(Trigger {
        job_id: JobId(row.get("job_id")?),
        kind: kind.ok_or_else(unknown)?,
        paused: row.get("paused")?,
        due_at: millis("due_at")?,
        state: document(row.get_ref("state")?.as_str()?),
        version: row.get("version")?,
        last_fired_at: millis("last_fired_at")?,
        last_run_id: row.get::<_, Option<i64>>("last_run_id")?.map(RunId),
        error: row.get("error")?,
        brake: row.get("brake")?,
    })
}

fn of_job_on(conn: &Connection, job: JobId) -> Result<Vec<Trigger>> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM trigger WHERE job_id = ?1 ORDER BY kind"
    ))
    .and_then(|mut statement| statement.query_map([job.0], trigger_from_row)?.collect())
    .map_err(|e| sql("read triggers", e))
}

/// The answer to who decided on a row that has changed since.
pub(crate) fn moved() -> Error {
    Error::state("The trigger has moved meanwhile.")
}

impl Store {
    /// The triggers of one job.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_list(&self, job: JobId) -> Result<Vec<Trigger>> {
        self.read(move |conn| of_job_on(conn, job)).await
    }

    /// The triggers that a brake paused, at most 100: of one job or of all, of those jobs that were
    /// shared with `visible_to` or with everybody.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_list_braked(
        &self,
        job: Option<JobId>,
        visible_to: Option<String>,
    ) -> Result<Vec<Braked>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT job_id, name, brake FROM trigger JOIN job ON job.id = job_id
                 WHERE brake IS NOT NULL AND deleted_at IS NULL AND (?1 IS NULL OR job_id = ?1)
                   AND (?2 IS NULL OR job_id IN (
                     SELECT CAST(object_id AS INTEGER) FROM permission WHERE kind = 'jobs'
                       AND ((principal_kind = 'user' AND principal = ?2)
                         OR (principal_kind = 'group' AND principal = 'users'))))
                 ORDER BY job_id, kind LIMIT 100",
            )
            .and_then(|mut statement| {
                let read = |row: &Row<'_>| {
                    Ok(Braked {
                        job_id: JobId(row.get("job_id")?),
                        job_name: row.get("name")?,
                        message: row.get("brake")?,
                    })
                };
                let bounds = params![job.map(|id| id.0), visible_to];
                statement.query_map(bounds, read)?.collect()
            })
            .map_err(|e| sql("list braked triggers", e))
        })
        .await
    }

    /// Triggers that somebody has to look at by now, the longest due first, and when the next one
    /// after them is due.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_due(&self, now: Millis) -> Result<(Vec<Trigger>, Option<Millis>)> {
        self.read(move |conn| {
            let due = conn
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM trigger
                     WHERE paused = 0 AND due_at IS NOT NULL AND due_at <= ?1
                     ORDER BY due_at LIMIT {DUE_MAX}"
                ))
                .and_then(|mut statement| statement.query_map([now.0], trigger_from_row)?.collect())
                .map_err(|e| sql("read due triggers", e))?;
            let next: Option<i64> = conn
                .prepare_cached(
                    "SELECT min(due_at) FROM trigger
                     WHERE paused = 0 AND due_at IS NOT NULL AND due_at > ?1",
                )
                .and_then(|mut statement| statement.query_row([now.0], |row| row.get(0)))
                .map_err(|e| sql("read the next trigger", e))?;
            Ok((due, next.map(Millis)))
        })
        .await
    }

    /// Has those triggers looked at that wait for a moment to come and not for a time of a schedule:
    /// when a clock is put back, that moment is further away than anybody meant.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_overtaken(&self, now: Millis) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE trigger SET due_at = ?1, version = version + 1
                 WHERE paused = 0 AND due_at > ?1 AND kind NOT IN ('schedule', 'periodic')",
                [now.0],
            )
            .map(drop)
            .map_err(|e| sql("look at triggers anew", e))
        })
        .await
    }

    /// Writes down what a look at a trigger came to.
    ///
    /// # Errors
    /// `INVALID_STATE` when the trigger has changed since it was looked at.
    pub async fn trigger_note(&self, trigger: &Trigger, note: TriggerNote) -> Result<()> {
        let (job, kind, version) = (trigger.job_id, trigger.kind, trigger.version);
        self.write(move |tx| {
            let changed = tx
                .prepare_cached(
                    "UPDATE trigger SET due_at = ?4, state = ?5, error = ?6, version = version + 1
                     WHERE job_id = ?1 AND kind = ?2 AND version = ?3",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        job.0,
                        kind.as_str(),
                        version,
                        note.due_at.map(|at| at.0),
                        Value::Object(note.state).to_string(),
                        note.error,
                    ])
                })
                .map_err(|e| sql("note a trigger", e))?;
            if changed == 0 { Err(moved()) } else { Ok(()) }
        })
        .await
    }

    /// How many runs the triggers of a job have made since.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_firings_since(&self, job: JobId, since: Millis) -> Result<u32> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT count(*) FROM trigger_firing WHERE job_id = ?1 AND fired_at > ?2",
            )
            .and_then(|mut statement| statement.query_row([job.0, since.0], |row| row.get(0)))
            .map_err(|e| sql("count firings", e))
        })
        .await
    }

    /// Pauses a trigger that fires too often, in the job's settings as well, and says why.
    ///
    /// # Errors
    /// `INVALID_STATE` when the trigger has changed since it was looked at.
    pub async fn trigger_brake(&self, trigger: &Trigger, message: String) -> Result<()> {
        let (job, kind, version) = (trigger.job_id, trigger.kind, trigger.version);
        self.write(move |tx| {
            let changed = tx
                .execute(
                    "UPDATE trigger SET paused = 1, brake = ?4, version = version + 1
                     WHERE job_id = ?1 AND kind = ?2 AND version = ?3",
                    params![job.0, kind.as_str(), version, message],
                )
                .map_err(|e| sql("brake a trigger", e))?;
            if changed == 0 {
                return Err(moved());
            }
            tx.execute(
                "UPDATE job SET settings = json_set(settings, ?2, 'PAUSED') WHERE id = ?1",
                params![job.0, kind.pause_path()],
            )
            .map_err(|e| sql("pause a job", e))?;
            Ok(())
        })
        .await
    }

    /// What a continuous job's next start depends on.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_last_runs(&self, job: JobId) -> Result<LastRuns> {
        self.read(move |conn| last_runs_on(conn, job)).await
    }
}

/// The newest runs of a job, as far as its next start depends on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastRuns {
    pub active: bool,
    /// Runs that failed since the last one that did not.
    pub failures: u32,
    /// Of the last run that ended.
    pub ran_ms: i64,
    pub ended_at: Option<Millis>,
}

/// So many failures in a row are told apart.
const FAILURES_MAX: u32 = 20;

fn last_runs_on(conn: &Connection, job: JobId) -> Result<LastRuns> {
    let active = conn
        .prepare_cached("SELECT 1 FROM run WHERE job_id = ?1 AND phase <> 'ended' LIMIT 1")
        .and_then(|mut statement| statement.query_row([job.0], |_| Ok(())).optional())
        .map_err(|e| sql("look for a job's active run", e))?
        .is_some();
    let ended: Vec<(Option<String>, i64, Option<i64>)> = conn
        .prepare_cached(&format!(
            "SELECT verdict, created_at, ended_at FROM run
             WHERE job_id = ?1 AND phase = 'ended' AND verdict IS NOT 'skipped'
             ORDER BY id DESC LIMIT {FAILURES_MAX}"
        ))
        .and_then(|mut statement| {
            statement
                .query_map([job.0], |row| {
                    Ok((
                        row.get("verdict")?,
                        row.get("created_at")?,
                        row.get("ended_at")?,
                    ))
                })?
                .collect()
        })
        .map_err(|e| sql("read a job's last runs", e))?;
    let failed = |verdict: &Option<String>| {
        matches!(
            verdict.as_deref(),
            Some("failed" | "timed_out" | "internal_error")
        )
    };
    let failures = ended
        .iter()
        .take_while(|(verdict, ..)| failed(verdict))
        .count();
    let last = ended.first();
    let ended_at = last.and_then(|(.., ended)| *ended).map(Millis);
    let created_at = last.map_or(Millis(0), |(_, created, _)| Millis(*created));
    Ok(LastRuns {
        active,
        failures: u32::try_from(failures).unwrap_or(FAILURES_MAX),
        ran_ms: ended_at.map_or(0, |ended| ended.since(created_at)),
        ended_at,
    })
}

#[cfg(test)]
mod tests;
