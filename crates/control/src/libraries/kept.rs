//! The content of library files, by its SHA-256. A file that is here never changes: what is made of
//! it are links and copies. The links of runs and the rows of the database point at it, and nothing
//! that is pointed at goes.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use forebay_blob::Blob;
use forebay_runtime::{Clock, blocking};
use forebay_types::{Error, Result, hex};
use sha2::{Digest as _, Sha256};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::WorkspaceDirs;

/// How many files are known again without reading them.
const KNOWN_MAX: usize = 4096;
/// A file that changed less than this long before it was read may change again in the same tick of
/// its file system's clock.
const SETTLED_MS: i64 = 2000;

/// Which file, and which content of it: the time of the last change cannot be set by programs.
type Face = (u64, u64, u64, i64, i64);

#[derive(Debug, Clone)]
pub(crate) struct Kept(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    staging: PathBuf,
    clock: Clock,
    known: Mutex<HashMap<Face, String>>,
    /// Shared from keeping a file until something points at it; the sweep has it alone.
    gate: RwLock<()>,
}

impl Kept {
    pub(crate) fn new(dirs: &WorkspaceDirs, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            folder: dirs.libraries.clone(),
            staging: dirs.staging.clone(),
            clock,
            known: Mutex::default(),
            gate: RwLock::default(),
        }))
    }

    /// Hold this from [`Kept::keep`] until something points at the file.
    pub(crate) async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.0.gate.read().await
    }

    /// Where the content is.
    pub(crate) fn path(&self, digest: &str) -> PathBuf {
        self.0.folder.join(digest)
    }

    /// Takes the content of a file in, and gives its digest. `shown` names it in errors.
    ///
    /// # Errors
    /// When it cannot be read, or the disk is full.
    pub(crate) async fn keep(&self, blob: Blob, shown: &str) -> Result<String> {
        let (inner, shown) = (Arc::clone(&self.0), shown.to_owned());
        blocking(move || inner.keep(blob.file, &shown)).await
    }

    /// The content of a small text file; `shown` names it in errors.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn text(&self, digest: &str, shown: &str) -> Result<String> {
        let (content, shown) = (self.path(digest), shown.to_owned());
        blocking(move || {
            std::fs::read_to_string(content)
                .map_err(|e| Error::internal(format!("cannot read {shown}"), e))
        })
        .await
    }

    /// Gives the content another name; the folder of it is made.
    ///
    /// # Errors
    /// When there is no such content, or the disk is full.
    pub(crate) async fn place(&self, digest: &str, target: PathBuf) -> Result<()> {
        let content = self.path(digest);
        blocking(move || {
            let cannot = |e| Error::internal(format!("cannot place {}", target.display()), e);
            let folder = target.parent().unwrap_or(&target);
            std::fs::create_dir_all(folder).map_err(cannot)?;
            match std::fs::hard_link(&content, &target) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                // A file has so many links at most.
                Err(e) if e.kind() == std::io::ErrorKind::TooManyLinks => {
                    std::fs::copy(&content, &target).map(drop).map_err(cannot)
                }
                done => done.map_err(cannot),
            }
        })
        .await
    }

    /// Removes what no run that is under way has, and what is not among those that `pointed_at`
    /// picks.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) async fn sweep<F>(&self, pointed_at: impl FnOnce(Vec<String>) -> F) -> Result<()>
    where
        F: Future<Output = Result<HashSet<String>>>,
    {
        let _alone = self.0.gate.write().await;
        let folder = self.0.folder.clone();
        let cannot = |e| Error::internal("cannot look through the files of libraries", e);
        let unlinked = blocking(move || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(&folder).map_err(cannot)? {
                let entry = entry.map_err(cannot)?;
                let links = entry.metadata().map_or(2, |meta| meta.nlink());
                if links == 1 {
                    names.extend(entry.file_name().into_string());
                }
            }
            Ok(names)
        });
        let mut unlinked = unlinked.await?;
        if unlinked.is_empty() {
            return Ok(());
        }
        let wanted = pointed_at(unlinked.clone()).await?;
        unlinked.retain(|name| !wanted.contains(name));
        let folder = self.0.folder.clone();
        blocking(move || {
            for name in unlinked {
                std::fs::remove_file(folder.join(name)).map_err(cannot)?;
            }
            Ok(())
        })
        .await
    }
}

