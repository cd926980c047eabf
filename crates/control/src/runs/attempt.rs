//! The server's side of one attempt, from its slot to its recorded end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use forebay_engine::{StopReason, Verdict};
use forebay_exec::{CancelReason, Canceler, Ended, Execution, Outcome, StartError};
use forebay_runtime::TaskKind;
use forebay_store::{Attempt, AttemptEnd, Run, RunKind};
use forebay_types::{Error, ErrorCode, Result};
use futures_util::future::select_all;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::{error, info};

use super::Inner;
use super::checkout::Checkout;
use super::dispatch;
use super::host::AttemptHost;
use super::live::Owned;
use super::output::{Snapshot, Writer};
use super::scope;
use super::source::Code;
use super::workload::{self, Prepared};
use crate::Ctx;
use crate::clusters::ResolvedCluster;
use crate::jobs::{JobDocument, TaskSpec};

/// What a failed task of a user says on the wire; the exception itself is in the run's output.
const FAILED: &str = "Workload failed, see run output for details";

/// What a run says that its server took down with it.
const INTERRUPTED: &str =
    "The server stopped while this run was under way; its output up to then is kept.";

/// Runs one attempt that has its slot, and records how it ended.
///
/// `stops` end a nested run together with the notebook that started it.
///
/// # Errors
/// When the end could not be recorded. The row is an orphan then, and is ended as one.
pub(crate) async fn run(
    inner: Arc<Inner>,
    attempt: Attempt,
    owned: Owned,
    mut stops: Vec<Canceler>,
) -> Result<()> {
    let canceler = Canceler::new();
    stops.push(canceler.clone());
    let run_id = attempt.run_id;
    let events = inner.live.insert(attempt.id, run_id, canceler.clone());
    // Read after the attempt can be found by a stop: one that came earlier is in the row.
    let (run, _) = inner.store.run_get(run_id).await?;
    if let Some(reason) = run.stopping {
        canceler.cancel(cancel_reason(reason));
    }
    let document = JobDocument::of_normal(run.settings.clone())?;
    let work = Work {
        inner: &inner,
        run: &run,
        attempt: &attempt,
        document: &document,
    };
    let end = match work.execute(canceler, stops, events).await {
        Ok(end) => end,
        Err(error) => failed_to_start(&error),
    };
    let verdict = end.verdict;
    let recorded = record(&inner, &attempt, &document, end).await;
    drop(owned);
    inner.checkouts.settle(run.id).await;
    inner.moved(&run);
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
            .attempt_end(attempt.clone(), plan, end.clone(), inner.cap(), now)
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
                drop(claiming);
                inner.clock.sleep(wait).await;
                wait = (wait * 2).min(std::time::Duration::from_secs(10));
            }
        }
    }
}

struct Work<'a> {
    inner: &'a Arc<Inner>,
    run: &'a Run,
    attempt: &'a Attempt,
    document: &'a JobDocument,
}

