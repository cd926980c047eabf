//! Runs: submission, what clients see of them, and the ways to stop them. The work itself is done
//! by the dispatcher in [`dispatch`] and by one task per attempt in [`attempt`].

mod adoption;
mod attempt;
mod bounds;
mod checkout;
mod condition;
mod container;
mod context;
mod definition;
mod dispatch;
mod ending;
mod episodes;
mod for_each;
mod host;
mod inputs;
mod keep;
mod limits;
mod lint;
mod live;
mod only;
mod origin;
mod output;
mod parts;
mod queue;
mod remains;
mod repair;
mod repeat;
mod request;
mod run_job;
mod scope;
mod script;
mod source;
mod standing;
mod table;
mod usage;
mod workload;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use forebay_engine::{Effect, Phase, StopReason};
use forebay_exec::{CancelReason, Executor, Usage};
use forebay_runtime::{Clock, Tasks};
use forebay_store::{
    Attempt, ClusterOwner, Run, RunBrief, RunFilter, RunKind, Slots, Store, TaskBrief,
};
use forebay_types::{
    ClusterId, Error, ErrorCode, JobId, ObjectKind, ObjectRef, PermissionLevel, Result, RunId,
};
use serde_json::Value;

pub use self::episodes::Episode;
pub use self::inputs::{InputFile, InputKind, Inputs};
pub use self::lint::{ENGINE_SETTING, JobWarning};
pub use self::repair::RepairRun;
pub use self::repeat::inputs_of;
pub use self::request::RunNow;
pub use output::{CellState, Cursor, EventPage, Ran, RunOutput, StoredEvent, fact};
pub use queue::{QueuePage, Reason, Waiting};
pub use usage::Using;

pub(crate) use self::checkout::Checkouts;
pub use self::checkout::path_in_repository;
pub(crate) use self::container::Containers;
pub(crate) use self::context::CommandOutput;
pub(crate) use self::definition::Definitions;
pub(crate) use self::live::LiveAttempts;
pub(crate) use self::remains::{remove as output_remove, size as output_size};
pub(crate) use self::source::Code;
pub(crate) use self::table::Tables;
pub(crate) use self::workload::{library, mounts, place};

use crate::clusters::{ClusterChoice, Clusters, ResolvedCluster};
use crate::jobs::{JobDocument, Spec, TaskSpec, run_as};
use crate::libraries::Libraries;
use crate::rate::RateLimit;
use crate::secrets::Secrets;
use crate::services::{WorkspaceDirs, WorkspaceSetup};
use crate::tokens::Tokens;
use crate::triggers::Wake;
use crate::workspace::Workspace;
use crate::{Ctx, jobs::Jobs};

/// Parts of a deleted run that go in one transaction: a few milliseconds of the writer.
pub(crate) const PARTS_AT_ONCE: usize = 100;
/// Where a run's parameters say what its trigger was.
pub const TRIGGER_INFO: &str = "trigger_info";

/// The runs of one workspace. Cheap to clone.
#[derive(Clone)]
pub struct Runs(Arc<Inner>);

/// What runs are made from.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) setup: WorkspaceSetup,
    pub(crate) dirs: WorkspaceDirs,
    pub(crate) workspace: Workspace,
    pub(crate) clusters: Clusters,
    pub(crate) libraries: Libraries,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) jobs: Jobs,
    pub(crate) secrets: Secrets,
    pub(crate) tokens: Tokens,
    pub(crate) checkouts: Checkouts,
    pub(crate) workspace_id: i64,
    pub(crate) slots: Slots,
    /// How many runs the workspace may create in an hour.
    pub(crate) creations: RateLimit,
    pub(crate) live: LiveAttempts,
    pub(crate) containers: Containers,
    pub(crate) definitions: Definitions,
    pub(crate) tables: Tables,
    pub(crate) wake: tokio::sync::Notify,
    /// Counts what happens to commands of contexts, for those who wait for something of it.
    pub(crate) commands: tokio::sync::watch::Sender<u64>,
    /// Has the triggers looked at.
    pub(crate) triggers: Wake,
    /// Held for reading between a claim and the start of what was claimed, so that whoever holds
    /// it for writing sees every live row either owned or orphaned.
    pub(crate) claiming: tokio::sync::RwLock<()>,
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").finish_non_exhaustive()
    }
}

