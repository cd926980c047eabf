//! The two sides of a run: what an executor promises, and what it may ask of its host.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use forebay_types::Millis;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use crate::{Ended, Event, Meter, Place, Workload};

/// Starts attempts.
///
/// The contract, which [`crate::conformance`] tests:
///
/// - **Order.** `start` once per attempt; then `next_event` until it gives `None`; then `finish`.
///   `prepare` may come at any time and is only a hint: a run that was not prepared works, slower.
/// - **Driving.** An execution makes progress while somebody polls `next_event` or `finish`. A
///   caller that stops polling may stop the program's output and its host calls, not the program.
/// - **Concurrency.** Any number of executions side by side. Host calls of one execution may
///   overlap, because programs call from several threads.
/// - **Cancel.** [`Canceler::cancel`] may be called from anywhere, at any time, more than once; the
///   first reason wins. The program gets an interrupt, and after [`crate::Limits::grace`] all its
///   processes are killed, so `next_event` gives `None` within the grace and one second. A program
///   that ends by itself before the interrupt lands keeps its own outcome.
/// - **CPU time.** A program that has used [`crate::Limits::cpu_ms`] is ended like by a cancel, with
///   [`crate::Outcome::CpuLimit`]; it may use a little more before that is noticed.
/// - **Children.** Whatever the program started ends with it: when `finish` returns, no process,
///   mount or cgroup of the run is left. Dropping an execution kills the run.
/// - **Failures of the program are data** ([`crate::Outcome`]). `StartError` means the program has
///   not begun; it says whether trying again can help.
/// - **Server death.** Either runs end with the process that owns the executor (the default of
///   [`Executor::adopt`]), or a later process gets each of them back: every event exactly once
///   after those it says it has, and the end. Until [`Executor::forget`] an end can be had again.
#[async_trait]
pub trait Executor: Send + Sync {
    async fn start(
        &self,
        workload: Workload,
        host: Arc<dyn Host>,
    ) -> Result<Box<dyn Execution>, StartError>;

    /// Makes the runtime's environment ready (which may download and take minutes) and a warm
    /// parent for the place. Idempotent and cheap when there is nothing to do.
    async fn prepare(&self, place: &Place) -> Result<Prepared, StartError>;

    /// Takes over an attempt that a server which is gone had started with this `spool_dir`.
    /// `from` is how many of its events were taken and kept.
    async fn adopt(&self, spool_dir: &Path, from: u64, host: Arc<dyn Host>) -> Adoption {
        drop(host);
        let (_, _) = (spool_dir, from);
        Adoption::Lost
    }

    /// The spool folders of attempts that an earlier process started and that were under way when
    /// this executor was made.
    fn inherited(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The end of this attempt is recorded: nobody will adopt it again.
    fn forget(&self, spool_dir: &Path) {
        let _ = spool_dir;
    }

    fn runtimes(&self) -> Vec<RuntimeInfo>;

    /// As probed when the executor was made.
    fn isolation(&self) -> &Isolation;

    /// Ends warm parents and refuses further starts. Executions under way go on.
    async fn stop(&self);
}

/// One attempt under way.
#[async_trait]
pub trait Execution: Send {
    /// The next event, or `None` when the program has ended. Cancel safe.
    async fn next_event(&mut self) -> Option<Event>;

    fn canceler(&self) -> Canceler;

    /// What it uses while it goes on, as far as that is counted; it may be some seconds old.
    fn meter(&self) -> Meter {
        Meter::default()
    }

    /// Kills what is left, removes mounts and cgroups, and gives the verdict. Events that were not
    /// taken are lost.
    async fn finish(self: Box<Self>) -> Ended;

    /// When the last event taken happened. `None` when that was just now.
    fn happened_at(&self) -> Option<Millis> {
        None
    }

    /// Lets go of it without ending it, for a later process to adopt. An executor whose runs cannot
    /// be adopted ends it.
    fn leave(self: Box<Self>) {}
}

/// What became of an attempt whose server is gone.
pub enum Adoption {
    /// It is under way, or has ended and has its end to tell.
    Found(Box<dyn Execution>),
    /// It never began: it may be started.
    NeverBegun,
    /// Nobody knows how far it came. Nothing of it runs any more.
    Lost,
}

impl fmt::Debug for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found(_) => f.write_str("Found"),
            Self::NeverBegun => f.write_str("NeverBegun"),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

/// Asks an execution to stop; clones share one state.
#[derive(Debug, Clone)]
pub struct Canceler {
    reason: watch::Sender<Option<CancelReason>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Somebody asked: the outcome is `Canceled`.
    Requested,
    /// The time-out of the task: the outcome is `TimedOut`.
    TimedOut,
}

impl Default for Canceler {
    fn default() -> Self {
        Self::new()
    }
}

impl Canceler {
    #[must_use]
    pub fn new() -> Self {
        Self {
            reason: watch::Sender::new(None),
        }
    }