impl Work<'_> {
    async fn execute(
        &self,
        canceler: Canceler,
        stops: Vec<Canceler>,
        events: tokio::sync::watch::Sender<u64>,
    ) -> Result<AttemptEnd> {
        let Self {
            inner,
            run,
            attempt,
            document,
        } = *self;
        let scoped = scope::scoped(inner, run, attempt, document).await?;
        let task = &scoped.task;
        let ctx = inner.ctx_of(run).await?;
        let compute = self.compute(&ctx, task).await?;
        let stop = self.stop_signal(stops, task);
        tokio::pin!(stop);
        // A clone can take minutes, and must be as easy to stop as a program.
        let checkout = tokio::select! {
            checkout = self.checkout(&ctx) => checkout,
            stop = &mut stop => return Ok(stopped_before_start(stop, task)),
        };
        let checkout = match checkout {
            Ok(checkout) => checkout,
            Err(e) => return Ok(not_checked_out(&e)),
        };
        let code = Code {
            workspace: inner.workspace.clone(),
            ctx,
            checkout,
        };
        let Prepared {
            mut workload,
            snapshot,
        } = workload::prepare(
            inner,
            &code,
            run,
            attempt,
            &document.spec,
            &scoped,
            &compute,
        )
        .await?;
        let token = inner.tokens.issue_for_run(&code.ctx.user);
        workload.context.api_token = Some(token.value.clone());
        let commit = code.checkout.as_ref().map(|own| own.commit.as_str());
        let digest = digest(task, commit, snapshot.as_ref());
        let mut writer = Writer::create(&inner.dirs, attempt.id, snapshot.as_ref(), events)?;
        let host = AttemptHost::new(inner, code, run, attempt, &compute, canceler);
        // The same holds for making an environment ready.
        let started = tokio::select! {
            started = inner.executor.start(workload, Arc::new(host)) => started,
            stop = &mut stop => return Ok(stopped_before_start(stop, task)),
        };
        let mut execution = match started {
            Ok(execution) => execution,
            Err(error) => return Ok(not_started(&error)),
        };
        self.note_start(&compute);
        let interrupted = self.follow(&mut *execution, &mut writer, stop).await?;
        let ended = execution.finish().await;
        if interrupted && matches!(ended.outcome, Outcome::Canceled) {
            return Ok(platform_failure("INTERNAL_ERROR", INTERRUPTED.to_owned()));
        }
        let facts = facts(&ended, &digest);
        Ok(ended_as(ended.outcome, facts, task))
    }

    /// The checkout this run sees: of its own Git source, or of the run whose notebook started it.
    async fn checkout(&self, ctx: &Ctx) -> Result<Option<Checkout>> {
        let store = &self.inner.store;
        let (mut run, mut document) = (self.run.clone(), self.document.clone());
        // A run of another job has a source of its own; anything else that runs below a run shares
        // the code of that.
        while let Some(parent) = run.parent_attempt.filter(|_| run.kind != RunKind::Job) {
            let Some((above, _)) = store.attempt_get(parent).await? else {
                return Ok(None);
            };
            document = JobDocument::of_normal(above.settings.clone())?;
            run = above;
        }
        match &document.spec.git_source {
            Some(source) => {
                let checkout = self.inner.checkouts.of(ctx, run.id, source).await?;
                Ok(Some(checkout))
            }
            None => Ok(None),
        }
    }

    async fn compute(&self, ctx: &Ctx, task: &TaskSpec) -> Result<ResolvedCluster> {
        self.inner.compute(ctx, &self.document.spec, task).await
    }

    /// Completes when the attempt is to end before its time.
    async fn stop_signal(&self, stops: Vec<Canceler>, task: &TaskSpec) -> Stop {
        let canceled = select_all(
            stops
                .into_iter()
                .map(|stop| Box::pin(async move { stop.canceled().await })),
        );
        let clock = &self.inner.clock;
        let limit_ms = task.timeout_seconds.saturating_mul(1000);
        let deadline = clock.now().plus_ms(limit_ms);
        let timeout = async {
            if limit_ms == 0 {
                std::future::pending::<()>().await;
            }
            clock.sleep_until(deadline).await;
        };
        tokio::select! {
            (reason, ..) = canceled => Stop::Asked(reason),
            () = timeout => Stop::Asked(CancelReason::TimedOut),
            () = self.inner.tasks.stopping().cancelled_owned() => Stop::Server,
        }
    }

    /// Written beside the run, not before it: the start of the program waits for nobody.
    fn note_start(&self, compute: &ResolvedCluster) {
        let store = self.inner.store.clone();
        let (id, now) = (self.attempt.id, self.inner.clock.now());
        let cluster = compute.cluster_id.as_ref().map(ToString::to_string);
        self.inner
            .tasks
            .spawn(TaskKind::Chore, format!("note start of {id}"), async move {
                store.attempt_executing(id, cluster, now).await
            });
    }

    /// Takes events until the program ends, and passes on the wish that it end earlier. Returns
    /// whether that was the server's own end.
    async fn follow(
        &self,
        execution: &mut dyn Execution,
        writer: &mut Writer,
        mut stop: Pin<&mut impl Future<Output = Stop>>,
    ) -> Result<bool> {
        let canceler = execution.canceler();
        let mut stopped = None;
        loop {
            tokio::select! {
                event = execution.next_event() => match event {
                    Some(event) => writer.append(self.inner.clock.now(), event)?,
                    None => return Ok(stopped == Some(Stop::Server)),
                },
                wish = &mut stop, if stopped.is_none() => {
                    stopped = Some(wish);
                    canceler.cancel(match wish {
                        Stop::Asked(reason) => reason,
                        Stop::Server => CancelReason::Requested,
                    });
                }
            }
        }
    }
}

