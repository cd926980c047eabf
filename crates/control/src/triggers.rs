//! What makes jobs run by themselves. One reconciler per workspace looks at every trigger that is
//! due, whatever made it due, and decides anew from the rows: see [`look`] for the decisions.

mod arrival;
mod look;
mod wanted;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use forebay_engine::{Cron, Zone};
use forebay_runtime::{Clock, TaskKind, Tasks};
use forebay_store::{Braked, NewEvent, Store, Trigger, TriggerKind, TriggerNote};
use forebay_types::{Error, ErrorCode, JobId, Millis, PermissionLevel, Result, RunId};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{error, warn};

pub(crate) use wanted::Watch;

use crate::Ctx;
use crate::dbfs::Dbfs;
use crate::jobs::{Jobs, check_topic};
use crate::runs::Runs;

/// The slow poll behind the wake-ups; also what a jump of the system's clock costs at most.
const POLL: Duration = Duration::from_secs(5);
/// How long a trigger rests whose firing failed.
const REST_MS: i64 = 30_000;
/// How often one round looks again, so that it comes back to its caller.
const LOOKS_MAX: usize = 100;
/// What a round that did not come to an end leaves to others.
const BREATH_MS: i64 = 1000;
const EVENT_BYTES_MAX: usize = 64 * 1024;
const KEY_CHARS_MAX: usize = 200;
const PREVIEW_FIRINGS: usize = 10;

/// The triggers of one workspace. Cheap to clone.
#[derive(Clone)]
pub struct Triggers(Arc<Inner>);

/// What triggers are made from.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) dbfs: Dbfs,
    pub(crate) jobs: Jobs,
    pub(crate) runs: Runs,
    pub(crate) watch: Watch,
    /// Milliseconds from one look at a folder to the next.
    pub(crate) poll_ms: i64,
    /// When a round last began, in milliseconds: a clock that was put back shows by it.
    pub(crate) last_look: AtomicI64,
}

impl std::fmt::Debug for Triggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Triggers").finish_non_exhaustive()
    }
}

/// A trigger with what only its kind has.
#[derive(Debug)]
pub struct TriggerView {
    pub trigger: Trigger,
    pub next_at: Option<Millis>,
    /// `(known files, files that wait for a run)`.
    pub files: Option<(u32, u32)>,
    pub events_waiting: Option<u32>,
}

/// A firing of a schedule that is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub at: Millis,
    /// On the clocks of the zone, with its offset: `2027-03-28T03:00:00+02:00`.
    pub local: String,
}

impl Triggers {
    pub(crate) fn new(inner: Inner, tasks: &Tasks) -> Self {
        let triggers = Self(Arc::new(inner));
        triggers.start(tasks);
        triggers
    }

    fn start(&self, tasks: &Tasks) {
        let this = self.clone();
        let stop = tasks.stopping();
        tasks.spawn(TaskKind::Reconciler, "triggers", async move {
            while !stop.is_cancelled() {
                let due = match this.round().await {
                    Ok(due) => due,
                    // The store may be full or busy for a while; the poll tries again.
                    Err(e) => {
                        error!(error = ?e, "a round of the triggers failed");
                        None
                    }
                };
                let clock = &this.0.clock;
                let poll_ms = i64::try_from(POLL.as_millis()).unwrap_or(i64::MAX);
                let poll = clock.now().plus_ms(poll_ms);
                tokio::select! {
                    () = this.0.watch.woken() => {}
                    () = clock.sleep_until(due.map_or(poll, |due| due.min(poll))) => {}
                    () = stop.cancelled() => {}
                }
            }
            Ok::<(), Error>(())
        });
    }