    pub fn cancel(&self, reason: CancelReason) {
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        *self.reason.borrow()
    }

    /// Waits until somebody cancels.
    pub async fn canceled(&self) -> CancelReason {
        let mut receiver = self.reason.subscribe();
        loop {
            if let Some(reason) = *receiver.borrow_and_update() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What a program may ask of the server while it runs. The methods are in [`method`].
#[async_trait]
pub trait Host: Send + Sync {
    async fn call(&self, call: CallId, method: &str, args: Value) -> Result<Value, HostError>;
}

/// Numbers the calls of one attempt. The same number again is the same call, asked again because
/// whoever was to answer it is gone: it must not be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// The calls that drivers make, with the shapes of arguments and results.
pub mod method {
    /// `{scope, key}` to `{value}`, the secret's bytes as base64. The executor redacts the value
    /// from all that follows.
    pub const SECRETS_GET: &str = "secrets.get";
    /// `{scope}` to `{keys: [key]}`.
    pub const SECRETS_LIST: &str = "secrets.list";
    /// `{}` to `{scopes: [name]}`.
    pub const SECRETS_LIST_SCOPES: &str = "secrets.listScopes";
    /// `{from, path, timeout_seconds, arguments: {name: value}}` to `{exit_value}`; `from` is the
    /// calling notebook's path, and 0 seconds mean no limit. Fails with kind `WorkflowException`.
    pub const NOTEBOOK_RUN: &str = "notebook.run";
    /// `{}` to `null`, by the executor itself, when it has taken all frames before it.
    pub const SYNC: &str = "sync";
    /// `{from, path, params: {name: value}}` to `{path, cells: [ExecCell]}`: the source of a
    /// notebook for `%run`. `path` is as written; the answer has the absolute one.
    pub const NOTEBOOK_SOURCE: &str = "notebook.source";
    /// `{task_key, key, has_default, default, debug_value}` to `{value}`. Fails with kind
    /// `ValueError` when there is neither a value nor a default.
    pub const TASK_VALUES_GET: &str = "jobs.taskValues.get";
    /// `{key, value}` to `null`.
    pub const TASK_VALUES_SET: &str = "jobs.taskValues.set";
    /// `{after}` to `{cell: ExecCell}`, the first one whose index is `after` or more, as soon as
    /// there is one; to `{cell: null}` when there will be none. Asked again it gives the same cell.
    pub const CONTEXT_NEXT: &str = "context.next";
    /// `{after}` to `{command}`, the first number above `after` of a cell (its index and one) that
    /// is to be interrupted, as soon as there is one.
    pub const CONTEXT_INTERRUPT: &str = "context.interrupt";
    /// `{}` to `{mounts: [{mount_point, source}]}`.
    pub const FS_MOUNTS: &str = "fs.mounts";
}

/// A refusal, which the driver raises as a Python exception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{kind}: {message}")]
pub struct HostError {
    /// The name of the exception's class. A name of a Python built-in raises that built-in.
    pub kind: String,
    pub message: String,
}

impl HostError {
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            message: message.into(),
        }
    }

    /// For a method that a host does not have.
    #[must_use]
    pub fn unknown_method(method: &str) -> Self {
        Self::new(
            "NotImplementedError",
            format!("{method} is not available on this server"),
        )
    }
}

/// The walls around a run that are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    pub level: IsolationLevel,
    /// Where memory, processes and cost are limited and counted: `cgroup v2`, `cgroup v1` or
    /// `none`.
    pub accounting: String,
    /// Why a wall is missing, one sentence each; empty when none is.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// A program can do what the server's user can.
    None,
    /// Own user, mount, pid, ipc and uts namespaces; nothing of the server is visible.
    Namespaces,
}

impl IsolationLevel {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Namespaces => "namespaces",
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Digest of the environment.
    pub environment: String,
    /// Whether the next run of the place forks from a warm parent.
    pub warm: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    pub name: String,
    /// Such as `3.11`.
    pub python: String,
    /// One line for a person.
    pub description: String,
    /// The Spark engine of its runs, such as `sail`.
    #[serde(default)]
    pub engine: String,
}

/// Why an attempt did not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the workload is not valid: {0}")]
    Invalid(String),
    #[error("there is no runtime named {name:?}; this executor has {known}")]
    UnknownRuntime { name: String, known: String },
    #[error("the environment of runtime {runtime} cannot be built: {detail}")]
    Environment { runtime: String, detail: String },
    #[error("the sandbox is not available: {0}")]
    Isolation(String),
    /// Disk, memory or processes of the host ran out, or a process could not be started.
    #[error("{doing} failed")]
    Host {
        doing: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the executor is stopping")]
    Stopping,
}

impl StartError {
    /// Whether the same workload may start later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Environment { .. } | Self::Host { .. } | Self::Stopping
        )
    }
}
