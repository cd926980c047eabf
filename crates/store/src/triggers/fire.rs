use forebay_engine::Verdict;
use forebay_types::{Error, JobId, Millis, Result, RunId};
use rusqlite::{Transaction, params};
use serde_json::{Map, Value};

use super::{Trigger, TriggerKind, moved};
use crate::connection::sql;
use crate::runs::{Head, RunKind};

/// Firings are remembered for as long as the same cause may come again.
const KEPT_MS: i64 = 7 * 24 * 3_600_000;

/// That a run is made by a trigger: all of it is written in the transaction that makes the run.
#[derive(Debug, Clone)]
pub struct Firing {
    pub job_id: JobId,
    pub kind: TriggerKind,
    /// Of the row that was decided on.
    pub version: i64,
    /// What it fires for; the same cause fires once.
    pub cause: String,
    /// When to look at the trigger again.
    pub due_at: Option<Millis>,
    pub state: Map<String, Value>,
    pub consumed: Consumed,
}

impl Firing {
    /// A firing of `trigger` as it was read.
    #[must_use]
    pub fn of(trigger: &Trigger, cause: impl Into<String>) -> Self {
        Self {
            job_id: trigger.job_id,
            kind: trigger.kind,
            version: trigger.version,
            cause: cause.into(),
            due_at: None,
            state: trigger.state.clone(),
            consumed: Consumed::Nothing,
        }
    }
}

/// What the run is made from, which makes no other run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consumed {
    Nothing,
    /// The files that wait.
    Files,
    EndedRun(RunId),
    Events(Vec<i64>),
}

/// An end of a run that a job waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRun {
    pub run: RunId,
    pub verdict: Verdict,
    /// The repair that led to this end; none for the first.
    pub repair: Option<RunId>,
}

