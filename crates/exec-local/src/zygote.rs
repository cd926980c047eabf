//! Parents of runs: one interpreter that forks, warm or fresh, with its walls around it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_exec::{IsolationLevel, Mounts, Place};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::unix::AsyncFd;

use crate::driver;
use crate::environment::{Environment, Identity, Runtime};
use crate::group::Groups;
use crate::launch::{Launch, Process, c_path, c_text, launch};
use crate::sandbox::{self, HOME, Plan, SCRATCH};
use crate::scratch::Folders;
use crate::seat::{Seat, Wish};
use crate::tools::last_lines;

/// Forks after which a warm parent is replaced, so that what creeps in does not stay for ever.
const FORKS_MAX: u64 = 2000;
/// Between its kill and its burial.
const END_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Parent {
    process: Process,
    control: AsyncFd<OwnedFd>,
    ready: AtomicBool,
    forks: AtomicU64,
    /// Of its runs.
    pub(crate) folders: Folders,
    log: PathBuf,
    pub(crate) sandboxed: bool,
    /// What it has mounted, see [`sandbox::identities`].
    mounted: Vec<Option<(u64, u64)>>,
    /// Whose interpreter it is.
    environment: Identity,
    /// Host paths that programs see at the same place.
    pub(crate) shown: Vec<PathBuf>,
    /// Made ahead for the next run.
    spare: Mutex<Option<Seat>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    NotYet,
    Gone,
}

/// What a warm parent has imported. The more it is, the longer a fork takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Warmth {
    /// What scripts and wheels need to begin.
    Programs,
    /// A shell and the packages of the runtime.
    Notebooks,
    /// A shell, and R inside the parent.
    R,
}

impl Warmth {
    fn as_str(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Notebooks => "notebooks",
            Self::R => "r",
        }
    }
}

#[derive(Debug)]
pub(crate) struct ParentSpec {
    pub(crate) data_dir: PathBuf,
    pub(crate) driver: PathBuf,
    pub(crate) uv: Option<PathBuf>,
    pub(crate) place: Place,
    pub(crate) environment: Environment,
    pub(crate) runtime: &'static Runtime,
    pub(crate) level: IsolationLevel,
    /// Unique among the parents of this process.
    pub(crate) number: u64,
    /// What it imports before it forks; nothing for a parent of one run.
    pub(crate) warm: Option<Warmth>,
    pub(crate) idle: Duration,
    /// What its runs have in their environment, but for what each has of its own.
    pub(crate) env: BTreeMap<String, String>,
}

impl ParentSpec {
    /// Where `uv` keeps its downloads for the runs that see the same folders: apart from the cache
    /// that environments are made from, because programs can write to it, and what one writes
    /// there others execute.
    pub(crate) fn package_cache(data_dir: &Path, place: &Place) -> PathBuf {
        let mut digest = Sha256::new();
        for mount in &place.mounts.0 {
            for part in [
                mount.host.as_os_str().as_bytes(),
                mount.inner.as_bytes(),
                mount.at.as_bytes(),
                &[u8::from(mount.writable)],
            ] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        let mut name = driver::half(&digest.finalize());
        name.truncate(32);
        data_dir
            .join("cache/packages")
            .join(&place.workspace)
            .join(name)
    }

    fn cache(&self) -> PathBuf {
        Self::package_cache(&self.data_dir, &self.place)
    }

    fn shown(&self) -> Vec<PathBuf> {
        let environment = &self.environment;
        let mut shown = vec![
            environment.python.base_prefix.clone(),
            environment.folder.clone(),
            self.driver.clone(),
            self.cache(),
        ];
        shown.extend(self.uv.clone());
        shown
    }
}

impl Parent {
    /// Blocks until the interpreter is executed.
    pub(crate) fn start(spec: &ParentSpec) -> io::Result<Self> {
        let name = format!("{}-{}", std::process::id(), spec.number);
        let folders = Folders::new(spec.data_dir.join("scratch").join(&name))?;
        note_use(&spec.cache())?;
        let log = spec.data_dir.join("scratch").join(format!("{name}.log"));
        let (ours, theirs) = seqpacket_pair()?;
        nonblocking(&ours)?;
        let mounted = sandbox::identities(&spec.place.mounts);
        let sandboxed = spec.level == IsolationLevel::Namespaces;
        let settings = json!({
            "control_fd": theirs.as_raw_fd(),
            "sandbox": sandboxed,
            "warm": spec.warm.map(Warmth::as_str),
            "preload": spec.runtime.preload,
            "idle_seconds": spec.idle.as_secs_f64(),
            "env": spec.env,
        });
        let process = launch(&Launch {
            program: c_path(spec.environment.interpreter())?,
            args: arguments(spec, &settings)?,
            env: variables()?,
            keep: theirs,
            log: File::create(&log)?,
            walls: if sandboxed {
                Some(plan(spec, folders.root())?.walls()?)
            } else {
                None
            },
        })?;
        Ok(Self {
            process,
            control: watch(ours)?,
            ready: AtomicBool::new(false),
            forks: AtomicU64::new(0),
            folders,
            log,
            sandboxed,
            mounted,
            environment: spec.environment.identity,
            shown: spec.shown(),
            spare: Mutex::default(),
        })
    }

