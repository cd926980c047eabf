//! The group of a run: memory and process limits, accounting and the last kill.
//!
//! To make and remove a group costs the kernel more than all other files of a small run, and one
//! that is removed stays in its memory for as long as a page is counted there. So a group that is
//! as good as new serves the next run.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_exec::{Limits, Usage};

use crate::cgroup::{Cgroups, kill_all};

const KEPT_MAX: usize = 16;
/// What may be counted in a group that nobody is in any more: the kernel takes memory ahead, and
/// gives it back later.
const LEFT_BYTES_MAX: u64 = 1 << 20;

/// Makes the groups of runs, and keeps some for the next ones.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    pub(crate) cgroups: Arc<Cgroups>,
    kept: Arc<Mutex<VecDeque<Group>>>,
}

/// Dropping it kills what is inside and removes it.
#[derive(Debug)]
struct Group {
    /// One in each hierarchy.
    folders: Arc<[PathBuf]>,
    /// The files to write `0` into, for a process to put itself into the group.
    doors: Vec<File>,
    memory_bytes: Option<u64>,
    pids_max: Option<u32>,
    /// Its processes had to be killed, or a part of it is gone: it serves no other run.
    spoiled: bool,
    removed: bool,
}

/// The group of one run, until that is over. Dropping it kills what is inside and removes it.
#[derive(Debug)]
pub(crate) struct RunGroup {
    group: Option<Group>,
    counts: Counts,
    kept: Arc<Mutex<VecDeque<Group>>>,
}

/// What the kernel counts in the group of one run, for as long as it is that run's.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    cgroups: Arc<Cgroups>,
    folders: Arc<[PathBuf]>,
    /// Used before its run began.
    before: Used,
    /// The group may be another run's by now.
    over: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    cpu_ms: u64,
    read_bytes: u64,
    write_bytes: u64,
}

impl Groups {
    pub(crate) fn new(cgroups: Cgroups) -> Self {
        Self {
            cgroups: Arc::new(cgroups),
            kept: Arc::default(),
        }
    }

    /// A group with limits. `name` is unique among the runs of this process.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<RunGroup> {
        let kept = self.take(limits);
        let is_new = kept.is_none();
        let group = match kept {
            Some(group) => group,
            None => Group::make(&self.cgroups, name, limits)?,
        };
        let mut group = RunGroup {
            counts: Counts {
                cgroups: Arc::clone(&self.cgroups),
                folders: Arc::clone(&group.folders),
                before: Used::default(),
                over: Arc::default(),
            },
            group: Some(group),
            kept: Arc::clone(&self.kept),
        };
        if !is_new {
            group.start_counting();
        }
        Ok(group)
    }

    fn take(&self, limits: &Limits) -> Option<Group> {
        let mut kept = lock(&self.kept);
        let fits = |group: &Group| {
            group.memory_bytes == limits.memory_bytes && group.pids_max == limits.pids_max
        };
        let place = kept.iter().rposition(fits)?;
        kept.remove(place)
    }
}

fn lock(kept: &Mutex<VecDeque<Group>>) -> MutexGuard<'_, VecDeque<Group>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    fn make(cgroups: &Cgroups, name: &str, limits: &Limits) -> io::Result<Self> {
        let name = format!("run-{}-{name}", std::process::id());
        let folders = cgroups.folders().into_iter();
        let mut group = Self {
            folders: folders.map(|folder| folder.join(&name)).collect(),
            doors: Vec::new(),
            memory_bytes: limits.memory_bytes,
            pids_max: limits.pids_max,
            spoiled: false,
            removed: false,
        };
        for folder in &*group.folders {
            fs::create_dir(folder)?;
        }
        group.limit(cgroups)?;
        for folder in &*group.folders {
            let door = File::options()
                .write(true)
                .open(folder.join("cgroup.procs"))?;
            group.doors.push(door);
        }
        Ok(group)
    }

    fn limit(&self, cgroups: &Cgroups) -> io::Result<()> {
        let write = |file: &str, value: u64| {
            fs::write(cgroups.file(&self.folders, file)?, value.to_string())
        };
        if let Some(bytes) = self.memory_bytes {
            match cgroups {
                Cgroups::V2(_) => {
                    write("memory.max", bytes)?;
                    // One process killed alone would leave a run that cannot go on.
                    drop(write("memory.swap.max", 0));
                }
                Cgroups::V1(_) => {
                    write("memory.limit_in_bytes", bytes)?;
                    drop(write("memory.memsw.limit_in_bytes", bytes));
                }
                Cgroups::None => {}
            }
        }
        if let Some(count) = self.pids_max {
            drop(write("pids.max", count.into()));
        }
        Ok(())
    }

    fn kill_all(&mut self) {
        self.spoiled = true;
        for folder in &*self.folders {
            kill_all(folder);
        }
    }

    /// `false` while processes of it are still going away.
    fn remove(&mut self) -> bool {
        self.spoiled = true;
        let there = self.folders.iter().filter(|folder| {
            let removed = fs::remove_dir(folder);
            removed.is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        });
        self.removed = there.count() == 0;
        self.removed
    }
}

