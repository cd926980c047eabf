use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, OpenOptions, OpenOptionsExt};
use forebay_types::Millis;
use rustix::fs::{OFlags, RenameFlags, renameat_with};

use crate::error::BlobError;
use crate::staged::{Landed, Mode, PART_PREFIX, Sealed, Staging};

/// A folder and everything beneath it. Cheap to clone. All methods block.
///
/// Paths are relative, without a leading slash; the empty path is the root itself.
#[derive(Debug, Clone)]
pub struct Root {
    pub(crate) dir: Arc<Dir>,
    pub(crate) staging: Staging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Directory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub kind: Kind,
    /// 0 for directories.
    pub size_bytes: u64,
    pub modified: Millis,
}

impl Meta {
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// `None` for what is neither a file nor a directory: pipes, sockets and devices, which runs
    /// may make and the API does not show.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        let kind = if metadata.is_dir() {
            Kind::Directory
        } else if metadata.is_file() {
            Kind::File
        } else {
            return None;
        };
        let modified = metadata
            .modified()
            .map_or(Millis(0), |at| millis(at.into_std()));
        let size_bytes = if kind == Kind::File {
            metadata.len()
        } else {
            0
        };
        Some(Self {
            kind,
            size_bytes,
            modified,
        })
    }
}

fn millis(at: SystemTime) -> Millis {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Of what a link points to, when the name is one.
    pub meta: Meta,
    pub is_link: bool,
}

/// A file opened for reading; it stays readable when its name is replaced or deleted.
#[derive(Debug)]
pub struct Blob {
    pub file: File,
    pub meta: Meta,
}

