//! Which cgroup version the host has, and where its files are.
//!
//! Version 1: one hierarchy per controller, each with its own path. Version 2: one tree. Without
//! either, limits fall back to `RLIMIT_AS` per process and accounting to what `wait4` tells.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::owner::Leftovers;

const MOUNT: &str = "/sys/fs/cgroup";
const V1_CONTROLLERS: &[&str] = &["memory", "pids", "cpuacct", "blkio"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// Our folder in the one tree.
    V2(PathBuf),
    /// Controller and our folder in its hierarchy.
    V1(Vec<(&'static str, PathBuf)>),
    None,
}

impl Cgroups {
    /// Finds what is usable, and removes groups that a server left behind when it died.
    pub(crate) fn probe() -> (Self, Vec<String>) {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let v1 = Self::probe_v1(Path::new(MOUNT), &own);
        let (found, reasons) = if v1.iter().any(|(name, _)| *name == "memory") {
            let missing = ["pids", "cpuacct"]
                .into_iter()
                .filter(|wanted| !v1.iter().any(|(name, _)| name == wanted));
            let reasons = missing
                .map(|name| format!("the cgroup controller {name} is not writable"))
                .collect();
            (Self::V1(v1), reasons)
        } else {
            match Self::probe_v2(Path::new(MOUNT), &own) {
                Ok(folder) => (Self::V2(folder), Vec::new()),
                Err(error) => (
                    Self::None,
                    vec![format!(
                        "cgroups are not usable ({error}): memory is limited per process only, \
                         and out-of-memory cannot be told from other failures"
                    )],
                ),
            }
        };
        found.sweep();
        (found, reasons)
    }

    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::V2(_) => "cgroup v2",
            Self::V1(_) => "cgroup v1",
            Self::None => "none",
        }
    }

    /// Whether the CPU time of a group is known.
    pub(crate) fn count_cpu(&self) -> bool {
        match self {
            Self::V2(_) => true,
            Self::V1(folders) => folders.iter().any(|(name, _)| *name == "cpuacct"),
            Self::None => false,
        }
    }

    fn probe_v1(mount: &Path, own: &str) -> Vec<(&'static str, PathBuf)> {
        let mut found = Vec::new();
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            for name in V1_CONTROLLERS {
                if !controllers.split(',').any(|controller| controller == *name) {
                    continue;
                }
                let folder = mount
                    .join(name)
                    .join(path.trim_start_matches('/'))
                    .join("forebay");
                if fs::create_dir_all(&folder).is_ok() && is_writable(&folder) {
                    found.push((*name, folder));
                }
            }
        }
        found
    }

    /// Version 2 lets a group have either processes or children with controllers, so the server
    /// moves itself into a leaf first.
    fn probe_v2(mount: &Path, own: &str) -> io::Result<PathBuf> {
        let path = own.lines().find_map(|line| line.strip_prefix("0::"));
        let path = path.ok_or_else(|| io::Error::other("no unified hierarchy"))?;
        let path = path
            .trim_end_matches("/forebay-server")
            .trim_start_matches('/');
        let folder = mount.join(path);
        let controllers = fs::read_to_string(folder.join("cgroup.controllers"))?;
        for wanted in ["memory", "pids"] {
            if !controllers.split_whitespace().any(|name| name == wanted) {
                return Err(io::Error::other(format!("no {wanted} controller")));
            }
        }
        let leaf = folder.join("forebay-server");
        fs::create_dir_all(&leaf)?;
        fs::write(leaf.join("cgroup.procs"), "0")?;
        fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")?;
        for optional in ["+cpu", "+io"] {
            // Accounting is less complete without them, and nothing else.
            drop(fs::write(folder.join("cgroup.subtree_control"), optional));
        }
        Ok(folder)
    }

    pub(crate) fn folders(&self) -> Vec<&PathBuf> {
        match self {
            Self::V2(folder) => vec![folder],
            Self::V1(folders) => folders.iter().map(|(_, folder)| folder).collect(),
            Self::None => Vec::new(),
        }
    }

    /// Of a group with these folders.
    pub(crate) fn file(&self, folders: &[PathBuf], name: &str) -> io::Result<PathBuf> {
        let folder = match self {
            Self::V2(_) => folders.first(),
            Self::V1(known) => {
                let controller = name.split('.').next();
                let place = known.iter().position(|(name, _)| Some(*name) == controller);
                place.and_then(|place| folders.get(place))
            }
            Self::None => None,
        };
        let folder = folder.ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.join(name))
    }

    fn sweep(&self) {
        for folder in self.folders() {
            let Ok(entries) = fs::read_dir(folder) else {
                continue;
            };
            let leftovers = Leftovers::of(folder);
            for entry in entries.flatten() {
                let name = entry.file_name();
                let owner = name.to_str().and_then(|name| name.strip_prefix("run-"));
                let owner = owner.and_then(|name| name.split('-').next()?.parse().ok());
                if owner.is_some_and(|pid| leftovers.is_dead(pid)) {
                    kill_all(&entry.path());
                    drop(fs::remove_dir(entry.path()));
                }
            }
        }
    }
}

fn is_writable(folder: &Path) -> bool {
    File::options()
        .write(true)
        .open(folder.join("cgroup.procs"))
        .is_ok()
}

/// Until the group is empty, because processes may fork between the reading and the kill.
pub(crate) fn kill_all(folder: &Path) {
    if fs::write(folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for _ in 0..16 {
        let members = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        let members: Vec<i32> = members.lines().filter_map(|pid| pid.parse().ok()).collect();
        if members.is_empty() {
            return;
        }
        for pid in members {
            // It may have ended by itself meanwhile.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_paths_come_from_our_own_groups() {
        let mount = tempfile::tempdir().unwrap();
        let folder = mount.path().join("memory/a/b/forebay");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cgroup.procs"), "").unwrap();
        let found = Cgroups::probe_v1(mount.path(), "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n");
        assert_eq!(found, [("memory", folder)]);
    }

    #[test]
    fn version_2_moves_the_server_into_a_leaf() {
        let mount = tempfile::tempdir().unwrap();
        let own = mount.path().join("unit");
        fs::create_dir_all(own.join("forebay-server")).unwrap();
        fs::write(own.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        let found = Cgroups::probe_v2(mount.path(), "0::/unit/forebay-server\n").unwrap();
        assert_eq!(found, own);
        assert_eq!(
            fs::read_to_string(own.join("forebay-server/cgroup.procs")).unwrap(),
            "0"
        );
        fs::write(own.join("cgroup.controllers"), "cpu\n").unwrap();
        let refused = Cgroups::probe_v2(mount.path(), "0::/unit\n").unwrap_err();
        assert_eq!(refused.to_string(), "no memory controller");
    }
}
