//! Memory and process limits, accounting and the last kill, through whichever cgroup version the
//! host has.
//!
//! Version 1: one hierarchy per controller, each with its own path. Version 2: one tree. Without
//! either, limits fall back to `RLIMIT_AS` per process and accounting to what `wait4` tells.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_exec::{Limits, Usage};
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

    fn folders(&self) -> Vec<&PathBuf> {
        match self {
            Self::V2(folder) => vec![folder],
            Self::V1(folders) => folders.iter().map(|(_, folder)| folder).collect(),
            Self::None => Vec::new(),
        }
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

    /// A group with limits. `name` is unique among the runs of this process.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<RunGroup> {
        let name = format!("run-{}-{name}", std::process::id());
        let folders = self.folders().into_iter();
        let folders: Vec<PathBuf> = folders.map(|folder| folder.join(&name)).collect();
        let mut group = RunGroup {
            counts: Counts {
                version: self.clone(),
                folders: folders.clone(),
                before: Used::default(),
            },
            folders: Vec::new(),
        };
        for folder in folders {
            fs::create_dir(&folder)?;
            group.folders.push(folder);
        }
        group.limit(limits)?;
        Ok(group)
    }
}

fn is_writable(folder: &Path) -> bool {
    File::options()
        .write(true)
        .open(folder.join("cgroup.procs"))
        .is_ok()
}

/// The group of one run. Dropping it kills what is inside and removes it.
#[derive(Debug)]
pub(crate) struct RunGroup {
    counts: Counts,
    folders: Vec<PathBuf>,
}

/// What the kernel counts in the group of one run, for as long as that is there.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    version: Cgroups,
    folders: Vec<PathBuf>,
    /// Used before its run began.
    before: Used,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    cpu_ms: u64,
    read_bytes: u64,
    write_bytes: u64,
}

impl RunGroup {
    fn limit(&self, limits: &Limits) -> io::Result<()> {
        if let Some(bytes) = limits.memory_bytes {
            match &self.counts.version {
                Cgroups::V2(_) => {
                    self.write("memory.max", bytes)?;
                    // One process killed alone would leave a run that cannot go on.
                    drop(self.write("memory.swap.max", 0));
                }
                Cgroups::V1(_) => {
                    self.write("memory.limit_in_bytes", bytes)?;
                    drop(self.write("memory.memsw.limit_in_bytes", bytes));
                }
                Cgroups::None => {}
            }
        }
        if let Some(count) = limits.pids_max {
            drop(self.write("pids.max", count.into()));
        }
        Ok(())
    }

    fn write(&self, file: &str, value: u64) -> io::Result<()> {
        fs::write(self.counts.find(file)?, value.to_string())
    }

    /// The files to write `0` into, for a process to put itself into the group.
    pub(crate) fn doors(&self) -> io::Result<Vec<File>> {
        let doors = self
            .folders
            .iter()
            .map(|folder| folder.join("cgroup.procs"));
        doors
            .map(|path| File::options().write(true).open(path))
            .collect()
    }

    /// Its run begins now: what was used before is not the run's. Memory still is.
    pub(crate) fn start_counting(&mut self) {
        let counts = &mut self.counts;
        let (read_bytes, write_bytes) = counts.all_io().unwrap_or_default();
        counts.before = Used {
            cpu_ms: counts.all_cpu_ms().unwrap_or_default(),
            read_bytes,
            write_bytes,
        };
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn kill_all(&self) {
        for folder in &self.folders {
            kill_all(folder);
        }
    }

    /// Removes the group; `false` while processes of it are still going away.
    pub(crate) fn remove(&mut self) -> bool {
        self.folders.retain(|folder| match fs::remove_dir(folder) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
        self.folders.is_empty()
    }
}

impl Counts {
    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.find(file).ok()?).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok()
    }

    fn find(&self, file: &str) -> io::Result<PathBuf> {
        let folder = match &self.version {
            Cgroups::V2(_) => self.folders.first(),
            Cgroups::V1(known) => {
                let controller = file.split('.').next();
                let place = known.iter().position(|(name, _)| Some(*name) == controller);
                place.and_then(|place| self.folders.get(place))
            }
            Cgroups::None => None,
        };
        let folder = folder.ok_or(io::ErrorKind::NotFound)?;
        Ok(folder.join(file))
    }