impl Drop for Group {
    /// Blocks for the milliseconds that the kernel needs to bury the dead; only a run that was
    /// abandoned comes here with anything left.
    fn drop(&mut self) {
        if self.removed {
            return;
        }
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

impl RunGroup {
    pub(crate) fn doors(&self) -> &[File] {
        self.group.as_ref().map_or(&[], |group| &group.doors)
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

    pub(crate) fn kill_all(&mut self) {
        if let Some(group) = &mut self.group {
            group.kill_all();
        }
    }

    /// Its run is over. Keeps the group for another one, or removes it; `false` while processes of
    /// it are still going away.
    pub(crate) fn leave(&mut self) -> bool {
        let Some(group) = &mut self.group else {
            return true;
        };
        if self.counts.number("pids.current").is_some_and(|n| n > 0) {
            return false;
        }
        if group.spoiled || !self.counts.renew() {
            return group.remove();
        }
        self.counts.over.store(true, Ordering::Release);
        let mut kept = lock(&self.kept);
        kept.extend(self.group.take());
        // The one that nobody has wanted for longest.
        let old = (kept.len() > KEPT_MAX).then(|| kept.pop_front());
        drop(kept);
        drop(old);
        true
    }
}

impl Counts {
    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.cgroups.file(&self.folders, file).ok()?).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.read(file)?.trim().parse().ok()
    }

    /// Whether the kernel killed for memory in this group.
    pub(crate) fn out_of_memory(&self) -> bool {
        let file = match *self.cgroups {
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
        match *self.cgroups {
            Cgroups::V2(_) => Some(field(&self.read("cpu.stat")?, "usage_usec")? / 1000),
            Cgroups::V1(_) => Some(self.number("cpuacct.usage")? / 1_000_000),
            Cgroups::None => None,
        }
    }

    /// Fills in what this host counts from the beginning on.
    pub(crate) fn account(&self, usage: &mut Usage) {
        let peak = match *self.cgroups {
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
        match *self.cgroups {
            Cgroups::V2(_) => Some(io_v2(&self.read("io.stat")?)),
            Cgroups::V1(_) => {
                let text = self.read("blkio.throttle.io_service_bytes_recursive")?;
                Some(io_v1(&text))
            }
            Cgroups::None => None,
        }
    }

    /// Makes a group that nobody is in as good as a new one; `false` if it cannot be. In version 2,
    /// a peak begins anew for those only who have had its file open since.
    fn renew(&self) -> bool {
        let peak = self
            .cgroups
            .file(&self.folders, "memory.max_usage_in_bytes");
        matches!(*self.cgroups, Cgroups::V1(_))
            && self.number("pids.current") == Some(0)
            && self
                .number("memory.usage_in_bytes")
                .is_some_and(|bytes| bytes <= LEFT_BYTES_MAX)
            && !self.out_of_memory()
            && peak.and_then(|file| fs::write(file, "0")).is_ok()
    }

    /// What the group uses while it is the run's; `None` when it is not, or nothing is counted.
    pub(crate) fn now(&self) -> Option<Usage> {
        let usage = self.look()?;
        (!self.over.load(Ordering::Acquire)).then_some(usage)
    }

    fn look(&self) -> Option<Usage> {
        let (current, idle) = match *self.cgroups {
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
    fn a_group_that_is_left_serves_the_next_run_with_its_limits() {
        let (cgroups, _) = Cgroups::probe();
        let is_kept = matches!(cgroups, Cgroups::V1(_));
        let groups = Groups::new(cgroups);
        let limits = |bytes| Limits {
            memory_bytes: Some(bytes),
            ..Limits::default()
        };
        let mut first = groups.create("kept-1", &limits(1 << 30)).unwrap();
        let (counts, folders) = (first.counts.clone(), Arc::clone(&first.counts.folders));
        assert!(first.leave() && first.leave());
        drop(first);
        assert_eq!(counts.now(), None);
        let other = groups.create("kept-2", &limits(2 << 30)).unwrap();
        assert!(
            other
                .counts
                .folders
                .iter()
                .all(|folder| !folders.contains(folder))
        );
        let again = groups.create("kept-3", &limits(1 << 30)).unwrap();
        assert_eq!(again.counts.folders == folders, is_kept);
        assert_eq!(again.doors().len(), groups.cgroups.folders().len());
        // Another run has it now.
        assert_eq!(counts.now(), None);
        let mut killed = groups.create("kept-4", &limits(3 << 30)).unwrap();
        killed.kill_all();
        assert!(killed.leave());
        let gone = killed.counts.folders.iter().all(|folder| !folder.exists());
        assert!(gone, "whoever had to be killed may come back into it");
        drop((other, again, groups));
        assert!(folders.iter().all(|folder| !folder.exists()));
    }

    #[test]
    fn some_groups_are_kept_and_go_with_their_owner() {
        let groups = Groups::new(Cgroups::probe().0);
        let numbers = 0..KEPT_MAX + 2;
        let mut all: Vec<RunGroup> = numbers
            .map(|n| {
                groups
                    .create(&format!("many-{n}"), &Limits::default())
                    .unwrap()
            })
            .collect();
        let folders: Vec<PathBuf> = all
            .iter()
            .flat_map(|one| one.counts.folders.to_vec())
            .collect();
        assert!(all.iter_mut().all(RunGroup::leave));
        drop(all);
        assert!(lock(&groups.kept).len() <= KEPT_MAX);
        let left = || folders.iter().filter(|folder| folder.exists()).count();
        assert_eq!(
            left(),
            lock(&groups.kept).len() * groups.cgroups.folders().len()
        );
        drop(groups);
        assert_eq!(left(), 0);
    }

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
}
