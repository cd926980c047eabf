//! What runs have installed: a cache for all that see the same folders, and in it the sets of packages
//! that they share. Programs can write there, so nothing in a cache is followed anywhere.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_types::Millis;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::owner;

/// Of a cache or a set since its last use.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Where the driver has its sets in a cache: of Python, of R.
const SETS: [&str; 2] = ["sets", "r"];

const FOLDER: OFlag = OFlag::O_RDONLY
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
        let is_due = now.0 - swept.0 > millis(SWEEP_EVERY);
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
            if found.is_ok_and(|found| is_old(&found, now))
                && let Err(error) = owner::remove_tree(&cache)
            {
                tracing::warn!(%error, "an old package cache cannot be removed");
            }
        }
    }

    /// Removes the sets that no run has used for long. Whoever uses one has a lock on it.
    pub(crate) fn sweep_sets(&self, now: Millis) {
        for cache in self.caches() {
            for kind in SETS {
                if let Err(error) = self.sweep_sets_of(&cache, kind, now) {
                    let cache = cache.display();
                    tracing::warn!(%error, "cannot look through the packages in {cache}/{kind}");
                }
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
        // By way of what is open: its path may lead elsewhere by now.
        let folder = PathBuf::from(format!("/proc/self/fd/{}", sets.as_raw_fd()));
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let old = entry
                .metadata()
                .is_ok_and(|found| found.is_dir() && is_old(&found, now));
            // What is being made has a dot, and goes otherwise.
            if !old || name.to_string_lossy().starts_with('.') {
                continue;
            }
            let Ok(set) = openat(&sets, name.as_os_str(), FOLDER, Mode::empty()) else {
                continue;
            };
            let Ok(set) = Flock::lock(File::from(set), FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            // It may have been used until the moment before.
            if !is_old(&set.metadata()?, now) {
                continue;
            }
            let number = self.removed.fetch_add(1, Ordering::Relaxed);
            // What cannot be removed there, and what a crash leaves, goes at the next start.
            let gone = format!("{}-set-{number}", std::process::id());
            let gone = self.data_dir.join("scratch").join(gone);
            std::fs::rename(folder.join(&name), &gone)?;
            drop(set);
            if let Err(error) = std::fs::remove_dir_all(&gone) {
                tracing::warn!(%error, "an old set of packages cannot be removed yet");
            }
        }
        Ok(())
    }

    fn caches(&self) -> impl Iterator<Item = PathBuf> {
        let workspaces = std::fs::read_dir(self.data_dir.join("cache/packages"));
        let workspaces = workspaces.into_iter().flatten().flatten();
        let caches = workspaces.filter_map(|workspace| std::fs::read_dir(workspace.path()).ok());
        caches.flatten().flatten().map(|cache| cache.path())
    }
}

fn is_old(found: &std::fs::Metadata, now: Millis) -> bool {
    now.0 - found.mtime().saturating_mul(1000) > millis(AGE_MAX)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
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
    }
}
