//! Brings clusters to where they should be: prepares environments, ends what nobody uses. Takes no
//! input, may run at any time and as often as one likes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_runtime::{TaskKind, Tasks};
use forebay_store::Cluster;
use forebay_types::{ClusterSource, ClusterState, Error, Result};
use tracing::warn;

use super::lifecycle::{self, Ending};
use super::spec::Spec;
use super::{Clusters, Inner};

/// Behind the nudges, for what only time brings about.
const POLL: Duration = Duration::from_secs(30);
/// Clusters of ended runs that are still shown.
const JOB_CLUSTERS_KEPT: usize = 30;

/// Runtimes whose environment is being prepared by a chore.
type Preparing = Arc<std::sync::Mutex<HashSet<String>>>;

impl Clusters {
    /// Starts the reconciler; it ends when `tasks` stop.
    pub(crate) fn spawn(&self) {
        let tasks = self.inner.tasks.clone();
        let inner = Arc::clone(&self.inner);
        let stop = tasks.stopping();
        let preparing = Preparing::default();
        let work = async move {
            loop {
                // A database that refuses now may do better later, and is logged by then.
                if let Err(error) = inner.reconcile(&tasks, &preparing).await {
                    warn!(error = ?error, "clusters could not be reconciled");
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok::<(), Error>(()),
                    () = inner.nudge.notified() => {}
                    () = inner.clock.sleep(POLL) => {}
                }
            }
        };
        self.inner
            .tasks
            .spawn(TaskKind::Reconciler, "clusters", work);
    }
}

impl Inner {
    async fn reconcile(self: &Arc<Self>, tasks: &Tasks, preparing: &Preparing) -> Result<()> {
        const ACTIVE: &[ClusterState] = &[
            ClusterState::Pending,
            ClusterState::Restarting,
            ClusterState::Running,
        ];
        for cluster in self.store.cluster_list(ACTIVE).await? {
            if self.end_if_unused(&cluster).await? {
                continue;
            }
            if cluster.state.is_preparing() {
                self.prepare(tasks, preparing, cluster).await?;
            }
        }
        self.forget_job_clusters().await
    }

    /// Ends a cluster whose run has ended, or that nobody used for as long as it says.
    async fn end_if_unused(&self, cluster: &Cluster) -> Result<bool> {
        if self.usage.is_used(&cluster.id) {
            return Ok(false);
        }
        let now = self.clock.now();
        let minutes = cluster
            .settings
            .get("autotermination_minutes")
            .and_then(serde_json::Value::as_i64)
            .unwrap_or(0);
        let last_used = cluster.last_used_at.max(self.usage.last_end(&cluster.id));
        let idle = minutes > 0 && now.since(last_used) >= minutes.saturating_mul(60_000);
        let ending = if cluster.source == ClusterSource::Job {
            // Between two of its tasks nobody uses a cluster that they share; after a restart nobody
            // says yet that he does.
            if self.store.cluster_is_owned(&cluster.id).await? {
                return Ok(false);
            }
            Ending::JobFinished
        } else if idle && cluster.state == ClusterState::Running {
            Ending::Inactivity { minutes }
        } else {
            return Ok(false);
        };
        let change =
            self.store
                .cluster_update(&cluster.id, Some(cluster.version), move |cluster| {
                    Ok(lifecycle::terminate(cluster, ending, now))
                });
        let ended = change.await?.is_some();
        if ended {
            self.changed();
        }
        Ok(ended)
    }

    async fn prepare(
        self: &Arc<Self>,
        tasks: &Tasks,
        preparing: &Preparing,
        cluster: Cluster,
    ) -> Result<()> {
        let runtimes = Arc::clone(&self.runtimes);
        let known = runtimes.list();
        let runtime = match Spec::parse(cluster.settings.clone(), &known) {
            Ok(spec) => spec.runtime,
            // Checked when it was stored, so this is a definition of another server's version.
            Err(error) => return self.prepared(&cluster, Err(error.message)).await,
        };
        let first = lock(preparing).insert(runtime.clone());
        if !first {
            return Ok(());
        }
        let inner = Arc::clone(self);
        let preparing = Arc::clone(preparing);
        // Not here: it may take minutes, and other clusters and the clock do not wait.
        let name = format!("prepare {runtime}");
        tasks.spawn(TaskKind::Chore, name, async move {
            let stop = inner.tasks.stopping();
            let outcome = tokio::select! {
                outcome = runtimes.prepare(&runtime) => outcome,
                () = stop.cancelled() => return Ok::<(), Error>(()),
            };
            let result = inner.runtime_prepared(&runtime, outcome).await;
            lock(&preparing).remove(&runtime);
            // Those that came to want it while it was being prepared.
            inner.nudge.notify_one();
            result
        });
        Ok(())
    }

    /// Tells every cluster that waits for the runtime.
    async fn runtime_prepared(&self, runtime: &str, outcome: Result<()>) -> Result<()> {
        const WAITING: &[ClusterState] = &[ClusterState::Pending, ClusterState::Restarting];
        if let Err(error) = &outcome {
            warn!(error = ?error, runtime, "runtime {runtime} cannot be prepared");
        }
        let known = self.runtimes.list();
        let info = known.iter().find(|info| info.name == runtime);
        let message = match info {
            Some(info) => format!("Runs on {runtime} (Python {})", info.python),
            None => format!("Runs on {runtime}"),
        };
        for cluster in self.store.cluster_list(WAITING).await? {
            let spec = Spec::parse(cluster.settings.clone(), &known);
            if spec.is_ok_and(|spec| spec.runtime == runtime) {
                let outcome = match &outcome {
                    Ok(()) => Ok(message.clone()),
                    Err(error) => Err(error.message.clone()),
                };
                self.prepared(&cluster, outcome).await?;
            }
        }
        Ok(())
    }

    async fn prepared(&self, cluster: &Cluster, outcome: Result<String, String>) -> Result<()> {
        let now = self.clock.now();
        let change =
            self.store
                .cluster_update(&cluster.id, Some(cluster.version), move |cluster| {
                    Ok(lifecycle::prepared(cluster, outcome, now))
                });
        match change.await? {
            Some(_) => self.changed(),
            // It was changed meanwhile; look at it again.
            None => self.nudge.notify_one(),
        }
        Ok(())
    }

    async fn forget_job_clusters(&self) -> Result<()> {
        const ENDED: &[ClusterState] = &[ClusterState::Terminated, ClusterState::Error];
        let ended = self.store.cluster_list(ENDED).await?;
        let old = ended
            .iter()
            .filter(|cluster| cluster.source == ClusterSource::Job && !cluster.pinned)
            .filter(|cluster| !self.usage.is_used(&cluster.id))
            .skip(JOB_CLUSTERS_KEPT);
        for cluster in old {
            // Somebody ended it by hand; the next task of its run starts it again.
            if self.store.cluster_is_owned(&cluster.id).await? {
                continue;
            }
            self.store.cluster_remove(&cluster.id).await?;
            self.usage.forget(&cluster.id);
        }
        Ok(())
    }
}

fn lock(preparing: &Preparing) -> std::sync::MutexGuard<'_, HashSet<String>> {
    preparing
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