/// Some of the tasks of some runs.
#[derive(Debug, Clone)]
pub struct TaskPage {
    pub keys: Vec<String>,
    pub tasks: Vec<TaskBrief>,
    /// How many keys there are on all pages.
    pub total: usize,
}

/// A run as a caller asked for it: whole, or one of its tasks by the task's own id.
#[derive(Debug, Clone)]
pub struct RunView {
    pub run: Run,
    pub attempts: Vec<Attempt>,
    /// Set when the id was that of an attempt.
    pub task: Option<RunId>,
    /// What attempts under way have used up to now, by their ids.
    pub using: HashMap<RunId, Usage>,
    /// Attempts that have ended, which their rows do not say yet.
    pub unrecorded: HashSet<RunId>,
}

impl RunView {
    /// The newest attempt of each task, in the order of the tasks.
    pub fn newest(&self) -> impl Iterator<Item = &Attempt> {
        Self::newest_of(&self.attempts)
    }

    /// The newest of each task, of attempts in the order of tasks and tries.
    fn newest_of(attempts: &[Attempt]) -> impl Iterator<Item = &Attempt> {
        attempts.iter().enumerate().filter_map(|(index, attempt)| {
            let next = attempts.get(index + 1);
            next.is_none_or(|next| next.task != attempt.task)
                .then_some(attempt)
        })
    }

    /// Why the run has not begun, where something other than a cap holds it, such as a budget.
    #[must_use]
    pub fn held(&self) -> Option<&str> {
        let run = &self.run;
        let has_begun = self.attempts.iter().any(|one| one.started_at.is_some());
        let is_held = !has_begun && !run.phase.is_ended() && !run.message.is_empty();
        is_held.then_some(&run.message)
    }

    /// The run's phase for a person: an admitted run of which nothing is under way only waits.
    #[must_use]
    pub fn shown_phase(&self) -> Phase {
        let lives = |one: &Attempt| matches!(one.phase, Phase::Running | Phase::Terminating);
        let waits = |one: &&Attempt| matches!(one.phase, Phase::Pending | Phase::WaitingForRetry);
        match self.newest().find(waits) {
            Some(waiting) if self.run.phase == Phase::Running && !self.newest().any(lives) => {
                waiting.phase
            }
            _ => self.run.phase,
        }
    }

    /// What an attempt that says nothing itself does or waits for, in words for a person.
    #[must_use]
    pub fn doing(&self, attempt: &Attempt) -> Option<String> {
        match attempt.phase {
            Phase::Running | Phase::Terminating if self.unrecorded.contains(&attempt.id) => Some(
                "Its program has ended; the server cannot write that down yet and goes on trying. \
                 Is its disk full?"
                    .to_owned(),
            ),
            Phase::Running if attempt.executed_at.is_none() => Some(self.preparing().to_owned()),
            Phase::WaitingForRetry => attempt.due_at.map(|due| {
                let due = jiff::Timestamp::from_millisecond(due.0).unwrap_or_default();
                let due = due.strftime("%Y-%m-%d %H:%M:%S UTC");
                format!(
                    "Attempt {} did not succeed; the next one starts not before {due}.",
                    attempt.attempt
                )
            }),
            _ => None,
        }
    }

    fn preparing(&self) -> &'static str {
        let from_git = self.run.settings.contains_key("git_source");
        match from_git && self.run.used_commit.is_none() {
            true => "Checking out the Git source.",
            false => "Preparing the environment.",
        }
    }

    /// Whether the definition of an attempt's task has this field, such as `for_each_task`.
    #[must_use]
    pub fn has_type(&self, attempt: &Attempt, field: &str) -> bool {
        let tasks = self.run.settings.get("tasks");
        let task = tasks.and_then(|tasks| tasks.get(attempt.task));
        task.is_some_and(|task| task.get(field).is_some())
    }

    /// The one attempt that stands for this view: the task asked for, or the only task.
    #[must_use]
    pub fn only_attempt(&self) -> Option<&Attempt> {
        if let Some(id) = self.task {
            return self.attempts.iter().find(|attempt| attempt.id == id);
        }
        let mut newest = self.newest();
        newest.next().filter(|_| newest.next().is_none())
    }
}

