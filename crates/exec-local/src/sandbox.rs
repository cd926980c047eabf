//! What a program's root consists of, and whether this machine lets us build it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use forebay_exec::{IsolationLevel, LOCAL_DIR, Mount, Mounts, StartError};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{getegid, geteuid};

use crate::config::LocalConfig;
use crate::launch::{Access, Launch, Step, Walls, c_path, c_text, launch};

/// Where other runs' files are while a parent sets up a new run; hidden before the program starts.
pub(crate) const SCRATCH: &str = "/.scratch";
pub(crate) const HOME: &str = "/root";

const SYSTEM_FOLDERS: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt"];

/// The parts of `/etc` that programs need and that hold no secrets; `pip.conf` may hold some.
const ETC: &[&str] = &[
    "R",
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "fonts",
    "gai.conf",
    "host.conf",
    "hosts",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.conf",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
];

const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// The folders that a workload may mount at or below.
const MOUNT_ROOTS: &[&str] = &["/dbfs", "/Workspace", "/Volumes", "/databricks-datasets"];

#[derive(Debug, Default)]
pub(crate) struct Plan {
    root: PathBuf,
    steps: Vec<Step>,
    made: BTreeSet<PathBuf>,
    /// Host folders bound read-only at their own path.
    bound: Vec<PathBuf>,
}

impl Plan {
    /// System folders, devices, `/proc` and empty folders for what each run mounts itself. `root`
    /// is an existing host folder to build on.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let mut plan = Self {
            root: root.to_owned(),
            ..Self::default()
        };
        for folder in SYSTEM_FOLDERS {
            plan.system_folder(Path::new(folder))?;
        }
        plan.etc()?;
        plan.dev()?;
        plan.folder(Path::new("/proc"))?;
        plan.steps.push(Step::Proc {
            at: plan.inside(Path::new("/proc"))?,
        });
        for folder in ["/tmp", "/var/tmp", "/run", HOME, SCRATCH, LOCAL_DIR] {
            plan.folder(Path::new(folder))?;
        }
        for root in MOUNT_ROOTS {
            plan.folder(Path::new(root))?;
        }
        Ok(plan)
    }

    /// A host folder or file at its own path, read-only. Nothing to do below one that is bound.
    pub(crate) fn read_only(&mut self, path: &Path) -> io::Result<()> {
        if self.bound.iter().any(|bound| path.starts_with(bound)) {
            return Ok(());
        }
        self.bind(path, path, Access::ReadOnly)?;
        self.bound.push(path.to_owned());
        Ok(())
    }

    pub(crate) fn writable(&mut self, host: &Path, at: &Path) -> io::Result<()> {
        self.bind(host, at, Access::Writable)
    }

    pub(crate) fn mounts(&mut self, mounts: &Mounts) -> io::Result<()> {
        for (index, mount) in mounts.0.iter().enumerate() {
            let access = if mount.writable {
                Access::Writable
            } else {
                Access::ReadOnly
            };
            let at = Path::new(&mount.at);
            let outer = mounts.0[..index]
                .iter()
                .filter(|outer| at.starts_with(&outer.at))
                .max_by_key(|outer| Path::new(&outer.at).components().count());
            match outer {
                // The mount point lies in a bound folder: it must exist on the host.
                Some(outer) => make_mount_point(outer, at).map_err(|error| {
                    let host = outer.host.join(&outer.inner);
                    io::Error::new(
                        error.kind(),
                        format!(
                            "the mount point {} cannot be made in {}, which must not have links \
                             or files on the way: {error}",
                            mount.at,
                            host.display()
                        ),
                    )
                })?,
                None => self.folder(at)?,
            }
            let (host, inner) = (c_path(&mount.host)?, c_text(&mount.inner)?);
            let at = self.inside(at)?;
            self.steps.push(Step::Mount {
                host,
                inner,
                at,
                access,
            });
        }
        Ok(())
    }

    pub(crate) fn walls(self) -> io::Result<Walls> {
        // Root inside, so that files of the workspace belong to the program; outside it stays the
        // server's own user, without any capability.
        Ok(Walls {
            root: c_path(&self.root)?,
            steps: self.steps,
            uid_map: c_text(format!("0 {} 1", geteuid()))?,
            gid_map: c_text(format!("0 {} 1", getegid()))?,
        })
    }

    fn system_folder(&mut self, path: &Path) -> io::Result<()> {
        let Ok(found) = path.symlink_metadata() else {
            return Ok(());
        };
        if found.is_symlink() {
            let target = c_path(std::fs::read_link(path)?)?;
            let at = self.inside(path)?;
            self.steps.push(Step::Symlink { target, at });
            return Ok(());
        }
        self.read_only(path)
    }

    fn etc(&mut self) -> io::Result<()> {
        self.folder(Path::new("/etc"))?;
        for name in ETC {
            let path = Path::new("/etc").join(name);
            // A link is bound as what it leads to: the target may be outside the new root.
            if path.exists() {
                self.bind(&path, &path, Access::ReadOnly)?;
            }
        }
        for (name, text) in [
            (
                "passwd",
                "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n",
            ),
            ("group", "root:x:0:\nnogroup:x:65534:\n"),
            ("hostname", "forebay\n"),
        ] {
            let at = self.inside(&Path::new("/etc").join(name))?;
            self.steps.push(Step::TextFile(at, text.into()));
        }
        Ok(())
    }

    fn dev(&mut self) -> io::Result<()> {
        let dev = Path::new("/dev");
        self.folder(dev)?;
        for name in DEVICES {
            let path = dev.join(name);
            self.bind(&path, &path, Access::Device)?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            let (target, at) = (c_text(target)?, self.inside(&dev.join(name))?);
            self.steps.push(Step::Symlink { target, at });
        }
        self.folder(&dev.join("shm"))
    }

    fn bind(&mut self, host: &Path, at: &Path, access: Access) -> io::Result<()> {
        if host.metadata()?.is_dir() {
            self.folder(at)?;
        } else {
            if let Some(parent) = at.parent() {
                self.folder(parent)?;
            }
            let file = self.inside(at)?;
            self.steps.push(Step::EmptyFile(file));
        }
        let (host, at) = (c_path(host)?, self.inside(at)?);
        self.steps.push(Step::Bind { host, at, access });
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path == Path::new("/") || !self.made.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        let at = self.inside(path)?;
        self.steps.push(Step::Folder(at));
        Ok(())
    }

    fn inside(&self, path: &Path) -> io::Result<std::ffi::CString> {
        c_path(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }
}

