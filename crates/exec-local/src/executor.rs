//! From a workload to a run: environment, parent, descriptors, request.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use forebay_exec::{
    Canceler, Execution, Executor, Host, Isolation, IsolationLevel, LOCAL_DIR, Place, Prepared,
    Program, RuntimeInfo, StartError, Workload,
};
use forebay_runtime::Clock;
use futures_util::stream::FuturesUnordered;
use nix::fcntl::OFlag;
use nix::sys::socket::{MsgFlags, recv};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::OnceCell;

use crate::cgroup::Cgroups;
use crate::config::LocalConfig;
use crate::driver;
use crate::environment::{Environment, Environments, RUNTIMES, Runtime};
use crate::frame::{self, Decoder};
use crate::group::Groups;
use crate::habits::Habits;
use crate::java;
use crate::job::home;
use crate::output::Output;
use crate::owner;
use crate::packages::Packages;
use crate::run::{Ends, LocalRun, State};
use crate::sandbox;
use crate::seat::Seat;
use crate::seccomp;
use crate::tools;
use crate::zygote::{Parent, ParentSpec, Warmth, nonblocking, seqpacket_pair, watch};

/// Runs programs as child processes of this one.
pub struct LocalExecutor {
    pub(crate) config: LocalConfig,
    driver: PathBuf,
    pub(crate) isolation: Isolation,
    pub(crate) groups: Groups,
    pub(crate) seccomp: Option<String>,
    environments: Environments,
    uv: OnceCell<Option<PathBuf>>,
    warm: Mutex<HashMap<Key, Warm>>,
    habits: Habits,
    packages: Arc<Packages>,
    java: java::Waiting,
    numbers: AtomicU64,
    stopping: AtomicBool,
}

impl fmt::Debug for LocalExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalExecutor")
            .field("data_dir", &self.config.data_dir)
            .field("isolation", &self.isolation)
            .finish_non_exhaustive()
    }
}

/// Runs share a parent when they share all of this.
type Key = (Place, String, Warmth);

#[derive(Debug)]
struct Warm {
    slot: Slot,
    used: Instant,
}

/// The parent of a run, and the one that will have the next.
struct Parents {
    own: Arc<Parent>,
    warm: Option<Arc<Parent>>,
}

/// Locked while a parent is started, so that side by side callers wait for one start and callers
/// of other places for none.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Parent>>>>;

impl Warm {
    /// Whether its parent has ended, for having been idle or otherwise.
    fn is_over(&self) -> bool {
        let slot = self.slot.try_lock();
        slot.is_ok_and(|slot| slot.as_ref().is_some_and(|parent| !parent.is_usable()))
    }
}

/// For a parent to be executed, or a run to be forked by a parent of its own. A machine that takes
/// longer hangs.
const START_MAX: Duration = Duration::from_secs(60);

impl LocalExecutor {
    /// Probes the machine and prepares the data folder. Nothing is downloaded.
    ///
    /// # Errors
    /// When the data folder cannot be written, or lies where every program may read.
    pub async fn open(config: LocalConfig) -> io::Result<Self> {
        std::fs::create_dir_all(config.data_dir.join("root"))?;
        let config = LocalConfig {
            data_dir: config.data_dir.canonicalize()?,
            ..config
        };
        let shown = sandbox::system_folders();
        // Before it is made, and where links lead to.
        sandbox::check_folders(&config, &shown).map_err(io::Error::other)?;
        let config = LocalConfig {
            environments: config.environments.as_deref().map(made).transpose()?,
            ..config
        };
        sandbox::check_folders(&config, &shown).map_err(io::Error::other)?;
        let scratch = config.data_dir.join("scratch");
        std::fs::create_dir_all(&scratch)?;
        owner::sweep(&scratch, |name| name.split('-').next()?.parse().ok())?;
        for folder in [config.shared().to_owned(), config.shared().join("driver")] {
            std::fs::create_dir_all(&folder)?;
            owner::sweep(&folder, draft_of)?;
        }
        let packages = Packages::open(&config.data_dir, Clock::system().now());
        let driver = driver::install(config.shared())?;
        let (level, mut reasons) = sandbox::probe(&config.data_dir.join("root"));
        let (cgroups, missing) = Cgroups::probe();
        reasons.extend(missing);
        let environments = Environments::open(&config, &driver)?;
        Ok(Self {
            isolation: Isolation {
                level,
                accounting: cgroups.describe().to_owned(),
                reasons,
            },
            groups: Groups::new(cgroups),
            seccomp: seccomp::filter(),
            environments,
            uv: OnceCell::new(),
            warm: Mutex::default(),
            habits: Habits::default(),
            packages: Arc::new(packages),
            java: java::Waiting::default(),
            numbers: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            driver,
            config,
        })
    }

