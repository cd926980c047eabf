//! The server's side of one attempt, from its slot to its recorded end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use forebay_engine::{Phase, StopReason, Verdict};
use forebay_exec::{Adoption, CancelReason, Canceler, Execution, Host, Outcome};
use forebay_runtime::TaskKind;
use forebay_store::{Attempt, AttemptEnd, AttemptStart, ClusterOwner, Run, RunKind};
use forebay_types::{Error, ErrorCode, Result, RunId, hex};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{error, info};

use super::Inner;
use super::Using;
use super::adoption::{end_execution, stop_children};
use super::bounds::Bounds;
use super::checkout::Checkout;
use super::context;
use super::definition::{Definition, Unreadable};
use super::dispatch;
use super::ending::{
    ended_as, facts, failed_to_start, interrupted, no_library, not_checked_out, not_started,
    over_time,
};
use super::host::AttemptHost;
use super::inputs::{INPUTS, Inputs};
use super::live::Owned;
use super::origin::Origin;
use super::output::{self, Snapshot, Writer};
use super::repeat::inputs_of;
use super::scope;
use super::source::Code;
use super::workload::{self, Prepared};
use crate::Ctx;
use crate::clusters::ResolvedCluster;
use crate::jobs::{JobDocument, TaskSpec};
use crate::libraries::RunLibraries;

/// Whether an attempt may have begun before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// It has just been claimed.
    First,
    /// Another process had it, or a task of this one came to grief: the executor is asked first.
    Again,
}

/// Runs one attempt that has its slot, and records how it ended.
///
/// # Errors
/// When the end could not be recorded. The row stays live then, and is taken up again.
pub(crate) async fn run(
    inner: Arc<Inner>,
    attempt: Attempt,
    owned: Owned,
    begin: Begin,
) -> Result<()> {
    let canceler = Canceler::new();
    let run_id = attempt.run_id;
    let events = inner.live.insert(attempt.id, run_id, canceler.clone());
    // Read after the attempt can be found by a stop: one that came earlier is in the row.
    let Some(own) = inner.store.attempt_look(attempt.id).await? else {
        // The run was deleted under us.
        return Ok(());
    };
    let own_stop = (own.attempt.phase == Phase::Terminating).then_some(StopReason::Canceled);
    if let Some(reason) = own.stopping.or(own_stop) {
        canceler.cancel(cancel_reason(reason));
    }
    let definition = match inner.definition(run_id, own.repair).await? {
        Ok(definition) => definition,
        Err(unreadable) => {
            let Unreadable { run, error } = *unreadable;
            if begin == Begin::First {
                return Err(error);
            }
            end_execution(&inner, &output::spool_dir(&inner.dirs, attempt.id)).await;
            return abandon(&inner, &run, &error).await;
        }
    };
    let Definition { run, document } = &*definition;
    let work = Work {
        inner: &inner,
        definition: &definition,
        run,
        attempt: &attempt,
        repair: own.repair,
        document,
    };
    let end = match work.execute(canceler, events, begin).await {
        Ok(Some(mut end)) => {
            let reason = context::end_reason(&inner, run).await;
            if let Some(reason) = reason.filter(|_| end.verdict == Verdict::Canceled) {
                end.message = reason;
            }
            end
        }
        // It goes on without us; the next server takes it up.
        Ok(None) => return Ok(()),
        Err(error) => failed_to_start(&error),
    };
    let verdict = end.verdict;
    let spool_dir = output::spool_dir(&inner.dirs, attempt.id);
    if begin == Begin::Again {
        // Whatever it ended as, nothing of it goes on.
        end_execution(&inner, &spool_dir).await;
        stop_children(&inner, &attempt).await;
    }
    let recorded = record(&inner, &attempt, document, end).await;
    if recorded.is_ok() {
        inner.executor.forget(&spool_dir);
    }
    drop(owned);
    inner.checkouts.settle(run.id).await;
    inner.moved(run);
    let task = document.spec.tasks.get(attempt.task);
    if task.is_some_and(|task| task.new_cluster.is_some()) {
        inner.clusters.owner_ended();
    }
    info!(run.id = %run.id, attempt.id = %attempt.id, verdict = verdict.as_str(), "attempt {} ended", attempt.id);
    recorded
}

