use forebay_types::{Error, JobId, Millis, Result};
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::{Map, Value};

use super::{KnownFile, TriggerKind};
use crate::connection::sql;

/// A trigger as a job's settings ask for it.
#[derive(Debug, Clone)]
pub struct NewTrigger {
    pub kind: TriggerKind,
    /// What the settings say, without their `pause_status`: the same means that nothing changed.
    pub spec: Value,
    pub paused: bool,
    /// When to look at it first, for a trigger that is new, changed, or not paused any more.
    pub due_at: Option<Millis>,
    /// What its kind remembers from the beginning on.
    pub state: Map<String, Value>,
    pub watches: Option<String>,
    /// The files that are there already, which are not new; `None` when nobody has looked.
    pub files: Option<Vec<KnownFile>>,
}

/// Makes the triggers of a job those that its settings ask for. One that stays as it was keeps
/// its state; one that is not paused any more forgets its brake, and is due as if it were new.
pub(crate) fn sync_triggers(
    tx: &Transaction<'_>,
    job: JobId,
    wanted: &[NewTrigger],
    now: Millis,
) -> Result<()> {
    for kind in TriggerKind::ALL {
        if !wanted.iter().any(|trigger| trigger.kind == kind) {
            forget(tx, job, kind)?;
        }
    }
    for trigger in wanted {
        if trigger.kind == TriggerKind::AfterJob {
            refuse_circle(tx, job, trigger)?;
        }
        let spec = trigger.spec.to_string();
        match standing(tx, job, trigger.kind)? {
            Some((old, paused)) if old == spec => {
                repause(tx, job, trigger, paused, now)?;
            }
            _ => {
                forget(tx, job, trigger.kind)?;
                insert(tx, job, trigger, now)?;
            }
        }
    }
    Ok(())
}

/// Jobs that run after each other in a circle would never stop.
fn refuse_circle(tx: &Transaction<'_>, job: JobId, new: &NewTrigger) -> Result<()> {
    let mut chain = vec![job.to_string()];
    let mut watched = new.watches.clone();
    while let Some(next) = watched.filter(|next| !chain[1..].contains(next)) {
        chain.push(next.clone());
        if chain.len() > 1 && next == chain[0] {
            chain.reverse();
            return Err(Error::invalid(format!(
                "Field 'forebay.after_job.job_id': jobs would run after each other in a circle: {}.",
                chain.join(" -> ")
            )));
        }
        watched = tx
            .prepare_cached("SELECT watches FROM trigger WHERE job_id = ?1 AND kind = 'after_job'")
            .and_then(|mut statement| {
                statement
                    .query_row([next], |row| row.get("watches"))
                    .optional()
            })
            .map_err(|e| sql("follow a chain of jobs", e))?
            .flatten();
    }
    Ok(())
}

/// A job that is gone fires no more.
pub(crate) fn forget_triggers(tx: &Transaction<'_>, job: JobId) -> Result<()> {
    for kind in TriggerKind::ALL {
        forget(tx, job, kind)?;
    }
    tx.execute("DELETE FROM trigger_firing WHERE job_id = ?1", [job.0])
        .map_err(|e| sql("forget the firings of a job", e))?;
    Ok(())
}

fn standing(tx: &Transaction<'_>, job: JobId, kind: TriggerKind) -> Result<Option<(String, bool)>> {
    tx.prepare_cached("SELECT spec, paused FROM trigger WHERE job_id = ?1 AND kind = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![job.0, kind.as_str()], |row| {
                    Ok((row.get("spec")?, row.get("paused")?))
                })
                .optional()
        })
        .map_err(|e| sql("read a trigger", e))
}

fn repause(
    tx: &Transaction<'_>,
    job: JobId,
    new: &NewTrigger,
    paused: bool,
    now: Millis,
) -> Result<()> {
    if new.paused == paused {
        return Ok(());
    }
    // Times that passed in the pause are over; files, events and ends of runs have waited.
    tx.prepare_cached(
        "UPDATE trigger SET paused = ?3, due_at = ?4, brake = NULL, error = NULL,
           state = json_set(json_remove(state, '$.next'), '$.since', ?5, '$.forgiven', ?5), version = version + 1
         WHERE job_id = ?1 AND kind = ?2",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            job.0,
            new.kind.as_str(),
            new.paused,
            new.due_at.map(|at| at.0),
            now.0,
        ])
    })
    .map_err(|e| sql("pause a trigger", e))?;
    Ok(())
}

fn insert(tx: &Transaction<'_>, job: JobId, new: &NewTrigger, now: Millis) -> Result<()> {
    tx.execute(
        "INSERT INTO trigger (job_id, kind, spec, paused, due_at, state, version, watches)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7)",
        params![
            job.0,
            new.kind.as_str(),
            new.spec.to_string(),
            new.paused,
            new.due_at.map(|at| at.0),
            Value::Object(new.state.clone()).to_string(),
            new.watches,
        ],
    )
    .map_err(|e| sql("create a trigger", e))?;
    for file in new.files.iter().flatten() {
        file.insert(tx, job, now, false)?;
    }
    Ok(())
}

fn forget(tx: &Transaction<'_>, job: JobId, kind: TriggerKind) -> Result<()> {
    let clear = |query: &str| {
        tx.execute(query, [job.0])
            .map_err(|e| sql("forget a trigger", e))
    };
    match kind {
        TriggerKind::FileArrival => drop(clear("DELETE FROM trigger_file WHERE job_id = ?1")?),
        TriggerKind::AfterJob => drop(clear("DELETE FROM trigger_ended_run WHERE job_id = ?1")?),
        TriggerKind::Event => drop(clear("DELETE FROM event_delivery WHERE job_id = ?1")?),
        TriggerKind::Schedule | TriggerKind::Periodic | TriggerKind::Continuous => {}
    }
    tx.execute(
        "DELETE FROM trigger WHERE job_id = ?1 AND kind = ?2",
        params![job.0, kind.as_str()],
    )
    .map_err(|e| sql("forget a trigger", e))?;
    Ok(())
}