impl Inner {
    fn keep(&self, mut file: File, shown: &str) -> Result<String> {
        let cannot = |e| Error::internal(format!("cannot read {shown}"), e);
        let before = face(&file).map_err(cannot)?;
        let known = self.lock().get(&before).cloned();
        if let Some(digest) = known
            && self.folder.join(&digest).is_file()
        {
            return Ok(digest);
        }
        let half = Half(
            self.staging
                .join(format!("{:032x}", rand::random::<u128>())),
        );
        let digest = copy(&mut file, &half.0).map_err(|e| match e.kind() {
            std::io::ErrorKind::StorageFull => Error::new(
                forebay_types::ErrorCode::TemporarilyUnavailable,
                format!("The server's disk is full: {shown} cannot be kept."),
            )
            .because(e),
            _ => cannot(e),
        })?;
        let place = self.folder.join(&digest);
        std::fs::rename(&half.0, &place)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|e| Error::internal(format!("cannot keep {shown}"), e))?;
        let after = face(&file).map_err(cannot)?;
        let age = self.clock.now().0 - after.4 / 1_000_000;
        if before == after && age > SETTLED_MS {
            let mut known = self.lock();
            if known.len() >= KNOWN_MAX {
                known.clear();
            }
            known.insert(after, digest.clone());
        }
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Face, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A copy under way: gone again unless it was moved to its place.
struct Half(PathBuf);

impl Drop for Half {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn face(file: &File) -> std::io::Result<Face> {
    let meta = file.metadata()?;
    let changed = meta.ctime() * 1_000_000_000 + meta.ctime_nsec();
    let modified = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
    Ok((meta.dev(), meta.ino(), meta.len(), modified, changed))
}

/// Copies, and gives the digest of what was copied, which nobody can have changed in between.
fn copy(from: &mut File, to: &Path) -> std::io::Result<String> {
    // What was just written is read from its end otherwise.
    from.rewind()?;
    let mut target = File::options().write(true).create_new(true).open(to)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = from.read(&mut buffer)?;
        let piece = buffer.get(..count).unwrap_or_default();
        if piece.is_empty() {
            break;
        }
        hash.update(piece);
        target.write_all(piece)?;
    }
    target.set_permissions(Permissions::from_mode(0o444))?;
    target.sync_all()?;
    Ok(hex(hash.finalize()))
}

/// Of a file's bytes, in hexadecimal digits; `None` when it is not there. `shown` names it in errors.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn digest_of(file: &Path, shown: &str) -> Result<Option<String>> {
    let read = || -> std::io::Result<_> {
        let mut hash = Sha256::new();
        std::io::copy(&mut File::open(file)?, &mut hash)?;
        Ok(hash.finalize())
    };
    match read() {
        Ok(digest) => Ok(Some(hex(digest))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::internal(format!("cannot read {shown}"), e)),
    }
}

#[cfg(test)]
mod tests {
    use forebay_blob::{Root, Staging};
    use forebay_types::Millis;

    use super::*;

    #[tokio::test]
    async fn content_stays_what_it_was_while_something_points_at_it() {
        let root = tempfile::tempdir().unwrap();
        let dirs = WorkspaceDirs::open(root.path()).unwrap();
        // Long after the files of this test: what was read once is known again.
        let kept = Kept::new(&dirs, Clock::manual(Millis(i64::MAX / 2)));
        let staging = Staging::open(&dirs.staging).unwrap();
        let dbfs = Root::open(&dirs.dbfs, &staging).unwrap();
        let file = dirs.dbfs.join("a.jar");
        let keep = async || {
            let blob = dbfs.open_file("a.jar").unwrap();
            kept.keep(blob, "a.jar").await.unwrap()
        };
        std::fs::write(&file, "one").unwrap();
        let one = keep().await;
        assert_eq!(one, keep().await);
        kept.place(&one, dirs.checkouts.join("7/a.jar"))
            .await
            .unwrap();
        // In place, as a program does it.
        std::fs::write(&file, "two").unwrap();
        let two = keep().await;
        assert_ne!(one, two);
        assert_eq!(
            std::fs::read(dirs.checkouts.join("7/a.jar")).unwrap(),
            b"one"
        );

        kept.sweep(async |unlinked| {
            assert_eq!(unlinked, std::slice::from_ref(&two));
            Ok(HashSet::from([two.clone()]))
        })
        .await
        .unwrap();
        assert!(kept.path(&one).is_file() && kept.path(&two).is_file());
        std::fs::remove_dir_all(dirs.checkouts.join("7")).unwrap();
        kept.sweep(async |_| Ok(HashSet::new())).await.unwrap();
        assert!(!kept.path(&one).exists() && !kept.path(&two).exists());
        assert_eq!(keep().await, two);
    }
}
