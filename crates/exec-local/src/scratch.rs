//! The runs' own folders on disk, below that of their parent.
//!
//! Most runs never touch theirs. A folder that is just as it was made goes to the next run of the
//! same parent, because making and removing folders is a good part of what a small run costs the
//! kernel. Nothing tells whether somebody has one open: a run that was handed it by the one before
//! sees what the next one puts there. It is a run of the same place, whose runs all write to one cache of
//! packages and execute what is there; so it could do no less without.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use forebay_runtime::remove_tree;

/// What R installs packages to for one run, see `r_libraries.py`. R takes only folders that are there when it starts.
const R: &str = "r";
/// Folders that wait for a run.
const SPARE_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Folders {
    root: PathBuf,
    made: AtomicU64,
    spare: Mutex<Vec<Folder>>,
}

/// One run's. It stays when it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    name: String,
    as_made: [State; 2],
}

/// What changes with whatever is done to a folder or put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    inode: u64,
    mode: u32,
    /// Of the inode, in seconds and nanoseconds: nobody can set it.
    changed: (i64, i64),
}

impl State {
    /// Links are not followed.
    fn of(path: &Path) -> io::Result<Self> {
        let found: Metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            inode: found.ino(),
            mode: found.mode(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

impl Folders {
    /// Below `root`, which it makes.
    pub(crate) fn new(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self {
            root,
            made: AtomicU64::new(0),
            spare: Mutex::default(),
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Folder>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> io::Result<Folder> {
        let spare = self.spare().pop();
        spare.map_or_else(|| self.make(), Ok)
    }

    fn make(&self) -> io::Result<Folder> {
        let name = self.made.fetch_add(1, Ordering::Relaxed).to_string();
        let path = self.root.join(&name);
        fs::create_dir(&path)?;
        fs::create_dir(path.join(R))?;
        let as_made = states(&path)?;
        Ok(Folder {
            path,
            name,
            as_made,
        })
    }

    /// Of a run of which nothing is left. What it has put into its folder goes.
    ///
    /// # Errors
    /// What could not be removed. It stays until the parent goes.
    pub(crate) fn give_back(&self, folder: Folder) -> io::Result<()> {
        if folder.is_untouched() {
            let mut spare = self.spare();
            if spare.len() < SPARE_MAX {
                spare.push(folder);
                return Ok(());
            }
        }
        folder.remove()
    }

    /// # Errors
    /// What could not be removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove_tree(&self.root)
    }
}

fn states(path: &Path) -> io::Result<[State; 2]> {
    Ok([State::of(path)?, State::of(&path.join(R))?])
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Below that of its parent.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The clock of a file system may stand still for some milliseconds, so a look at what is there
    /// is part of it.
    fn is_untouched(&self) -> bool {
        let holds = |path: &Path, count: usize| {
            fs::read_dir(path).is_ok_and(|entries| entries.take(count + 1).count() == count)
        };
        states(&self.path).is_ok_and(|now| now == self.as_made)
            && holds(&self.path, 1)
            && holds(&self.path.join(R), 0)
    }

    /// # Errors
    /// What could not be removed.
    pub(crate) fn remove(self) -> io::Result<()> {
        remove_tree(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folders() -> (tempfile::TempDir, Folders) {
        let place = tempfile::tempdir().unwrap();
        let folders = Folders::new(place.path().join("parent")).unwrap();
        (place, folders)
    }

    #[test]
    fn a_folder_that_nobody_touched_is_the_next_runs() {
        let (_place, folders) = folders();
        let first = folders.take().unwrap();
        assert!(first.path().join("r").is_dir());
        let path = first.path().to_owned();
        // Looking at it changes nothing.
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        folders.give_back(first).unwrap();
        let second = folders.take().unwrap();
        assert_eq!(second.path(), path);
        let third = folders.take().unwrap();
        assert_ne!(third.path(), path, "one run has one");
    }

    /// That of the file system: it may stand still for longer than this test takes.
    fn until_the_clock_moves(path: &Path) {
        let probe = path.with_extension("probe");
        let made = State::of(&path.join(R)).unwrap().changed;
        while {
            fs::write(&probe, "").unwrap();
            State::of(&probe).unwrap().changed == made
        } {
            fs::remove_file(&probe).unwrap();
        }
    }

    #[test]
    fn whatever_a_run_did_there_is_not_for_the_next() {
        let deeds: [fn(&Path); 7] = [
            |path| fs::write(path.join("left"), "for you").unwrap(),
            |path| fs::write(path.join("r/left"), "for you").unwrap(),
            |path| {
                until_the_clock_moves(path);
                fs::write(path.join("left"), "for you").unwrap();
                fs::remove_file(path.join("left")).unwrap();
            },
            |path| fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap(),
            |path| fs::set_permissions(path.join("r"), Permissions::from_mode(0o777)).unwrap(),
            |path| fs::remove_dir(path.join("r")).unwrap(),
            |path| {
                fs::remove_dir(path.join("r")).unwrap();
                symlink("/etc", path.join("r")).unwrap();
            },
        ];
        for deed in deeds {
            let (_place, folders) = folders();
            let folder = folders.take().unwrap();
            let path = folder.path().to_owned();
            deed(&path);
            folders.give_back(folder).unwrap();
            assert!(!path.exists());
            let next = folders.take().unwrap();
            assert_ne!(next.path(), path);
            assert_eq!(fs::read_dir(next.path().join("r")).unwrap().count(), 0);
        }
    }

    #[test]
    fn no_more_wait_than_runs_may_want() {
        let (_place, folders) = folders();
        let taken: Vec<_> = (0..SPARE_MAX + 3)
            .map(|_| folders.take().unwrap())
            .collect();
        for folder in taken {
            folders.give_back(folder).unwrap();
        }
        assert_eq!(fs::read_dir(folders.root()).unwrap().count(), SPARE_MAX);
        folders.remove().unwrap();
        assert!(!folders.root().exists());
    }
}
