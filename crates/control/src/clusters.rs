//! Clusters: named environments with limits. Stopping one takes no time and starting one means to
//! prepare its environment, which a reconciler does; runs need not wait for it.

pub(crate) mod lifecycle;
mod machine;
mod reconcile;
mod resolve;
mod runtimes;
mod secrets;
mod spec;
mod usage;

use std::path::Path;
use std::sync::Arc;

use forebay_runtime::{Clock, Tasks};
use forebay_store::{Cluster, ClusterEvent, ClusterOwner, Store};
use forebay_types::{
    ClusterId, ClusterSource, ClusterState, Error, Grant, ObjectKind, ObjectRef, PermissionLevel,
    Principal, Result,
};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, watch};

use crate::Ctx;
use crate::permissions::{GrantChange, Permissions};
use lifecycle::Ending;
use spec::Spec;
use usage::Usage;

pub use machine::Machine;
pub use resolve::{ClusterChoice, ResolvedCluster};
pub use runtimes::{ExecutorRuntimes, RuntimeInfo, Runtimes};
pub(crate) use spec::check_references;
pub use spec::{DEFAULT_RUNTIME, ENGINE_KEY, runtime_for};
pub use usage::ClusterUse;

/// The clusters of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clusters {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    tasks: Tasks,
    permissions: Permissions,
    runtimes: Arc<dyn Runtimes>,
    machine: Machine,
    usage: Usage,
    nudge: Arc<Notify>,
    /// Counts changes of state, for those who wait for one.
    changes: watch::Sender<u64>,
}

/// What makes a cluster.
enum Maker {
    /// Of the API, with its idempotency token.
    Call(Option<String>),
    /// For whom in it; the same one has the same cluster again.
    Run(ClusterOwner),
}

impl Clusters {
    pub(crate) fn new(
        store: Store,
        clock: Clock,
        tasks: Tasks,
        permissions: Permissions,
        runtimes: Arc<dyn Runtimes>,
        root: &Path,
    ) -> Self {
        let nudge = Arc::new(Notify::new());
        let usage = Usage::new(clock.clone(), Arc::clone(&nudge));
        Self {
            inner: Arc::new(Inner {
                store,
                clock,
                tasks,
                permissions,
                runtimes,
                machine: Machine::probe(root),
                usage,
                nudge,
                changes: watch::Sender::new(0),
            }),
        }
    }

    #[must_use]
    pub fn runtimes(&self) -> Vec<RuntimeInfo> {
        self.inner.runtimes.list()
    }

    #[must_use]
    pub fn machine(&self) -> Machine {
        self.inner.machine
    }

    /// The runtime that a stored definition stands for, for people to see.
    #[must_use]
    pub fn runtime_of(&self, cluster: &Cluster) -> Option<String> {
        let version = cluster.settings.get("spark_version")?.as_str()?;
        let conf = cluster.settings.get("spark_conf");
        let engine = conf.and_then(|conf| conf.get(ENGINE_KEY)?.as_str());
        runtime_for(version, engine, &self.runtimes()).ok()
    }

    /// The Spark engine that a task with this choice would have; `None` when that cannot be told.
    pub(crate) async fn engine_for(&self, choice: &ClusterChoice) -> Result<Option<String>> {
        let settings = match choice {
            ClusterChoice::Existing(id) => match self.inner.store.cluster_get(id).await? {
                Some(cluster) => cluster.settings,
                None => return Ok(None),
            },
            ClusterChoice::New(settings) => settings.clone(),
            ClusterChoice::Unnamed => Map::new(),
        };
        let version = settings.get("spark_version").and_then(Value::as_str);
        let conf = settings.get("spark_conf");
        let engine = conf.and_then(|conf| conf.get(ENGINE_KEY)?.as_str());
        let version = version.unwrap_or(DEFAULT_RUNTIME);
        let runtime = runtime_for(version, engine, &self.runtimes());
        Ok(runtime.ok().and_then(|runtime| self.engine_of(&runtime)))
    }

    /// The runtime like this one that has the engine.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when there is none.
    pub fn runtime_with(&self, runtime: &str, engine: &str) -> Result<String> {
        runtime_for(runtime, Some(engine), &self.runtimes())
    }