pub(crate) fn cancel_reason(reason: StopReason) -> CancelReason {
    match reason {
        StopReason::Canceled => CancelReason::Requested,
        StopReason::TimedOut => CancelReason::TimedOut,
    }
}

/// The end of an attempt is worth some patience: a full disk may be freed.
async fn record(
    inner: &Arc<Inner>,
    attempt: &Attempt,
    document: &JobDocument,
    end: AttemptEnd,
) -> Result<()> {
    let mut wait = std::time::Duration::from_millis(100);
    loop {
        let now = inner.clock.now();
        let plan = document.plan.clone();
        let claiming = inner.claiming.read().await;
        match inner
            .store
            .attempt_end(
                attempt.clone(),
                plan,
                end.clone(),
                Some(inner.slots.clone()),
                now,
            )
            .await
        {
            Ok(claimed) => {
                dispatch::begin(inner, claimed);
                return Ok(());
            }
            // The run was deleted under us, or nobody waits any more.
            Err(e) if e.code == ErrorCode::InvalidParameterValue => return Err(e),
            Err(e) if inner.tasks.stopping().is_cancelled() => return Err(e),
            Err(e) => {
                error!(attempt.id = %attempt.id, error = ?e, "cannot record an end yet");
                inner.live.note_unrecorded(attempt.id);
                drop(claiming);
                inner.clock.sleep(wait).await;
                wait = (wait * 2).min(std::time::Duration::from_secs(10));
            }
        }
    }
}

struct Work<'a> {
    inner: &'a Arc<Inner>,
    definition: &'a Arc<Definition>,
    run: &'a Run,
    attempt: &'a Attempt,
    /// The last one of the run.
    repair: Option<RunId>,
    document: &'a JobDocument,
}

