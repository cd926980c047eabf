use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use forebay_config::{Config, WorkspaceConfig, git_environment};
use forebay_exec::Executor;
use forebay_git::{Git, GitSetup};
use forebay_runtime::{Clock, TaskKind, Tasks, blocking};
use forebay_store::{ServerSlots, Store};
use forebay_types::{Error, Result};

use crate::clusters::{Clusters, ExecutorRuntimes, Runtimes};
use crate::contexts::Contexts;
use crate::cost::Costs;
use crate::dbfs::Dbfs;
use crate::files::Files;
use crate::git_credentials::GitCredentials;
use crate::identity::Identity;
use crate::jobs::{Jobs, of_config};
use crate::libraries::{self, Libraries};
use crate::notifications::{self, Notifications};
use crate::permissions::Permissions;
use crate::rate::RateLimit;
use crate::repos::{self, Repos};
use crate::retention::Retention;
use crate::runs::{self, Runs};
use crate::secrets::Secrets;
use crate::sign_in::SignIn;
use crate::tokens::Tokens;
use crate::triggers::{self, Triggers, Wake, Watch};
use crate::turns::Turns;
use crate::users::Users;
use crate::vault::Vault;
use crate::workspace::{GitFolders, Workspace};

/// The folders of one workspace. Created on open; nothing outside them belongs to it.
#[derive(Debug, Clone)]
pub struct WorkspaceDirs {
    pub root: PathBuf,
    /// The workspace tree as real files: what runs see as `/Workspace`.
    pub workspace: PathBuf,
    /// What runs see as `/dbfs`.
    pub dbfs: PathBuf,
    /// What runs see as `/Volumes`.
    pub volumes: PathBuf,
    /// One folder per attempt: its output events and private files.
    pub runs: PathBuf,
    /// The checkouts of runs whose source is Git, one folder per run.
    pub checkouts: PathBuf,
    /// The content of library files by their SHA-256; what a run or a row points at stays.
    pub libraries: PathBuf,
    /// Half-made files before their rename; on the same file system as the rest, emptied at start.
    pub staging: PathBuf,
}

impl WorkspaceDirs {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let at = |name: &str| root.join(name);
        let dirs = Self {
            root: root.to_owned(),
            workspace: at("workspace"),
            dbfs: at("dbfs"),
            volumes: at("volumes"),
            runs: at("runs"),
            checkouts: at("checkouts"),
            libraries: at("libraries"),
            staging: at("staging"),
        };
        let cannot =
            |path: &Path, e| Error::internal(format!("cannot prepare {}", path.display()), e);
        let trash = dirs.trash();
        std::fs::create_dir_all(&trash).map_err(|e| cannot(&trash, e))?;
        // Moved away in one step: a program that a crash left behind may still write in it.
        let old = trash.join(format!("{:032x}", rand::random::<u128>()));
        match std::fs::rename(&dirs.staging, &old) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot(&dirs.staging, e));
            }
            _ => {}
        }
        let tree = ["Users", "Shared", "Repos"].map(|name| dirs.workspace.join(name));
        let dbfs = ["FileStore", "mnt", "tmp"].map(|name| dirs.dbfs.join(name));
        let plain = [
            &dirs.volumes,
            &dirs.runs,
            &dirs.checkouts,
            &dirs.libraries,
            &dirs.staging,
        ];
        for path in plain.into_iter().chain(&tree).chain(&dbfs) {
            std::fs::create_dir_all(path).map_err(|e| cannot(path, e))?;
        }
        Ok(dirs)
    }

    /// What was half-made at the last stop, on its way out.
    fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Deletes what can be deleted by now; the rest goes at the next start.
    pub(crate) fn empty_trash(&self, tasks: &Tasks) {
        let trash = self.trash();
        let empty = blocking(move || {
            let cannot = |e| Error::internal(format!("cannot empty {}", trash.display()), e);
            for entry in std::fs::read_dir(&trash).map_err(cannot)? {
                let path = entry.map_err(cannot)?.path();
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(%error, "could not delete all of {}", path.display());
                }
            }
            Ok(())
        });
        tasks.spawn(TaskKind::Chore, "empty the trash", empty);
    }
}

/// The executor behind a name that can be shown.
#[derive(Clone)]
pub struct ExecutorHandle(pub Arc<dyn Executor>);

impl std::fmt::Debug for ExecutorHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExecutorHandle({})", self.0.isolation().level)
    }
}