impl Runs {
    pub(crate) fn new(inner: Inner) -> Self {
        let runs = Self(Arc::new(inner));
        dispatch::start(&runs.0);
        container::start(&runs.0);
        runs
    }

    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn get(&self, ctx: &Ctx, id: RunId) -> Result<RunView> {
        let store = &self.0.store;
        let (task, whole) = match store.run_get(id).await {
            Ok(found) => (None, found),
            Err(missing) => match store.attempt_get(id).await? {
                Some((run, attempt)) => (Some(attempt.id), store.run_get(run.id).await?),
                None => return Err(missing),
            },
        };
        let (run, attempts) = whole;
        self.require(ctx, &run, PermissionLevel::CanView).await?;
        Ok(RunView {
            using: self.0.live.using_of(run.id),
            unrecorded: self.0.live.unrecorded_of(run.id),
            run,
            attempts,
            task,
        })
    }

    /// The runs the caller may see, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx, mut filter: RunFilter) -> Result<Vec<RunView>> {
        if !ctx.is_admin() {
            filter.visible_to = Some(ctx.creator());
        }
        let rows = self.0.store.run_list(filter).await?;
        Ok(rows
            .into_iter()
            .map(|(run, attempts)| RunView {
                using: self.0.live.using_of(run.id),
                unrecorded: self.0.live.unrecorded_of(run.id),
                run,
                attempts,
                task: None,
            })
            .collect())
    }

    /// The same in brief, for lists.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list_brief(&self, ctx: &Ctx, mut filter: RunFilter) -> Result<Vec<RunBrief>> {
        if !ctx.is_admin() {
            filter.visible_to = Some(ctx.creator());
        }
        self.0.store.run_list_brief(filter).await
    }

    /// The tasks of some runs by their keys, of those keys that are known and then of the others, from
    /// `from` on and at most `take` keys. For a caller who was permitted to see the runs.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn tasks_brief(
        &self,
        runs: &[RunBrief],
        known: Vec<String>,
        (from, take): (usize, usize),
    ) -> Result<TaskPage> {
        let ids: Vec<RunId> = runs.iter().map(|run| run.id).collect();
        let store = &self.0.store;
        let mut keys = known.clone();
        keys.extend(store.task_list_other_keys(ids.clone(), known).await?);
        let total = keys.len();
        let keys: Vec<String> = keys.into_iter().skip(from).take(take).collect();
        let tasks = store.task_list_brief(ids, keys.clone()).await?;
        Ok(TaskPage { keys, tasks, total })
    }

    /// The runs that `run` started. Who may see it may see those that are parts of it, and runs of
    /// other jobs as far as they may see those.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn children(&self, ctx: &Ctx, run: RunId) -> Result<Vec<Run>> {
        let view = self.get(ctx, run).await?;
        let mut seen = Vec::new();
        for child in self.0.store.run_list_children(view.run.id).await? {
            let own = child.kind != RunKind::Job;
            if own
                || self
                    .require(ctx, &child, PermissionLevel::CanView)
                    .await
                    .is_ok()
            {
                seen.push(child);
            }
        }
        Ok(seen)
    }

    /// The run that started this one by `dbutils.notebook.run`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn parent(&self, run: &Run) -> Result<Option<RunId>> {
        let Some(attempt) = run.parent_attempt else {
            return Ok(None);
        };
        let found = self.0.store.attempt_get(attempt).await?;
        Ok(found.map(|(parent, _)| parent.id))
    }

    /// `(active runs, runs that failed since)`, of those the caller may see.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn counts(&self, ctx: &Ctx, since: forebay_types::Millis) -> Result<(u32, u32)> {
        let visible_to = (!ctx.is_admin()).then_some(ctx.user.id);
        self.0.store.run_counts(since, visible_to).await
    }

    /// Asks a run to stop, or one task of it by the task's own id; it ends soon after. What has ended
    /// stays as it is.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn cancel(&self, ctx: &Ctx, id: RunId) -> Result<()> {
        let view = self.managed(ctx, id).await?;
        match view.only_attempt() {
            Some(task) if view.task.is_some() && view.newest().count() > 1 => {
                self.0.stop_task(&view.run, task).await
            }
            _ => self.0.stop(&view.run, StopReason::Canceled).await,
        }
    }

    /// Cancels the active runs of one job; without one, the caller's queued runs of all jobs (for
    /// an administrator everybody's).
    ///
    /// # Errors
    /// `Job N does not exist.`; `PERMISSION_DENIED`.
    pub async fn cancel_all(&self, ctx: &Ctx, job: Option<JobId>, queued_only: bool) -> Result<()> {
        if let Some(job) = job {
            let wanted = PermissionLevel::CanManageRun;
            self.0.jobs.permitted(ctx, job, wanted).await?;
        }
        let everybody = job.is_some() || ctx.is_admin();
        let creator = (!everybody).then_some(ctx.user.id);
        loop {
            let store = &self.0.store;
            let active = store.run_list_stoppable(job, creator, queued_only).await?;
            if active.is_empty() {
                return Ok(());
            }
            for run in &active {
                self.0.stop(run, StopReason::Canceled).await?;
            }
        }
    }

    /// The parameters of a run's attempts after their references were filled in, in the form of
    /// `resolved_values`. For a caller who was permitted to see the run.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn resolved_values(&self, run: RunId) -> Result<Vec<(RunId, Value)>> {
        self.0.store.attempt_list_resolved(run).await
    }

    /// Removes an ended run, its iterations, what its notebooks started, and what all that left.
    ///
    /// # Errors
    /// `Run N does not exist.`; `INVALID_STATE` while it is active; `PERMISSION_DENIED`.
    pub async fn delete(&self, ctx: &Ctx, id: RunId) -> Result<()> {
        let view = self.managed(ctx, id).await?;
        let store = &self.0.store;
        let mut gone = Some(store.run_delete(view.run.id).await?);
        self.0.checkouts.settle(view.run.id).await;
        while let Some(attempts) = gone {
            output_remove(store, &self.0.dirs, attempts).await?;
            gone = store.run_purge(PARTS_AT_ONCE).await?;
        }
        Ok(())
    }

    /// Whether the caller may stop, repair and remove a run.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn may_manage(&self, ctx: &Ctx, run: &Run) -> Result<bool> {
        let wanted = PermissionLevel::CanManageRun;
        match self.require(ctx, run, wanted).await {
            Ok(()) => Ok(true),
            Err(e) if e.code == ErrorCode::PermissionDenied => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A run that the caller may stop and remove.
    pub(crate) async fn managed(&self, ctx: &Ctx, id: RunId) -> Result<RunView> {
        let view = self.get(ctx, id).await?;
        self.require(ctx, &view.run, PermissionLevel::CanManageRun)
            .await?;
        Ok(view)
    }

    /// Whoever started a run may do everything with it; others need a grant on its job, or on the run
    /// itself when it has none. What runs below a run is seen and managed with it.
    async fn require(&self, ctx: &Ctx, run: &Run, wanted: PermissionLevel) -> Result<()> {
        let mut run = run.clone();
        while let Some(parent) = run.parent_attempt.filter(|_| run.kind != RunKind::Job) {
            match self.0.store.attempt_get(parent).await? {
                Some((above, _)) => run = above,
                None => break,
            }
        }
        if ctx.is_admin() || run.creator_id == ctx.user.id {
            return Ok(());
        }
        match run.job_id {
            Some(job) => self.0.jobs.permitted(ctx, job, wanted).await.map(drop),
            None => {
                let object = ObjectRef::new(ObjectKind::Job, run.id);
                match self.0.jobs.level_of(ctx, &object).await? {
                    Some(has) if ObjectKind::Job.allows(has, wanted) => Ok(()),
                    _ => Err(Error::denied(format!(
                        "{} does not have permission for run {}.",
                        ctx.user.name, run.id
                    ))),
                }
            }
        }
    }
}

