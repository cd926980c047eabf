//! The changes of runs: each one transaction, each through the engine where a phase moves.

use forebay_engine::admission::Admission;
use forebay_engine::{Effect, Event, Gate, Phase, Plan, Record, StopReason, Verdict};
use forebay_types::{Error, Millis, Result, RunId};
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::admit::{self, admission, check_ceiling, coalesced, look_at_rooms};
use super::claim::{claim, is_worth_a_claim, log_claim};
use super::container::Child;
use super::files::files_put;
use super::resolved::resolved_put;
use super::transition::{
    Head, Place, advance, advance_from, head_on, insert_attempt, log, outcome, set_phase, state_of,
};
use super::{
    ATTEMPT_COLUMNS, Attempt, AttemptEnd, AttemptStart, NewRun, attempt_from_row, missing_run,
    run_get_on,
};
use crate::connection::sql;
use crate::cost;
use crate::notifications;
use crate::retention::{active_in, trash_run};
use crate::slots::Slots;
use crate::store::{Store, next_id};
use crate::triggers;

/// What came of a request for a run.
#[derive(Debug)]
pub struct Created {
    /// The run, new or older.
    pub id: RunId,
    /// Attempts that got a slot in the same commit: the caller's to start.
    pub claimed: Vec<Attempt>,
    /// Whether it waits for its job or key; the dispatcher should look.
    pub queued: bool,
}

impl Created {
    fn older(id: RunId) -> Self {
        Self {
            id,
            claimed: Vec::new(),
            queued: false,
        }
    }
}

fn json_or_null(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| value.to_string())
}

impl Store {
    /// Records a run and, where its job and key allow, admits it. The same idempotency token gives
    /// the run of the first call, and a run that is to be one with a waiting run gives that one.
    /// What finds a free slot is claimed in the same commit; the caller starts it. A nested run
    /// takes no slot: only its own attempt is claimed. The same child of a container is started
    /// once, and only while the container runs.
    ///
    /// # Errors
    /// When the database refuses; `REQUEST_LIMIT_EXCEEDED` when too many wait already;
    /// `INVALID_STATE` for a child that comes too late, and when the trigger that fires has moved
    /// meanwhile.
    pub async fn run_create(
        &self,
        new: NewRun,
        plan: Plan,
        slots: Option<Slots>,
        now: Millis,
    ) -> Result<Created> {
        self.write(move |tx| create_on(tx, &new, &plan, slots, now))
            .await
    }

