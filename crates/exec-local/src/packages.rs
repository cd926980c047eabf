//! What runs have installed: a cache for all that see the same folders, and in it the sets of packages
//! that they share. Programs can write there, so nothing in a cache is followed anywhere.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_runtime::remove_tree;
use forebay_types::Millis;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod};

use crate::downloads;

/// Of a cache or a set since its last use.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Where the driver has its sets in a cache: of Python, of R.
const SETS: [&str; 2] = ["sets", "r"];

pub(crate) const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

#[derive(Debug)]
pub(crate) struct Packages {
    data_dir: PathBuf,
    swept: Mutex<Millis>,
    removed: AtomicU64,
}

impl Packages {
    pub(crate) fn open(data_dir: &Path, now: Millis) -> Self {
        let packages = Self {
            data_dir: data_dir.to_owned(),
            swept: Mutex::new(now),
            removed: AtomicU64::new(0),
        };
        packages.sweep_caches(now);
        packages.sweep_sets(now);
        packages
    }

    /// Whether it is time to look through the sets again; says so once.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a time to come when the clock was ahead then.
        let is_due = now < *swept || now.0 - swept.0 > millis(SWEEP_EVERY);
        if is_due {
            *swept = now;
        }
        is_due
    }

    /// Removes the caches that no run has used for long: there is one for each set of folders that
    /// users saw, and most never come again. Only before there are runs.
    fn sweep_caches(&self, now: Millis) {
        for cache in self.caches() {
            let found = std::fs::symlink_metadata(&cache);
            if found.is_ok_and(|found| is_old(found.mtime(), now))
                && let Err(error) = remove_tree(&cache)
            {
                tracing::warn!(%error, "an old package cache cannot be removed");
            }
        }
    }

    /// Removes the sets that no run has used for long, and the downloads that were for them alone.
    /// Whoever uses a set has a lock on it.
    pub(crate) fn sweep_sets(&self, now: Millis) {
        for cache in self.caches() {
            let each = SETS.map(|kind| self.sweep_sets_of(&cache, kind, now));
            let all = each.into_iter().chain([self.sweep_downloads(&cache, now)]);
            for error in all.filter_map(Result::err) {
                let cache = cache.display();
                tracing::warn!(%error, "cannot look through the packages in {cache}");
            }
        }
    }

    fn sweep_sets_of(&self, cache: &Path, kind: &str, now: Millis) -> io::Result<()> {
        let cache = open(cache, FOLDER, Mode::empty())?;
        let sets = match openat(&cache, kind, FOLDER, Mode::empty()) {
            Ok(sets) => sets,
            Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in std::fs::read_dir(by_way_of(&sets))? {
            let entry = entry?;
            let name = entry.file_name();
            let old = entry
                .metadata()
                .is_ok_and(|found| found.is_dir() && is_old(found.mtime(), now));
            // What is being made has a dot, and goes otherwise.
            if old
                && !name.to_string_lossy().starts_with('.')
                && let Err(error) = self.sweep_set(&sets, &name, now)
            {
                let name = name.display();
                tracing::warn!(%error, "the old set of packages {name} stays");
            }
        }
        Ok(())
    }

    fn sweep_downloads(&self, cache: &Path, now: Millis) -> io::Result<()> {
        let cache = open(cache, FOLDER, Mode::empty())?;
        let is_old = |time| is_old(time, now);
        let gone = downloads::put_away(cache.as_fd(), is_old, |path| self.put_away(path))?;
        gone.iter().for_each(|gone| remove(gone));
        Ok(())
    }

    fn sweep_set(&self, sets: &OwnedFd, name: &OsStr, now: Millis) -> io::Result<()> {
        let set = File::from(openat(sets, name, FOLDER, Mode::empty())?);
        let Ok(set) = Flock::lock(set, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        // It may have been used until the moment before.
        if !is_old(set.metadata()?.mtime(), now) {
            return Ok(());
        }
        // A folder that its owner may not write to cannot be moved by one who is not root.
        fchmod(&*set, Mode::from_bits_truncate(0o755))?;
        let gone = self.put_away(&by_way_of(sets).join(name))?;
        drop(set);
        remove(&gone);
        Ok(())
    }

    /// Moves it to where a start removes what it finds. Where it is now.
    fn put_away(&self, path: &Path) -> io::Result<PathBuf> {
        let number = self.removed.fetch_add(1, Ordering::Relaxed);
        let gone = format!("{}-set-{number}", std::process::id());
        let gone = self.data_dir.join("scratch").join(gone);
        std::fs::rename(path, &gone)?;
        Ok(gone)
    }

    fn caches(&self) -> impl Iterator<Item = PathBuf> {
        let workspaces = std::fs::read_dir(self.data_dir.join("cache/packages"));
        let workspaces = workspaces.into_iter().flatten().flatten();
        let caches = workspaces.filter_map(|workspace| std::fs::read_dir(workspace.path()).ok());
        caches.flatten().flatten().map(|cache| cache.path())
    }
}

/// What is open, whatever its path may lead to by now.
pub(crate) fn by_way_of(folder: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// What cannot be removed, and what a crash leaves, goes at the next start.
fn remove(gone: &Path) {
    if let Err(error) = remove_tree(gone) {
        tracing::warn!(%error, "old packages cannot be removed yet");
    }
}

/// `time`: in seconds.
fn is_old(time: i64, now: Millis) -> bool {
    now.0 - time.saturating_mul(1000) > millis(AGE_MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use forebay_runtime::Clock;

    use super::*;

    const DAY: i64 = 24 * 3600 * 1000;

    fn names(folder: &Path) -> Vec<String> {
        let found = std::fs::read_dir(folder).unwrap();
        let found = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut found: Vec<String> = found.collect();
        found.sort();
        found
    }

    #[test]
    fn a_set_goes_30_days_after_its_last_use_unless_a_run_has_it() {
        let data = tempfile::tempdir().unwrap();
        let sets = data.path().join("cache/packages/dev/one/sets");
        for set in ["used", "unused", ".draft-x"] {
            std::fs::create_dir_all(sets.join(set).join("package")).unwrap();
        }
        std::fs::create_dir(data.path().join("scratch")).unwrap();
        let outside = data.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, sets.join("link")).unwrap();
        let now = Clock::system().now();
        let packages = Packages::open(data.path(), now);
        let later = |days| Millis(now.0 + days * DAY);
        packages.sweep_sets(later(29));
        assert_eq!(names(&sets), [".draft-x", "link", "unused", "used"]);
        let used = File::open(sets.join("used")).unwrap();
        let lock = Flock::lock(used, FlockArg::LockShared).unwrap();
        packages.sweep_sets(later(31));
        assert_eq!(names(&sets), [".draft-x", "link", "used"]);
        assert!(names(&data.path().join("scratch")).is_empty());
        drop(lock);
        packages.sweep_sets(later(31));
        assert_eq!(names(&sets), [".draft-x", "link"]);
        assert!(outside.is_dir());
    }

    #[test]
    fn a_set_that_cannot_be_removed_keeps_no_other_one() {
        let data = tempfile::tempdir().unwrap();
        let sets = data.path().join("cache/packages/dev/one/sets");
        for set in ["one", "two", "three"] {
            std::fs::create_dir_all(sets.join(set).join("package")).unwrap();
            let closed = std::fs::Permissions::from_mode(0o555);
            std::fs::set_permissions(sets.join(set), closed).unwrap();
        }
        // Without their folder to go to, none can be moved.
        let now = Clock::system().now();
        let packages = Packages::open(data.path(), now);
        let later = Millis(now.0 + 31 * DAY);
        packages.sweep_sets(later);
        assert_eq!(names(&sets).len(), 3);
        let scratch = data.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        // What is there already keeps one of them.
        let taken = scratch.join(format!("{}-set-4", std::process::id()));
        std::fs::create_dir_all(taken.join("full")).unwrap();
        packages.sweep_sets(later);
        assert_eq!(names(&sets).len(), 1);
    }

    #[test]
    fn a_link_in_place_of_the_sets_leads_nowhere() {
        let data = tempfile::tempdir().unwrap();
        let cache = data.path().join("cache/packages/dev/one");
        let outside = data.path().join("outside");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::create_dir_all(outside.join("theirs")).unwrap();
        std::os::unix::fs::symlink(&outside, cache.join("sets")).unwrap();
        let now = Clock::system().now();
        let packages = Packages::open(data.path(), now);
        packages.sweep_sets(Millis(now.0 + 31 * DAY));
        assert_eq!(names(&outside), ["theirs"]);
    }

    #[test]
    fn a_download_goes_when_no_set_is_linked_to_it_and_nobody_has_read_it_for_long() {
        let data = tempfile::tempdir().unwrap();
        let cache = data.path().join("cache/packages/dev/one");
        let entries = cache.join("archive-v0");
        std::fs::create_dir(data.path().join("scratch")).unwrap();
        for entry in ["linked", "read", "unused"] {
            let package = entries.join(entry).join("package");
            std::fs::create_dir_all(&package).unwrap();
            std::fs::write(package.join("module.py"), "").unwrap();
        }
        let set = cache.join("sets/one");
        std::fs::create_dir_all(&set).unwrap();
        let module = |entry: &str| entries.join(entry).join("package/module.py");
        std::fs::hard_link(module("linked"), set.join("module.py")).unwrap();
        let now = Clock::system().now();
        let later = Millis(now.0 + 31 * DAY);
        let at = std::time::UNIX_EPOCH + Duration::from_millis(u64::try_from(later.0).unwrap());
        let read = File::options().write(true).open(module("read")).unwrap();
        let times = std::fs::FileTimes::new().set_accessed(at);
        read.set_times(times).unwrap();

        let packages = Packages::open(data.path(), now);
        let held = Flock::lock(File::open(&set).unwrap(), FlockArg::LockShared).unwrap();
        // Without its lock it is the cache of an installer that we do not know.
        packages.sweep_sets(later);
        assert_eq!(names(&entries).len(), 3);
        let lock = File::create(cache.join(".lock")).unwrap();
        let busy = Flock::lock(lock, FlockArg::LockShared).unwrap();
        packages.sweep_sets(later);
        assert_eq!(names(&entries).len(), 3);
        drop(busy);
        packages.sweep_sets(Millis(now.0 + 29 * DAY));
        assert_eq!(names(&entries).len(), 3);
        packages.sweep_sets(later);
        assert_eq!(names(&entries), ["linked", "read"]);
        drop(held);
        packages.sweep_sets(later);
        assert_eq!(names(&entries), ["read"]);
        assert!(names(&data.path().join("scratch")).is_empty());
    }

    #[test]
    fn a_cache_goes_as_a_whole_before_there_are_runs() {
        let data = tempfile::tempdir().unwrap();
        let cache = data.path().join("cache/packages/dev/one");
        std::fs::create_dir_all(cache.join("sets/one")).unwrap();
        let now = Clock::system().now();
        Packages::open(data.path(), Millis(now.0 + 29 * DAY));
        assert!(cache.is_dir());
        Packages::open(data.path(), Millis(now.0 + 31 * DAY));
        assert!(!cache.exists());
    }

    #[test]
    fn sets_are_looked_through_once_a_day() {
        let data = tempfile::tempdir().unwrap();
        let packages = Packages::open(data.path(), Millis(0));
        assert!(!packages.is_due(Millis(DAY)));
        assert!(packages.is_due(Millis(DAY + 1)));
        assert!(!packages.is_due(Millis(DAY + 2)));
        // The clock was put back.
        assert!(packages.is_due(Millis(DAY)));
        assert!(!packages.is_due(Millis(DAY)));
    }
}
