use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_store::{Cluster, ClusterOwner};
use forebay_types::{
    ClusterId, ClusterState, Error, ObjectKind, ObjectRef, PermissionLevel, Result,
};
use serde_json::{Map, Value};

use super::spec::{Spec, runtime_for};
use super::{ClusterUse, Clusters, Maker, lifecycle};
use crate::Ctx;

/// How exactly the last use of a running cluster is kept; idle times are counted in minutes.
const TOUCH_EVERY_MS: i64 = 20_000;

/// Where a task wants to run.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterChoice {
    Existing(ClusterId),
    /// The definition in a task or job; the cluster ends with its owner.
    New(Map<String, Value>),
    /// Nothing was said: the default runtime, without a cluster.
    Unnamed,
}

/// What a run takes from its cluster.
#[derive(Debug, Clone)]
pub struct ResolvedCluster {
    /// `None` for [`ClusterChoice::Unnamed`].
    pub cluster_id: Option<ClusterId>,
    pub runtime: String,
    /// Memory of one run; `None` leaves it to the server's limits, which bound it in any case.
    pub memory_bytes: Option<u64>,
    /// `spark_env_vars` as written.
    pub env: BTreeMap<String, String>,
    pub spark_conf: BTreeMap<String, String>,
    /// Paths as the definition has them.
    pub init_scripts: Vec<String>,
    /// Hold a clone of this as long as the run lives: it keeps the cluster from being ended.
    pub in_use: Option<Arc<ClusterUse>>,
}

impl Clusters {
    /// The environment and limits of a run, for the identity the run has; starts a cluster that is
    /// terminated and makes a new one where that is asked for, or finds the one that `owner` has. Does not wait for the environment:
    /// an executor prepares what is not ready. Who wants to wait calls [`Clusters::ready`].
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` `Cluster X does not exist` or for a definition that is not valid;
    /// `PERMISSION_DENIED` without `CAN_ATTACH_TO`, or without `CAN_RESTART` when it must be started.
    pub async fn resolve_for_run(
        &self,
        ctx: &Ctx,
        choice: ClusterChoice,
        owner: ClusterOwner,
    ) -> Result<ResolvedCluster> {
        match choice {
            ClusterChoice::Existing(id) => self.resolve_existing(ctx, id).await,
            ClusterChoice::New(settings) => self.resolve_new(ctx, owner, settings).await,
            ClusterChoice::Unnamed => {
                let runtimes = self.runtimes();
                let default = runtimes.first().map(|runtime| runtime.name.clone());
                let runtime = runtime_for(super::DEFAULT_RUNTIME, None, &runtimes)
                    .ok()
                    .or(default);
                Ok(ResolvedCluster {
                    cluster_id: None,
                    runtime: runtime.unwrap_or_else(|| super::DEFAULT_RUNTIME.to_owned()),
                    memory_bytes: None,
                    env: BTreeMap::new(),
                    spark_conf: BTreeMap::new(),
                    init_scripts: Vec::new(),
                    in_use: None,
                })
            }
        }
    }

    async fn resolve_existing(&self, ctx: &Ctx, id: ClusterId) -> Result<ResolvedCluster> {
        let inner = &self.inner;
        let now = inner.clock.now();
        // Before the look at its state, so that the reconciler cannot end it in between.
        let in_use = inner.usage.begin(&id);
        let cluster = self.permitted(ctx, &id, PermissionLevel::CanAttachTo).await;
        let cluster = match cluster {
            Ok(cluster) => cluster,
            Err(error) => {
                drop(in_use);
                inner.usage.forget(&id);
                return Err(error);
            }
        };
        if cluster.state.is_active() {
            // A commit for every run would be the dearest part of a short one.
            if now.since(cluster.last_used_at) > TOUCH_EVERY_MS {
                inner.store.cluster_touch(&id, now).await?;
            }
        } else {
            let object = ObjectRef::new(ObjectKind::Cluster, &id);
            let wanted = PermissionLevel::CanRestart;
            inner.permissions.require(ctx, &object, wanted).await?;
            self.start_again(ctx, &id).await?;
        }
        let spec = Spec::parse(cluster.settings, &self.runtimes())?;
        Ok(resolved(id, spec, in_use))
    }

    /// Starts a cluster that somebody may have ended.
    async fn start_again(&self, ctx: &Ctx, id: &ClusterId) -> Result<()> {
        let found = self.inner.store.cluster_get(id).await?;
        if found.is_some_and(|cluster| cluster.state.is_active()) {
            return Ok(());
        }
        self.change(ctx, id, |cluster, user, now| {
            // Another run may have started it meanwhile, which is as good.
            match cluster.state.is_active() {
                true => Ok(None),
                false => lifecycle::start(cluster, user, now).map(Some),
            }
        })
        .await
    }

    async fn resolve_new(
        &self,
        ctx: &Ctx,
        owner: ClusterOwner,
        settings: Map<String, Value>,
    ) -> Result<ResolvedCluster> {
        let spec = Spec::parse(settings, &self.runtimes())?;
        let fresh = self.fresh_id();
        let maker = Maker::Run(owner);
        let id = self.insert(ctx, fresh.clone(), maker, spec.clone()).await?;
        let in_use = self.inner.usage.begin(&id);
        if id != fresh {
            self.start_again(ctx, &id).await?;
        }
        self.inner.nudge.notify_one();
        Ok(resolved(id, spec, in_use))
    }

    /// What a run would take from a cluster as it stands.
    pub(crate) fn look(&self, cluster: Cluster) -> Result<ResolvedCluster> {
        let in_use = self.inner.usage.begin(&cluster.id);
        let spec = Spec::parse(cluster.settings, &self.runtimes())?;
        Ok(resolved(cluster.id, spec, in_use))
    }

    /// Waits until the cluster's environment is ready.
    ///
    /// # Errors
    /// `INVALID_STATE` with the reason when it cannot be made ready or the cluster was ended.
    pub async fn ready(&self, id: &ClusterId) -> Result<()> {
        let mut changes = self.inner.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let found = self.inner.store.cluster_get(id).await?;
            let cluster =
                found.ok_or_else(|| Error::invalid(format!("Cluster {id} does not exist")))?;
            match cluster.state {
                ClusterState::Running => return Ok(()),
                ClusterState::Terminated | ClusterState::Error => {
                    let reason = cluster.state_message;
                    return Err(Error::state(format!(
                        "Cluster {id} is not usable: {reason}"
                    )));
                }
                ClusterState::Pending | ClusterState::Restarting => {}
            }
            let stopped = |e| Error::internal("the clusters have stopped", e);
            changes.changed().await.map_err(stopped)?;
        }
    }
}

fn resolved(id: ClusterId, spec: Spec, in_use: ClusterUse) -> ResolvedCluster {
    ResolvedCluster {
        cluster_id: Some(id),
        runtime: spec.runtime,
        memory_bytes: spec.memory_bytes,
        env: spec.env,
        spark_conf: spec.spark_conf,
        init_scripts: spec.init_scripts,
        in_use: Some(Arc::new(in_use)),
    }
}