    /// Gives free slots to waiting attempts, never more than the caps of server and workspace allow.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_claim(&self, slots: Slots, now: Millis) -> Result<Vec<Attempt>> {
        if slots.is_known() && !self.glance(|conn| is_worth_a_claim(conn, &slots, now))? {
            return Ok(Vec::new());
        }
        self.write(move |tx| claim(tx, &slots, now)).await
    }

    /// Records that an attempt's program began, and what is known of it by then.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn attempt_executing(
        &self,
        id: RunId,
        start: AttemptStart,
        now: Millis,
    ) -> Result<()> {
        self.write(move |tx| {
            // A short program has ended before this is written, and its end knows more.
            let attempt = tx
                .prepare_cached(&format!(
                    "UPDATE attempt SET executed_at = ?2, cluster_id = ?3,
                       facts = CASE phase WHEN 'ended' THEN facts ELSE coalesce(?4, facts) END
                     WHERE id = ?1 RETURNING {ATTEMPT_COLUMNS}"
                ))
                .and_then(|mut statement| {
                    let bounds = params![id.0, now.0, start.cluster_id, json_or_null(&start.facts)];
                    statement.query_row(bounds, attempt_from_row).optional()
                })
                .map_err(|e| sql("record a start", e))?;
            // None: the run was deleted meanwhile.
            let Some(Attempt {
                run_id,
                task,
                attempt,
                ..
            }) = attempt
            else {
                return Ok(());
            };
            if let Some(resolved) = &start.resolved {
                resolved_put(tx, id, resolved)?;
            }
            files_put(tx, id, &start.facts)?;
            log(tx, run_id, now, &Record::Executing { task, attempt })?;
            notifications::began(tx, run_id, (task, attempt), now)
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
        slots: Option<Slots>,
        now: Millis,
    ) -> Result<Vec<Attempt>> {
        self.write(move |tx| {
            let run = head_on(tx, attempt.run_id)?;
            let run = run.ok_or_else(|| missing_run(attempt.run_id))?;
            // Read before the row is written: the engine sees the attempt as it was.
            let mut state = state_of(tx, &run, &plan)?;
            let recorded = tx
                .prepare_cached(
                    "UPDATE attempt SET phase = 'ended', verdict = ?2, code = ?3, message = ?4,
                       error = ?5, trace = ?6, exit_value = ?7, facts = coalesce(?8, facts),
                       ended_at = ?9
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
                        json_or_null(&end.facts),
                        now.0,
                    ])
                })
                .map_err(|e| sql("record an end", e))?;
            if recorded == 0 {
                return Ok(Vec::new());
            }
            let event = Event::AttemptEnded {
                task: attempt.task,
                attempt: attempt.attempt,
                verdict: end.verdict,
                outcome: outcome(end.exit_value.as_deref()),
                retry: end.retry,
            };
            cost::add(tx, attempt.run_id, &end.facts, now)?;
            files_put(tx, attempt.id, &end.facts)?;
            let ended = (&event, Some(end.code));
            advance_from(tx, &run, &mut state, &plan, ended, now)?;
            claim_some(tx, slots, now)
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
        self.write(move |tx| {
            let stop = Event::StopRequested(reason);
            advance(tx, id, &plan, (&stop, None), now)
        })
        .await
    }

    /// Asks one task of a run to stop; what depends on it decides for itself.
    ///
    /// # Errors
    /// `Run N does not exist.`
    pub async fn run_stop_task(
        &self,
        id: RunId,
        plan: Plan,
        task: usize,
        now: Millis,
    ) -> Result<Vec<Effect>> {
        self.write(move |tx| {
            let stop = Event::TaskStopRequested { task };
            advance(tx, id, &plan, (&stop, None), now)
        })
        .await
    }

    /// Ends a run whose definition cannot be read any more, so that nobody waits for it. One that
    /// has ended stays as it is.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn run_abandon(&self, id: RunId, message: String, now: Millis) -> Result<()> {
        self.write(move |tx| {
            let run = run_get_on(tx, id)?;
            let Some(run) = run.filter(|run| !run.phase.is_ended()) else {
                return Ok(());
            };
            let end =
                "SET phase = 'ended', verdict = 'internal_error', message = ?2, ended_at = ?3";
            for (table, key) in [("attempt", "run_id"), ("run", "id")] {
                tx.execute(
                    &format!("UPDATE {table} {end} WHERE {key} = ?1 AND phase <> 'ended'"),
                    params![id.0, message, now.0],
                )
                .map_err(|e| sql("abandon a run", e))?;
            }
            triggers::run_ended(tx, &Head::from(&run), Verdict::InternalError, now)?;
            log(tx, id, now, &Record::Abandoned)?;
            notifications::ended(tx, id, Verdict::InternalError, now)
        })
        .await
    }

    /// Removes an ended run with its attempts, events and values; its parts go by
    /// [`Store::run_purge`]. The files of the attempts returned are the caller's to delete, and noted
    /// in case it does not come to that.
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
            if let Some(part) = active_in(tx, id)? {
                return Err(Error::state(format!(
                    "Run {part}, a part of run {id}, is active; cancel it first."
                )));
            }
            trash_run(tx, id)
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
}