    /// The Spark engine of a runtime, for people to see.
    #[must_use]
    pub fn engine_of(&self, runtime: &str) -> Option<String> {
        let found = self
            .runtimes()
            .into_iter()
            .find(|info| info.name == runtime);
        found
            .map(|info| info.engine)
            .filter(|engine| !engine.is_empty())
    }

    /// Checks a definition as [`Clusters::create`] would, without making anything: for the
    /// `new_cluster` of jobs.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` that names the field, `NOT_IMPLEMENTED` for what would be lost.
    pub fn check(&self, settings: &Map<String, Value>) -> Result<()> {
        Spec::parse(settings.clone(), &self.runtimes()).map(drop)
    }

    /// Makes a cluster and starts it. `chosen` is an id of the caller's choice.
    ///
    /// # Errors
    /// As [`Clusters::check`]; `RESOURCE_ALREADY_EXISTS` when the chosen id is taken.
    pub async fn create(
        &self,
        ctx: &Ctx,
        chosen: Option<String>,
        idempotency_token: Option<String>,
        settings: Map<String, Value>,
    ) -> Result<ClusterId> {
        let id = match chosen {
            Some(id) => checked_id(id)?,
            None => self.fresh_id(),
        };
        let spec = Spec::parse(settings, &self.runtimes())?;
        let created = self
            .insert(ctx, id, Maker::Call(idempotency_token), spec)
            .await?;
        self.inner.nudge.notify_one();
        Ok(created)
    }

    async fn insert(
        &self,
        ctx: &Ctx,
        id: ClusterId,
        maker: Maker,
        spec: Spec,
    ) -> Result<ClusterId> {
        let (source, idempotency_token, owner) = match maker {
            Maker::Call(token) => (ClusterSource::Api, token, None),
            Maker::Run(owner) => (ClusterSource::Job, None, Some(owner)),
        };
        let now = self.inner.clock.now();
        let details = json!({"user": ctx.user.name, "attributes": spec.settings});
        let cluster = Cluster {
            id,
            settings: spec.settings,
            creator: ctx.user.name.clone(),
            source,
            state: ClusterState::Pending,
            state_message: "Preparing the environment".to_owned(),
            version: 0,
            pinned: false,
            created_at: now,
            started_at: Some(now),
            restarted_at: None,
            terminated_at: None,
            last_used_at: now,
            termination: None,
        };
        let event = lifecycle::event(now, "CREATING", details);
        self.inner
            .store
            .cluster_create(cluster, idempotency_token, owner, event)
            .await
    }

    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when there is none, `PERMISSION_DENIED` for strangers.
    pub async fn get(&self, ctx: &Ctx, id: &ClusterId) -> Result<Cluster> {
        self.permitted(ctx, id, PermissionLevel::CanAttachTo).await
    }