    /// Whether it has imported what it is to import.
    pub(crate) fn is_ready(&self) -> bool {
        self.readiness() == Readiness::Ready
    }

    fn readiness(&self) -> Readiness {
        if self.ready.load(Ordering::Relaxed) {
            return Readiness::Ready;
        }
        let mut message = [0; 16];
        match recv(
            self.control.as_raw_fd(),
            &mut message,
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(length) if &message[..length] == b"ready" => {
                self.ready.store(true, Ordering::Relaxed);
                Readiness::Ready
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Readiness::NotYet,
            Ok(_) | Err(_) => Readiness::Gone,
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        self.forks.load(Ordering::Relaxed) < FORKS_MAX && self.process.is_running()
    }

    /// No run gets a child of it any more; those that have one go on.
    pub(crate) fn retire(&self) {
        self.forks.store(FORKS_MAX, Ordering::Relaxed);
    }

    /// Whether these folders are still what it sees at their places.
    pub(crate) fn has_mounted(&self, mounts: &Mounts, environment: &Environment) -> bool {
        self.environment == environment.identity && self.mounted == sandbox::identities(mounts)
    }

    /// Waits until it is ready; `false` when it died before.
    pub(crate) async fn until_ready(&self) -> bool {
        loop {
            match self.readiness() {
                Readiness::Ready => return true,
                Readiness::Gone => return false,
                Readiness::NotYet => {}
            }
            match self.control.readable().await {
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return false,
            }
        }
    }

    /// Asks for something, see `zygote.py`. The descriptors are duplicated; the caller closes its own.
    pub(crate) fn ask(&self, request: &Value, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let message = request.to_string();
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        sendmsg::<()>(
            self.control.as_raw_fd(),
            &[IoSlice::new(message.as_bytes())],
            if raw.is_empty() { &[] } else { &rights },
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Asks for a child.
    pub(crate) fn fork(&self, request: &Value, doors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.ask(request, doors)?;
        self.forks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, Option<Seat>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child that was made ahead, if it is of this kind.
    pub(crate) fn spare(&self, wish: &Wish) -> Option<Seat> {
        self.kept().take_if(|seat| seat.is_for(wish))
    }

    /// Makes a child ahead, in place of one of another kind. Blocks for some milliseconds.
    pub(crate) fn prepare_spare(
        &self,
        groups: &Groups,
        wish: Wish,
        name: String,
    ) -> io::Result<()> {
        if self.kept().as_ref().is_some_and(|seat| seat.is_for(&wish)) {
            return Ok(());
        }
        let seat = Seat::prepare(groups, self, wish, name, None)?;
        let old = self.kept().replace(seat);
        if let Some(old) = old {
            old.leave(self);
        }
        Ok(())
    }

    /// Has the child that was made ahead, if it is of this kind, start a JVM. Its name.
    pub(crate) fn warm(&self, wish: &Wish, job: &Value) -> Option<String> {
        let mut kept = self.kept();
        let seat = kept.as_mut().filter(|seat| seat.is_for(wish))?;
        // A parent that is gone has no child to start it.
        seat.warm(self, job).ok()
    }

    /// Has a child that waits end its JVM.
    pub(crate) fn cool(&self, name: &str) {
        drop(self.ask(&json!({"do": "cool", "name": name}), &[]));
    }

    /// Ends it and all its runs.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// What it said before it died.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&log), 8)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.process.kill();
        match self.process.wait_for(END_PATIENCE) {
            Ok(true) => {}
            Ok(false) => tracing::error!("a parent of runs outlives its kill; it is given up"),
            Err(error) => tracing::warn!(%error, "a parent of runs could not be waited for"),
        }
        for gone in [self.folders.remove(), std::fs::remove_file(&self.log)] {
            if let Err(error) = gone {
                tracing::debug!(%error, "a scratch folder stays until the next start");
            }
        }
    }
}

fn arguments(spec: &ParentSpec, settings: &Value) -> io::Result<Vec<std::ffi::CString>> {
    let driver = serde_json::to_string(&spec.driver.to_string_lossy())?;
    let code = format!(
        "import sys; sys.path.append({driver}); from forebay_driver.zygote import main; main()"
    );
    let settings = settings.to_string();
    // The interpreter finds its environment by the path it was called with.
    let interpreter = spec.environment.interpreter();
    let interpreter = interpreter.to_string_lossy();
    // As isolated as by `-I`, but for the one variable of Python that is in `variables`.
    [&interpreter, "-P", "-s", "-c", &code, &settings]
        .into_iter()
        .map(c_text)
        .collect()
}

/// Only what the interpreter itself reads before it forks; runs bring their own environment.
fn variables() -> io::Result<Vec<std::ffi::CString>> {
    [
        "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
        format!("HOME={HOME}"),
        "LANG=C.UTF-8".to_owned(),
        // The order of sets is the same in each run, so a run can be repeated.
        "PYTHONHASHSEED=0".to_owned(),
        "IPYTHONDIR=/tmp/.ipython".to_owned(),
        "MPLCONFIGDIR=/tmp/.matplotlib".to_owned(),
        "MPLBACKEND=module://matplotlib_inline.backend_inline".to_owned(),
    ]
    .into_iter()
    .map(c_text)
    .collect()
}

/// The age of a cache is that of its last use, see `packages.rs`.
fn note_use(cache: &Path) -> io::Result<()> {
    std::fs::create_dir_all(cache)?;
    let now = &TimeSpec::UTIME_NOW;
    utimensat(AT_FDCWD, cache, now, now, UtimensatFlags::FollowSymlink)?;
    Ok(())
}

fn plan(spec: &ParentSpec, scratch: &Path) -> io::Result<Plan> {
    let root = spec.data_dir.join("root");
    std::fs::create_dir_all(&root)?;
    let cache = spec.cache();
    let mut plan = Plan::new(&root)?;
    plan.read_only(&spec.environment.python.base_prefix)?;
    plan.read_only(&spec.environment.folder)?;
    plan.read_only(&spec.driver)?;
    if let Some(uv) = &spec.uv {
        plan.read_only(uv)?;
    }
    plan.writable(&cache, &cache)?;
    plan.writable(scratch, Path::new(SCRATCH))?;
    plan.mounts(&spec.place.mounts)?;
    Ok(plan)
}

pub(crate) fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let kind = SockType::SeqPacket;
    Ok(socketpair(
        AddressFamily::Unix,
        kind,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

pub(crate) fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Registers a non-blocking descriptor with the event loop.
#[expect(
    unsafe_code,
    reason = "an owned descriptor stays the same one until it is dropped"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    Ok(unsafe { AsyncFd::register(fd)? })
}