/// Why an attempt is to end before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Asked(CancelReason),
    Server,
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
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn facts(ended: &Ended, digest: &str) -> Value {
    json!({
        "usage": ended.usage,
        "isolation": ended.isolation,
        "environment": ended.environment,
        "warm": ended.warm,
        "source_digest": digest,
    })
}

fn ended_as(outcome: Outcome, facts: Value, task: &TaskSpec) -> AttemptEnd {
    let end = |verdict, code, message: &str| AttemptEnd {
        verdict,
        code,
        message: message.to_owned(),
        error: None,
        trace: None,
        exit_value: None,
        facts: facts.clone(),
        retry: true,
    };
    let failed = |code, message: &str| AttemptEnd {
        error: Some(message.to_owned()),
        ..end(Verdict::Failed, code, message)
    };
    match outcome {
        Outcome::Succeeded { exit_value } => AttemptEnd {
            exit_value,
            ..end(Verdict::Succeeded, "SUCCESS", "")
        },
        Outcome::Failed {
            ename,
            message,
            trace,
            ..
        } if ename == "LibraryInstallationError" => AttemptEnd {
            trace: Some(trace),
            verdict: Verdict::InternalError,
            ..failed("LIBRARY_INSTALLATION_ERROR", &message)
        },
        Outcome::Failed {
            ename,
            message,
            trace,
            ..
        } => AttemptEnd {
            error: Some(if message.is_empty() {
                ename
            } else {
                format!("{ename}: {message}")
            }),
            trace: Some(trace),
            ..end(Verdict::Failed, "RUN_EXECUTION_ERROR", FAILED)
        },
        Outcome::Canceled => end(Verdict::Canceled, "USER_CANCELED", "Run cancelled."),
        Outcome::TimedOut if task.timeout_seconds == 0 => end(
            Verdict::TimedOut,
            "CANCELED",
            "The run exceeded its time limit.",
        ),
        Outcome::TimedOut => end(
            Verdict::TimedOut,
            "CANCELED",
            &format!(
                "The task exceeded its time limit of {} seconds.",
                task.timeout_seconds
            ),
        ),
        Outcome::OutOfMemory { limit_bytes } => failed(
            "DRIVER_ERROR",
            &match limit_bytes {
                Some(limit) => format!(
                    "Out of memory: the run needed more than its limit of {} MiB.",
                    limit >> 20
                ),
                None => "Out of memory: the system ended a process of the run.".to_owned(),
            },
        ),
        Outcome::OutputLimit { limit_bytes } => failed(
            "RUN_EXECUTION_ERROR",
            &format!(
                "The run wrote more output than its limit of {} MiB.",
                limit_bytes >> 20
            ),
        ),
        Outcome::Crashed { message, .. } => failed("DRIVER_ERROR", &message),
    }
}

/// An attempt that was stopped while its environment was made ready.
fn stopped_before_start(stop: Stop, task: &TaskSpec) -> AttemptEnd {
    let outcome = match stop {
        Stop::Server => return platform_failure("INTERNAL_ERROR", INTERRUPTED.to_owned()),
        Stop::Asked(CancelReason::Requested) => Outcome::Canceled,
        Stop::Asked(CancelReason::TimedOut) => Outcome::TimedOut,
    };
    ended_as(outcome, Value::Null, task)
}

