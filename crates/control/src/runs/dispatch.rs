//! The loop that gives waiting attempts their slots. It takes no input: each round it looks at the
//! store and does what is due, whatever woke it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_engine::StopReason;
use forebay_runtime::TaskKind;
use forebay_store::{Attempt, RunLimit};
use forebay_types::{Error, Millis, Result, RunId};
use tracing::{error, warn};

use super::Inner;
use super::adoption;
use super::attempt::{self, Begin};
use super::limits::{Limits, Turn};
use crate::jobs::JobDocument;

/// The slow poll behind the wake-ups.
const POLL: Duration = Duration::from_secs(1);
/// So many runs are stopped at their limits before others get their slots.
const TIMED_OUT_AT_ONCE: usize = 100;

pub(crate) fn start(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    let name = format!("dispatch {}", inner.setup.config.name);
    inner
        .tasks
        .clone()
        .spawn(TaskKind::Reconciler, name, async move {
            let stop = inner.tasks.stopping();
            // The first look finds what the last process left behind, whatever its clock said.
            let mut look_for_orphans = true;
            let mut last = None;
            let mut limits = Limits::new(inner.clock.clone());
            let mut reached = Vec::new();
            if let Err(e) = adoption::end_strays(&inner).await {
                error!(error = ?e, "cannot look for strays");
            }
            while !stop.is_cancelled() {
                if look_for_orphans {
                    adoption::take_up(&inner).await;
                }
                // Before the look: what becomes due while it goes on is not waited for twice.
                let reading = inner.clock.reading();
                let began = reading.now;
                let is_seen_to = match last.map(|last| Turn::between(last, reading)) {
                    Some(None) => true,
                    // What failed is tried again, with the time from before the turn.
                    first_or_turn => {
                        let turn = first_or_turn.flatten();
                        turned(&inner, &mut limits, turn, began).await
                    }
                };
                if is_seen_to {
                    last = Some(reading);
                }
                if !reached.is_empty() {
                    stop_at_limits(&inner, &mut limits, &mut reached).await;
                }
                let due = match round(&inner, &limits, began).await {
                    Ok(due) => due,
                    // The store may be full or busy for a while; the poll tries again.
                    Err(e) => {
                        error!(error = ?e, "dispatch round failed");
                        None
                    }
                };
                let wait = wait(began, due, inner.clock.now());
                tokio::select! {
                    () = inner.wake.notified() => look_for_orphans = false,
                    () = inner.slots.offered() => look_for_orphans = false,
                    limit = limits.next() => {
                        reached.push(limit);
                        look_for_orphans = false;
                    }
                    () = inner.clock.sleep(wait) => look_for_orphans = true,
                    () = stop.cancelled() => {}
                }
            }
            Ok::<(), Error>(())
        });
}

/// Until the next look: the poll or what is `due`, counted from when the last one began. Never longer,
/// also when the clock was put back while it went on.
fn wait(began: Millis, due: Option<Millis>, now: Millis) -> Duration {
    let poll = began.plus_ms(i64::try_from(POLL.as_millis()).unwrap_or(1000));
    let next = due.map_or(poll, |due| due.min(poll));
    Duration::from_millis(u64::try_from(next.since(now)).unwrap_or(0)).min(POLL)
}

/// A clock that was put back must not make an interval between two tries, or a limit, one of days, and
/// one that was put ahead must not end a run before its time. Returns whether all of it was seen to.
async fn turned(inner: &Arc<Inner>, limits: &mut Limits, turn: Option<Turn>, now: Millis) -> bool {
    let found = inner.store.run_limits().await;
    let found = found.map(|runs| limits.turned(runs, turn, now));
    if let Err(e) = &found {
        error!(error = ?e, "cannot look for limits from before the clock was turned");
    }
    let tries = inner.store.attempt_overtaken(now).await;
    match &tries {
        Ok(0) => {}
        Ok(count) => warn!("the clock went back; {count} tries wait no longer for their time"),
        Err(e) => error!(error = ?e, "cannot look for tries from before the clock went back"),
    }
    found.is_ok() && tries.is_ok()
}

/// Stops the runs that have `reached` their limits, if they are still what they were. What cannot be
/// stopped now stays among them.
async fn stop_at_limits(inner: &Arc<Inner>, limits: &mut Limits, reached: &mut Vec<RunLimit>) {
    let active = match inner.store.run_limits().await {
        Ok(active) => active,
        Err(e) => {
            error!(error = ?e, "cannot look at the limits of runs");
            return;
        }
    };
    for limit in std::mem::take(reached) {
        // One that is not there has ended, is being stopped, or was deleted.
        let Some(now) = active.iter().find(|now| now.id == limit.id) else {
            continue;
        };
        if now.repair != limit.repair {
            limits.wait(*now, now.due().since(inner.clock.now()));
        } else if !stop_at_limit(inner, limit.id).await {
            reached.push(limit);
        }
    }
}

