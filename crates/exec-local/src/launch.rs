//! Starts a process in fresh namespaces with a root of its own.
//!
//! `std::process::Command` cannot make the child the first process of a pid namespace without a
//! second process in between, so this is `clone3` by hand. Everything the child needs is prepared
//! before the clone; after it the child only makes system calls, because other threads of the
//! server may have held locks (of the allocator, for instance) at that moment.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::unistd::pipe2;

/// What to start, and where.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: CString,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// Stays open in the child under the same number.
    pub(crate) keep: OwnedFd,
    /// The child's standard output and error.
    pub(crate) log: File,
    /// Without walls: the process sees what the server sees.
    pub(crate) walls: Option<Walls>,
}

/// A root made of nothing but these steps.
#[derive(Debug)]
pub(crate) struct Walls {
    /// An existing folder of the host that the new root is mounted on.
    pub(crate) root: CString,
    pub(crate) steps: Vec<Step>,
    pub(crate) uid_map: CString,
    pub(crate) gid_map: CString,
}

/// Paths of the new root are given with the host folder [`Walls::root`] before them.
#[derive(Debug)]
pub(crate) enum Step {
    Folder(CString),
    EmptyFile(CString),
    TextFile(CString, Vec<u8>),
    Symlink {
        target: CString,
        at: CString,
    },
    Bind {
        host: CString,
        at: CString,
        access: Access,
    },
    /// Like `Bind`, for folders that programs can write to: of the host path only `host` itself
    /// may have links, not `inner` below it (which may be empty), and `at` may have none.
    Mount {
        host: CString,
        inner: CString,
        at: CString,
        access: Access,
    },
    Proc {
        at: CString,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    Writable,
    Device,
}

/// A child by its pidfd: no confusion with another process that got its number later.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// Starts it and returns once the program has been executed.
///
/// # Errors
/// What failed in the child, by name, with its error code.
pub(crate) fn launch(launch: &Launch) -> io::Result<Process> {
    let args = pointers(&launch.args);
    let env = pointers(&launch.env);
    let null = File::open("/dev/null")?;
    let (report, report_child) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut pidfd: RawFd = -1;
    let namespaces = if launch.walls.is_some() {
        NAMESPACES
    } else {
        0
    };
    let mut clone = CloneArgs {
        flags: u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    #[expect(
        unsafe_code,
        reason = "clone3 without shared memory; the child makes only system calls and then \
                  executes a program or exits"
    )]
    let child = unsafe {
        let size = std::mem::size_of::<CloneArgs>();
        let child = libc::syscall(libc::SYS_clone3, &raw mut clone, size);
        if child == 0 {
            let at = enter(launch, null.as_raw_fd());
            let failure = if let Err(step) = at {
                step
            } else {
                libc::execve(launch.program.as_ptr(), args.as_ptr(), env.as_ptr());
                c"execute the program"
            };
            let code = *libc::__errno_location();
            let message = failure.to_bytes();
            libc::write(report_child.as_raw_fd(), (&raw const code).cast(), 4);
            libc::write(
                report_child.as_raw_fd(),
                message.as_ptr().cast(),
                message.len(),
            );
            libc::_exit(127);
        }
        child
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    drop(report_child);
    #[expect(unsafe_code, reason = "clone3 has just put a new descriptor there")]
    let process = Process {
        pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
    };
    let mut failure = Vec::new();
    File::from(report).read_to_end(&mut failure)?;
    match failure.split_first_chunk::<4>() {
        None => Ok(process),
        Some((code, message)) => {
            process.wait()?;
            let code = io::Error::from_raw_os_error(i32::from_ne_bytes(*code));
            let step = String::from_utf8_lossy(message);
            Err(io::Error::new(
                code.kind(),
                format!("cannot {step}: {code}"),
            ))
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let ends = std::iter::once(std::ptr::null());
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain(ends)
        .collect()
}

type Entered = Result<(), &'static CStr>;

/// In the child: signals, descriptors, walls. An error names the step; `errno` has the cause.
#[expect(
    unsafe_code,
    reason = "system calls on values prepared before the clone"
)]
unsafe fn enter(launch: &Launch, null: RawFd) -> Entered {
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Rust programs ignore it, and ignoring would be inherited.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let log = launch.log.as_raw_fd();
        for (from, to) in [(null, 0), (log, 1), (log, 2)] {
            check(libc::dup2(from, to), c"set up the standard streams")?;
        }
        let keep = libc::fcntl(launch.keep.as_raw_fd(), libc::F_SETFD, 0);
        check(keep, c"keep the control socket")?;
        check(libc::setsid(), c"start a session")?;
        if let Some(walls) = &launch.walls {
            raise(walls)?;
        }
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "system calls on values prepared before the clone"
)]
unsafe fn raise(walls: &Walls) -> Entered {
    unsafe {
        // Without this an unprivileged process may not map its group.
        write_file(c"/proc/self/setgroups", b"deny", c"deny setgroups")?;
        write_file(
            c"/proc/self/uid_map",
            walls.uid_map.to_bytes(),
            c"map the user",
        )?;
        write_file(
            c"/proc/self/gid_map",
            walls.gid_map.to_bytes(),
            c"map the group",
        )?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        mount(c"none", c"/", None, private, None, c"make mounts private")?;
        let options = Some(c"mode=0755,size=64m");
        let plain = libc::MS_NOSUID | libc::MS_NODEV;
        mount(
            c"tmpfs",
            &walls.root,
            Some(c"tmpfs"),
            plain,
            options,
            c"mount the root",
        )?;
        for step in &walls.steps {
            take(step)?;
        }
        check(libc::chdir(walls.root.as_ptr()), c"enter the root")?;
        let pivot = libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr());
        check(pivot as i32, c"change the root")?;
        check(
            libc::umount2(c".".as_ptr(), libc::MNT_DETACH),
            c"leave the old root",
        )?;
        check(libc::chdir(c"/".as_ptr()), c"enter the new root")?;
        // A user namespace inside would give back the capabilities that runs give up.
        write_file(
            c"/proc/sys/user/max_user_namespaces",
            b"0",
            c"forbid user namespaces",
        )?;
        let name = c"forebay";
        let named = libc::sethostname(name.as_ptr(), name.to_bytes().len());
        check(named, c"set the host name")?;
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "system calls on values prepared before the clone"
)]
unsafe fn take(step: &Step) -> Entered {
    unsafe {
        match step {
            Step::Folder(at) => {
                let made = libc::mkdir(at.as_ptr(), 0o755);
                if made != 0 && *libc::__errno_location() != libc::EEXIST {
                    return Err(c"make a folder");
                }
            }
            Step::EmptyFile(at) => write_new(at, b"")?,
            Step::TextFile(at, text) => write_new(at, text)?,
            Step::Symlink { target, at } => {
                check(libc::symlink(target.as_ptr(), at.as_ptr()), c"make a link")?;
            }
            Step::Proc { at } => {
                let plain = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
                mount(c"proc", at, Some(c"proc"), plain, None, c"mount /proc")?;
            }
            Step::Bind { host, at, access } => {
                mount(
                    host,
                    at,
                    None,
                    libc::MS_BIND | libc::MS_REC,
                    None,
                    c"bind a folder",
                )?;
                restrict(libc::AT_FDCWD, at, *access)?;
            }
            Step::Mount {
                host,
                inner,
                at,
                access,
            } => attach(host, inner, at, *access)?,
        }
    }
    Ok(())
}