    /// As if the machine had no namespaces. For tests of the fallback.
    #[must_use]
    pub fn without_walls(mut self) -> Self {
        self.isolation.level = IsolationLevel::None;
        self.isolation.reasons.push("switched off".to_owned());
        self
    }

    /// As if the machine had no control groups. For tests of the fallback.
    #[must_use]
    pub fn without_cgroups(mut self) -> Self {
        self.groups = Groups::new(Cgroups::None);
        self.isolation.accounting = Cgroups::None.describe().to_owned();
        self
    }

    /// Waits until environments are compiled in the background.
    pub async fn settle(&self) {
        self.environments.settle().await;
    }

    fn admit(&self, place: &Place) -> Result<(), StartError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(StartError::Stopping);
        }
        if self.isolation.level < self.config.isolation_min {
            return Err(StartError::Isolation(format!(
                "this machine offers isolation level {}, and {} is required: {}",
                self.isolation.level,
                self.config.isolation_min,
                self.isolation.reasons.join("; "),
            )));
        }
        sandbox::check_mounts(&place.mounts)?;
        let workspace = Path::new(&place.workspace);
        let plain = workspace.components().count() == 1
            && matches!(
                workspace.components().next(),
                Some(std::path::Component::Normal(_))
            );
        if !plain {
            return Err(StartError::Invalid(format!(
                "workspace {:?} is no name",
                place.workspace
            )));
        }
        Ok(())
    }

    async fn ready(&self, name: &str) -> Result<(&'static Runtime, Arc<Environment>), StartError> {
        let runtime = Environments::runtime(name)?;
        let environment = self.environments.ensure(&self.config, runtime).await?;
        Ok((runtime, environment))
    }

    /// For the libraries of runs. Without it runs work, and what needs it says so.
    async fn uv(&self, environment: &Environment) -> Option<&Path> {
        let find = async || {
            let found = tools::find_uv(&self.config, &environment.python).await;
            let found = found.inspect_err(|error| tracing::warn!("{error}"));
            found.ok()
        };
        self.uv.get_or_init(find).await.as_deref()
    }

    /// The warm parent of a place; starts one when there is none.
    async fn warm_parent(
        &self,
        place: &Place,
        warmth: Warmth,
        runtime: &'static Runtime,
        environment: &Environment,
        uv: Option<&Path>,
    ) -> Result<Arc<Parent>, StartError> {
        let (slot, gone) = self.slot((place.clone(), environment.digest.clone(), warmth));
        drop(aside(move || drop(gone)));
        let mut kept = slot.lock().await;
        if let Some(found) = kept.as_ref()
            && found.is_usable()
            && found.has_mounted(&place.mounts, environment)
        {
            return Ok(Arc::clone(found));
        }
        let parent = self
            .start_parent(place, runtime, environment, uv, Some(warmth))
            .await?;
        let parent = Arc::new(parent);
        let old = kept.replace(Arc::clone(&parent));
        drop(aside(move || drop(old)));
        Ok(parent)
    }

    /// The place of a parent, and what has to make room.
    fn slot(&self, key: Key) -> (Slot, Vec<Warm>) {
        let used = Instant::now();
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = warm.entry(key.clone()).or_insert_with(|| Warm {
            slot: Slot::default(),
            used,
        });
        entry.used = used;
        let slot = Arc::clone(&entry.slot);
        let over = warm.extract_if(|other, warm| *other != key && warm.is_over());
        let mut gone: Vec<Warm> = over.map(|(_, warm)| warm).collect();
        while warm.len() > self.config.warm_max {
            let oldest = warm
                .iter()
                .min_by_key(|(_, warm)| warm.used)
                .map(|(key, _)| key.clone());
            gone.extend(oldest.and_then(|key| warm.remove(&key)));
        }
        (slot, gone)
    }

    async fn start_parent(
        &self,
        place: &Place,
        runtime: &'static Runtime,
        environment: &Environment,
        uv: Option<&Path>,
        warm: Option<Warmth>,
    ) -> Result<Parent, StartError> {
        let spec = ParentSpec {
            data_dir: self.config.data_dir.clone(),
            driver: self.driver.clone(),
            uv: uv.map(Path::to_owned),
            place: place.clone(),
            environment: environment.clone(),
            runtime,
            level: self.isolation.level,
            number: self.number(),
            warm,
            idle: self.config.warm_idle,
            env: self.common_variables(place, environment),
        };
        // Mounting may hang, on a network file system for instance.
        let start = tokio::task::spawn_blocking(move || Parent::start(&spec));
        let started = match tokio::time::timeout(START_MAX, start).await {
            Ok(joined) => joined.map_err(io::Error::other).flatten(),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it did not start; does a mounted folder hang?",
            )),
        };
        started.map_err(failed("starting an interpreter"))
    }

    /// A runner may live for long.
    fn sweep_packages(&self) {
        let now = Clock::system().now();
        if self.packages.is_due(now) {
            let packages = Arc::clone(&self.packages);
            drop(aside(move || packages.sweep_sets(now)));
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// For this run a warm parent that is ready, or a fresh one for this run alone.
    async fn parent_for(
        &self,
        workload: &Workload,
        runtime: &'static Runtime,
        environment: &Environment,
        uv: Option<&Path>,
    ) -> Result<Parents, StartError> {
        let place = &workload.place;
        let mut warm = None;
        if workload.preload && self.config.warm_max > 0 {
            let warmth = self.habits.warmth(place, &workload.program);
            let parent = self
                .warm_parent(place, warmth, runtime, environment, uv)
                .await?;
            warm = Some(Arc::clone(&parent));
            if parent.is_ready() {
                return Ok(Parents { own: parent, warm });
            }
        }
        let parent = self
            .start_parent(place, runtime, environment, uv, None)
            .await?;
        let own = Arc::new(parent);
        Ok(Parents { own, warm })
    }

    /// Gives the run a child of its parent, and waits until it has begun, but not for longer than
    /// `limit`.
    async fn begin(
        &self,
        workload: &Workload,
        (runtime, environment): (&Runtime, &Environment),
        uv: Option<&Path>,
        parent: &Arc<Parent>,
        limit: Duration,
    ) -> io::Result<(Ends, Seat)> {
        let wish = self.wish(workload, parent);
        let private = workload.private.as_deref();
        let job = |seat: &Seat| {
            let local_dir = if parent.sandboxed {
                Path::new(LOCAL_DIR)
            } else {
                seat.scratch.path()
            };
            frame::encode(&self.job(workload, runtime, environment, uv, local_dir))
        };
        if let Some(mut seat) = parent.spare(&wish) {
            let job = job(&seat);
            let begun = take(&mut seat, parent, job, private, limit).await;
            match begun {
                Ok(ends) => return Ok((ends, seat)),
                // It waited, so it may have been killed while it did.
                Err(error) => {
                    tracing::debug!(%error, "a prepared child is gone");
                    let parent = Arc::clone(parent);
                    aside(move || seat.leave(&parent)).await?;
                    if is_hung(&error) {
                        return Err(error);
                    }
                }
            }
        }
        let name = self.number().to_string();
        let mut seat = Seat::prepare(&self.groups, parent, wish, name, private)?;
        let job = job(&seat);
        match take(&mut seat, parent, job, private, limit).await {
            Ok(ends) => Ok((ends, seat)),
            Err(error) => {
                let parent = Arc::clone(parent);
                aside(move || seat.leave(&parent)).await?;
                Err(error)
            }
        }
    }

    /// Has the next child made, for a run like this one.
    fn prepare_next(&self, workload: &Workload, parent: &Arc<Parent>) {
        let wish = self.wish(workload, parent);
        let (parent, groups) = (Arc::clone(parent), self.groups.clone());
        let name = self.number().to_string();
        drop(aside(move || {
            if let Err(error) = parent.prepare_spare(&groups, wish, name) {
                tracing::warn!(%error, "cannot prepare a child for the next run");
            }
        }));
    }

    /// A JVM for the next run like this one, in the child that is made ahead for it. Not where
    /// nobody would count what it uses.
    fn next_java(
        &self,
        workload: &Workload,
        (runtime, environment): (&Runtime, &Environment),
        parent: Arc<Parent>,
    ) -> Option<java::Next> {
        let elsewhere = ["spark.remote", "spark.master"];
        let wanted = runtime.engine == "apache"
            && !elsewhere
                .iter()
                .any(|key| workload.spark_conf.contains_key(*key))
            && parent.sandboxed
            && *self.groups.cgroups != Cgroups::None;
        wanted.then(|| java::Next {
            waiting: self.java.clone(),
            groups: self.groups.clone(),
            wish: self.wish(workload, &parent),
            parent,
            job: self.job(workload, runtime, environment, None, Path::new(LOCAL_DIR)),
            name: self.number().to_string(),
        })
    }
}

#[async_trait]
impl Executor for LocalExecutor {
    async fn start(
        &self,
        workload: Workload,
        host: Arc<dyn Host>,
    ) -> Result<Box<dyn Execution>, StartError> {
        let started = Instant::now();
        self.admit(&workload.place)?;
        check(&workload)?;
        self.sweep_packages();
        let (runtime, environment) = self.ready(&workload.place.runtime).await?;
        let environment = &*environment;
        let uv = self.uv(environment).await;
        if self.isolation.level == IsolationLevel::None {
            std::fs::create_dir_all(home(&workload)).map_err(failed("making the home folder"))?;
        }
        let parents = self.parent_for(&workload, runtime, environment, uv).await?;
        let mut parent = parents.own;
        let is_own = |kept: &Arc<Parent>| Arc::ptr_eq(kept, &parent);
        let mut warm = parents.warm.as_ref().is_some_and(is_own);
        let language = (runtime, environment);
        let limit = if warm {
            self.config.fork_max
        } else {
            START_MAX
        };
        let mut begun = self.begin(&workload, language, uv, &parent, limit).await;
        if warm && let Err(error) = &begun {
            // It may just have ended for having been idle, or it is broken.
            if is_hung(error) {
                tracing::warn!("a warm parent hangs; it gets no more runs");
                parent.retire();
            }
            let place = &workload.place;
            let fresh = self.start_parent(place, runtime, environment, uv, None);
            (parent, warm) = (Arc::new(fresh.await?), false);
            begun = self
                .begin(&workload, language, uv, &parent, START_MAX)
                .await;
        }
        let (ends, seat) = begun.map_err(failed("starting the run"))?;
        if warm {
            self.prepare_next(&workload, &parent);
        }
        let kept = parents.warm;
        let next_java = kept.and_then(|kept| self.next_java(&workload, language, kept));
        let habit = self.habits.of(&workload.place, &workload.program);
        let limited = workload.limits.cpu_ms.is_some();
        let mut output = Output::new(&workload.limits);
        if let Some(token) = &workload.context.api_token {
            output.redactor.add(token.as_bytes());
        }
        for secret in &workload.secrets {
            output.redactor.add(secret.as_bytes());
        }
        Ok(Box::new(LocalRun {
            ends,
            host,
            output,
            limits: workload.limits,
            group: seat.group,
            parent,
            warm,
            habit,
            next_java,
            scratch: Some(seat.scratch),
            environment: environment.digest.clone(),
            isolation: self.isolation.level.as_str().to_owned(),
            canceler: Canceler::new(),
            started,
            calls: FuturesUnordered::new(),
            state: State {
                look: limited.then(Instant::now),
                ..State::default()
            },
        }))
    }

    async fn prepare(&self, place: &Place) -> Result<Prepared, StartError> {
        self.admit(place)?;
        let (runtime, environment) = self.ready(&place.runtime).await?;
        let environment = &*environment;
        let uv = self.uv(environment).await;
        let warm = if self.config.warm_max > 0 {
            let warmth = Warmth::Notebooks;
            let parent = self
                .warm_parent(place, warmth, runtime, environment, uv)
                .await?;
            parent.until_ready().await
        } else {
            false
        };
        Ok(Prepared {
            environment: environment.digest.clone(),
            warm,
        })
    }

    fn runtimes(&self) -> Vec<RuntimeInfo> {
        let info = |runtime: &Runtime| RuntimeInfo {
            name: runtime.name.to_owned(),
            python: runtime.python.to_owned(),
            description: runtime.description.to_owned(),
            engine: runtime.engine.to_owned(),
        };
        RUNTIMES.iter().map(info).collect()
    }

    fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let gone = std::mem::take(&mut *self.warm.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = aside(move || drop(gone)).await {
            tracing::warn!(%error, "warm parents were not ended");
        }
    }
}

/// The process that began `.tools.PID` or `.DIGEST.PID`.
fn draft_of(name: &str) -> Option<u32> {
    name.strip_prefix('.')?.rsplit_once('.')?.1.parse().ok()
}

fn made(folder: &Path) -> io::Result<PathBuf> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(folder).map_err(named)?;
    folder.canonicalize().map_err(named)
}

