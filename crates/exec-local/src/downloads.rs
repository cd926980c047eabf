//! What `uv` has unpacked into its cache, below `archive-v0`: an entry for each wheel. A set of packages
//! is made of hard links to it, so a set that is removed makes no room before these go as well.
//!
//! `uv` has means of its own, `cache prune`, and they remove whatever it does not know, sets above all.
//! An entry that is missed is downloaded again.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;

use crate::packages::{FOLDER, by_way_of};

const ENTRIES: &str = "archive-v0";
/// Every `uv` that uses the cache shares a lock on it.
const LOCK: &str = ".lock";

/// Moves the entries that nothing is linked to and nobody has read for long. What `put_away` gave for each.
///
/// # Errors
/// When the entries cannot be listed. One that cannot be moved stays.
pub(crate) fn put_away(
    cache: BorrowedFd<'_>,
    is_old: impl Fn(i64) -> bool,
    put_away: impl Fn(&Path) -> io::Result<PathBuf>,
) -> io::Result<Vec<PathBuf>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let found = openat(cache, LOCK, flags, Mode::empty())
        .and_then(|lock| Ok((lock, openat(cache, ENTRIES, FOLDER, Mode::empty())?)));
    let (lock, entries) = match found {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    // Somebody installs something just now: another time.
    let Ok(_alone) = Flock::lock(File::from(lock), FlockArg::LockExclusiveNonblock) else {
        return Ok(Vec::new());
    };
    let mut gone = Vec::new();
    for entry in std::fs::read_dir(by_way_of(&entries))? {
        let path = entry?.path();
        match is_unused(&path, &is_old)
            .and_then(|unused| unused.then(|| put_away(&path)).transpose())
        {
            Ok(moved) => gone.extend(moved),
            Err(error) => tracing::warn!(%error, "an old download of packages stays"),
        }
    }
    Ok(gone)
}

/// Whether none of its files has another name, and all were unpacked and last read long ago.
fn is_unused(entry: &Path, is_old: impl Fn(i64) -> bool) -> io::Result<bool> {
    let mut left = vec![entry.to_owned()];
    while let Some(path) = left.pop() {
        let found: Metadata = std::fs::symlink_metadata(&path)?;
        let is_used = match found.is_dir() {
            // To look at a folder is to read it.
            true => !is_old(found.mtime()),
            false => found.nlink() > 1 || !is_old(found.mtime().max(found.atime())),
        };
        if is_used {
            return Ok(false);
        }
        if found.is_dir() {
            for inner in std::fs::read_dir(&path)? {
                left.push(inner?.path());
            }
        }
    }
    Ok(true)
}