    /// The clusters that the caller may use, newest first.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx) -> Result<Vec<Cluster>> {
        let inner = &self.inner;
        let visible = inner.permissions.visible(ctx, ObjectKind::Cluster).await?;
        let mut clusters = inner.store.cluster_list(&[]).await?;
        if let Some(visible) = visible {
            clusters.retain(|cluster| visible.contains(&cluster.id.0));
        }
        Ok(clusters)
    }

    /// Oldest first.
    ///
    /// # Errors
    /// As [`Clusters::get`].
    pub async fn events(&self, ctx: &Ctx, id: &ClusterId) -> Result<Vec<ClusterEvent>> {
        self.get(ctx, id).await?;
        self.inner.store.cluster_events(id).await
    }

    /// Replaces the definition; a cluster that is up restarts with it.
    ///
    /// # Errors
    /// As [`Clusters::check`] and [`Clusters::get`].
    pub async fn edit(
        &self,
        ctx: &Ctx,
        id: &ClusterId,
        settings: Map<String, Value>,
    ) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        let spec = Spec::parse(settings, &self.runtimes())?;
        self.change(ctx, id, move |cluster, user, now| {
            Ok(Some(lifecycle::edit(cluster, spec.settings, user, now)))
        })
        .await
    }

    /// Changes the definition's fields named in `mask` to their values in `settings`; a named
    /// field without a value is removed. A cluster that is up restarts with it.
    ///
    /// # Errors
    /// As [`Clusters::edit`].
    pub async fn update(
        &self,
        ctx: &Ctx,
        id: &ClusterId,
        mask: Vec<String>,
        settings: Map<String, Value>,
    ) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        let runtimes = self.runtimes();
        self.change(ctx, id, move |cluster, user, now| {
            let mut next = cluster.settings.clone();
            for path in &mask {
                if path == "*" {
                    next = settings.clone();
                } else {
                    let path: Vec<_> = path.split('.').collect();
                    put_path(&mut next, &path, get_path(&settings, &path));
                }
            }
            let spec = Spec::parse(next, &runtimes)?;
            Ok(Some(lifecycle::edit(cluster, spec.settings, user, now)))
        })
        .await
    }

    /// # Errors
    /// `INVALID_STATE` when it is up already; as [`Clusters::get`].
    pub async fn start(&self, ctx: &Ctx, id: &ClusterId) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanRestart).await?;
        self.change(ctx, id, |cluster, user, now| {
            lifecycle::start(cluster, user, now).map(Some)
        })
        .await
    }

    /// # Errors
    /// `INVALID_STATE` when it is not up; as [`Clusters::get`].
    pub async fn restart(&self, ctx: &Ctx, id: &ClusterId) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanRestart).await?;
        self.change(ctx, id, |cluster, user, now| {
            lifecycle::restart(cluster, user, now).map(Some)
        })
        .await
    }

    /// Ends a cluster; its definition stays. Runs under way are not touched.
    ///
    /// # Errors
    /// As [`Clusters::get`].
    pub async fn terminate(&self, ctx: &Ctx, id: &ClusterId) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanRestart).await?;
        self.change(ctx, id, |cluster, user, now| {
            Ok(lifecycle::terminate(cluster, Ending::Request { user }, now))
        })
        .await
    }

    /// Tells that some cluster changed its state.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Whether a cluster runs, and did not begin anew after `since`.
    pub(crate) async fn is_up_since(
        &self,
        id: &ClusterId,
        since: forebay_types::Millis,
    ) -> Result<bool> {
        let Some(cluster) = self.inner.store.cluster_get(id).await? else {
            return Ok(false);
        };
        let began = cluster.started_at.max(cluster.restarted_at);
        Ok(cluster.state == ClusterState::Running && began.is_none_or(|began| began <= since))
    }

    /// Removes a cluster with its definition.
    ///
    /// # Errors
    /// As [`Clusters::get`].
    pub async fn remove(&self, ctx: &Ctx, id: &ClusterId) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        self.inner.store.cluster_remove(id).await?;
        self.inner.changed();
        Ok(())
    }

    /// Notes another number of workers, which has no effect on one machine.
    ///
    /// # Errors
    /// `INVALID_STATE` when it is not running; as [`Clusters::get`].
    pub async fn resize(&self, ctx: &Ctx, id: &ClusterId, size: Map<String, Value>) -> Result<()> {
        self.permitted(ctx, id, PermissionLevel::CanRestart).await?;
        if size.len() != 1 {
            return Err(Error::invalid(
                "Give exactly one of the fields num_workers and autoscale.",
            ));
        }
        let runtimes = self.runtimes();
        self.change(ctx, id, move |cluster, user, now| {
            let mut next = cluster.settings.clone();
            next.remove("num_workers");
            next.remove("autoscale");
            next.extend(size);
            let spec = Spec::parse(next, &runtimes)?;
            lifecycle::resize(cluster, spec.settings, user, now).map(Some)
        })
        .await
    }

    /// Pins or unpins; administrators only.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `INVALID_PARAMETER_VALUE` when there is no such cluster.
    pub async fn pin(&self, ctx: &Ctx, id: &ClusterId, pinned: bool) -> Result<()> {
        ctx.require_admin("pin clusters")?;
        self.change(ctx, id, move |cluster, user, now| {
            let kind = if pinned { "PINNED" } else { "UNPINNED" };
            let changed = cluster.pinned != pinned;
            cluster.pinned = pinned;
            Ok(changed.then(|| lifecycle::event(now, kind, json!({"user": user}))))
        })
        .await
    }

    /// Makes another user the creator, who may manage it from then on; administrators only.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `RESOURCE_DOES_NOT_EXIST` when there is no such user.
    pub async fn change_owner(&self, ctx: &Ctx, id: &ClusterId, owner: String) -> Result<()> {
        ctx.require_admin("change the owner of a cluster")?;
        let inner = &self.inner;
        self.permitted(ctx, id, PermissionLevel::CanManage).await?;
        // First the right, then the name: a call that died between them is repeated.
        let grant = Grant {
            principal: Principal::User(owner.clone()),
            level: PermissionLevel::CanManage,
        };
        let object = ObjectRef::new(ObjectKind::Cluster, id);
        let changed = inner
            .permissions
            .change(ctx, &object, GrantChange::Merge, vec![grant]);
        changed.await?;
        self.change(ctx, id, move |cluster, _, _| {
            cluster.creator = owner;
            Ok(None)
        })
        .await
    }

    /// A run or an attempt ended that may have had a cluster of its own.
    pub(crate) fn owner_ended(&self) {
        self.inner.nudge.notify_one();
    }

    /// The clusters were changed past this service.
    pub(crate) fn look_again(&self) {
        self.inner.changed();
        self.inner.nudge.notify_one();
    }

    /// Counts changes of state.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Existence first: the ids of clusters are no secret, and clients read the wording.
    pub(crate) async fn permitted(
        &self,
        ctx: &Ctx,
        id: &ClusterId,
        wanted: PermissionLevel,
    ) -> Result<Cluster> {
        let found = self.inner.store.cluster_get(id).await?;
        let cluster =
            found.ok_or_else(|| Error::invalid(format!("Cluster {id} does not exist")))?;
        let object = ObjectRef::new(ObjectKind::Cluster, id);
        self.inner.permissions.require(ctx, &object, wanted).await?;
        Ok(cluster)
    }

    async fn change(
        &self,
        ctx: &Ctx,
        id: &ClusterId,
        change: impl FnOnce(&mut Cluster, &str, forebay_types::Millis) -> Result<Option<ClusterEvent>>
        + Send
        + 'static,
    ) -> Result<()> {
        let user = ctx.user.name.clone();
        let now = self.inner.clock.now();
        let changed = self
            .inner
            .store
            .cluster_update(id, None, move |cluster| change(cluster, &user, now));
        changed.await?;
        self.inner.changed();
        self.inner.nudge.notify_one();
        Ok(())
    }

    fn fresh_id(&self) -> ClusterId {
        let now = jiff::Timestamp::from_millisecond(self.inner.clock.now().0).unwrap_or_default();
        let letters: String = std::iter::repeat_with(|| {
            char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[rand::random_range(0..36)])
        })
        .take(8)
        .collect();
        ClusterId(format!("{}-{letters}", now.strftime("%m%d-%H%M%S")))
    }
}

impl Inner {
    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

fn checked_id(id: String) -> Result<ClusterId> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if id.is_empty() || id.len() > 100 || !id.chars().all(plain) {
        return Err(Error::invalid(
            "Invalid value for field 'cluster_id': use 1 to 100 letters, digits, '-' and '_'.",
        ));
    }
    Ok(ClusterId(id))
}

fn get_path(fields: &Map<String, Value>, path: &[&str]) -> Option<Value> {
    let (first, rest) = path.split_first()?;
    match (fields.get(*first)?, rest) {
        (value, []) => Some(value.clone()),
        (Value::Object(below), rest) => get_path(below, rest),
        _ => None,
    }
}

fn put_path(fields: &mut Map<String, Value>, path: &[&str], value: Option<Value>) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        match value {
            Some(value) => fields.insert((*first).to_owned(), value),
            None => fields.remove(*first),
        };
        return;
    }
    let below = fields
        .entry((*first).to_owned())
        .or_insert_with(|| Value::Object(Map::new()));
    if !below.is_object() {
        *below = Value::Object(Map::new());
    }
    if let Value::Object(below) = below {
        put_path(below, rest, value);
    }
}