/// Takes the firing, before its run is made.
///
/// # Errors
/// `INVALID_STATE` when the trigger has changed since it was looked at; `RESOURCE_ALREADY_EXISTS`
/// when it has fired for this before.
pub(crate) fn take(tx: &Transaction<'_>, firing: &Firing, now: Millis) -> Result<()> {
    let (job, kind) = (firing.job_id.0, firing.kind.as_str());
    let taken = tx
        .prepare_cached(
            "UPDATE trigger SET due_at = ?4, state = ?5, last_fired_at = ?6, error = NULL,
               version = version + 1
             WHERE job_id = ?1 AND kind = ?2 AND version = ?3 AND NOT paused",
        )
        .and_then(|mut statement| {
            let state = serde_json::to_string(&firing.state).unwrap_or_default();
            let due = firing.due_at.map(|at| at.0);
            statement.execute(params![job, kind, firing.version, due, state, now.0])
        })
        .map_err(|e| sql("take a firing", e))?;
    let recorded = tx
        .prepare_cached(
            "INSERT INTO trigger_firing (job_id, kind, cause, fired_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )
        .and_then(|mut statement| statement.execute(params![job, kind, firing.cause, now.0]))
        .map_err(|e| sql("record a firing", e))?;
    if taken == 0 {
        return Err(moved());
    }
    if recorded == 0 {
        let message = format!("The trigger has fired for {} already.", firing.cause);
        return Err(Error::exists(message));
    }
    consume(tx, firing)?;
    tx.prepare_cached("DELETE FROM trigger_firing WHERE job_id = ?1 AND fired_at < ?2")
        .and_then(|mut statement| statement.execute([job, now.0 - KEPT_MS]))
        .map_err(|e| sql("forget old firings", e))?;
    Ok(())
}

fn consume(tx: &Transaction<'_>, firing: &Firing) -> Result<()> {
    let job = firing.job_id.0;
    let delete = |query: &str, id: i64| {
        tx.prepare_cached(query)
            .and_then(|mut statement| statement.execute([job, id]))
            .map_err(|e| sql("use up what fired", e))
    };
    match &firing.consumed {
        Consumed::Nothing => {}
        Consumed::Files => {
            tx.execute(
                "UPDATE trigger_file SET waiting = 0 WHERE job_id = ?1 AND waiting",
                [job],
            )
            .map_err(|e| sql("use up files", e))?;
        }
        Consumed::EndedRun(run) => {
            let query = "DELETE FROM trigger_ended_run WHERE job_id = ?1 AND run_id = ?2";
            delete(query, run.0)?;
        }
        Consumed::Events(events) => {
            for event in events {
                let query = "DELETE FROM event_delivery WHERE job_id = ?1 AND event_id = ?2";
                if delete(query, *event)? == 0 {
                    return Err(moved());
                }
            }
        }
    }
    Ok(())
}

/// Writes down which run a firing made.
pub(crate) fn fired(tx: &Transaction<'_>, firing: &Firing, run: RunId) -> Result<()> {
    let (job, kind) = (firing.job_id.0, firing.kind.as_str());
    tx.prepare_cached(
        "UPDATE trigger_firing SET run_id = ?4 WHERE job_id = ?1 AND kind = ?2 AND cause = ?3",
    )
    .and_then(|mut statement| statement.execute(params![job, kind, firing.cause, run.0]))
    .and_then(|_| {
        tx.prepare_cached("UPDATE trigger SET last_run_id = ?3 WHERE job_id = ?1 AND kind = ?2")
    })
    .and_then(|mut statement| statement.execute(params![job, kind, run.0]))
    .map_err(|e| sql("record a run of a trigger", e))?;
    Ok(())
}

/// Tells the triggers that wait for it that a run has ended; in the transaction that ends it.
pub(crate) fn run_ended(
    tx: &Transaction<'_>,
    run: &Head,
    verdict: Verdict,
    now: Millis,
) -> Result<()> {
    let Some(job) = run.job_id.filter(|_| run.kind == RunKind::Job) else {
        return Ok(());
    };
    let watched = job.to_string();
    let made = |query: &str, bounds: &[&dyn rusqlite::ToSql]| {
        tx.prepare_cached(query)
            .and_then(|mut statement| statement.execute(bounds))
            .map_err(|e| sql("tell triggers of an end", e))
    };
    let now = now.0;
    made(
        "UPDATE trigger SET due_at = ?2, version = version + 1
         WHERE job_id = ?1 AND kind = 'continuous'",
        &[&job.0, &now],
    )?;
    made(
        "INSERT INTO trigger_ended_run (job_id, run_id, verdict, repair_id)
         SELECT job_id, ?2, ?3, (SELECT max(id) FROM repair WHERE run_id = ?2)
         FROM trigger WHERE kind = 'after_job' AND watches = ?1
         ON CONFLICT DO UPDATE SET verdict = excluded.verdict, repair_id = excluded.repair_id",
        &[&watched, &run.id.0, &verdict.as_str()],
    )?;
    made(
        "UPDATE trigger SET due_at = ?2, version = version + 1
         WHERE kind = 'after_job' AND watches = ?1",
        &[&watched, &now],
    )?;
    Ok(())
}

impl crate::Store {
    /// The oldest ends of runs that a job waited for, at most 100.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_ended_runs(&self, job: JobId) -> Result<Vec<EndedRun>> {
        self.read(move |conn| {
            conn.prepare_cached(
                "SELECT run_id, verdict, repair_id FROM trigger_ended_run WHERE job_id = ?1
                     ORDER BY run_id LIMIT 100",
            )
            .and_then(|mut statement| {
                statement
                    .query_map([job.0], |row| {
                        let verdict = row.get_ref("verdict")?.as_str()?.parse();
                        let repair = row.get::<_, Option<i64>>("repair_id")?;
                        Ok(EndedRun {
                            run: RunId(row.get("run_id")?),
                            verdict: verdict.unwrap_or(Verdict::InternalError),
                            repair: repair.map(RunId),
                        })
                    })?
                    .collect()
            })
            .map_err(|e| sql("read ended runs", e))
        })
        .await
    }

    /// Forgets the end of a run that a job does not want.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn trigger_ended_run_forget(&self, job: JobId, run: RunId) -> Result<()> {
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM trigger_ended_run WHERE job_id = ?1 AND run_id = ?2",
                [job.0, run.0],
            )
            .map_err(|e| sql("forget an ended run", e))?;
            Ok(())
        })
        .await
    }
}
