//! Libraries: what is on clusters, and what runs get of it. Files that a library names are kept by
//! their content, so a run goes on with what it started with.

mod archive;
mod catalog;
mod install;
mod kept;
mod of_run;
mod requirements;
mod users;
mod versions;

pub use catalog::Upload;
pub(crate) use kept::digest_of;
pub(crate) use of_run::{RunFile, RunLibraries};
pub use versions::{
    ClusterUser, JobUser, MoveRequest, Moved, MovedCluster, MovedJob, OneVersion, Versions,
};

use std::collections::BTreeMap;
use std::sync::Arc;

use forebay_exec::Library;
use forebay_runtime::{Clock, Tasks};
use forebay_store::{ClusterLibrary, Store};
use forebay_types::{ClusterId, Error, PermissionLevel, Result};
use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore};

use crate::Ctx;
use crate::clusters::Clusters;
use crate::dbfs::Dbfs;
use crate::jobs::{LibrarySpec, check_library};
use crate::permissions::Permissions;
use crate::runs::library;
use crate::services::{WorkspaceDirs, WorkspaceSetup};
use crate::workspace::Workspace;
use archive::FileKind;
use kept::Kept;

const TRIALS_MAX: usize = 2;

/// The libraries of one workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Libraries(Arc<Inner>);

/// What the service is made from.
pub(crate) struct Parts {
    pub(crate) setup: WorkspaceSetup,
    pub(crate) dirs: WorkspaceDirs,
    pub(crate) store: Store,
    pub(crate) clusters: Clusters,
    pub(crate) workspace: Workspace,
    pub(crate) dbfs: Dbfs,
}

#[derive(Debug)]
struct Inner {
    setup: WorkspaceSetup,
    dirs: WorkspaceDirs,
    store: Store,
    clusters: Clusters,
    workspace: Workspace,
    dbfs: Dbfs,
    permissions: Permissions,
    kept: Kept,
    clock: Clock,
    tasks: Tasks,
    nudge: Notify,
    /// How many trials go on at once: they have no slots of runs.
    trials: Semaphore,
}

/// What becomes of libraries on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Install,
    Uninstall,
}

impl Libraries {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            setup,
            dirs,
            store,
            clusters,
            workspace,
            dbfs,
        } = parts;
        let clock = setup.clock.clone();
        Self(Arc::new(Inner {
            permissions: Permissions::new(store.clone()),
            kept: Kept::new(&dirs, clock.clone()),
            clock,
            tasks: setup.tasks.clone(),
            setup,
            dirs,
            store,
            clusters,
            workspace,
            dbfs,
            nudge: Notify::new(),
            trials: Semaphore::new(TRIALS_MAX),
        }))
    }

    /// Puts libraries on a cluster, which installs them while it is up, or takes them from it: where
    /// runs have them already, when it starts again.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` that names the field; `PERMISSION_DENIED` without `CAN_MANAGE`.
    pub async fn change(
        &self,
        ctx: &Ctx,
        id: &ClusterId,
        change: Change,
        libraries: Vec<Value>,
    ) -> Result<()> {
        let libraries = canonical(libraries)?;
        let inner = &self.0;
        inner
            .clusters
            .permitted(ctx, id, PermissionLevel::CanManage)
            .await?;
        let store = &inner.store;
        match change {
            Change::Install => {
                let user = ctx.user.id;
                store.cluster_library_install(id, libraries, user).await?;
                inner.nudge.notify_one();
                Ok(())
            }
            Change::Uninstall => store.cluster_library_uninstall(id, libraries).await,
        }
    }

    /// The libraries of a cluster, in order.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when there is none; `PERMISSION_DENIED` for strangers.
    pub async fn of_cluster(&self, ctx: &Ctx, id: &ClusterId) -> Result<Vec<ClusterLibrary>> {
        self.0.clusters.get(ctx, id).await?;
        self.0.store.cluster_libraries(Some(id)).await
    }

    /// The libraries of the clusters that the caller may use and that have some.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn of_clusters(&self, ctx: &Ctx) -> Result<BTreeMap<ClusterId, Vec<ClusterLibrary>>> {
        let visible = self.0.clusters.list(ctx).await?;
        let mut found: BTreeMap<ClusterId, Vec<ClusterLibrary>> = BTreeMap::new();
        for library in self.0.store.cluster_libraries(None).await? {
            if visible.iter().any(|cluster| cluster.id == library.cluster) {
                found
                    .entry(library.cluster.clone())
                    .or_default()
                    .push(library);
            }
        }
        Ok(found)
    }
}

/// Of a library that is a file whose bytes a run keeps: its kind, and its path in the sandbox.
fn file_of(library: &mut Library) -> Option<(FileKind, &mut String)> {
    match library {
        Library::Jar { path } => Some((FileKind::Jar, path)),
        Library::Whl { path } => Some((FileKind::Wheel, path)),
        Library::Egg { path } => Some((FileKind::Egg, path)),
        Library::Requirements { path } => Some((FileKind::Requirements, path)),
        _ => None,
    }
}

/// Each library as JSON with sorted keys and without what says nothing.
fn canonical(libraries: Vec<Value>) -> Result<Vec<String>> {
    if libraries.is_empty() {
        return Err(Error::invalid("Missing required field: libraries"));
    }
    let texts = libraries.into_iter().map(|library| {
        let library = sorted(library);
        check_library(&library, "")?;
        let text = library.to_string();
        parsed(&text)?;
        Ok(text)
    });
    texts.collect()
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let in_order: BTreeMap<_, _> = fields.into_iter().collect();
            let kept = in_order.into_iter().filter(|(_, value)| {
                !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
            });
            let fields: Map<_, _> = kept.map(|(key, value)| (key, sorted(value))).collect();
            Value::Object(fields)
        }
        other => other,
    }
}

/// A stored library as the executor has it.
fn parsed(text: &str) -> Result<Library> {
    let spec: LibrarySpec = serde_json::from_str(text).map_err(|e| {
        Error::invalid(format!("Invalid value for field 'libraries': {text}: {e}."))
    })?;
    library(&spec)
}