/// A bind mount by descriptors, so that nothing is swapped for a link on the way.
#[expect(
    unsafe_code,
    reason = "system calls on values prepared before the clone"
)]
unsafe fn attach(host: &CStr, inner: &CStr, at: &CStr, access: Access) -> Entered {
    unsafe {
        let folder = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let mut source = libc::open(host.as_ptr(), folder);
        check(source, c"open a folder to mount")?;
        if !inner.is_empty() {
            let below = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
            source = open_at(source, inner, below);
            check(source, c"open a folder to mount without following links")?;
        }
        let clone = libc::OPEN_TREE_CLONE
            | libc::OPEN_TREE_CLOEXEC
            | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned();
        let tree = libc::syscall(libc::SYS_open_tree, source, c"".as_ptr(), clone) as i32;
        check(tree, c"bind a folder")?;
        restrict(tree, c"", access)?;
        let target = open_at(libc::AT_FDCWD, at, libc::RESOLVE_NO_SYMLINKS);
        check(target, c"open a mount point without following links")?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        let empty = c"".as_ptr();
        let moved = libc::syscall(libc::SYS_move_mount, tree, empty, target, empty, flags);
        check(moved as i32, c"mount a folder")?;
        for fd in [source, tree, target] {
            libc::close(fd);
        }
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "one system call on values prepared before the clone"
)]
unsafe fn open_at(folder: RawFd, path: &CStr, resolve: u64) -> RawFd {
    let how = OpenHow {
        flags: u64::from((libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).cast_unsigned()),
        mode: 0,
        resolve,
    };
    let size = std::mem::size_of::<OpenHow>();
    let call = libc::SYS_openat2;
    unsafe { libc::syscall(call, folder, path.as_ptr(), &raw const how, size) as RawFd }
}

