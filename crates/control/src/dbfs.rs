//! The workspace's file system: what runs see as `/dbfs`. Every user of the workspace may read
//! and write all of it, except where a mount is read-only.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use forebay_blob::{Blob, BlobError, Meta, Mode, Root, Staged, Staging};
use forebay_config::Mount;
use forebay_runtime::{Clock, blocking};
use forebay_types::{DbfsPath, Error, ErrorCode, Millis, Result};

use crate::WorkspaceDirs;
use crate::sessions::Sessions;

mod handles;
mod mounts;
#[cfg(test)]
mod tests;

use handles::{Handle, block_too_large};
use mounts::Mounts;

/// The largest block, and the most that one call reads: one MiB, inclusive.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
/// What a read returns when no length is asked for.
const READ_BYTES_DEFAULT: i64 = 512 << 10;

#[derive(Debug, Clone)]
pub struct Dbfs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    mounts: Mounts,
    staging: Staging,
    /// Files of libraries, which never change.
    fixed: RwLock<BTreeSet<DbfsPath>>,
    handles: Sessions<i64, Handle>,
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    pub path: DbfsPath,
    pub is_dir: bool,
    pub size_bytes: u64,
    pub modified: Millis,
}

impl FileInfo {
    fn new(path: DbfsPath, meta: Meta) -> Self {
        Self {
            path,
            is_dir: meta.is_dir(),
            size_bytes: meta.size_bytes,
            modified: meta.modified,
        }
    }
}

impl Dbfs {
    pub(crate) fn open(dirs: &WorkspaceDirs, mounts: &[Mount], clock: Clock) -> Result<Self> {
        let staging = Staging::open(&dirs.staging).map_err(|e| e.at("of the staging folder"))?;
        let mounts = Mounts::open(dirs, mounts, &staging)?;
        let handles = Sessions::new(clock, handles::IDLE_MS, handles::OPEN_MAX);
        Ok(Self {
            inner: Arc::new(Inner {
                mounts,
                staging,
                fixed: RwLock::default(),
                handles,
            }),
        })
    }

    /// Drops uploads that nobody continued.
    pub(crate) fn sweep(&self) {
        self.inner.handles.sweep();
    }

    /// A new file for content that is on its way in.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn stage(&self) -> Result<Staged> {
        let staging = self.inner.staging.clone();
        blocking(move || staging.create().map_err(|e| e.at("of the upload"))).await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn status(&self, path: &DbfsPath) -> Result<FileInfo> {
        self.run(path, |inner, path| inner.status(&path)).await
    }