/// The executor could not begin: the platform's failure, not the user's.
fn not_started(error: &StartError) -> AttemptEnd {
    let code = match error {
        StartError::Invalid(_) => "INVALID_RUN_CONFIGURATION",
        StartError::UnknownRuntime { .. } => "INVALID_CLUSTER_REQUEST",
        _ => "CLUSTER_ERROR",
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        message = format!("{message}: {next}");
        cause = next.source();
    }
    platform_failure(code, message)
}

/// The run's Git source could not be had.
fn not_checked_out(error: &Error) -> AttemptEnd {
    let message = format!("Failed to check out the Git source: {error}");
    platform_failure("REPOSITORY_CHECKOUT_FAILED", message)
}

/// Whether an error says something of this server rather than of what it was asked to run.
pub(crate) fn is_ours(error: &Error) -> bool {
    matches!(
        error.code,
        ErrorCode::Internal | ErrorCode::TemporarilyUnavailable | ErrorCode::InvalidState
    )
}

pub(crate) fn failed_to_start(error: &Error) -> AttemptEnd {
    let code = match error.code {
        ErrorCode::ResourceDoesNotExist => "RESOURCE_NOT_FOUND",
        ErrorCode::PermissionDenied => "UNAUTHORIZED_ERROR",
        ErrorCode::InvalidParameterValue | ErrorCode::NotImplemented => "INVALID_RUN_CONFIGURATION",
        _ => {
            error!(error = ?error, "attempt failed to start");
            "INTERNAL_ERROR"
        }
    };
    platform_failure(code, error.to_string())
}

fn platform_failure(code: &'static str, message: String) -> AttemptEnd {
    AttemptEnd {
        verdict: Verdict::InternalError,
        code,
        error: Some(message.clone()),
        message,
        trace: None,
        exit_value: None,
        facts: Value::Null,
        retry: !matches!(
            code,
            "INVALID_RUN_CONFIGURATION" | "RESOURCE_NOT_FOUND" | "UNAUTHORIZED_ERROR"
        ),
    }
}

/// Ends live rows that nobody works on: their process died with an earlier server, or their task
/// here came to grief. Their retry policy decides what next.
pub(crate) async fn end_orphans(inner: &Arc<Inner>) {
    let _nobody_claims = inner.claiming.write().await;
    let live = match inner.store.attempt_list_live().await {
        Ok(live) => live,
        Err(e) => {
            error!(error = ?e, "cannot look for orphaned attempts");
            return;
        }
    };
    for attempt in live {
        if !inner.live.is_owned(attempt.id)
            && let Err(e) = end_orphan(inner, attempt).await
        {
            error!(error = ?e, "cannot end an orphaned attempt yet");
        }
    }
}

async fn end_orphan(inner: &Arc<Inner>, attempt: Attempt) -> Result<()> {
    let (run, _) = inner.store.run_get(attempt.run_id).await?;
    let now = inner.clock.now();
    info!(run.id = %run.id, attempt.id = %attempt.id, "attempt {} was interrupted", attempt.id);
    match JobDocument::of_normal(run.settings.clone()) {
        Ok(document) => {
            let end = platform_failure("INTERNAL_ERROR", INTERRUPTED.to_owned());
            // No slot is given away here: the round that follows does that.
            inner
                .store
                .attempt_end(attempt, document.plan, end, 0, now)
                .await?;
        }
        Err(e) => return abandon(inner, &run, &e).await,
    }
    inner.moved(&run);
    Ok(())
}

/// Ends a run whose definition cannot be read any more.
pub(crate) async fn abandon(inner: &Arc<Inner>, run: &Run, error: &Error) -> Result<()> {
    let message = format!("The run's definition cannot be read any more: {error}");
    let now = inner.clock.now();
    inner.store.run_abandon(run.id, message, now).await?;
    inner.moved(run);
    Ok(())
}
