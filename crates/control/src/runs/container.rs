//! Attempts that hold no slot: conditions, and *containers*, which wait for runs of their own.
//!
//! No task of the server waits with them. One reconciler looks at those that may have something to
//! do, and at all of them now and then; each look reads the rows, asks [`next_step`] and acts. It
//! may come at any time, twice, or after a crash between any two steps: a child is started in the
//! transaction that takes its number, and an end is recorded once.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_engine::{Children, Phase, Plan, Step, StopReason, Verdict, next_step};
use forebay_runtime::{Clock, Reading, TaskKind};
use forebay_store::{Attempt, AttemptEnd, LiveAttempt, NewRun, Run};
use forebay_types::{Error, Millis, Result, RunId};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{error, info};

use super::scope::{self, Scoped};
use super::{Inner, Runs, attempt, condition, dispatch, ending, for_each, run_job};
use crate::jobs::{JobDocument, TaskSpec};

/// The slow poll behind the wake-ups; it also finds time-outs.
const POLL: Duration = Duration::from_secs(1);

/// Which attempts are to be looked at.
#[derive(Default)]
pub(crate) struct Containers {
    due: Mutex<Due>,
    wake: Notify,
    /// When those with a limit reach it, by the time that nobody turns; with when they began.
    limits: Mutex<HashMap<(RunId, Millis), Duration>>,
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

    fn limits(&self) -> MutexGuard<'_, HashMap<(RunId, Millis), Duration>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an attempt that began then has reached its limit. From the first question on the clock
    /// may be turned; what had not begun yet by that begins with it.
    fn is_over(&self, attempt: RunId, began: Millis, limit_ms: i64, clock: &Clock) -> bool {
        let ms = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        let Reading { now, elapsed } = clock.reading();
        let mut limits = self.limits();
        let reached = *limits.entry((attempt, began)).or_insert_with(|| {
            let left = began.plus_ms(limit_ms).since(now);
            elapsed + ms(left.min(limit_ms))
        });
        elapsed >= reached
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
            Ok(live) => {
                attempts.extend(live.into_iter().map(|attempt| attempt.id));
                let mut limits = inner.containers.limits();
                limits.retain(|(id, _), _| attempts.contains(id));
            }
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

/// One look at one attempt, and the step that is due.
async fn look(inner: &Arc<Inner>, id: RunId) -> Result<()> {
    let Some(LiveAttempt {
        attempt,
        stopping,
        repair,
    }) = inner.store.attempt_look(id).await?
    else {
        return Ok(());
    };
    if attempt.takes_slot || !matches!(attempt.phase, Phase::Running | Phase::Terminating) {
        return Ok(());
    }
    let definition = match inner.definition(attempt.run_id, repair).await? {
        Ok(definition) => definition,
        Err(unreadable) => {
            return attempt::abandon(inner, &unreadable.run, &unreadable.error).await;
        }
    };
    let container = Container {
        inner,
        run: &definition.run,
        attempt,
        stopping,
        document: &definition.document,
    };
    match container.step().await {
        // What is wrong with us is tried again; what is wrong with the task ends it.
        Err(e) if ending::is_ours(&e) => Err(e),
        Err(e) => {
            container.stop_children(StopReason::Canceled).await?;
            container.end(ending::failed_to_start(&e)).await
        }
        Ok(()) => Ok(()),
    }
}

/// A live attempt without a slot, with all that a look at it needs.
pub(crate) struct Container<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) run: &'a Run,
    pub(crate) attempt: Attempt,
    /// The wish that the whole run stop.
    stopping: Option<StopReason>,
    pub(crate) document: &'a JobDocument,
}