/// Does where it holds up nobody what has to wait for the kernel.
fn aside(work: impl FnOnce() + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(work)
}

/// Gives a child its run, and waits until it has begun. `job`: its first frame.
async fn take(
    seat: &mut Seat,
    parent: &Parent,
    job: Vec<u8>,
    private: Option<&str>,
    limit: Duration,
) -> io::Result<Ends> {
    let (ends, theirs) = connect(job)?;
    let taken = seat.take(parent, &theirs, private);
    // Ours alone would keep the connection open when there is nobody at the other end.
    drop(theirs);
    taken?;
    let begun = tokio::time::timeout(limit, begun(&ends, parent)).await;
    begun.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(ends)
}

/// Whether it does not answer, as opposed to being gone. What it holds up goes on without it.
fn is_hung(error: &io::Error) -> bool {
    // Its inbox is full of what it has not read.
    let full = error.kind() == io::ErrorKind::WouldBlock;
    full || error.kind() == io::ErrorKind::TimedOut
}

/// Waits for the child to say that everything is set up.
async fn begun(ends: &Ends, parent: &Parent) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        drop(ends.status.readable().await?);
        let received = ends.status.try_io(tokio::io::Interest::READABLE, |fd| {
            Ok(recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?)
        });
        let length = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            received => received?,
        };
        let message: Value = serde_json::from_slice(&buffer[..length]).unwrap_or_default();
        return match message.get("error").and_then(Value::as_str) {
            Some(error) => Err(io::Error::other(error.to_owned())),
            None if message.get("begun").is_some() => Ok(()),
            None => Err(io::Error::other(format!(
                "the run's process disappeared: {}",
                parent.last_words()
            ))),
        };
    }
}

