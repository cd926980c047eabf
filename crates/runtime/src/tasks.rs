use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use forebay_types::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

/// What becomes of the server when a task of this kind ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    Log,
    StopServer,
}

/// Every kind of background work, with its failure policy in one readable table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// A listening socket.
    Listener,
    /// A loop that brings stored state and the world together.
    Reconciler,
    /// The server's side of one attempt.
    Attempt,
    /// Work nobody waits for, such as compiling bytecode.
    Chore,
}

impl TaskKind {
    #[must_use]
    pub fn on_error(self) -> OnError {
        match self {
            Self::Listener | Self::Reconciler => OnError::StopServer,
            Self::Attempt | Self::Chore => OnError::Log,
        }
    }
}

/// The one door to background work: each task has a kind, a name and an end.
///
/// A child made with [`Tasks::child`] can be stopped alone; stopping a parent stops its children.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }
}

impl Tasks {
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: self.stop.child_token(),
        }
    }

    /// Fires when the server is to stop; every loop selects on it.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the door that the rule points to"
    )]
    pub fn spawn<E: Display + Send>(
        &self,
        kind: TaskKind,
        name: impl Into<String>,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let name = name.into();
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            // The inner task turns a panic into a value, so that it meets the same policy.
            let failure =
                match tokio::spawn(async move { work.await.map_err(|e| e.to_string()) }).await {
                    Ok(Ok(())) => return,
                    Ok(Err(error)) => error,
                    Err(join) => join.to_string(),
                };
            error!(task.kind = ?kind, task.name = %name, error = %failure, "task {name} failed");
            if kind.on_error() == OnError::StopServer {
                stop.cancel();
            }
        });
    }

    /// Asks every task to stop and waits for them, at most for `grace`.
    ///
    /// Returns whether all of them ended in time.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok();
        info!(
            tasks.left = self.tracker.len(),
            "stopped, {} tasks left",
            self.tracker.len()
        );
        ended
    }
}

/// Runs blocking work (files, SQL) off the async threads.
///
/// # Errors
/// An internal error when the work panicked.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|join| {
            let doing = if join.is_cancelled() {
                "the server is stopping"
            } else {
                "blocking work panicked"
            };
            Err(Error::internal(doing, join))
        })
}