    /// The content of a directory by name, or a file itself.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn list(&self, path: &DbfsPath) -> Result<Vec<FileInfo>> {
        self.run(path, |inner, path| {
            let status = inner.status(&path)?;
            if !status.is_dir {
                return Ok(vec![status]);
            }
            inner.entries(&path)
        })
        .await
    }

    /// The files below a directory, however deep. Directories are read one by one, so files that
    /// come and go meanwhile may or may not be among them.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `RESOURCE_LIMIT_EXCEEDED` for more than `max` files and
    /// directories; when it is no directory.
    pub async fn walk(&self, path: &DbfsPath, max: usize) -> Result<Vec<FileInfo>> {
        self.run(path, move |inner, path| inner.walk(&path, max))
            .await
    }

    /// Creates a directory and those above it.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when a file is in the way.
    pub async fn mkdirs(&self, path: &DbfsPath) -> Result<()> {
        self.run(path, |inner, path| inner.mkdirs(&path)).await
    }

    /// Deletes a file or directory; what is not there counts as deleted.
    ///
    /// # Errors
    /// `IO_ERROR` for a directory that is not empty, without `recursive`.
    pub async fn delete(&self, path: &DbfsPath, recursive: bool) -> Result<()> {
        self.run(path, move |inner, path| inner.delete(&path, recursive))
            .await
    }

    /// Moves a file or tree; into `target` when that is a directory.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or `RESOURCE_ALREADY_EXISTS`.
    pub async fn rename(&self, source: &DbfsPath, target: &DbfsPath) -> Result<()> {
        let target = target.clone();
        self.run(source, move |inner, source| inner.rename(&source, &target))
            .await
    }

    /// Gives staged content its name, with the directories above.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` for a file without `overwrite`, and for a directory.
    pub async fn put(&self, path: &DbfsPath, overwrite: bool, content: Staged) -> Result<()> {
        let mode = Mode::overwrite(overwrite);
        self.run(path, move |inner, path| inner.publish(content, &path, mode))
            .await
    }

    /// Gives staged content a name that stays, and that nobody changes through the API.
    ///
    /// # Errors
    /// When the disk refuses, or a directory has the name.
    pub(crate) async fn put_fixed(&self, path: &DbfsPath, content: Staged) -> Result<()> {
        self.run(path, |inner, path| {
            inner.fixed_mut().remove(&path);
            inner.publish(content, &path, Mode::Replace)?;
            inner.fixed_mut().insert(path);
            Ok(())
        })
        .await
    }

    /// Nobody changes this file through the API from here on.
    pub(crate) fn fix(&self, path: DbfsPath) {
        self.inner.fixed_mut().insert(path);
    }

    /// Deletes a file that [`Dbfs::put_fixed`] made.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) async fn delete_fixed(&self, path: &DbfsPath) -> Result<()> {
        self.run(path, |inner, path| {
            inner.fixed_mut().remove(&path);
            inner.delete(&path, false)
        })
        .await
    }

    /// At most `length` bytes from `offset`; none beyond the end.
    ///
    /// # Errors
    /// `MAX_READ_SIZE_EXCEEDED`, or `INVALID_PARAMETER_VALUE` for negative numbers and directories.
    pub async fn read(
        &self,
        path: &DbfsPath,
        offset: Option<i64>,
        length: Option<i64>,
    ) -> Result<Vec<u8>> {
        let number = |field: &str, value: i64| {
            u64::try_from(value).map_err(|_| {
                Error::invalid(format!("Field '{field}' must not be negative: {value}."))
            })
        };
        let offset = number("offset", offset.unwrap_or(0))?;
        let length = number("length", length.unwrap_or(READ_BYTES_DEFAULT))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > BLOCK_BYTES_MAX {
            return Err(Error::new(
                ErrorCode::MaxReadSizeExceeded,
                format!(
                    "Field 'length' is {length}, at most {BLOCK_BYTES_MAX} bytes are read at once."
                ),
            ));
        }
        self.run(path, move |inner, path| {
            inner
                .open_file(&path)?
                .read(offset, length)
                .map_err(|e| e.at(path.as_str()))
        })
        .await
    }

    /// Opens a file.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or `INVALID_PARAMETER_VALUE` for a directory.
    pub async fn open_file(&self, path: &DbfsPath) -> Result<Blob> {
        self.run(path, |inner, path| inner.open_file(&path)).await
    }

    /// Checks the size of content that came in one piece.
    ///
    /// # Errors
    /// `MAX_BLOCK_SIZE_EXCEEDED`.
    pub fn check_block(size_bytes: usize) -> Result<()> {
        if size_bytes > BLOCK_BYTES_MAX {
            Err(block_too_large(size_bytes))
        } else {
            Ok(())
        }
    }

    async fn require_free(&self, path: &DbfsPath, overwrite: bool) -> Result<()> {
        self.run(path, move |inner, path| {
            let place = inner.mounts.place(&path)?;
            place.require_writable(&path)?;
            inner.require_free_of_fixed(&path)?;
            match place
                .root
                .stat(&place.below)
                .map_err(|e| e.at(path.as_str()))?
            {
                Some(meta) if meta.is_dir() || !overwrite => Err(exists(&path)),
                _ => Ok(()),
            }
        })
        .await
    }

    /// Runs blocking work on a path.
    async fn run<T: Send + 'static>(
        &self,
        path: &DbfsPath,
        work: impl FnOnce(&Inner, DbfsPath) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || work(&inner, path)).await
    }
}

impl Inner {
    fn status(&self, path: &DbfsPath) -> Result<FileInfo> {
        let place = self.mounts.place(path)?;
        let meta = place
            .root
            .stat(&place.below)
            .map_err(|e| e.at(path.as_str()))?;
        meta.map(|meta| FileInfo::new(path.clone(), meta))
            .ok_or_else(|| missing(path))
    }

    /// The content of a directory by name.
    fn entries(&self, path: &DbfsPath) -> Result<Vec<FileInfo>> {
        let place = self.mounts.place(path)?;
        let entries = place
            .root
            .list(&place.below)
            .map_err(|e| e.at(path.as_str()))?;
        let named = entries.into_iter().filter_map(|entry| {
            // A name that the API cannot express is not shown.
            path.join(&entry.name)
                .ok()
                .map(|path| FileInfo::new(path, entry.meta))
        });
        Ok(named.collect())
    }

    fn walk(&self, path: &DbfsPath, max: usize) -> Result<Vec<FileInfo>> {
        if !self.status(path)?.is_dir {
            return Err(Error::invalid(format!("{path} is no directory.")));
        }
        let mut files = Vec::new();
        let mut open = vec![path.clone()];
        let mut seen = 0;
        while let Some(folder) = open.pop() {
            // A folder below may have gone since it was listed; the first one may not.
            let entries = match self.entries(&folder) {
                Err(e) if folder == *path => return Err(e),
                entries => entries.unwrap_or_default(),
            };
            seen += entries.len();
            if seen > max {
                let message = format!("{path} has more than {max} files and directories.");
                return Err(Error::new(ErrorCode::ResourceLimitExceeded, message));
            }
            for entry in entries {
                if entry.is_dir {
                    open.push(entry.path);
                } else {
                    files.push(entry);
                }
            }
        }
        Ok(files)
    }

