//! Installs the libraries of clusters that are up: for real, in a run that has no cells and no token,
//! behind the same walls as any other. What it finds out is what clients see.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use forebay_exec::{
    CallId, CancelReason, Context, Event, Host, HostError, LOCAL_DIR, Library, Limits, Outcome,
    Program, Workload,
};
use forebay_runtime::{TaskKind, Tasks, blocking};
use forebay_store::{ClusterLibrary, LibraryState};
use forebay_types::{AttemptNumber, ClusterId, ClusterState, Error, Result, RunId};
use serde_json::Value;
use tracing::warn;

use super::of_run::FOLDER;
use super::{Inner, Libraries, file_of, parsed};
use crate::Ctx;
use crate::clusters::ResolvedCluster;
use crate::runs::{Code, place};

/// Behind the nudges, for what only time brings about.
const POLL: Duration = Duration::from_secs(60);
/// How long one library may take.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// Of an installer's log, what stays in the messages.
const LOG_BYTES_MAX: usize = 16 << 10;

/// How the names of trials begin.
const TRIAL: &str = "library-";

/// Clusters that a chore works on.
type Busy = Arc<Mutex<HashSet<ClusterId>>>;

/// How it went with a library.
struct Found {
    state: LibraryState,
    messages: Vec<String>,
}

impl Found {
    fn installed() -> Self {
        Self {
            state: LibraryState::Installed,
            messages: Vec::new(),
        }
    }

    fn failed(message: String) -> Self {
        Self {
            state: LibraryState::Failed,
            messages: vec![message],
        }
    }
}

impl Libraries {
    /// Starts the reconciler; it ends when `tasks` stop.
    pub(crate) fn spawn(&self) {
        let inner = Arc::clone(&self.0);
        let tasks = inner.tasks.clone();
        let stop = tasks.stopping();
        let mut clusters = inner.clusters.changes();
        let busy = Busy::default();
        let work = async move {
            inner.remove_trials().await;
            loop {
                // A database that refuses now may do better later, and is logged by then.
                if let Err(error) = inner.reconcile(&inner.tasks, &busy).await {
                    warn!(error = ?error, "libraries of clusters could not be reconciled");
                }
                tokio::select! {
                    () = stop.cancelled() => return Ok::<(), Error>(()),
                    () = inner.nudge.notified() => {}
                    _ = clusters.changed() => {}
                    () = inner.clock.sleep(POLL) => inner.sweep().await,
                }
            }
        };
        tasks.spawn(TaskKind::Reconciler, "libraries", work);
    }
}

impl Inner {
    async fn reconcile(self: &Arc<Self>, tasks: &Tasks, busy: &Busy) -> Result<()> {
        let open = self.store.cluster_libraries(None).await?;
        let waiting: HashSet<ClusterId> = open
            .into_iter()
            .filter(is_open)
            .map(|library| library.cluster)
            .collect();
        for id in waiting {
            if !lock(busy).insert(id.clone()) {
                continue;
            }
            let (inner, busy) = (Arc::clone(self), Arc::clone(busy));
            // Not here: it may take minutes, and other clusters do not wait.
            tasks.spawn(TaskKind::Chore, format!("libraries of {id}"), async move {
                let worked = inner.install_all(&id).await;
                lock(&busy).remove(&id);
                // For what came while the last one was being installed.
                if let Ok(true) = worked {
                    inner.nudge.notify_one();
                }
                worked.map(drop)
            });
        }
        Ok(())
    }

