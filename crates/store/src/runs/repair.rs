//! Repairs: an ended run that does some of its tasks again.

use forebay_engine::{Effect, Event, Plan, Run as RunState, Verdict};
use forebay_types::{Error, ErrorCode, Millis, Result, RunId};
use rusqlite::{Connection, Transaction, params};
use serde_json::{Map, Value};

use super::admit;
use super::claim::claim;
use super::transition::{Head, advance_from, state_of};
use super::{Attempt, Run, missing_run, run_get_on};
use crate::connection::sql;
use crate::slots::Slots;
use crate::store::{Store, next_id};

/// One repair of a run; the oldest comes first in lists.
#[derive(Debug, Clone)]
pub struct Repair {
    pub id: RunId,
    pub created_at: Millis,
    /// Empty where it was not recorded.
    pub creator_name: String,
    /// How the run had ended before.
    pub verdict_before: Verdict,
    pub message_before: String,
    pub ended_before: Millis,
    /// Task and first attempt of each task that ran again.
    pub attempts: Vec<(usize, u32)>,
}

#[derive(Debug, Clone)]
pub struct NewRepair {
    pub run: RunId,
    pub creator_name: String,
    /// The last repair that the caller knows of.
    pub latest: Option<RunId>,
    /// Which tasks run again, by index in `plan`.
    pub tasks: Vec<usize>,
    /// What the run runs from now on; `plan` has the tasks of before, in their order.
    pub settings: Map<String, Value>,
    pub parameters: Map<String, Value>,
    pub plan: Plan,
}

impl Store {
    /// Reopens an ended run. Returns the id of the repair and the attempts that got their slots,
    /// which are the caller's to start.
    ///
    /// # Errors
    /// `Run N does not exist.`; `RESOURCE_CONFLICT` for a run that is active, or that was repaired
    /// since the caller looked, and while its job or key have as many runs as they may.
    pub async fn run_repair(
        &self,
        new: NewRepair,
        slots: Slots,
        now: Millis,
    ) -> Result<(RunId, Vec<Attempt>)> {
        self.write(move |tx| {
            let run = run_get_on(tx, new.run)?.ok_or_else(|| missing_run(new.run))?;
            let id = insert(tx, &run, &new, now)?;
            admit::readmit(tx, run.id)?;
            let head = Head::from(&run);
            let mut state = state_of(tx, &head, &new.plan)?;
            tx.prepare_cached(
                "UPDATE run SET settings = ?2, parameters = ?3, verdict = NULL, stopping = NULL,
                   message = '', ended_at = NULL WHERE id = ?1",
            )
            .and_then(|mut statement| {
                let settings = serde_json::to_string(&new.settings).unwrap_or_default();
                let parameters = serde_json::to_string(&new.parameters).unwrap_or_default();
                statement.execute(params![run.id.0, settings, parameters])
            })
            .map_err(|e| sql("reopen a run", e))?;
            let event = Event::Repair { tasks: new.tasks };
            let effects = advance_from(tx, &head, &mut state, &new.plan, (&event, None), now)?;
            for effect in effects {
                if let Effect::Reopen { task, attempt } = effect {
                    tx.prepare_cached("INSERT INTO repair_attempt VALUES (?1, ?2, ?3, ?4)")
                        .and_then(|mut insert| {
                            insert.execute(params![run.id.0, id.0, task, attempt])
                        })
                        .map_err(|e| sql("record a repair", e))?;
                }
            }
            Ok((id, claim(tx, &slots, now)?))
        })
        .await
    }

    /// # Errors
    /// When the database refuses.
    pub async fn run_repairs(&self, run: RunId) -> Result<Vec<Repair>> {
        self.read(move |conn| {
            let mut repairs = repairs_on(conn, run)?;
            let attempts: Vec<(i64, usize, u32)> = conn
                .prepare_cached(
                    "SELECT repair_id, task, attempt FROM repair_attempt WHERE run_id = ?1",
                )
                .and_then(|mut statement| {
                    statement
                        .query_map([run.0], |row| {
                            Ok((row.get(0)?, row.get::<_, u32>(1)? as usize, row.get(2)?))
                        })?
                        .collect()
                })
                .map_err(|e| sql("read repairs", e))?;
            for (id, task, attempt) in attempts {
                if let Some(repair) = repairs.iter_mut().find(|repair| repair.id.0 == id) {
                    repair.attempts.push((task, attempt));
                }
            }
            Ok(repairs)
        })
        .await
    }
}

fn insert(tx: &Transaction<'_>, run: &Run, new: &NewRepair, now: Millis) -> Result<RunId> {
    let conflict = |message: String| Err(Error::new(ErrorCode::ResourceConflict, message));
    let (Some(verdict), Some(ended)) = (run.phase.verdict(), run.ended_at) else {
        return conflict(format!(
            "Run {} is active; a run can be repaired once it has ended.",
            run.id
        ));
    };
    let latest = repairs_on(tx, run.id)?.last().map(|repair| repair.id);
    if latest != new.latest {
        let latest = latest.map_or_else(|| "none".to_owned(), |id| id.to_string());
        return conflict(format!(
            "Field 'latest_repair_id' is not that of the last repair of run {}: {latest}.",
            run.id
        ));
    }
    let id = next_id(tx)?;
    tx.prepare_cached("INSERT INTO repair VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
        .and_then(|mut statement| {
            let (verdict, message, who) = (verdict.as_str(), &run.message, &new.creator_name);
            statement.execute(params![id, run.id.0, now.0, verdict, message, ended.0, who])
        })
        .map_err(|e| sql("record a repair", e))?;
    Ok(RunId(id))
}

/// Without the attempts.
fn repairs_on(conn: &Connection, run: RunId) -> Result<Vec<Repair>> {
    conn.prepare_cached(
        "SELECT id, created_at, creator_name, verdict_before, message_before, ended_before
         FROM repair WHERE run_id = ?1 ORDER BY id",
    )
    .and_then(|mut statement| {
        statement
            .query_map([run.0], |row| {
                let verdict = row.get_ref("verdict_before")?.as_str()?.parse();
                Ok(Repair {
                    id: RunId(row.get("id")?),
                    created_at: Millis(row.get("created_at")?),
                    creator_name: row.get("creator_name")?,
                    verdict_before: verdict.unwrap_or(Verdict::InternalError),
                    message_before: row.get("message_before")?,
                    ended_before: Millis(row.get("ended_before")?),
                    attempts: Vec::new(),
                })
            })?
            .collect()
    })
    .map_err(|e| sql("read repairs", e))
}

/// Tells the engine from which attempt the retries of each task are counted.
pub(super) fn count_retries(conn: &Connection, run: RunId, state: &mut RunState) -> Result<()> {
    let firsts: Vec<(usize, u32)> = conn
        .prepare_cached(
            "SELECT task, max(attempt) FROM repair_attempt WHERE run_id = ?1 GROUP BY task",
        )
        .and_then(|mut statement| {
            statement
                .query_map([run.0], |row| {
                    Ok((row.get::<_, u32>(0)? as usize, row.get(1)?))
                })?
                .collect()
        })
        .map_err(|e| sql("read repairs", e))?;
    for (task, first) in firsts {
        if let Some(task) = state.tasks.get_mut(task) {
            task.first = first;
        }
    }
    Ok(())
}
