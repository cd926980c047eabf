use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use forebay_exec::{CancelReason, Canceler, Meter, Usage};
use forebay_types::RunId;
use tokio::sync::watch;

use super::Using;

/// The attempts that this process runs at the moment, and who watches what.
///
/// Only a convenience over the store: who finds nothing here reads the rows and files.
#[derive(Clone, Default)]
pub(crate) struct LiveAttempts(Arc<Mutex<State>>);

/// Says that this process works on an attempt, until it is dropped: also by a panic.
pub(crate) struct Owned {
    attempt: RunId,
    live: LiveAttempts,
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut state = self.live.lock();
        state.attempts.remove(&self.attempt);
        state.owned.remove(&self.attempt);
    }
}

#[derive(Default)]
struct State {
    /// Attempts that a task of this process works on, from before that task begins.
    owned: HashSet<RunId>,
    attempts: HashMap<RunId, Live>,
    /// Wakes those who wait for a run to end.
    runs: HashMap<RunId, watch::Sender<bool>>,
}

struct Live {
    run: RunId,
    canceler: Canceler,
    /// What it uses, once its program has begun and until its end is recorded.
    metered: Option<(Meter, Using)>,
    /// Its program has ended, and the database does not take that yet.
    unrecorded: bool,
    /// How many events of its output are on disk.
    events: watch::Sender<u64>,
}

impl LiveAttempts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers an attempt; the sender is told after each event that was written.
    pub(crate) fn insert(
        &self,
        attempt: RunId,
        run: RunId,
        canceler: Canceler,
    ) -> watch::Sender<u64> {
        let events = watch::Sender::new(0);
        let live = Live {
            run,
            canceler,
            metered: None,
            unrecorded: false,
            events: events.clone(),
        };
        self.lock().attempts.insert(attempt, live);
        events
    }

    /// From now on the use of the attempt shows; `None` when it has ended and its row says so.
    pub(crate) fn meter(&self, attempt: RunId, metered: Option<(Meter, Using)>) {
        if let Some(live) = self.lock().attempts.get_mut(&attempt) {
            live.metered = metered;
        }
    }

    /// What the attempts under way have used, as far as it is known.
    pub(crate) fn using(&self) -> Vec<Using> {
        let state = self.lock();
        let metered = state
            .attempts
            .values()
            .filter_map(|live| live.metered.as_ref());
        metered
            .filter_map(|(meter, using)| {
                let usage = meter.read()?;
                Some(Using {
                    usage,
                    ..using.clone()
                })
            })
            .collect()
    }

    /// The same for one run, by attempt.
    pub(crate) fn using_of(&self, run: RunId) -> HashMap<RunId, Usage> {
        let state = self.lock();
        let of_run = state.attempts.iter().filter(|(_, live)| live.run == run);
        of_run
            .filter_map(|(id, live)| Some((*id, live.metered.as_ref()?.0.read()?)))
            .collect()
    }

    /// From now on it shows that an end waits to be recorded.
    pub(crate) fn note_unrecorded(&self, attempt: RunId) {
        if let Some(live) = self.lock().attempts.get_mut(&attempt) {
            live.unrecorded = true;
        }
    }

    /// The attempts of a run that have ended, which the database does not say yet.
    pub(crate) fn unrecorded_of(&self, run: RunId) -> HashSet<RunId> {
        let state = self.lock();
        let attempts = state.attempts.iter();
        attempts
            .filter(|(_, live)| live.run == run && live.unrecorded)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn own(&self, attempt: RunId) -> Owned {
        self.lock().owned.insert(attempt);
        Owned {
            attempt,
            live: self.clone(),
        }
    }

    pub(crate) fn is_owned(&self, attempt: RunId) -> bool {
        self.lock().owned.contains(&attempt)
    }

    /// Cancels those attempts of a run that `wanted` names by their ids.
    pub(crate) fn cancel_attempts(
        &self,
        run: RunId,
        wanted: impl Fn(RunId) -> bool,
        reason: CancelReason,
    ) {
        let state = self.lock();
        for (id, live) in &state.attempts {
            if live.run == run && wanted(*id) {
                live.canceler.cancel(reason);
            }
        }
    }

    /// Follows the output of an attempt, while it runs here.
    pub(crate) fn follow(&self, attempt: RunId) -> Option<watch::Receiver<u64>> {
        self.lock()
            .attempts
            .get(&attempt)
            .map(|live| live.events.subscribe())
    }

    /// Completes when the run may have ended; the caller looks at the store then.
    pub(crate) fn watch_run(&self, run: RunId) -> watch::Receiver<bool> {
        self.lock()
            .runs
            .entry(run)
            .or_insert_with(|| watch::Sender::new(false))
            .subscribe()
    }

    /// Tells the watchers of a run that it moved.
    pub(crate) fn ended(&self, run: RunId) {
        if let Some(sender) = self.lock().runs.remove(&run) {
            sender.send_replace(true);
        }
    }
}