impl Work<'_> {
    /// `None` when the attempt goes on without this server.
    async fn execute(
        &self,
        canceler: Canceler,
        events: watch::Sender<u64>,
        begin: Begin,
    ) -> Result<Option<AttemptEnd>> {
        let Self {
            inner,
            run,
            attempt,
            document,
            ..
        } = *self;
        let scoped = scope::scoped(inner, run, attempt, document).await?;
        let task = &scoped.task;
        let ctx = inner.ctx_of(run).await?;
        let compute = self.compute(&ctx, task).await?;
        let bounds = Bounds::of(&inner.setup.config.budget, &document.spec, task);
        let stop = self.stop_signal(canceler.clone(), &bounds);
        tokio::pin!(stop);
        let top = self.top().await?;
        // A clone can take minutes, and must be as easy to stop as a program.
        let checkout = tokio::select! {
            checkout = self.checkout(&ctx, top.as_ref()) => checkout,
            stop = &mut stop => return Ok(stopped_before_start(stop, &bounds)),
        };
        let checkout = match checkout {
            Ok(checkout) => checkout,
            Err(e) => return Ok(Some(not_checked_out(&e))),
        };
        let above = top.as_ref().and_then(|top| {
            let TopNotebook {
                attempt,
                task_key,
                definition,
            } = top.notebook.as_ref()?;
            Some((*attempt, &definition.document, task_key))
        });
        // Of what a notebook runs, the code is as it was below the one that is repeated, and the rest
        // follows from that.
        let before = match above {
            Some((_, document, task_key)) => inner.first(document, task_key).await,
            None => inner.first(document, &attempt.task_key).await,
        };
        let first = before.as_ref().ok().and_then(Option::as_ref);
        let code = Code {
            workspace: inner.workspace.clone(),
            ctx,
            checkout,
            past: first.map(|first| Arc::clone(&first.past)),
        };
        let repeated = first.filter(|_| above.is_none());
        let seed = inner.seed((run, attempt), document, repeated);
        let mut writer = Writer::open(&inner.dirs, attempt.id, events)?;
        let token = inner.tokens.issue_for_run(&code.ctx.user, attempt.id);
        let host = AttemptHost::new(
            inner,
            code.clone(),
            self.definition,
            attempt,
            &compute,
            canceler,
            seed,
        );
        let host = host.with_budget(bounds.budget);
        let host = Arc::new(host.below(above.map(|(id, ..)| id)));
        if begin == Begin::Again {
            match self.adopt(&writer, Arc::clone(&host) as _).await {
                Adoption::Found(execution) => {
                    if attempt.executed_at.is_none() {
                        self.note_start(&compute, None, None);
                    }
                    let snapshot = Snapshot::kept(&inner.dirs, attempt.id);
                    let program = Program {
                        digest: digest(task, code.commit(), snapshot.as_ref()),
                        // A server that died in the moment after the start had not noted them.
                        inputs: inputs_of(attempt),
                        execution,
                    };
                    return self.conclude(program, &mut writer, stop, &bounds).await;
                }
                Adoption::NeverBegun => {}
                Adoption::Lost => return Ok(Some(interrupted())),
            }
        }
        if let Err(gone) = &before {
            return Ok(Some(failed_to_start(gone)));
        }
        let libraries = tokio::select! {
            taken = self.libraries(&code, task, &compute) => taken,
            stop = &mut stop => return Ok(stopped_before_start(stop, &bounds)),
        };
        let libraries = match libraries {
            Ok(libraries) => libraries,
            Err(e) => return Ok(Some(no_library(&e))),
        };
        let origin = Origin {
            inner,
            run,
            attempt,
            document,
            scoped: &scoped,
            code: &code,
            compute: &compute,
            seed,
        };
        let prepared = workload::prepare(&origin, libraries).await?;
        let inputs = Inputs::of(&origin, &prepared).await?;
        if let Some(first) = repeated {
            let place = &prepared.workload.place;
            first.check(&inputs, &origin, place).await?;
        }
        let Prepared {
            mut workload,
            snapshot,
            script,
            resolved,
            ..
        } = prepared;
        workload.context.api_token = Some(token.value.clone());
        if let Some(snapshot) = &snapshot {
            snapshot.keep(&inner.dirs, attempt.id)?;
        }
        if let Some(taken) = script {
            taken.script.keep(&inner.dirs, attempt.id).await?;
        }
        // The same holds for making an environment ready.
        let started = tokio::select! {
            started = inner.executor.start(workload, host) => started,
            stop = &mut stop => return Ok(stopped_before_start(stop, &bounds)),
        };
        let execution = match started {
            Ok(execution) => execution,
            Err(error) => return Ok(Some(not_started(&error))),
        };
        self.note_start(&compute, resolved, Some(&inputs));
        let program = Program {
            digest: digest(task, code.commit(), snapshot.as_ref()),
            inputs: Some(inputs),
            execution,
        };
        self.conclude(program, &mut writer, stop, &bounds).await
    }

    /// What is installed for this attempt: the libraries of its cluster, and then its own.
    async fn libraries(
        &self,
        code: &Code,
        task: &TaskSpec,
        compute: &ResolvedCluster,
    ) -> Result<RunLibraries> {
        let of_environment = self.document.spec.environment_libraries(task)?;
        let own = task.libraries.iter().chain(&of_environment);
        let own = own.map(workload::library).collect::<Result<Vec<_>>>()?;
        // Java has an engine of its own, and with it the JARs of the cluster.
        let java = task.spark_jar_task.is_some() || task.spark_submit_task.is_some();
        let libraries = &self.inner.libraries;
        libraries
            .for_run(code, self.run.id, compute, own, java)
            .await
    }

    async fn adopt(&self, writer: &Writer, host: Arc<dyn Host>) -> Adoption {
        let Self { inner, attempt, .. } = *self;
        let spool_dir = output::spool_dir(&inner.dirs, attempt.id);
        let adoption = inner.executor.adopt(&spool_dir, writer.seq(), host).await;
        info!(run.id = %attempt.run_id, attempt.id = %attempt.id, ?adoption, "attempt {} is taken up again", attempt.id);
        adoption
    }

    /// Follows a program to its end.
    async fn conclude(
        &self,
        program: Program,
        writer: &mut Writer,
        stop: Pin<&mut impl Future<Output = Stop>>,
        bounds: &Bounds,
    ) -> Result<Option<AttemptEnd>> {
        let Program {
            mut execution,
            digest,
            inputs,
        } = program;
        let (live, id) = (&self.inner.live, self.attempt.id);
        let using = Using::nothing_yet(self.run, self.attempt);
        live.meter(id, Some((execution.meter(), using)));
        let stopped = self.follow(&mut *execution, writer, stop).await?;
        if stopped == Some(Stop::Leave) {
            execution.leave();
            return Ok(None);
        }
        let ended = execution.finish().await;
        // From here on its end tells; what counts twice for a moment could hold up other runs.
        live.meter(id, None);
        if stopped == Some(Stop::Server) && matches!(ended.outcome, Outcome::Canceled) {
            return Ok(Some(interrupted()));
        }
        let mut facts = facts(&ended, &digest);
        if let Some(inputs) = inputs {
            facts[INPUTS] = json!(inputs.with_included(&self.inner.dirs, id).await);
        }
        Ok(Some(match (stopped, ended.outcome) {
            (Some(Stop::OverTime(seconds)), Outcome::TimedOut) => over_time(seconds, facts),
            (_, outcome) => ended_as(outcome, facts, bounds),
        }))
    }

    /// The run whose code this one shares: itself, or the one above all that it is a part of. `None`
    /// when that was deleted.
    async fn top(&self) -> Result<Option<Top>> {
        let inner = self.inner;
        let mut definition = Arc::clone(self.definition);
        let (mut notebook, mut only_notebooks) = (None, true);
        // A run of another job has a source of its own; anything else that runs below a run shares
        // the code of that.
        while let Some(parent) = definition
            .run
            .parent_attempt
            .filter(|_| definition.run.kind.is_part())
        {
            only_notebooks &= definition.run.kind == RunKind::Workflow;
            let Some(above) = inner.store.attempt_look(parent).await? else {
                return Ok(None);
            };
            let Attempt {
                id,
                run_id,
                task_key,
                ..
            } = above.attempt;
            let above = inner.definition(run_id, above.repair).await?;
            definition = above.map_err(|unreadable| unreadable.error)?;
            if only_notebooks {
                notebook = Some(TopNotebook {
                    attempt: id,
                    task_key,
                    definition: Arc::clone(&definition),
                });
            }
        }
        Ok(Some(Top {
            definition,
            notebook,
        }))
    }

    /// The checkout this run sees: of its own Git source, or of the run whose notebook started it.
    async fn checkout(&self, ctx: &Ctx, top: Option<&Top>) -> Result<Option<Checkout>> {
        let Some(Top { definition, .. }) = top else {
            return Ok(None);
        };
        match &definition.document.spec.git_source {
            Some(source) => {
                let checkouts = &self.inner.checkouts;
                let checkout = checkouts.of(ctx, definition.run.id, source).await?;
                Ok(Some(checkout))
            }
            None => Ok(None),
        }
    }

    async fn compute(&self, ctx: &Ctx, task: &TaskSpec) -> Result<ResolvedCluster> {
        let owner = match &task.job_cluster_key {
            Some(key) => self.owner_of_shared(key).await?,
            None => ClusterOwner {
                id: self.attempt.id,
                key: String::new(),
            },
        };
        let spec = &self.document.spec;
        self.inner.compute(ctx, spec, task, owner).await
    }

    /// All tasks of a run share a cluster of its job, and all iterations of its for-eaches. A repair
    /// may find another definition of it, so it has one of its own.
    async fn owner_of_shared(&self, key: &str) -> Result<ClusterOwner> {
        let above = match self.run.parent_attempt {
            Some(parent) if self.run.kind == RunKind::Iteration => {
                self.inner.store.attempt_look(parent).await?
            }
            _ => None,
        };
        let (run, repair) = match above {
            Some(above) => (above.attempt.run_id, above.repair),
            None => (self.run.id, self.repair),
        };
        let round = repair.map_or(0, |repair| repair.0);
        Ok(ClusterOwner {
            id: run,
            key: format!("{round} {key}"),
        })
    }

    /// Completes when the attempt is to end before its time, or when this server is.
    async fn stop_signal(&self, canceler: Canceler, bounds: &Bounds) -> Stop {
        let clock = &self.inner.clock;
        // From its first start, whichever server that was on.
        let began = self.attempt.started_at.unwrap_or_else(|| clock.now());
        let timeout = async {
            let Some((seconds, of_budget)) = bounds.time() else {
                return std::future::pending().await;
            };
            let ms = seconds.saturating_mul(1000);
            clock.sleep_until(began.plus_ms(ms)).await;
            match of_budget {
                true => Stop::OverTime(seconds),
                false => Stop::Asked(CancelReason::TimedOut),
            }
        };
        tokio::select! {
            reason = canceler.canceled() => Stop::Asked(reason),
            stop = timeout => stop,
            () = self.inner.tasks.stopping().cancelled_owned() => {
                if self.inner.setup.server.keep_runs {
                    Stop::Leave
                } else {
                    Stop::Server
                }
            }
        }
    }

    /// Written beside the run, not before it: the start of the program waits for nobody.
    fn note_start(
        &self,
        compute: &ResolvedCluster,
        resolved: Option<Value>,
        inputs: Option<&Inputs>,
    ) {
        let store = self.inner.store.clone();
        let (id, now) = (self.attempt.id, self.inner.clock.now());
        let start = AttemptStart {
            cluster_id: compute.cluster_id.as_ref().map(ToString::to_string),
            resolved,
            facts: inputs.map_or(Value::Null, |inputs| json!({INPUTS: inputs})),
        };
        self.inner
            .tasks
            .spawn(TaskKind::Chore, format!("note start of {id}"), async move {
                store.attempt_executing(id, start, now).await
            });
    }

    /// Takes events until the program ends, and passes on the wish that it end earlier. Returns
    /// that wish; when it is to leave the program alone, the program has not ended.
    async fn follow(
        &self,
        execution: &mut dyn Execution,
        writer: &mut Writer,
        mut stop: Pin<&mut impl Future<Output = Stop>>,
    ) -> Result<Option<Stop>> {
        let canceler = execution.canceler();
        let mut stopped = None;
        loop {
            tokio::select! {
                event = execution.next_event() => match event {
                    Some(event) => {
                        let at = execution.happened_at();
                        writer.append(at.unwrap_or_else(|| self.inner.clock.now()), event)?;
                    }
                    None => return Ok(stopped),
                },
                wish = &mut stop, if stopped.is_none() => {
                    stopped = Some(wish);
                    canceler.cancel(match wish {
                        Stop::Asked(reason) => reason,
                        Stop::OverTime(_) => CancelReason::TimedOut,
                        Stop::Server => CancelReason::Requested,
                        Stop::Leave => return Ok(stopped),
                    });
                }
            }
        }
    }
}