impl Inner {
    /// A run acts for whom its settings name; else a run of a job for the job's owner, whoever
    /// started it, and any other for who submitted it. All with the rights they have now, not with
    /// those of back then.
    async fn ctx_of(&self, run: &Run) -> Result<Ctx> {
        let user = match (run_as(&run.settings), run.job_id) {
            (Some(name), _) => self.store.user_get_by_name(name).await?,
            (None, Some(job)) => {
                let owner = self.store.job_creator(job).await?;
                self.store.user_get(owner.unwrap_or(run.creator_id)).await?
            }
            (None, None) => self.store.user_get(run.creator_id).await?,
        };
        let active = user.filter(|user| user.active);
        active.map(Ctx::new).ok_or_else(|| {
            Error::denied("The user this run acts for is not active any more.".to_owned())
        })
    }

    /// What the cluster of a task comes down to.
    async fn compute(
        &self,
        ctx: &Ctx,
        spec: &Spec,
        task: &TaskSpec,
        owner: ClusterOwner,
    ) -> Result<ResolvedCluster> {
        let shared = task.job_cluster_key.as_ref().and_then(|key| {
            let known = spec.job_clusters.iter();
            known
                .into_iter()
                .find(|cluster| cluster.job_cluster_key == *key)
        });
        let choice = match (&task.existing_cluster_id, &task.new_cluster, shared) {
            (Some(id), ..) => ClusterChoice::Existing(ClusterId(id.clone())),
            (_, Some(settings), _) => ClusterChoice::New(settings.clone()),
            (.., Some(shared)) => ClusterChoice::New(shared.new_cluster.clone()),
            _ => ClusterChoice::Unnamed,
        };
        self.clusters.resolve_for_run(ctx, choice, owner).await
    }