    fn open_file(&self, path: &DbfsPath) -> Result<Blob> {
        let place = self.mounts.place(path)?;
        place.root.open_file(&place.below).map_err(|e| match e {
            BlobError::Missing | BlobError::NotDirectory => missing(path),
            e => e.at(path.as_str()),
        })
    }

    fn mkdirs(&self, path: &DbfsPath) -> Result<()> {
        let place = self.mounts.place(path)?;
        if place
            .root
            .stat(&place.below)
            .is_ok_and(|meta| meta.is_some_and(|meta| meta.is_dir()))
        {
            return Ok(());
        }
        place.require_writable(path)?;
        place.root.mkdirs(&place.below).map_err(|e| match e {
            BlobError::NotDirectory => exists(path),
            e => e.at(path.as_str()),
        })
    }

    fn delete(&self, path: &DbfsPath, recursive: bool) -> Result<()> {
        let place = self.mounts.place(path)?;
        let Some(meta) = place
            .root
            .stat(&place.below)
            .map_err(|e| e.at(path.as_str()))?
        else {
            // What is not there counts as deleted; a link that leads nowhere is.
            if !place.read_only {
                drop(place.root.remove_file(&place.below));
            }
            return Ok(());
        };
        self.require_movable(path)?;
        let deleted = match (meta.is_dir(), recursive) {
            (true, true) => place.root.remove_all(&place.below),
            (true, false) => place.root.remove_dir(&place.below),
            (false, _) => place.root.remove_file(&place.below),
        };
        deleted.map_err(|e| match e {
            BlobError::NotEmpty => Error::new(
                ErrorCode::IoError,
                "Directory is not empty. Use recursive delete or remove contents first.",
            ),
            e => e.at(path.as_str()),
        })
    }

    fn rename(&self, source: &DbfsPath, target: &DbfsPath) -> Result<()> {
        let from = self.mounts.place(source)?;
        self.status(source)?;
        self.require_movable(source)?;
        let target = match self.status(target) {
            Ok(status) if status.is_dir => target.join(source.name())?,
            Ok(_) => return Err(exists(target)),
            Err(e) if e.code == ErrorCode::ResourceDoesNotExist => target.clone(),
            Err(e) => return Err(e),
        };
        if target.is_within(source) {
            return Err(Error::invalid(format!(
                "Path {source} cannot be moved into itself ({target})."
            )));
        }
        let to = self.mounts.place(&target)?;
        to.require_writable(&target)?;
        if let Some(parent) = target.parent() {
            self.mkdirs(&parent)?;
        }
        let moved = match from.root.rename(&from.below, to.root, &to.below) {
            Err(BlobError::CrossDevice) => {
                copy_and_delete(from.root, &from.below, to.root, &to.below)
            }
            moved => moved,
        };
        moved.map_err(|e| match e {
            BlobError::Exists => exists(&target),
            e => e.at(target.as_str()),
        })
    }

    fn fixed_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeSet<DbfsPath>> {
        self.fixed.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn require_free_of_fixed(&self, path: &DbfsPath) -> Result<()> {
        let fixed = self.fixed.read().unwrap_or_else(PoisonError::into_inner);
        match fixed.iter().find(|file| file.is_within(path)) {
            Some(file) => Err(Error::exists(format!(
                "{file} is the file of a library, which already exists and never changes; \
                 POST /api/1.2/libraries/delete removes it."
            ))),
            None => Ok(()),
        }
    }

    fn publish(&self, content: Staged, path: &DbfsPath, mode: Mode) -> Result<()> {
        let place = self.mounts.place(path)?;
        place.require_writable(path)?;
        self.require_free_of_fixed(path)?;
        let at = |e: BlobError| match e {
            BlobError::Exists | BlobError::IsDirectory => exists(path),
            e => e.at(path.as_str()),
        };
        if let Some(parent) = path.parent() {
            self.mkdirs(&parent)?;
        }
        let sealed = content.seal().map_err(at)?;
        place
            .root
            .publish(sealed, &place.below, mode)
            .map_err(at)?
            .sync()
            .map_err(at)
    }

    /// Mount points, and what is above one, stay where they are.
    fn require_movable(&self, path: &DbfsPath) -> Result<()> {
        let place = self.mounts.place(path)?;
        place.require_writable(path)?;
        self.require_free_of_fixed(path)?;
        let fixed = if place.is_mount_point() {
            Some(path)
        } else {
            self.mounts.mount_below(path)
        };
        match fixed {
            Some(point) => Err(Error::invalid(format!(
                "Path {point} is a mount, which cannot be moved or deleted."
            ))),
            None => Ok(()),
        }
    }
}

/// A move between file systems. The source goes only when all of it has arrived.
fn copy_and_delete(from: &Root, source: &str, to: &Root, target: &str) -> Result<(), BlobError> {
    from.copy_all(source, to, target)?;
    from.remove_all(source)
}

fn missing(path: &DbfsPath) -> Error {
    Error::missing(format!("No file or directory exists on path {path}."))
}

fn exists(path: &DbfsPath) -> Error {
    Error::exists(format!(
        "A file or directory already exists at the input path {path}."
    ))
}
