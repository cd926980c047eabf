//! What follows from an event: rows in, [`RunState::advance`], rows out, and a line in `run_event`,
//! in one transaction.

use forebay_engine::{
    Effect, Event, Phase, Plan, Record, Run as RunState, StopReason, Task, Verdict,
};
use forebay_types::{JobId, Millis, Result, RunId};
use rusqlite::{Row, Transaction, params};

use super::claim::one;
use super::repair::count_retries;
use super::{Attempt, Run, RunKind, attempts_on, missing_run};
use crate::connection::sql;
use crate::notifications;
use crate::store::next_id;
use crate::triggers::run_ended;

/// Which task of which run an attempt belongs to.
pub(super) struct Place<'a> {
    pub(super) run: RunId,
    pub(super) task: usize,
    pub(super) key: &'a str,
    pub(super) nested: bool,
    pub(super) takes_slot: bool,
}

pub(super) fn insert_attempt(
    tx: &Transaction<'_>,
    place: &Place<'_>,
    attempt: u32,
    (phase, due): (Phase, Option<Millis>),
    now: Millis,
) -> Result<i64> {
    let id = next_id(tx)?;
    tx.prepare_cached(
        "INSERT INTO attempt (id, run_id, task, task_key, attempt, nested, takes_slot, phase,
           created_at, due_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )
    .and_then(|mut statement| {
        statement.execute(params![
            id,
            place.run.0,
            place.task,
            place.key,
            attempt,
            place.nested,
            place.takes_slot,
            phase.as_str(),
            now.0,
            due.map(|at| at.0),
        ])
    })
    .map_err(|e| sql("create an attempt", e))?;
    Ok(id)
}

/// Takes one event through the engine and writes down all that follows from it. `code` says why
/// an attempt ended, when the event is that end.
pub(super) fn advance(
    tx: &Transaction<'_>,
    id: RunId,
    plan: &Plan,
    (event, code): (&Event, Option<&str>),
    now: Millis,
) -> Result<Vec<Effect>> {
    let row = head_on(tx, id)?.ok_or_else(|| missing_run(id))?;
    let mut state = state_of(tx, &row, plan)?;
    advance_from(tx, &row, &mut state, plan, (event, code), now)
}

/// What the engine needs of a run's row. What the run was made from may be long, and is read where
/// somebody wants it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) id: RunId,
    pub(crate) job_id: Option<JobId>,
    pub(crate) kind: RunKind,
    pub(crate) phase: Phase,
    pub(crate) stopping: Option<StopReason>,
}

impl From<&Run> for Head {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id,
            job_id: run.job_id,
            kind: run.kind,
            phase: run.phase,
            stopping: run.stopping,
        }
    }
}

pub(super) fn head_on(tx: &Transaction<'_>, id: RunId) -> Result<Option<Head>> {
    let read = |row: &Row<'_>| {
        let verdict: Option<String> = row.get("verdict")?;
        let stopping: Option<String> = row.get("stopping")?;
        Ok(Head {
            id,
            job_id: row.get::<_, Option<i64>>("job_id")?.map(JobId),
            kind: RunKind::parse(row.get_ref("kind")?.as_str()?),
            phase: super::phase(row.get_ref("phase")?.as_str()?, verdict.as_deref()),
            stopping: stopping.as_deref().map(super::stop_reason),
        })
    };
    let query = "SELECT job_id, kind, phase, verdict, stopping FROM run WHERE id = ?1";
    one(tx, query, [id.0], read)
}