#[expect(
    unsafe_code,
    reason = "one system call on values prepared before the clone"
)]
unsafe fn restrict(folder: RawFd, at: &CStr, access: Access) -> Entered {
    let attr = MountAttr {
        set: match access {
            Access::ReadOnly => {
                libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV
            }
            Access::Writable => libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            Access::Device => libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC,
        },
        ..MountAttr::default()
    };
    let size = std::mem::size_of::<MountAttr>();
    let flags = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    let call = libc::SYS_mount_setattr;
    let done = unsafe { libc::syscall(call, folder, at.as_ptr(), flags, &raw const attr, size) };
    check(done as i32, c"restrict a mount")
}

#[expect(
    unsafe_code,
    reason = "one system call on values prepared before the clone"
)]
unsafe fn mount(
    source: &CStr,
    at: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: Option<&CStr>,
    doing: &'static CStr,
) -> Entered {
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    let options = options.map_or(std::ptr::null(), CStr::as_ptr);
    let done = unsafe { libc::mount(source.as_ptr(), at.as_ptr(), kind, flags, options.cast()) };
    check(done, doing)
}

#[expect(
    unsafe_code,
    reason = "system calls on values prepared before the clone"
)]
unsafe fn write_file(path: &CStr, text: &[u8], doing: &'static CStr) -> Entered {
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(fd, doing)?;
        let written = libc::write(fd, text.as_ptr().cast(), text.len());
        check(written as i32, doing)?;
        libc::close(fd);
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "system calls on values prepared before the clone"
)]
unsafe fn write_new(path: &CStr, text: &[u8]) -> Entered {
    unsafe {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
        let fd = libc::open(path.as_ptr(), flags, 0o644);
        check(fd, c"make a file")?;
        let written = libc::write(fd, text.as_ptr().cast(), text.len());
        check(written as i32, c"write a file")?;
        libc::close(fd);
    }
    Ok(())
}

fn check(result: i32, doing: &'static CStr) -> Entered {
    if result < 0 { Err(doing) } else { Ok(()) }
}

impl Process {
    /// Kills it, and with it all processes of its namespace.
    pub(crate) fn kill(&self) {
        let fd = self.pidfd.as_raw_fd();
        #[expect(unsafe_code, reason = "one system call on a descriptor that we own")]
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, 0, 0);
        }
    }

    /// Waits for its end; `true` when it exited with code 0.
    pub(crate) fn wait(&self) -> io::Result<bool> {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
        let status = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED)?;
        Ok(matches!(status, WaitStatus::Exited(_, 0)))
    }

    /// Waits for its end for some time; whether it came.
    pub(crate) fn wait_for(&self, limit: Duration) -> io::Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut ended = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        if poll(&mut ended, limit)? == 0 {
            return Ok(false);
        }
        self.wait()?;
        Ok(true)
    }

    pub(crate) fn is_running(&self) -> bool {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::PIDFd(self.pidfd.as_fd()), flags);
        matches!(status, Ok(WaitStatus::StillAlive))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A path for a system call.
///
/// # Errors
/// When it contains a zero byte.
pub(crate) fn c_path(path: impl AsRef<Path>) -> io::Result<CString> {
    c_text(path.as_ref().as_os_str())
}

pub(crate) fn c_text(text: impl AsRef<OsStr>) -> io::Result<CString> {
    Ok(CString::new(text.as_ref().as_bytes())?)
}