/// [`Store::run_create`] within a transaction.
pub(crate) fn create_on(
    tx: &Transaction<'_>,
    new: &NewRun,
    plan: &Plan,
    slots: Option<Slots>,
    now: Millis,
) -> Result<Created> {
    if let Some(token) = &new.idempotency_token {
        if let Some(id) = run_by_token(tx, token)? {
            return Ok(Created::older(id));
        }
        refuse_deleted(tx, token)?;
    }
    if let Some(child) = Child::of(new)
        && let Some(id) = child.started(tx)?
    {
        return Ok(Created::older(id));
    }
    if let Some(firing) = &new.firing {
        triggers::take(tx, firing, now)?;
    }
    if let Some(id) = coalesced(tx, new, now)? {
        if let Some(token) = &new.idempotency_token {
            keep_token(tx, token, id, now)?;
        }
        if let Some(firing) = &new.firing {
            triggers::fired(tx, firing, id)?;
        }
        return Ok(Created::older(id));
    }
    check_ceiling(tx, new)?;
    let admission = admission(tx, new)?;
    let id = insert_run(tx, new, plan, now)?;
    if let Some(firing) = &new.firing {
        triggers::fired(tx, firing, id)?;
    }
    match &new.gate {
        Gate::Open => {}
        Gate::Wait { until, message } => hold(tx, id, (*until, message), now)?,
        Gate::Closed { message } => {
            refuse(tx, id, ("BUDGET_POLICY_LIMIT_EXCEEDED", message), now)?;
            return Ok(Created::older(id));
        }
    }
    match admission {
        Admission::Now => {
            advance(tx, id, plan, (&Event::Admitted, None), now)?;
        }
        Admission::Queue => {
            set_phase(tx, id, Phase::Queued, now)?;
            look_at_rooms(tx, id)?;
            log(tx, id, now, &Record::Queued)?;
        }
        Admission::Skip => skip(tx, id, &job_is_full(new), now)?,
    }
    let claimed = if new.kind.is_nested() {
        claim_nested(tx, id, now)?.into_iter().collect()
    } else {
        claim_some(tx, slots, now)?
    };
    Ok(Created {
        id,
        claimed,
        queued: admission == Admission::Queue,
    })
}

fn claim_some(tx: &Transaction<'_>, slots: Option<Slots>, now: Millis) -> Result<Vec<Attempt>> {
    slots.map_or(Ok(Vec::new()), |slots| claim(tx, &slots, now))
}

/// Gives the one attempt of a nested run the slot of its parent.
fn claim_nested(tx: &Transaction<'_>, run: RunId, now: Millis) -> Result<Option<Attempt>> {
    let claimed = tx
        .prepare_cached(&format!(
            "UPDATE attempt SET phase = 'running', started_at = ?2
         WHERE run_id = ?1 AND nested AND phase IN ('pending', 'waiting_for_retry')
         RETURNING {ATTEMPT_COLUMNS}"
        ))
        .and_then(|mut statement| {
            statement
                .query_row(params![run.0, now.0], attempt_from_row)
                .optional()
        })
        .map_err(|e| sql("claim a nested attempt", e))?;
    if let Some(attempt) = &claimed {
        log_claim(tx, attempt, now)?;
    }
    Ok(claimed)
}

fn run_by_token(tx: &Transaction<'_>, token: &str) -> Result<Option<RunId>> {
    tx.prepare_cached(
        "SELECT id FROM run WHERE idempotency_token = ?1
         UNION ALL SELECT run_id FROM coalesced_token WHERE token = ?1",
    )
    .and_then(|mut statement| statement.query_row([token], |row| row.get(0)).optional())
    .map(|id| id.map(RunId))
    .map_err(|e| sql("look for a repeated call", e))
}

/// # Errors
/// When the run that was made with this token has been deleted.
fn refuse_deleted(tx: &Transaction<'_>, token: &str) -> Result<()> {
    let known = "SELECT run_id FROM deleted_run_token WHERE token = ?1";
    let id: Option<i64> = tx
        .prepare_cached(known)
        .and_then(|mut statement| statement.query_row([token], |row| row.get(0)).optional())
        .map_err(|e| sql("look for a repeated call", e))?;
    id.map_or(Ok(()), |id| {
        Err(Error::invalid(format!(
            "Field 'idempotency_token': its run, {id}, was deleted. A new run needs a new token."
        )))
    })
}