/// [`advance`] for a state that the caller has read already.
pub(super) fn advance_from(
    tx: &Transaction<'_>,
    row: &Head,
    state: &mut RunState,
    plan: &Plan,
    (event, code): (&Event, Option<&str>),
    now: Millis,
) -> Result<Vec<Effect>> {
    let id = row.id;
    let before = state.phase;
    let effects = state.advance(plan, event, now);
    let mut ids = Vec::new();
    for effect in &effects {
        ids.extend(apply(tx, row, plan, *effect, now)?);
    }
    let phase = (state.phase != before && !state.phase.is_ended()).then_some(state.phase);
    if let Some(phase) = phase {
        set_phase(tx, id, phase, now)?;
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
    // A wish that came too late leaves no trace; an attempt's end was written by the caller.
    let happened = !effects.is_empty() || phase.is_some() || code.is_some();
    if happened {
        let record = Record::Advanced {
            event: event.clone(),
            effects: effects.clone(),
            code: code.map(str::to_owned),
            phase,
            ids,
        };
        log(tx, id, now, &record)?;
        notifications::follow(tx, id, event, (&effects, phase), now)?;
    }
    Ok(effects)
}

/// The engine's state from the rows. Each end of a task reads those of all, so only what counts
/// is read of them.
pub(super) fn state_of(tx: &Transaction<'_>, row: &Head, plan: &Plan) -> Result<RunState> {
    let mut state = RunState::new(plan);
    state.phase = row.phase;
    state.stopping = row.stopping;
    let mut statement = tx
        .prepare_cached(
            "SELECT task, attempt, phase, verdict, CASE WHEN takes_slot THEN NULL ELSE exit_value END
             FROM attempt WHERE run_id = ?1 ORDER BY task, attempt",
        )
        .map_err(|e| sql("read a run's state", e))?;
    let mut read = || {
        let mut rows = statement.query([row.id.0])?;
        while let Some(attempt) = rows.next()? {
            let task = attempt.get::<_, u32>(0)? as usize;
            if let Some(task) = state.tasks.get_mut(task) {
                let verdict = attempt.get_ref(3)?.as_str_or_null()?;
                *task = Task {
                    phase: super::phase(attempt.get_ref(2)?.as_str()?, verdict),
                    attempt: attempt.get(1)?,
                    first: 0,
                    outcome: outcome(attempt.get_ref(4)?.as_str_or_null()?),
                };
            }
        }
        Ok(())
    };
    read().map_err(|e| sql("read a run's state", e))?;
    count_retries(tx, row.id, &mut state)?;
    Ok(state)
}

/// How a condition came out is the exit value of its attempt; nobody asks for that of other tasks.
pub(super) fn outcome(exit_value: Option<&str>) -> Option<bool> {
    exit_value?.parse().ok()
}

/// Gives the id of the attempt that the effect made, if it made one.
fn apply(
    tx: &Transaction<'_>,
    run: &Head,
    plan: &Plan,
    effect: Effect,
    now: Millis,
) -> Result<Option<i64>> {
    let insert = |task: usize, attempt: u32, phase: Phase, due: Option<Millis>| {
        let place = Place {
            run: run.id,
            task,
            key: &plan.tasks[task].key,
            nested: run.kind.is_nested(),
            takes_slot: plan.tasks[task].takes_slot,
        };
        insert_attempt(tx, &place, attempt, (phase, due), now).map(Some)
    };
    match effect {
        Effect::Start { task, attempt } => {
            // A first attempt, and that of a repair, has waited in a row of its own.
            if attempt_phase(tx, run.id, (task, attempt), Phase::Pending)? > 0 {
                return Ok(None);
            }
            insert(task, attempt, Phase::Pending, None)
        }
        Effect::StartAt { task, attempt, due } => {
            insert(task, attempt, Phase::WaitingForRetry, Some(due))
        }
        Effect::Reopen { task, attempt } => insert(task, attempt, Phase::Blocked, None),
        Effect::Stop { task, attempt, .. } => {
            attempt_phase(tx, run.id, (task, attempt), Phase::Terminating).map(|_| None)
        }
        Effect::Close { task, verdict } => close(tx, run.id, task, verdict, now).map(|()| None),
        Effect::Finish(verdict) => {
            finish(tx, run.id, plan, verdict, now)?;
            run_ended(tx, run, verdict, now).map(|()| None)
        }
    }
}

/// Returns how many rows there were to move.
fn attempt_phase(
    tx: &Transaction<'_>,
    run: RunId,
    (task, attempt): (usize, u32),
    phase: Phase,
) -> Result<usize> {
    tx.prepare_cached(
        "UPDATE attempt SET phase = ?4 WHERE run_id = ?1 AND task = ?2 AND attempt = ?3",
    )
    .and_then(|mut statement| statement.execute(params![run.0, task, attempt, phase.as_str()]))
    .map_err(|e| sql("move an attempt", e))
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
    let canceled = attempts.last().filter(|attempt| {
        plan.tasks.len() == 1 && attempt.phase.verdict() == Some(Verdict::Canceled)
    });
    match (verdict, culprit) {
        (Verdict::Succeeded, _) => String::new(),
        (Verdict::Canceled, _) if canceled.is_some() => {
            canceled.map_or_else(String::new, |attempt| attempt.message.clone())
        }
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

pub(super) fn set_phase(tx: &Transaction<'_>, id: RunId, phase: Phase, now: Millis) -> Result<()> {
    let started = (phase == Phase::Running).then_some(now.0);
    // Only the first attempts of a run that was held have a time: its own begins with a slot.
    tx.prepare_cached(
        "UPDATE run SET phase = ?2, started_at = coalesce(started_at, CASE
           WHEN EXISTS (SELECT 1 FROM attempt
             WHERE run_id = ?1 AND task = 0 AND attempt = 0 AND due_at IS NOT NULL) THEN NULL
           ELSE ?3 END) WHERE id = ?1",
    )
    .and_then(|mut statement| statement.execute(params![id.0, phase.as_str(), started]))
    .map_err(|e| sql("move a run", e))?;
    Ok(())
}

/// Adds to the run's history; every change of a phase needs its record in the same transaction.
pub(super) fn log(tx: &Transaction<'_>, id: RunId, now: Millis, record: &Record) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO run_event
         SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3 FROM run_event WHERE run_id = ?1",
    )
    .and_then(|mut statement| statement.execute(params![id.0, now.0, record.to_text()]))
    .map_err(|e| sql("log an event", e))?;
    Ok(())
}

fn stop_text(reason: StopReason) -> &'static str {
    match reason {
        StopReason::TimedOut => "timed_out",
        StopReason::Canceled => "canceled",
    }
}