/// What a workspace is built from.
#[derive(Debug, Clone)]
pub struct WorkspaceSetup {
    pub config: WorkspaceConfig,
    /// The server-wide configuration, for limits and paths shared by workspaces.
    pub server: Config,
    /// `<data>/<workspace name>`.
    pub root: PathBuf,
    /// The address to print in links, without a trailing slash.
    pub public_url: String,
    pub clock: Clock,
    pub tasks: Tasks,
    /// What prepares the environments of clusters; the executor, unless a test puts another here.
    pub runtimes: Option<Arc<dyn Runtimes>>,
    /// Shared by the workspaces of one server; runs of different workspaces never share a process.
    pub executor: ExecutorHandle,
    /// Shared by the workspaces of one server, all of which it knows by name.
    pub slots: ServerSlots,
}

/// The services of one workspace: small handles, each made from what it needs.
#[derive(Debug)]
pub struct Services {
    pub setup: WorkspaceSetup,
    pub dirs: WorkspaceDirs,
    pub store: Store,
    pub identity: Identity,
    pub tokens: Tokens,
    pub permissions: Permissions,
    pub clusters: Clusters,
    pub libraries: Libraries,
    pub users: Users,
    pub git_credentials: GitCredentials,
    pub repos: Repos,
    pub secrets: Secrets,
    pub workspace: Workspace,
    pub dbfs: Dbfs,
    pub files: Files,
    pub jobs: Jobs,
    pub runs: Runs,
    pub contexts: Contexts,
    pub triggers: Triggers,
    pub retention: Retention,
    pub costs: Costs,
    pub notifications: Notifications,
    pub sign_in: SignIn,
}

impl Services {
    /// Opens the workspace's folders and database and wires its services.
    ///
    /// # Errors
    /// When a folder or the database cannot be opened.
    pub async fn open(setup: WorkspaceSetup) -> Result<Self> {
        let dirs = WorkspaceDirs::open(&setup.root)?;
        dirs.empty_trash(&setup.tasks);
        let store = Store::open(&dirs.root.join("forebay.db"))?;
        let identity = Identity::open(store.clone(), setup.clock.clone()).await?;
        let vault = Vault::open(&dirs.root, &store).await?;
        let tokens = Tokens::new(
            store.clone(),
            setup.clock.clone(),
            &setup.server.limits,
            vault.derive("tokens of runs"),
        );
        let users = Users::new(store.clone(), setup.clock.clone());
        let secrets = Secrets::new(store.clone(), setup.clock.clone(), vault.clone());
        let (workspace, git_credentials, repos) =
            open_workspace(&setup, &dirs, &store, &vault).await?;
        let permissions = Permissions::new(store.clone());
        let runtimes = setup.runtimes.clone().unwrap_or_else(|| {
            let executor = Arc::clone(&setup.executor.0);
            let mounts = runs::mounts(&dirs, &setup.config, None);
            let name = setup.config.name.clone();
            let rules = setup.server.runtimes.clone();
            Arc::new(ExecutorRuntimes::new(executor, name, mounts, rules))
        });
        let clusters = Clusters::new(
            store.clone(),
            setup.clock.clone(),
            setup.tasks.clone(),
            permissions.clone(),
            runtimes,
            &dirs.root,
        );
        clusters.spawn();
        let dbfs = Dbfs::open(&dirs, &setup.config.mounts, setup.clock.clone())?;
        let files = Files::open(&dirs, workspace.clone(), setup.clock.clone())?;
        sweep_uploads(&setup, dbfs.clone(), files.clone());
        let libraries = Libraries::new(libraries::Parts {
            setup: setup.clone(),
            dirs: dirs.clone(),
            store: store.clone(),
            clusters: clusters.clone(),
            workspace: workspace.clone(),
            dbfs: dbfs.clone(),
        });
        libraries.restore().await;
        libraries.spawn();
        let slots = setup.slots.of(&setup.config.name).ok_or_else(|| {
            Error::internal(
                "the server has no slots for this workspace",
                "a fault of its setup",
            )
        })?;
        let wake = Wake::default();
        let limits = &setup.server.limits;
        let watch = Watch::new(dbfs.clone(), wake.clone(), limits.trigger_files_max);
        let clock = setup.clock.clone();
        let jobs = Jobs::new(store.clone(), clock, permissions.clone(), watch.clone())
            .with_smtp(setup.server.smtp.is_some())
            .with_ceiling(of_config(&setup.config.budget.attempt_max));
        let checkouts =
            runs::Checkouts::new(store.clone(), repos.clone(), workspace.clone(), &dirs);
        checkouts.sweep().await?;
        let runs = Runs::new(runs::Inner {
            store: store.clone(),
            clock: setup.clock.clone(),
            tasks: setup.tasks.clone(),
            setup: setup.clone(),
            dirs: dirs.clone(),
            workspace: workspace.clone(),
            clusters: clusters.clone(),
            libraries: libraries.clone(),
            executor: Arc::clone(&setup.executor.0),
            jobs: jobs.clone(),
            secrets: secrets.clone(),
            tokens: tokens.clone(),
            checkouts,
            workspace_id: identity.workspace_id,
            slots,
            creations: RateLimit::per_hour(setup.server.limits.runs_per_hour_max),
            live: runs::LiveAttempts::default(),
            containers: runs::Containers::default(),
            definitions: runs::Definitions::default(),
            tables: runs::Tables::default(),
            wake: tokio::sync::Notify::new(),
            commands: tokio::sync::watch::Sender::new(0),
            triggers: wake,
            claiming: tokio::sync::RwLock::default(),
        });
        let contexts = Contexts {
            store: store.clone(),
            clock: setup.clock.clone(),
            clusters: clusters.clone(),
            runs: runs.clone(),
        };
        let triggers = Triggers::new(
            triggers::Inner {
                store: store.clone(),
                clock: setup.clock.clone(),
                dbfs: dbfs.clone(),
                jobs: jobs.clone(),
                runs: runs.clone(),
                watch,
                poll_ms: i64::from(setup.server.limits.trigger_poll_seconds) * 1000,
                last_look: AtomicI64::new(i64::MAX),
            },
            &setup.tasks,
        );
        let retention = Retention::new(
            store.clone(),
            setup.clock.clone(),
            setup.tasks.clone(),
            dirs.clone(),
            setup.config.retention.clone(),
        );
        retention.spawn();
        let notifications = Notifications::new(notifications::Parts {
            store: store.clone(),
            clock: setup.clock.clone(),
            tasks: setup.tasks.clone(),
            vault,
            runs: runs.clone(),
            workspace_id: identity.workspace_id,
            public_url: setup.public_url.clone(),
            config: setup.server.notifications.clone(),
            smtp: setup.server.smtp.clone(),
        })?;
        notifications.spawn();
        let costs = Costs::new(store.clone(), setup.clock.clone());
        let sign_in = SignIn::new(setup.clock.clone());
        Ok(Self {
            notifications,
            retention,
            costs,
            sign_in,
            setup,
            dirs,
            store,
            identity,
            tokens,
            permissions,
            clusters,
            libraries,
            users,
            git_credentials,
            repos,
            secrets,
            workspace,
            dbfs,
            files,
            jobs,
            runs,
            contexts,
            triggers,
        })
    }
}