    /// Looks at everything that is due, and says when something will be. Several rounds at once
    /// do no harm: each firing is taken once.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn round(&self) -> Result<Option<Millis>> {
        let now = self.0.clock.now().0;
        // Also once at the start: nobody knows what the clock of the last process said.
        if now < self.0.last_look.swap(now, Ordering::Relaxed) {
            self.0.store.trigger_overtaken(Millis(now)).await?;
        }
        for _ in 0..LOOKS_MAX {
            let now = self.0.clock.now();
            let (due, next) = self.0.store.trigger_due(now).await?;
            if due.is_empty() {
                return Ok(next);
            }
            for trigger in due {
                self.look_safely(trigger, now).await?;
            }
        }
        Ok(Some(self.0.clock.now().plus_ms(BREATH_MS)))
    }

    /// A trigger that cannot fire says why, and rests; the others go on.
    async fn look_safely(&self, trigger: Trigger, now: Millis) -> Result<()> {
        match self.look(&trigger, now).await {
            Ok(()) => Ok(()),
            Err(e) if e.code == ErrorCode::InvalidState => Ok(()),
            Err(e) => {
                let job = trigger.job_id;
                warn!(job.id = %job, error = ?e, "a trigger of job {job} cannot fire");
                let note = TriggerNote {
                    due_at: Some(now.plus_ms(REST_MS)),
                    state: trigger.state.clone(),
                    error: Some(e.message),
                };
                match self.0.store.trigger_note(&trigger, note).await {
                    // It has moved meanwhile, and is looked at again for that.
                    Err(e) if e.code != ErrorCode::InvalidState => Err(e),
                    _ => Ok(()),
                }
            }
        }
    }

    /// The triggers of a job.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `Job N does not exist.`
    pub async fn get(&self, ctx: &Ctx, id: JobId) -> Result<Vec<TriggerView>> {
        let job = self.0.jobs.get(ctx, id).await?;
        let store = &self.0.store;
        let mut views = Vec::new();
        for trigger in store.trigger_list(job.id).await? {
            let files = match trigger.kind {
                TriggerKind::FileArrival => Some(store.trigger_file_counts(id).await?),
                _ => None,
            };
            let events_waiting = match trigger.kind {
                TriggerKind::Event => Some(store.event_pending_count(id).await?),
                _ => None,
            };
            let next_at = trigger.state.get("next").and_then(Value::as_i64);
            views.push(TriggerView {
                next_at: next_at.filter(|_| !trigger.paused).map(Millis),
                trigger,
                files,
                events_waiting,
            });
        }
        Ok(views)
    }

    /// The triggers that a brake paused, of one job or of all that the caller may see.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn braked(&self, ctx: &Ctx, job: Option<JobId>) -> Result<Vec<Braked>> {
        let visible_to = (!ctx.is_admin()).then(|| ctx.user.name.clone());
        self.0.store.trigger_list_braked(job, visible_to).await
    }

    /// Stores an event for the jobs that listen to its topic and that the caller may run. The same
    /// idempotency key of the same caller gives the same event.
    ///
    /// # Errors
    /// What is wrong with topic, key or body; `REQUEST_LIMIT_EXCEEDED` when too many events wait.
    pub async fn send(
        &self,
        ctx: &Ctx,
        topic: String,
        key: Option<String>,
        body: Value,
        idempotency_key: Option<String>,
    ) -> Result<i64> {
        check_topic("topic", &topic)?;
        for (field, text) in [("key", &key), ("Idempotency-Key", &idempotency_key)] {
            if text
                .as_ref()
                .is_some_and(|text| text.chars().count() > KEY_CHARS_MAX)
            {
                let message = format!("Field '{field}' has more than {KEY_CHARS_MAX} characters.");
                return Err(Error::invalid(message));
            }
        }
        let body = body.to_string();
        if body.len() > EVENT_BYTES_MAX {
            return Err(Error::invalid(format!(
                "The event has {} bytes as JSON, at most {EVENT_BYTES_MAX}.",
                body.len()
            )));
        }
        let mut jobs = Vec::new();
        for job in self.0.store.event_subscribers(topic.clone()).await? {
            let wanted = PermissionLevel::CanManageRun;
            if self.0.jobs.permitted(ctx, job, wanted).await.is_ok() {
                jobs.push(job);
            }
        }
        let event = NewEvent {
            idempotency_key: idempotency_key.map(|key| format!("{}:{topic}:{key}", ctx.user.id)),
            topic,
            key,
            body,
            sender: ctx.user.name.clone(),
        };
        let id = self
            .0
            .store
            .event_create(event, jobs, self.0.clock.now())
            .await?;
        self.0.watch.look();
        Ok(id)
    }

    /// The next ten firings of a schedule.
    ///
    /// # Errors
    /// What is wrong with the expression or the zone.
    pub fn preview(&self, expression: &str, timezone: &str) -> Result<Vec<Preview>> {
        let cron = Cron::parse(expression)
            .map_err(|e| Error::invalid(format!("Field 'expression': {e}.")))?;
        let zone =
            Zone::find(timezone).map_err(|e| Error::invalid(format!("Field 'timezone': {e}.")))?;
        let next = |at: &Millis| cron.next_after(*at, &zone);
        let firings = std::iter::successors(next(&self.0.clock.now()), next);
        Ok(firings
            .take(PREVIEW_FIRINGS)
            .map(|at| Preview {
                at,
                local: zone.show(at),
            })
            .collect())
    }
}

/// What a run knows of its trigger: `type` and `time`, and what its kind adds.
fn trigger_info(kind: &str, time: Millis, more: Value) -> Value {
    let mut info = json!({"type": kind, "time": time});
    if let (Some(info), Value::Object(more)) = (info.as_object_mut(), more) {
        info.extend(more);
    }
    info
}

/// A wake-up that is not lost when nobody waits for it yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wake(Arc<Notify>);

impl Wake {
    pub(crate) fn wake(&self) {
        self.0.notify_one();
    }

    async fn woken(&self) {
        self.0.notified().await;
    }
}

/// The run that a trigger asks for.
pub(crate) struct Fired {
    pub(crate) firing: forebay_store::Firing,
    /// The API's name of what started the run.
    pub(crate) trigger: &'static str,
    pub(crate) info: Value,
    /// Over the job's own.
    pub(crate) job_parameters: serde_json::Map<String, Value>,
}

impl Triggers {
    async fn fire(&self, look: &look::Look, fired: Fired) -> Result<RunId> {
        self.0.runs.fire(&look.job, &look.document, fired).await
    }
}