    /// What trials that a crash cut off have left.
    async fn remove_trials(&self) {
        let folder = self.dirs.checkouts.clone();
        let removed = blocking(move || {
            let cannot = |e| Error::internal(format!("cannot read {}", folder.display()), e);
            for entry in std::fs::read_dir(&folder).map_err(cannot)? {
                let entry = entry.map_err(cannot)?;
                if entry.file_name().to_string_lossy().starts_with(TRIAL) {
                    drop(Scratch(entry.path()));
                }
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            warn!(error = ?error, "folders of trials stay for now");
        }
    }

    /// Removes content that nothing points at: no run, none whose output is kept, no cluster and no
    /// library of the workspace.
    async fn sweep(&self) {
        let pointed_at = async |digests| {
            let all = self.store.library_use().await?;
            let on_clusters = all.on_clusters.into_iter().filter_map(|row| row.digest);
            let own = all.libraries.into_iter().map(|library| library.digest);
            let mut wanted = self.store.attempt_files_of(digests).await?;
            wanted.extend(on_clusters.chain(own));
            Ok(wanted)
        };
        if let Err(error) = self.kept.sweep(pointed_at).await {
            warn!(error = ?error, "content of libraries stays for now");
        }
    }

    /// Installs what waits on a cluster, one after the other. Whether there was anything.
    async fn install_all(&self, id: &ClusterId) -> Result<bool> {
        let mut worked = false;
        loop {
            let found = self.store.cluster_get(id).await?;
            let Some(cluster) = found.filter(|cluster| cluster.state == ClusterState::Running)
            else {
                return Ok(worked);
            };
            let rows = self.store.cluster_libraries(Some(id)).await?;
            let Some(next) = rows.iter().find(|row| is_open(row)).cloned() else {
                return Ok(worked);
            };
            let before = rows
                .iter()
                .filter(|row| row.state == LibraryState::Installed);
            let compute = self.clusters.look(cluster)?;
            let done = self
                .install_one(&compute, before.cloned().collect(), next)
                .await?;
            if !done {
                return Ok(false);
            }
            worked = true;
        }
    }

    /// `false` when the server stops before the library is installed; the next one begins anew.
    async fn install_one(
        &self,
        compute: &ResolvedCluster,
        before: Vec<ClusterLibrary>,
        mut next: ClusterLibrary,
    ) -> Result<bool> {
        let user = self.store.user_get(next.user).await?;
        let user = user.filter(|user| user.active);
        let Some(ctx) = user.map(Ctx::new) else {
            let gone = "The user who asked for it is not active any more; install it again.";
            return self.note(next, Found::failed(gone.to_owned())).await;
        };
        let code = Code {
            workspace: self.workspace.clone(),
            ctx,
            checkout: None,
            past: None,
        };
        let mut library = match parsed(&next.library) {
            Ok(library) => library,
            Err(e) => return self.note(next, Found::failed(e.message)).await,
        };
        let mut digest = None;
        let held = self.kept.hold().await;
        if let Some((kind, path)) = file_of(&mut library) {
            match self.take(&code, kind, path).await {
                Ok(taken) => digest = Some(taken),
                Err(e) => return self.note(next, Found::failed(e.message)).await,
            }
        }
        let state = LibraryState::Installing;
        let store = &self.store;
        let begun = store.cluster_library_set(next.clone(), state, Vec::new(), digest.clone());
        if !begun.await? {
            // It was changed meanwhile; look again.
            return Ok(true);
        }
        drop(held);
        next.version += 1;
        next.digest = digest;
        let java = self.runs_java(&compute.runtime);
        if library.is_java() && !java {
            return self.note(next, skipped()).await;
        }
        if matches!(library, Library::Jar { .. }) {
            return self.note(next, Found::installed()).await;
        }
        let found = tokio::select! {
            found = self.try_out(&code, compute, &before, &next) => found,
            () = self.tasks.stopping().cancelled_owned() => return Ok(false),
        };
        let found = found.unwrap_or_else(|e| Found::failed(e.message));
        self.note(next, found).await
    }

    async fn note(&self, seen: ClusterLibrary, found: Found) -> Result<bool> {
        let digest = seen.digest.clone();
        let noted = self
            .store
            .cluster_library_set(seen, found.state, found.messages, digest);
        noted.await?;
        Ok(true)
    }

    /// Installs it with those that are there, as a run would.
    async fn try_out(
        &self,
        code: &Code,
        compute: &ResolvedCluster,
        before: &[ClusterLibrary],
        next: &ClusterLibrary,
    ) -> Result<Found> {
        let closed = |e| Error::internal("trials of libraries have stopped", e);
        let _one_of_few = self.trials.acquire().await.map_err(closed)?;
        let name = format!("{TRIAL}{:016x}", rand::random::<u64>());
        let own = Scratch(self.dirs.checkouts.join(&name));
        let mut libraries = Vec::new();
        for row in before.iter().chain([next]) {
            let mut library = parsed(&row.library)?;
            let folder = own.0.join(FOLDER);
            let digest = row.digest.clone();
            self.placed(code, &mut library, digest, &folder).await?;
            if !matches!(library, Library::Jar { .. }) {
                libraries.push(library);
            }
        }
        let private = own.0.is_dir().then(|| name.clone());
        let workload = self
            .workload(code, compute, libraries, private, &name)
            .await?;
        let spool_dir = workload.spool_dir.clone();
        let executor = &self.setup.executor.0;
        let started = executor.start(workload, Arc::new(NoHost)).await;
        let mut execution = match started {
            Ok(execution) => execution,
            Err(e) => return Ok(Found::failed(format!("It could not be tried out: {e}."))),
        };
        let canceler = execution.canceler();
        let mut log = String::new();
        let too_long = self.clock.sleep(LONGEST);
        tokio::pin!(too_long);
        let mut late = false;
        loop {
            tokio::select! {
                event = execution.next_event() => match event {
                    Some(Event::Stream { text, .. }) => log.push_str(&text),
                    Some(_) => {}
                    None => break,
                },
                () = &mut too_long, if !late => {
                    late = true;
                    canceler.cancel(CancelReason::TimedOut);
                }
            }
        }
        let ended = execution.finish().await;
        executor.forget(&spool_dir);
        drop(Scratch(spool_dir));
        Ok(found(ended.outcome, &log))
    }

    async fn workload(
        &self,
        code: &Code,
        compute: &ResolvedCluster,
        libraries: Vec<Library>,
        private: Option<String>,
        name: &str,
    ) -> Result<Workload> {
        let (config, server) = (&self.setup.config, &self.setup.server.limits);
        let place = place(
            &self.workspace,
            &self.dirs,
            config,
            &code.ctx,
            &compute.runtime,
        );
        // Without secrets: what is installed may be anybody's code.
        let plain = |(_, value): &(&String, &String)| !value.contains("{{");
        let env = compute.env.iter().filter(plain);
        let env: BTreeMap<_, _> = env.map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Workload {
            run_id: RunId(i64::from(rand::random::<u32>())),
            attempt: AttemptNumber(0),
            place: place.await?,
            private,
            program: Program::Notebook {
                path: "/library".to_owned(),
                cells: Vec::new(),
                parameters: BTreeMap::new(),
                wants_data: false,
            },
            libraries,
            env,
            working_dir: LOCAL_DIR.to_owned(),
            python_path: Vec::new(),
            context: Context::default(),
            limits: Limits {
                memory_bytes: compute
                    .memory_bytes
                    .into_iter()
                    .chain([server.run_memory_bytes])
                    .min(),
                pids_max: u32::try_from(server.run_processes_max).ok(),
                ..Limits::default()
            },
            spark_conf: BTreeMap::new(),
            secrets: Vec::new(),
            init_scripts: Vec::new(),
            preload: true,
            spool_dir: self.dirs.staging.join(name),
        })
    }
}

fn skipped() -> Found {
    Found {
        state: LibraryState::Skipped,
        messages: vec![
            "The engine of this cluster runs no Java: JAR tasks get this library, notebooks and \
             scripts do not. With \"forebay.engine\": \"apache\" in its spark_conf they do."
                .to_owned(),
        ],
    }
}

fn is_open(library: &ClusterLibrary) -> bool {
    matches!(
        library.state,
        LibraryState::Pending | LibraryState::Installing
    )
}

fn found(outcome: Outcome, log: &str) -> Found {
    let message = match outcome {
        Outcome::Succeeded { .. } => return Found::installed(),
        // Of the installer itself, with its log.
        Outcome::Failed { message, .. } => return Found::failed(message),
        Outcome::Canceled => "It was cancelled.".to_owned(),
        Outcome::TimedOut => format!(
            "It was not installed after {} minutes.",
            LONGEST.as_secs() / 60
        ),
        Outcome::OutOfMemory { .. } => "The installer ran out of memory.".to_owned(),
        Outcome::Crashed { message, .. } | Outcome::Lost { message } => message,
        Outcome::CpuLimit { .. } | Outcome::OutputLimit { .. } => {
            "The installer went beyond its limits.".to_owned()
        }
    };
    let from = log.len().saturating_sub(LOG_BYTES_MAX);
    let from = (from..=log.len()).find(|at| log.is_char_boundary(*at));
    let tail = from.and_then(|from| log.get(from..)).unwrap_or_default();
    Found::failed(format!("{message}\n{tail}").trim_end().to_owned())
}

fn lock(busy: &Busy) -> std::sync::MutexGuard<'_, HashSet<ClusterId>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder of one trial; gone with it.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now goes at the next start.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A trial may ask for nothing.
struct NoHost;

#[async_trait]
impl Host for NoHost {
    async fn call(
        &self,
        _: CallId,
        method: &str,
        _: Value,
    ) -> std::result::Result<Value, HostError> {
        Err(HostError::unknown_method(method))
    }
}