    /// Whether the kernel killed for memory in this group.
    pub(crate) fn out_of_memory(&self) -> bool {
        let file = match self.version {
            Cgroups::V2(_) => "memory.events",
            Cgroups::V1(_) => "memory.oom_control",
            Cgroups::None => return false,
        };
        self.read(file)
            .is_some_and(|text| field(&text, "oom_kill").unwrap_or(0) > 0)
    }

    /// CPU time of the run so far; `None` where the host does not tell.
    pub(crate) fn cpu_ms(&self) -> Option<u64> {
        Some(self.all_cpu_ms()?.saturating_sub(self.before.cpu_ms))
    }

    fn all_cpu_ms(&self) -> Option<u64> {
        match self.version {
            Cgroups::V2(_) => Some(field(&self.read("cpu.stat")?, "usage_usec")? / 1000),
            Cgroups::V1(_) => Some(self.number("cpuacct.usage")? / 1_000_000),
            Cgroups::None => None,
        }
    }

    /// Fills in what this host counts from the beginning on.
    pub(crate) fn account(&self, usage: &mut Usage) {
        let peak = match self.version {
            Cgroups::V2(_) => self.number("memory.peak"),
            Cgroups::V1(_) => self.number("memory.max_usage_in_bytes"),
            Cgroups::None => return,
        };
        usage.cpu_ms = self.cpu_ms().or(usage.cpu_ms);
        usage.memory_peak_bytes = peak.or(usage.memory_peak_bytes);
        if let Some((read, write)) = self.all_io() {
            usage.read_bytes = Some(read.saturating_sub(self.before.read_bytes));
            usage.write_bytes = Some(write.saturating_sub(self.before.write_bytes));
        }
    }

    /// Bytes read and written.
    fn all_io(&self) -> Option<(u64, u64)> {
        match self.version {
            Cgroups::V2(_) => Some(io_v2(&self.read("io.stat")?)),
            Cgroups::V1(_) => {
                let text = self.read("blkio.throttle.io_service_bytes_recursive")?;
                Some(io_v1(&text))
            }
            Cgroups::None => None,
        }
    }

    /// What the group uses while it is there; `None` when it is not, or nothing is counted.
    pub(crate) fn now(&self) -> Option<Usage> {
        let (current, idle) = match self.version {
            Cgroups::V2(_) => ("memory.current", "inactive_file"),
            Cgroups::V1(_) => ("memory.usage_in_bytes", "total_inactive_file"),
            Cgroups::None => return None,
        };
        // The page cache of files that nobody uses goes as soon as somebody needs the room.
        let memory = self.number(current)?;
        let idle = self.read("memory.stat").and_then(|text| field(&text, idle));
        let mut usage = Usage {
            memory_bytes: Some(memory.saturating_sub(idle.unwrap_or(0))),
            ..Usage::default()
        };
        self.account(&mut usage);
        Some(usage)
    }
}

impl Drop for RunGroup {
    /// Blocks for the milliseconds that the kernel needs to bury the dead; only a run that was
    /// abandoned comes here with anything left.
    fn drop(&mut self) {
        for _ in 0..200 {
            if self.remove() {
                return;
            }
            self.kill_all();
            std::thread::sleep(Duration::from_millis(1));
        }
        tracing::warn!("a cgroup of a run stays until the next start");
    }
}

/// Until the group is empty, because processes may fork between the reading and the kill.
fn kill_all(folder: &Path) {
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

/// `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
    values.find_map(|rest| rest.strip_prefix(' ')?.trim().parse().ok())
}

/// `8:0 Read 4096` lines.
fn io_v1(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let lines = text
            .lines()
            .filter_map(|line| line.split_once(' ')?.1.split_once(' '));
        lines
            .filter(|(name, _)| *name == kind)
            .filter_map(|(_, n)| n.parse::<u64>().ok())
            .sum()
    };
    (sum("Read"), sum("Write"))
}

/// `8:0 rbytes=4096 wbytes=0 ...` lines.
fn io_v2(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let words = text
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(key));
        words.filter_map(|number| number.parse::<u64>().ok()).sum()
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_files_are_understood() {
        assert_eq!(
            field("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", "oom_kill"),
            Some(2)
        );
        assert_eq!(field("low 0\noom 1\noom_kill 1\n", "oom_kill"), Some(1));
        assert_eq!(
            io_v1("8:0 Read 10\n8:0 Write 20\n8:16 Read 5\nTotal 35\n"),
            (15, 20)
        );
        assert_eq!(
            io_v2("8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=5 wbytes=0\n"),
            (15, 20)
        );
    }

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