fn check(workload: &Workload) -> Result<(), StartError> {
    let invalid = |what: String| Err(StartError::Invalid(what));
    if !workload.working_dir.starts_with('/') {
        return invalid(format!(
            "working_dir {:?} is not absolute",
            workload.working_dir
        ));
    }
    if let Some(name) = &workload.private
        && (name.is_empty() || name.starts_with('.') || name.contains('/'))
    {
        return invalid(format!("the run's own folder {name:?} is no name"));
    }
    if let Program::Script { file, .. } = &workload.program
        && file.is_empty()
    {
        return invalid("the script has no path".to_owned());
    }
    Ok(())
}

fn failed(doing: &str) -> impl FnOnce(io::Error) -> StartError {
    let doing = doing.to_owned();
    move |source| StartError::Host { doing, source }
}

/// Our ends, and the program's: channel, standard output, standard error, status. Of what is to go
/// through the channel first, as much as fits is there when the child looks.
fn connect(mut first: Vec<u8>) -> io::Result<(Ends, [OwnedFd; 4])> {
    let (mut channel, channel_theirs) = StdUnixStream::pair()?;
    channel.set_nonblocking(true)?;
    let written = channel.write(&first)?;
    first.drain(..written);
    let (stdout, stdout_theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (status, status_theirs) = seqpacket_pair()?;
    for fd in [&stdout, &stderr, &status] {
        nonblocking(fd)?;
    }
    let ends = Ends {
        channel: UnixStream::from_std(channel)?,
        stdout: Receiver::from_owned_fd(stdout)?,
        stderr: Receiver::from_owned_fd(stderr)?,
        status: watch(status)?,
        decoder: Decoder::default(),
        buffer: Vec::new(),
        outbox: first,
        channel_open: true,
        stdout_open: true,
        stderr_open: true,
    };
    Ok((
        ends,
        [
            channel_theirs.into(),
            stdout_theirs,
            stderr_theirs,
            status_theirs,
        ],
    ))
}