/// One run that cannot be stopped must not keep others from their slots.
async fn stop_at_limit(inner: &Arc<Inner>, id: RunId) -> bool {
    let stopped = async {
        let run = inner.store.run_look(id).await?;
        inner.stop(&run, StopReason::TimedOut).await
    };
    match stopped.await {
        Ok(()) => true,
        Err(e) => {
            warn!(run.id = %id, error = ?e, "run {id} cannot be stopped at its time");
            false
        }
    }
}

/// One look at everything; returns when the next timer is due.
async fn round(inner: &Arc<Inner>, limits: &Limits, now: Millis) -> Result<Option<Millis>> {
    let most = TIMED_OUT_AT_ONCE + limits.len();
    let (timed_out, next) = inner.store.run_timers(now, most).await?;
    for id in timed_out.into_iter().filter(|id| !limits.has(*id)) {
        stop_at_limit(inner, id).await;
    }
    expire(inner, now).await?;
    admit(inner, now).await?;
    let _claiming = inner.claiming.read().await;
    let claimed = inner.store.attempt_claim(inner.slots.clone(), now).await?;
    begin(inner, claimed);
    Ok(next)
}

/// Admits every queued run whose job and key have room. One that cannot be read stays in its place.
async fn admit(inner: &Arc<Inner>, now: Millis) -> Result<()> {
    let mut unreadable = HashSet::new();
    loop {
        let mut queued = inner.store.run_admissible().await?;
        queued.retain(|id| !unreadable.contains(id));
        if queued.is_empty() {
            return Ok(());
        }
        for id in queued {
            if let Err(e) = admit_one(inner, id, now).await {
                warn!(run.id = %id, error = ?e, "queued run {id} cannot be admitted");
                unreadable.insert(id);
            }
        }
    }
}

async fn admit_one(inner: &Arc<Inner>, id: RunId, now: Millis) -> Result<()> {
    let run = inner.store.run_look(id).await?;
    match JobDocument::of_normal(run.settings.clone()) {
        Ok(document) => inner
            .store
            .run_admit(id, document.plan, now)
            .await
            .map(drop),
        Err(e) => {
            warn!(run.id = %id, error = ?e, "queued run {id} cannot be read");
            attempt::abandon(inner, &run, &e).await
        }
    }
}

/// Ends runs that waited in the queue for longer than a run may.
async fn expire(inner: &Arc<Inner>, now: Millis) -> Result<()> {
    let hours = inner.setup.server.limits.queue_hours_max;
    if hours == 0 {
        return Ok(());
    }
    let before = now.plus_ms(-i64::from(hours) * 3_600_000);
    let message =
        format!("Skipped: the run waited in the queue for {hours} hours, as long as a run may.");
    for run in inner.store.run_expire(before, message, now).await? {
        inner.checkouts.settle(run.id).await;
        inner.moved(&run);
    }
    Ok(())
}

/// Starts attempts that have their slots, each in a task of its own; those that need none are
/// looked at by their reconciler.
pub(crate) fn begin(inner: &Arc<Inner>, claimed: Vec<Attempt>) {
    begin_as(inner, claimed, Begin::First);
}

pub(crate) fn begin_as(inner: &Arc<Inner>, attempts: Vec<Attempt>, begin: Begin) {
    for attempt in attempts {
        if !attempt.takes_slot {
            inner.containers.touch(attempt.id);
            continue;
        }
        let name = format!("attempt {}", attempt.id);
        let owned = inner.live.own(attempt.id);
        let work = attempt::run(Arc::clone(inner), attempt, owned, begin);
        inner.tasks.spawn(TaskKind::Attempt, name, work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dispatcher_never_sleeps_longer_than_its_poll() {
        for (due, now, expected) in [
            (None, 10_200, 800),
            (Some(10_500), 10_200, 300),
            (Some(90_000), 10_000, 1_000),
            (Some(10_100), 10_200, 0),
            // Put back by a day while it looked.
            (None, -86_390_000, 1_000),
        ] {
            let wait = wait(Millis(10_000), due.map(Millis), Millis(now));
            assert_eq!(wait, Duration::from_millis(expected), "{due:?} {now}");
        }
    }
}