impl Container<'_> {
    async fn step(&self) -> Result<()> {
        let tasks = &self.document.spec.tasks;
        let task = tasks.get(self.attempt.task);
        let task = task.ok_or_else(|| Error::invalid("The run has no such task any more."))?;
        let Some(children) = self.inner.store.container_children(self.attempt.id).await? else {
            return self.begin(task).await;
        };
        let concurrency = task
            .for_each_task
            .as_ref()
            .map_or(1, |each| each.concurrency);
        let concurrency = usize::try_from(concurrency).unwrap_or(1);
        match next_step(children, concurrency, self.stop(task)) {
            Step::Start(numbers) => self.start(task, numbers).await,
            Step::Stop(_) => self.stop_children(StopReason::Canceled).await,
            Step::Wait => Ok(()),
            Step::End(verdict) => self.end(self.ended(task, children, verdict).await?).await,
        }
    }

    /// The first look: a condition is decided, a container plans its children.
    async fn begin(&self, task: &TaskSpec) -> Result<()> {
        if let Some(reason) = self.stop(task) {
            return self.end(stopped(task, reason)).await;
        }
        let scoped = self.scoped().await?;
        if let Some(resolved) = resolved_values(&scoped.task) {
            let store = &self.inner.store;
            store.attempt_resolved(self.attempt.id, resolved).await?;
        }
        if let Some(condition) = &scoped.task.condition_task {
            return self.end(condition::end(condition)?).await;
        }
        let inputs = match &scoped.task.for_each_task {
            Some(each) => {
                let inputs = for_each::inputs(each)?;
                self.inner.check_planned(self, inputs.len()).await?;
                inputs
            }
            None => vec![None],
        };
        if inputs.is_empty() {
            let nothing = end(
                Verdict::Succeeded,
                "SUCCESS",
                "There was nothing to iterate over.",
            );
            return self.end(nothing).await;
        }
        let store = &self.inner.store;
        store.container_plan(self.attempt.id, inputs).await?;
        self.inner.containers.touch(self.attempt.id);
        Ok(())
    }

    pub(crate) async fn scoped(&self) -> Result<Scoped> {
        scope::scoped(self.inner, self.run, &self.attempt, self.document).await
    }

    /// Why the attempt is to end before its time, if it is.
    fn stop(&self, task: &TaskSpec) -> Option<StopReason> {
        if self.attempt.phase == Phase::Terminating {
            return Some(self.stopping.unwrap_or(StopReason::Canceled));
        }
        let limit_ms = task.timeout_seconds.saturating_mul(1000);
        let (began, inner) = (self.attempt.started_at?, self.inner);
        let is_over = limit_ms > 0
            && inner
                .containers
                .is_over(self.attempt.id, began, limit_ms, &inner.clock);
        is_over.then_some(StopReason::TimedOut)
    }

    async fn start(&self, task: &TaskSpec, numbers: Range<usize>) -> Result<()> {
        if task.run_job_task.is_some() {
            let (new, plan) = run_job::child(self).await?;
            self.create(new, plan, 0).await?;
        } else {
            let store = &self.inner.store;
            let inputs = store
                .container_inputs(self.attempt.id, numbers.clone())
                .await?;
            let ctx = self.inner.ctx_of(self.run).await?;
            let first = self.inner.first_children(self, numbers.clone()).await?;
            let mut first = first.into_iter().flatten();
            for (number, input) in numbers.zip(inputs) {
                let (new, plan) = for_each::child(self, &ctx, (number, input), first.next())?;
                self.create(new, plan, number).await?;
            }
        }
        // A child may have ended already: one that its job has no room for is skipped.
        self.inner.containers.touch(self.attempt.id);
        Ok(())
    }

    async fn create(&self, new: NewRun, plan: Plan, number: usize) -> Result<RunId> {
        let new = NewRun {
            parent_attempt: Some(self.attempt.id),
            child_number: Some(number),
            ..new
        };
        Runs(Arc::clone(self.inner)).create(new, plan).await
    }

    async fn stop_children(&self, reason: StopReason) -> Result<()> {
        let children = self.inner.store.container_active(self.attempt.id).await?;
        for child in children.iter().filter(|child| child.stopping.is_none()) {
            self.inner.stop(child, reason).await?;
        }
        Ok(())
    }

    async fn ended(
        &self,
        task: &TaskSpec,
        children: Children,
        verdict: Verdict,
    ) -> Result<AttemptEnd> {
        Ok(match (verdict, self.stop(task)) {
            (Verdict::Succeeded, _) => end(verdict, "SUCCESS", ""),
            (Verdict::TimedOut, _) => stopped(task, StopReason::TimedOut),
            (Verdict::Canceled, Some(reason)) => stopped(task, reason),
            _ if task.run_job_task.is_some() => run_job::ended_badly(self, verdict).await?,
            _ => for_each::ended_badly(self, children, verdict).await?,
        })
    }

    async fn end(&self, end: AttemptEnd) -> Result<()> {
        let Self {
            inner,
            run,
            attempt,
            document,
            ..
        } = self;
        let verdict = end.verdict;
        let claiming = inner.claiming.read().await;
        let now = inner.clock.now();
        let plan = document.plan.clone();
        let claimed = inner
            .store
            .attempt_end(attempt.clone(), plan, end, Some(inner.slots.clone()), now)
            .await?;
        dispatch::begin(inner, claimed);
        drop(claiming);
        inner.checkouts.settle(run.id).await;
        inner.moved(run);
        info!(run.id = %run.id, attempt.id = %attempt.id, verdict = verdict.as_str(), "attempt {} ended", attempt.id);
        Ok(())
    }
}

/// The parameters after their references were filled in, as clients ask for them.
fn resolved_values(task: &TaskSpec) -> Option<Value> {
    if let Some(condition) = &task.condition_task {
        let values = json!({"left": condition.left, "right": condition.right});
        return Some(json!({"condition_task": values}));
    }
    let run_job = task.run_job_task.as_ref()?;
    let values = json!({"job_parameters": run_job.job_parameters});
    Some(json!({"run_job_task": values}))
}

/// The end of an attempt that executed nothing.
pub(crate) fn end(verdict: Verdict, code: &'static str, message: impl Into<String>) -> AttemptEnd {
    let message = message.into();
    AttemptEnd {
        verdict,
        code,
        error: (!verdict.is_fine() && !verdict.is_canceled()).then(|| message.clone()),
        message,
        trace: None,
        exit_value: None,
        facts: Value::Null,
        retry: true,
    }
}

fn stopped(task: &TaskSpec, reason: StopReason) -> AttemptEnd {
    match reason {
        StopReason::Canceled => end(Verdict::Canceled, "USER_CANCELED", "Run cancelled."),
        StopReason::TimedOut if task.timeout_seconds == 0 => end(
            Verdict::TimedOut,
            "CANCELED",
            "The run exceeded its time limit.",
        ),
        StopReason::TimedOut => end(
            Verdict::TimedOut,
            "CANCELED",
            format!(
                "The task exceeded its time limit of {} seconds.",
                task.timeout_seconds
            ),
        ),
    }
}
