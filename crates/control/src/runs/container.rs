//! Attempts that hold no slot: conditions, and *containers*, which wait for runs of their own.
//!
//! No task of the server waits with them. One reconciler looks at those that may have something to
//! do, and at all of them now and then; each look reads the rows, asks [`next_step`] and acts. It
//! may come at any time, twice, or after a crash between any two steps: a child is started in the
//! transaction that takes its number, and an end is recorded once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_engine::Phase;
use forebay_runtime::TaskKind;
use forebay_store::{Attempt, AttemptEnd, Run};
use forebay_types::{Error, Result, RunId};
use tokio::sync::Notify;
use tracing::{error, info};

use super::{Inner, attempt, condition, dispatch, ending, scope};
use crate::jobs::JobDocument;

/// The slow poll behind the wake-ups; it also finds time-outs.
const POLL: Duration = Duration::from_secs(1);

/// Which attempts are to be looked at.
#[derive(Default)]
pub(crate) struct Containers {
    due: Mutex<Due>,
    wake: Notify,
}

#[derive(Default)]
struct Due {
    attempts: BTreeSet<RunId>,
    all: bool,
}

impl Containers {
    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something about this attempt may have changed.
    pub(crate) fn touch(&self, attempt: RunId) {
        self.due().attempts.insert(attempt);
        self.wake.notify_one();
    }

    pub(crate) fn touch_all(&self) {
        self.due().all = true;
        self.wake.notify_one();
    }
}

pub(crate) fn start(inner: &Arc<Inner>) {
    let inner = Arc::clone(inner);
    let name = format!("containers {}", inner.setup.config.name);
    inner
        .tasks
        .clone()
        .spawn(TaskKind::Reconciler, name, async move {
            let stop = inner.tasks.stopping();
            inner.containers.touch_all();
            while !stop.is_cancelled() {
                round(&inner).await;
                tokio::select! {
                    () = inner.containers.wake.notified() => {}
                    () = inner.clock.sleep(POLL) => inner.containers.touch_all(),
                    () = stop.cancelled() => {}
                }
            }
            Ok::<(), Error>(())
        });
}

async fn round(inner: &Arc<Inner>) {
    let due = std::mem::take(&mut *inner.containers.due());
    let mut attempts = due.attempts;
    if due.all {
        match inner.store.container_list().await {
            Ok(live) => attempts.extend(live.into_iter().map(|attempt| attempt.id)),
            Err(e) => error!(error = ?e, "cannot look for waiting attempts"),
        }
    }
    for id in attempts {
        // What fails here is looked at again by the poll.
        if let Err(e) = look(inner, id).await {
            error!(attempt.id = %id, error = ?e, "cannot settle attempt {id} yet");
        }
    }
}

/// One look at one attempt, and the steps that are due.
async fn look(inner: &Arc<Inner>, id: RunId) -> Result<()> {
    let Some((run, attempt)) = inner.store.attempt_get(id).await? else {
        return Ok(());
    };
    if attempt.takes_slot || !matches!(attempt.phase, Phase::Running | Phase::Terminating) {
        return Ok(());
    }
    let document = match JobDocument::of_normal(run.settings.clone()) {
        Ok(document) => document,
        Err(e) => return attempt::abandon(inner, &run, &e).await,
    };
    let container = Container {
        inner,
        run,
        attempt,
        document,
    };
    // What is wrong with the task ends it; what is wrong with us is tried again.
    match container.step().await {
        Err(e) if ending::is_ours(&e) => Err(e),
        Err(e) => container.end(ending::failed_to_start(&e)).await,
        Ok(()) => Ok(()),
    }
}

struct Container<'a> {
    inner: &'a Arc<Inner>,
    run: Run,
    attempt: Attempt,
    document: JobDocument,
}

impl Container<'_> {
    async fn step(&self) -> Result<()> {
        let Self {
            inner,
            run,
            attempt,
            document,
        } = self;
        let task = scope::scoped(inner, run, attempt, document).await?.task;
        if let Some(condition) = &task.condition_task {
            return self.end(condition::end(condition)?).await;
        }
        Err(Error::not_implemented(format!(
            "The type of task '{}'",
            task.task_key
        )))
    }

    async fn end(&self, end: AttemptEnd) -> Result<()> {
        let Self {
            inner,
            run,
            attempt,
            document,
        } = self;
        let verdict = end.verdict;
        let claiming = inner.claiming.read().await;
        let now = inner.clock.now();
        let claimed = inner
            .store
            .attempt_end(
                attempt.clone(),
                document.plan.clone(),
                end,
                Some(inner.slots.clone()),
                now,
            )
            .await?;
        dispatch::begin(inner, claimed);
        drop(claiming);
        inner.moved(run);
        info!(run.id = %run.id, attempt.id = %attempt.id, verdict = verdict.as_str(), "attempt {} ended", attempt.id);
        Ok(())
    }
}
