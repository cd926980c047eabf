//! Libraries: what is on clusters, and what runs get of it. Files that a library names are kept by
//! their content, so a run goes on with what it started with.

mod archive;
mod catalog;
mod install;
mod kept;
mod users;
mod versions;

pub use catalog::Upload;
pub use versions::{
    ClusterUser, JobUser, MoveRequest, Moved, MovedCluster, MovedJob, OneVersion, Versions,
};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_exec::Library;
use forebay_runtime::{Clock, Tasks};
use forebay_store::{ClusterLibrary, LibraryState, Store};
use forebay_types::{ClusterId, DbfsPath, Error, PermissionLevel, Result, RunId, WorkspacePath};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore};

use crate::Ctx;
use crate::access::CHECKOUTS;
use crate::clusters::{Clusters, ResolvedCluster};
use crate::dbfs::Dbfs;
use crate::jobs::{LibrarySpec, check_library};
use crate::permissions::Permissions;
use crate::runs::{Code, library};
use crate::services::{WorkspaceDirs, WorkspaceSetup};
use crate::workspace::Workspace;
use archive::FileKind;
use kept::Kept;

/// In a run's folder among the checkouts: the files of its libraries.
const FOLDER: &str = ".libraries";

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

/// What a run installs before it begins.
#[derive(Debug, Default)]
pub(crate) struct RunLibraries {
    pub(crate) list: Vec<Library>,
    /// The name of the run's folder among the checkouts, if it has one.
    pub(crate) folder: Option<String>,
    pub(crate) files: Vec<RunFile>,
}

/// A file among the libraries of a run.
#[derive(Debug)]
pub(crate) struct RunFile {
    /// Where it was found, as the run would see it there.
    pub(crate) path: String,
    /// Where its bytes are kept for the run.
    pub(crate) kept: PathBuf,
    /// Whether the cluster installed it, and keeps its bytes whatever becomes of the path.
    pub(crate) is_installed: bool,
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

    /// What a run installs: what is on its cluster, then `own`. Files are taken as they are now, and
    /// stay so for this run.
    ///
    /// # Errors
    /// When a file is not there, may not be read, or is not what it has to be.
    pub(crate) async fn for_run(
        &self,
        code: &Code,
        run: RunId,
        compute: &ResolvedCluster,
        own: Vec<Library>,
        java: bool,
    ) -> Result<RunLibraries> {
        let inner = &self.0;
        let java = java || inner.runs_java(&compute.runtime);
        let mut wanted = Vec::new();
        if let Some(cluster) = &compute.cluster_id {
            for row in inner.store.cluster_libraries(Some(cluster)).await? {
                if row.state == LibraryState::Failed {
                    continue;
                }
                let library = parsed(&row.library)?;
                if java || !library.is_java() {
                    wanted.push((library, row.digest));
                }
            }
        }
        for library in own {
            if !wanted.iter().any(|(there, _)| *there == library) {
                wanted.push((library, None));
            }
        }
        let checkout = code.checkout.as_ref().map(|own| own.run);
        let name = checkout.unwrap_or(run).to_string();
        let folder = inner.dirs.checkouts.join(&name).join(FOLDER);
        let mut files = Vec::new();
        let mut list = Vec::with_capacity(wanted.len());
        for (mut library, digest) in wanted {
            if let Some((kind, path)) = file_of(&mut library) {
                let (found, is_installed) = (path.clone(), digest.is_some());
                *path = inner.placed(code, kind, path, digest, &folder).await?;
                // Below the folder it has the same name as in the run's own.
                let own = path.rsplit_once(&format!("/{FOLDER}/"));
                files.push(RunFile {
                    kept: folder.join(own.map_or("", |(_, name)| name)),
                    path: found,
                    is_installed,
                });
            }
            list.push(library);
        }
        let folder = (!files.is_empty() || checkout.is_some()).then_some(name);
        Ok(RunLibraries {
            list,
            folder,
            files,
        })
    }
}

impl Inner {
    /// Gives a file its place in the run's folder, and the path at which the run sees it.
    async fn placed(
        &self,
        code: &Code,
        kind: FileKind,
        path: &str,
        digest: Option<String>,
        folder: &Path,
    ) -> Result<String> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let key: String = hex(&Sha256::digest(path)).chars().take(16).collect();
        let place = folder.join(&key);
        let seen = format!("/Workspace{CHECKOUTS}/{FOLDER}/{key}/{name}");
        // An earlier attempt of the run, or another task, has it already.
        if place.join(name).is_file() {
            return Ok(seen);
        }
        let _held = self.kept.hold().await;
        let digest = match digest {
            Some(digest) if self.kept.path(&digest).is_file() => digest,
            _ => self.take(code, kind, path).await?,
        };
        self.kept.place(&digest, place, name).await?;
        Ok(seen)
    }

    /// Takes a file in, as the code's user may, and gives its digest. The caller holds the gate.
    async fn take(&self, code: &Code, kind: FileKind, path: &str) -> Result<String> {
        // A library of the workspace is its row; the file in DBFS is for people to see.
        if let Some(file) = path.strip_prefix("/dbfs/FileStore/jars/")
            && let Some(library) = self.store.library_by_file(file).await?
        {
            return Ok(library.digest);
        }
        let shown = shown(path);
        let named = |e: Error| Error::new(e.code, format!("Library {shown}: {}", e.message));
        let blob = match path.strip_prefix("/Workspace") {
            Some(path) => code
                .read(&WorkspacePath::parse(path)?)
                .await
                .map(|(_, blob)| blob),
            None => {
                let path = path.strip_prefix("/dbfs").unwrap_or(path);
                self.dbfs.open_file(&DbfsPath::parse(path)?).await
            }
        };
        let digest = self.kept.keep(blob.map_err(named)?, &shown).await?;
        let (content, name) = (self.kept.path(&digest), path.rsplit('/').next());
        let name = name.unwrap_or_default().to_owned();
        // What was taken is looked at: the file itself may be another by now.
        forebay_runtime::blocking(move || {
            let file = std::fs::File::open(&content)
                .map_err(|e| Error::internal(format!("cannot read {shown}"), e))?;
            archive::check(kind, file, &name, &shown)
        })
        .await?;
        Ok(digest)
    }

    fn runs_java(&self, runtime: &str) -> bool {
        self.clusters.engine_of(runtime).as_deref() == Some("apache")
    }
}

/// Of a library that is a file whose bytes a run keeps: its kind, and its path in the sandbox.
fn file_of(library: &mut Library) -> Option<(FileKind, &mut String)> {
    match library {
        Library::Jar { path } => Some((FileKind::Jar, path)),
        Library::Whl { path } => Some((FileKind::Wheel, path)),
        Library::Egg { path } => Some((FileKind::Egg, path)),
        _ => None,
    }
}

/// As the API writes it.
fn shown(path: &str) -> String {
    match path.strip_prefix("/dbfs/") {
        Some(rest) => format!("dbfs:/{rest}"),
        None => path.to_owned(),
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