    /// Stops a run: what waits is closed in the store, what runs is told to end.
    pub(crate) async fn stop(&self, run: &Run, reason: StopReason) -> Result<()> {
        let plan = JobDocument::of_normal(run.settings.clone())?.plan;
        let effects = self
            .store
            .run_stop(run.id, plan, reason, self.clock.now())
            .await?;
        // Also when the row says that somebody asked before: that word may have come too early for
        // the attempt to hear it.
        self.live
            .cancel_attempts(run.id, |_| true, attempt::cancel_reason(reason));
        self.containers.touch_all();
        self.settle(run, &effects).await;
        self.moved(run);
        Ok(())
    }

    /// Stops one task of a run; the others go on.
    async fn stop_task(&self, run: &Run, attempt: &Attempt) -> Result<()> {
        let plan = JobDocument::of_normal(run.settings.clone())?.plan;
        let effects = self
            .store
            .run_stop_task(run.id, plan, attempt.task, self.clock.now())
            .await?;
        self.live
            .cancel_attempts(run.id, |id| id == attempt.id, CancelReason::Requested);
        self.containers.touch(attempt.id);
        self.settle(run, &effects).await;
        self.moved(run);
        Ok(())
    }

    /// A stop ends a run of which nothing is under way, and no attempt's end will look after it.
    async fn settle(&self, run: &Run, effects: &[Effect]) {
        if effects
            .iter()
            .any(|effect| matches!(effect, Effect::Finish(_)))
        {
            self.checkouts.settle(run.id).await;
        }
    }

    /// Wakes everybody to whom it may matter that a run moved.
    pub(crate) fn moved(&self, run: &Run) {
        self.live.ended(run.id);
        self.wake.notify_one();
        if let Some(parent) = run.parent_attempt {
            self.containers.touch(parent);
        }
        self.triggers.wake();
        // It may have been the end of the run.
        if run.settings.contains_key("job_clusters") {
            self.clusters.owner_ended();
        }
    }
}