/// Remembers the token of a call that became one with an older run.
fn keep_token(tx: &Transaction<'_>, token: &str, run: RunId, now: Millis) -> Result<()> {
    tx.prepare_cached("INSERT INTO coalesced_token VALUES (?1, ?2, ?3)")
        .and_then(|mut statement| statement.execute(params![token, run.0, now.0]))
        .map(drop)
        .map_err(|e| sql("keep a token", e))
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
    let mut ids = Vec::with_capacity(plan.tasks.len());
    for (task, policy) in plan.tasks.iter().enumerate() {
        let place = Place {
            run: RunId(id),
            task,
            key: &policy.key,
            nested: new.kind.is_nested(),
            takes_slot: policy.takes_slot,
        };
        ids.push(insert_attempt(tx, &place, 0, (Phase::Blocked, None), now)?);
    }
    if let Some(child) = Child::of(new) {
        child.start(tx, RunId(id))?;
    }
    admit::insert(tx, RunId(id), new, now)?;
    let created = Record::Created {
        kind: new.kind.as_str().to_owned(),
        job: new.job_id.map(|id| id.0),
        tasks: plan.tasks.iter().map(|task| task.key.clone()).collect(),
        ids,
    };
    log(tx, RunId(id), now, &created)?;
    Ok(RunId(id))
}

fn job_is_full(new: &NewRun) -> String {
    match new.concurrency_max {
        0 => "Skipped: max_concurrent_runs of the job is 0, so it starts no runs.".to_owned(),
        1 => "Skipped: the job already has an active run, and max_concurrent_runs is 1.".to_owned(),
        max => format!(
            "Skipped: the job already has {max} active runs, as many as max_concurrent_runs allows."
        ),
    }
}

/// Ends a run that there is no room for, before anything of it started.
pub(super) fn skip(tx: &Transaction<'_>, id: RunId, message: &str, now: Millis) -> Result<()> {
    refuse(tx, id, ("MAX_CONCURRENT_RUNS_EXCEEDED", message), now)
}

fn refuse(
    tx: &Transaction<'_>,
    id: RunId,
    (code, message): (&str, &str),
    now: Millis,
) -> Result<()> {
    tx.execute(
        "UPDATE attempt SET phase = 'ended', verdict = 'skipped', message = ?2, ended_at = ?3,
           code = ?4 WHERE run_id = ?1",
        params![id.0, message, now.0, code],
    )
    .map_err(|e| sql("skip a run", e))?;
    tx.execute(
        "UPDATE run SET phase = 'ended', verdict = 'skipped', message = ?2, started_at = ?3,
           ended_at = ?3 WHERE id = ?1",
        params![id.0, message, now.0],
    )
    .map_err(|e| sql("skip a run", e))?;
    let refused = Record::Refused {
        verdict: Verdict::Skipped,
        code: code.to_owned(),
    };
    log(tx, id, now, &refused)?;
    notifications::ended(tx, id, Verdict::Skipped, now)
}

/// Keeps every attempt of a new run from a slot until then. The time of the run begins when the
/// first of them gets one.
fn hold(
    tx: &Transaction<'_>,
    id: RunId,
    (until, message): (Millis, &str),
    now: Millis,
) -> Result<()> {
    tx.execute(
        "UPDATE attempt SET due_at = ?2 WHERE run_id = ?1",
        params![id.0, until.0],
    )
    .and_then(|_| {
        tx.execute(
            "UPDATE run SET message = ?2 WHERE id = ?1",
            params![id.0, message],
        )
    })
    .map_err(|e| sql("hold a run", e))?;
    let held = Record::Held {
        until,
        unstarted: true,
    };
    log(tx, id, now, &held)
}
