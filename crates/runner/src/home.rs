//! Where a runner is found: a folder with its lock, its socket and its log.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};

use crate::protocol::{self, ToRunner, ToServer, Welcome};

/// A log that has grown over this is put aside when the next runner starts.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// How often a taken lock is tried again before it counts as another runner's: a second, because who
/// looks for a runner may start a process just then, which has the lock as well until its program is
/// executed, and on a busy machine that can take a while.
const TRIES_MAX: u32 = 200;
/// For an answer to somebody who only looks.
const INSPECT_MAX: Duration = Duration::from_secs(3);

/// The one place of a runner, for as long as this lives: it holds the lock of the folder.
#[derive(Debug)]
pub struct Home {
    folder: PathBuf,
    _lock: File,
}

impl Home {
    /// # Errors
    /// When another runner has the folder, or it cannot be written.
    pub fn take(folder: &Path) -> io::Result<Self> {
        create(folder)?;
        let mut lock = open_lock(folder)?;
        let mut tries = 0;
        while let Err(error) = lock.try_lock() {
            tries += 1;
            match error {
                // Whoever looks for a runner has it for a moment, see `holder`.
                TryLockError::WouldBlock if tries < TRIES_MAX => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                TryLockError::WouldBlock => {
                    return Err(io::Error::other("another runner has this folder"));
                }
                TryLockError::Error(e) => return Err(e),
            }
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let path = self.folder.join("socket");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let short = ShortPath::of(&self.folder)?;
        let listener = UnixListener::bind(&short.path)?;
        // Nobody comes in between: the folder itself is the owner's alone.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    }

    /// Whether somebody has removed the folder under us.
    pub(crate) fn is_gone(&self) -> bool {
        !self.folder.join("socket").exists()
    }

    pub(crate) fn leave(&self) {
        drop(std::fs::remove_file(self.folder.join("socket")));
    }
}

pub(crate) fn create(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn open_lock(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    options.mode(0o600).open(folder.join("lock"))
}

/// The process that holds the folder's lock, if there is one: also one that does not answer.
pub(crate) fn holder(folder: &Path) -> io::Result<Option<Process>> {
    let lock = open_lock(folder)?;
    if !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
        return Ok(None);
    }
    let text = std::fs::read_to_string(folder.join("lock"))?;
    let pid = text.trim().parse().map_err(io::Error::other)?;
    Process::open(pid)
}

/// The file that a runner of this folder writes its log to.
pub(crate) fn open_log(folder: &Path) -> io::Result<File> {
    let path = folder.join("log");
    if std::fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        std::fs::rename(&path, folder.join("log.old"))?;
    }
    let mut options = File::options();
    options.create(true).append(true).mode(0o600).open(path)
}

/// The last line that `log` got after its first `before` bytes: why a runner did not start. Empty
/// when it said nothing.
pub(crate) fn last_words(log: &Path, before: u64) -> String {
    let log = std::fs::read(log).unwrap_or_default();
    let said = log.get(usize::try_from(before).unwrap_or(usize::MAX)..);
    let said = String::from_utf8_lossy(said.unwrap_or_default());
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    last.unwrap_or_default().trim().to_owned()
}

/// The address of a socket has room for about a hundred bytes, and a path may be longer; through
/// the folder's descriptor it is short.
struct ShortPath {
    path: PathBuf,
    _folder: OwnedFd,
}

impl ShortPath {
    fn of(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        Ok(Self {
            path: format!("/proc/self/fd/{}/socket", folder.as_raw_fd()).into(),
            _folder: folder,
        })
    }
}

/// `None` when nobody listens.
pub(crate) async fn connect(folder: &Path) -> io::Result<Option<UnixStream>> {
    let short = match ShortPath::of(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        short => short?,
    };
    match UnixStream::connect(&short.path).await {
        Ok(stream) => Ok(Some(stream)),
        Err(e) => match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(e),
        },
    }
}

/// What the runner of a folder says about itself; `None` when there is none.
///
/// # Errors
/// When there is one that does not answer, or not in a way that this program understands.
pub async fn inspect(folder: &Path) -> io::Result<Option<Welcome>> {
    let Some(mut stream) = connect(folder).await? else {
        return Ok(match holder(folder) {
            Ok(Some(process)) => {
                let text = format!("process {} does not listen", process.pid);
                return Err(io::Error::other(text));
            }
            _ => None,
        });
    };
    let ask = async {
        protocol::write(&mut stream, &ToRunner::Inspect).await?;
        protocol::read(&mut stream).await
    };
    match tokio::time::timeout(INSPECT_MAX, ask).await {
        Ok(Ok(Some(ToServer::Welcome(welcome)))) => Ok(Some(welcome)),
        Ok(Ok(_)) => Err(io::Error::other("it does not introduce itself")),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Registers a descriptor with the event loop.
#[expect(
    unsafe_code,
    reason = "an owned descriptor stays the same one until it is dropped"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    Ok(unsafe { AsyncFd::register(fd)? })
}

/// A process by its pidfd: no confusion with another one that got its number later.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// `None` when there is no such process (any more).
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other(format!("{pid} is no process id")))?;
        match pidfd_open(number, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => Ok(Some(Self {
                pid,
                pidfd: watch(pidfd)?,
            })),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn kill(&self) {
        // It fails only when the process is gone.
        pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL).ok();
    }

    /// Waits until it has ended, whether or not its parent knows.
    pub(crate) async fn ended(&self) {
        // A pidfd becomes readable at the end and stays so.
        drop(self.pidfd.readable().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_has_one_runner_and_a_deep_one_works_too() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120)).join("runner");
        assert!(connect(&deep).await.unwrap().is_none());
        let home = Home::take(&deep).unwrap();
        assert!(Home::take(&deep).is_err());
        assert_eq!(
            holder(&deep).unwrap().unwrap().pid,
            std::process::id(),
            "the lock names its holder"
        );
        assert!(connect(&deep).await.unwrap().is_none());
        let _listener = home.listen().unwrap();
        assert!(connect(&deep).await.unwrap().is_some());
        drop(home);
        assert!(holder(&deep).unwrap().is_none());
    }
}