impl Blob {
    /// At most `length` bytes from `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, BlobError> {
        let rest = usize::try_from(self.meta.size_bytes.saturating_sub(offset)).unwrap_or(length);
        let mut bytes = vec![0; length.min(rest)];
        let mut filled = 0;
        while filled < bytes.len() {
            let at = offset + filled as u64;
            match self.file.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// `.` for the root, which the system does not know as an empty path.
pub(crate) fn at(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

impl Root {
    /// Opens `folder`, which must exist; files under way live in `staging`.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub fn open(folder: &Path, staging: &Staging) -> Result<Self, BlobError> {
        Ok(Self {
            dir: Arc::new(Dir::open_ambient_dir(folder, ambient_authority())?),
            staging: staging.clone(),
        })
    }

    /// Looks `path` up, through links that stay beneath the root. `None` when there is nothing.
    ///
    /// # Errors
    /// When a link leads outside or the system refuses.
    pub fn stat(&self, path: &str) -> Result<Option<Meta>, BlobError> {
        match self.dir.metadata(at(path)).map_err(BlobError::from) {
            Ok(metadata) => Ok(Meta::of(&metadata)),
            Err(BlobError::Missing | BlobError::NotDirectory | BlobError::TooLong) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The names in a directory, sorted. Left out is what the API cannot show: names that are not
    /// UTF-8, links that lead nowhere or outside, pipes and devices.
    ///
    /// # Errors
    /// When it is missing or not a directory.
    pub fn list(&self, path: &str) -> Result<Vec<Entry>, BlobError> {
        let dir = self.dir.open_dir(at(path))?;
        let mut entries = Vec::new();
        for entry in dir.entries()? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with(PART_PREFIX) {
                continue;
            }
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let is_link = found.is_symlink();
            // A link is looked up from the root, as opening it will be.
            let meta = if is_link {
                self.stat(&join(path, &name)).ok().flatten()
            } else {
                Meta::of(&found)
            };
            if let Some(meta) = meta {
                entries.push(Entry {
                    name,
                    meta,
                    is_link,
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// When it is missing or not a file.
    pub fn open_file(&self, path: &str) -> Result<Blob, BlobError> {
        // Without NONBLOCK a pipe that a run planted would hold the thread for ever.
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = self.dir.open_with(at(path), &options)?;
        let meta = Meta::of(&file.metadata()?).ok_or(BlobError::Missing)?;
        if meta.is_dir() {
            return Err(BlobError::IsDirectory);
        }
        Ok(Blob {
            file: file.into_std(),
            meta,
        })
    }

    /// Where `path` really is, after links: relative to the root.
    ///
    /// # Errors
    /// When it is missing or a link leads outside.
    pub fn real_path(&self, path: &str) -> Result<String, BlobError> {
        let real = self.dir.canonicalize(at(path))?;
        let real = real.to_str().ok_or(BlobError::Missing)?;
        Ok(if real == "." {
            String::new()
        } else {
            real.to_owned()
        })
    }

    /// Creates a directory and those above it; directories that exist are fine.
    ///
    /// # Errors
    /// `NotDirectory` when something on the way is none.
    pub fn mkdirs(&self, path: &str) -> Result<(), BlobError> {
        let mut done = String::new();
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let next = join(&done, segment);
            match self.dir.create_dir(&next).map_err(BlobError::from) {
                Ok(()) => sync_dir(&self.dir.open_dir(at(&done))?)?,
                Err(BlobError::Exists) => match self.stat(&next)? {
                    Some(meta) if meta.is_dir() => {}
                    _ => return Err(BlobError::NotDirectory),
                },
                Err(e) => return Err(e),
            }
            done = next;
        }
        Ok(())
    }

    /// Gives a sealed file its name. The directory above must exist.
    ///
    /// With [`Mode::IfAbsent`] exactly one of several callers wins.
    ///
    /// # Errors
    /// `Missing` without the directory above, `Exists`, or `IsDirectory`.
    pub fn publish(&self, file: Sealed, path: &str, mode: Mode) -> Result<Landed, BlobError> {
        let (parent, name) = self.parent(path)?;
        match file.land(&parent, name, mode) {
            Err((BlobError::CrossDevice, file)) => {
                let near = file.copy_beside(&parent)?;
                near.land(&parent, name, mode).map_err(|(error, _)| error)?;
            }
            Err((error, _)) => return Err(error),
            Ok(()) => {}
        }
        Ok(Landed(parent))
    }

    /// Moves a file or tree to a name that is free, possibly below another root.
    ///
    /// # Errors
    /// `Exists`, `Missing`, or `CrossDevice` when it has to be copied instead.
    pub fn rename(&self, from: &str, to_root: &Self, to: &str) -> Result<(), BlobError> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = to_root.parent(to)?;
        rename_free(&from_dir, from_name, &to_dir, to_name)?;
        sync_dir(&to_dir)?;
        sync_dir(&from_dir)
    }

    /// Deletes a file, or a link without what it points to.
    ///
    /// # Errors
    /// When it is missing or a directory.
    pub fn remove_file(&self, path: &str) -> Result<(), BlobError> {
        let (parent, name) = self.parent(path)?;
        parent.remove_file(name)?;
        sync_dir(&parent)
    }

    /// Deletes an empty directory.
    ///
    /// # Errors
    /// `NotEmpty`, `NotDirectory` or `Missing`.
    pub fn remove_dir(&self, path: &str) -> Result<(), BlobError> {
        let (parent, name) = self.parent(path)?;
        parent.remove_dir(name)?;
        sync_dir(&parent)
    }

    /// The directory above `path`, and the last name.
    pub(crate) fn parent<'a>(&self, path: &'a str) -> Result<(Dir, &'a str), BlobError> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() {
            // The root itself has no name that could be changed.
            return Err(BlobError::IsDirectory);
        }
        Ok((self.dir.open_dir(at(parent))?, name))
    }
}

pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Makes the names of a directory durable.
pub(crate) fn sync_dir(dir: &Dir) -> Result<(), BlobError> {
    // The handle may be good for look-ups only (O_PATH), which cannot be flushed.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(dir, ".", flags, rustix::fs::Mode::empty())?;
    match rustix::fs::fsync(readable) {
        // Some file systems cannot flush directories, and have nothing to flush.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Renames only when the new name is free, in one step.
pub(crate) fn rename_free(from: &Dir, name: &str, to: &Dir, new: &str) -> Result<(), BlobError> {
    Ok(renameat_with(from, name, to, new, RenameFlags::NOREPLACE)?)
}