/// The run above all that an attempt is a part of.
struct Top {
    definition: Arc<Definition>,
    notebook: Option<TopNotebook>,
}

/// The attempt from which notebooks run each other down to another one. It may be in an iteration.
struct TopNotebook {
    attempt: RunId,
    task_key: String,
    /// Of its run.
    definition: Arc<Definition>,
}

/// A program that has begun.
struct Program {
    execution: Box<dyn Execution>,
    /// What runs, in one hash.
    digest: String,
    inputs: Option<Inputs>,
}

/// Why an attempt is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Asked(CancelReason),
    /// It took more than these seconds of its budget.
    OverTime(i64),
    /// The server ends, and its runs with it.
    Server,
    /// The server ends, and its runs go on.
    Leave,
}

/// What ran, in one hash: the task as it was written, the commit, and the source it named.
fn digest(task: &TaskSpec, commit: Option<&str>, snapshot: Option<&Snapshot>) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{task:?}"));
    hash.update(commit.unwrap_or_default());
    if let Some(snapshot) = snapshot {
        hash.update(snapshot.path.as_bytes());
        hash.update([0]);
        hash.update(snapshot.source.as_bytes());
    }
    hex(hash.finalize())
}

/// An attempt that was stopped before its program was there.
fn stopped_before_start(stop: Stop, bounds: &Bounds) -> Option<AttemptEnd> {
    let outcome = match stop {
        // It has not begun, and the next server begins it.
        Stop::Leave => return None,
        Stop::Server => return Some(interrupted()),
        Stop::OverTime(seconds) => return Some(over_time(seconds, Value::Null)),
        Stop::Asked(CancelReason::Requested) => Outcome::Canceled,
        Stop::Asked(CancelReason::TimedOut) => Outcome::TimedOut,
    };
    Some(ended_as(outcome, Value::Null, bounds))
}

/// Ends a run whose definition cannot be read any more.
pub(crate) async fn abandon(inner: &Arc<Inner>, run: &Run, error: &Error) -> Result<()> {
    let message = format!("The run's definition cannot be read any more: {error}");
    let now = inner.clock.now();
    inner.store.run_abandon(run.id, message, now).await?;
    inner.checkouts.settle(run.id).await;
    inner.moved(run);
    Ok(())
}