const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Gives back the disk that uploads hold which nobody continues.
fn sweep_uploads(setup: &WorkspaceSetup, dbfs: Dbfs, files: Files) {
    let (clock, stop) = (setup.clock.clone(), setup.tasks.stopping());
    setup
        .tasks
        .spawn(TaskKind::Reconciler, "idle uploads", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok::<(), Error>(()),
                    () = clock.sleep(SWEEP_EVERY) => {}
                }
                dbfs.sweep();
                files.sweep();
            }
        });
}

/// Opens the workspace tree with its Git folders, mended after a crash.
async fn open_workspace(
    setup: &WorkspaceSetup,
    dirs: &WorkspaceDirs,
    store: &Store,
    vault: &Vault,
) -> Result<(Workspace, GitCredentials, Repos)> {
    let git = open_git(setup, &dirs.root).await?;
    let folders = GitFolders::open(store.clone(), git.clone(), &dirs.root)?;
    let workspace = Workspace::open(dirs, store.clone(), folders.clone())?;
    let credentials = GitCredentials::new(store.clone(), vault.clone());
    let repos = Repos::new(repos::Inner {
        store: store.clone(),
        clock: setup.clock.clone(),
        tasks: setup.tasks.clone(),
        git,
        folders,
        credentials: credentials.clone(),
        workspace: workspace.clone(),
        turns: Turns::default(),
    });
    repos.repair().await?;
    Ok((workspace, credentials, repos))
}

/// How many mirrors of repositories survive a start; they only save time.
const MIRRORS_KEPT: usize = 64;

async fn open_git(setup: &WorkspaceSetup, root: &Path) -> Result<Git> {
    let setup = GitSetup {
        home: root.join("git"),
        roots: setup.server.repo_roots.clone(),
        environment: git_environment(),
    };
    blocking(move || {
        let git = Git::open(setup)?;
        git.mirrors_trim(MIRRORS_KEPT)?;
        Ok(git)
    })
    .await
}