/// Makes the folder `at` inside of what `outer` binds. Programs can write there, so no link is
/// followed: it could lead anywhere on the host.
fn make_mount_point(outer: &Mount, at: &Path) -> io::Result<()> {
    let mut folder = open_inner(outer)?;
    for name in at.strip_prefix(&outer.at).unwrap_or(at) {
        match mkdirat(&folder, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = FOLDER.union(OFlag::O_NOFOLLOW);
        folder = openat(&folder, name, flags, Mode::empty())?;
    }
    Ok(())
}

const FOLDER: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// The folder that a mount shows: from its host folder on, no link is followed.
fn open_inner(mount: &Mount) -> io::Result<OwnedFd> {
    let mut folder = open(&mount.host, FOLDER, Mode::empty())?;
    for name in Path::new(&mount.inner) {
        let flags = FOLDER.union(OFlag::O_NOFOLLOW);
        folder = openat(&folder, name, flags, Mode::empty())?;
    }
    Ok(folder)
}

/// Which folders the mounts mean now. One that was deleted and made anew is another one, and
/// whoever has it mounted still sees the old one.
pub(crate) fn identities(mounts: &Mounts) -> Vec<Option<(u64, u64)>> {
    let identity = |mount| {
        let found = fstat(open_inner(mount).ok()?).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    mounts.0.iter().map(identity).collect()
}

/// The folders that every program sees, as far as they exist.
pub(crate) fn system_folders() -> Vec<&'static Path> {
    SYSTEM_FOLDERS.iter().map(Path::new).collect()
}

/// Refuses folders of ours in places that every program may read.
///
/// # Errors
/// A sentence for the operator.
pub(crate) fn check_folders(config: &LocalConfig, shown: &[&Path]) -> Result<(), String> {
    for folder in shown {
        let real = folder
            .canonicalize()
            .unwrap_or_else(|_| folder.to_path_buf());
        if config.data_dir.starts_with(&real) {
            return Err(format!(
                "the data folder {} lies in {}, which every program may read; choose another \
                 data folder (`--data`, or `data` in the configuration), such as one in /var/lib",
                config.data_dir.display(),
                folder.display(),
            ));
        }
        if config.shared().starts_with(&real) {
            return Err(format!(
                "the folder of environments {} lies in {}, which every program may read; choose \
                 another one (`environments` in the configuration), such as one in /var/lib",
                config.shared().display(),
                folder.display(),
            ));
        }
    }
    Ok(())
}

/// Refuses mounts that would cover the system or climb out.
pub(crate) fn check_mounts(mounts: &Mounts) -> Result<(), StartError> {
    for mount in &mounts.0 {
        let at = Path::new(&mount.at);
        let climbs = at
            .components()
            .any(|part| part == std::path::Component::ParentDir);
        if climbs || !MOUNT_ROOTS.iter().any(|root| at.starts_with(root)) {
            return Err(StartError::Invalid(format!(
                "mount {}: only {} and folders below them can be mounted",
                mount.at,
                MOUNT_ROOTS.join(", "),
            )));
        }
        let plain = Path::new(&mount.inner)
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain || open_inner(mount).is_err() {
            return Err(StartError::Invalid(format!(
                "mount {}: there is no folder {}",
                mount.at,
                mount.host.join(&mount.inner).display(),
            )));
        }
    }
    Ok(())
}

/// Builds a sandbox around `true` and sees whether it runs.
pub(crate) fn probe(root: &Path) -> (IsolationLevel, Vec<String>) {
    match try_sandbox(root) {
        Ok(true) => (IsolationLevel::Namespaces, Vec::new()),
        Ok(false) => (
            IsolationLevel::None,
            vec!["a program in fresh namespaces did not run".to_owned()],
        ),
        Err(error) => (
            IsolationLevel::None,
            vec![format!(
                "namespaces are not available: {error} (they need Linux 5.12 or newer, and \
                 unprivileged user namespaces must be allowed)"
            )],
        ),
    }
}

fn try_sandbox(root: &Path) -> io::Result<bool> {
    let keep: OwnedFd = File::open("/dev/null")?.into();
    let process = launch(&Launch {
        program: c_text("/bin/true")?,
        args: vec![c_text("true")?],
        env: Vec::new(),
        keep,
        log: File::options().write(true).open("/dev/null")?,
        walls: Some(Plan::new(root)?.walls()?),
    })?;
    process.wait()
}
