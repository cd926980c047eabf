use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use rustix::fs::fadvise;

use crate::error::BlobError;
use crate::root::{Blob, Meta, Root, rename_free, sync_dir};

/// Whether a name that is taken is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Replace,
    IfAbsent,
}

impl Mode {
    #[must_use]
    pub fn overwrite(overwrite: bool) -> Self {
        if overwrite {
            Self::Replace
        } else {
            Self::IfAbsent
        }
    }
}

/// The folder of files under way. What a crash leaves there is deleted at the next start.
#[derive(Debug, Clone)]
pub struct Staging(pub(crate) Arc<Dir>);

impl Staging {
    /// # Errors
    /// When the folder cannot be opened.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        Ok(Self(Arc::new(Dir::open_ambient_dir(
            folder,
            ambient_authority(),
        )?)))
    }

    /// A new file that nobody sees.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(&self) -> Result<Staged, BlobError> {
        Staged::create(Arc::clone(&self.0), "")
    }

    /// A new directory that nobody sees, to be filled and then moved into place as a whole.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create_tree(&self) -> Result<StagedTree, BlobError> {
        let name = Self::free_name();
        self.0.create_dir(&name)?;
        let root = Root {
            dir: Arc::new(self.0.open_dir(&name)?),
            staging: self.clone(),
        };
        Ok(StagedTree { root, name })
    }

    /// A name that is free for something moved into the folder.
    pub(crate) fn free_name() -> String {
        format!("{:032x}", rand::random::<u128>())
    }
}

/// A file under way; dropping it deletes it.
#[derive(Debug)]
pub struct Staged {
    file: File,
    name: Name,
}

/// The temporary name, taken back on drop unless the file has landed.
#[derive(Debug)]
struct Name {
    dir: Arc<Dir>,
    name: String,
    landed: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.landed {
            // Nobody sees the file; what cannot be deleted now goes at the next start.
            drop(self.dir.remove_file(&self.name));
        }
    }
}

impl Staged {
    fn create(dir: Arc<Dir>, prefix: &str) -> Result<Self, BlobError> {
        let name = format!("{prefix}{}", Staging::free_name());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = dir.open_with(&name, &options)?.into_std();
        let name = Name {
            dir,
            name,
            landed: false,
        };
        Ok(Self { file, name })
    }

    /// Appends.
    ///
    /// # Errors
    /// `NoSpace`, or what the system says.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        Ok(self.file.write_all(bytes)?)
    }

    /// Writes from `offset` on, beside other writers of the same file.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn writer(&self, offset: u64) -> Result<Writer, BlobError> {
        Ok(Writer {
            file: self.file.try_clone()?,
            offset,
            handed_over: offset,
        })
    }

    /// Another handle on the same file.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn handle(&self) -> Result<File, BlobError> {
        Ok(self.file.try_clone()?)
    }

    /// At most `length` bytes from the start.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn head(&self, length: usize) -> Result<Vec<u8>, BlobError> {
        let mut bytes = vec![0; length.min(usize::try_from(self.size_bytes()?).unwrap_or(length))];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// # Errors
    /// When the system refuses.
    pub fn size_bytes(&self) -> Result<u64, BlobError> {
        Ok(self.file.metadata()?.len())
    }

    /// Cuts the content to a length, or fills it up with zeros.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self, size_bytes: u64) -> Result<(), BlobError> {
        Ok(self.file.set_len(size_bytes)?)
    }

    /// The content for reading; the file is gone when the last reader is.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn into_blob(self) -> Result<Blob, BlobError> {
        let file = self.file.try_clone()?;
        let metadata = cap_std::fs::Metadata::from_file(&file)?;
        let meta = Meta::of(&metadata).ok_or(BlobError::Missing)?;
        Ok(Blob { file, meta })
    }

    /// Makes the content durable; only then may the file get its name.
    ///
    /// # Errors
    /// `NoSpace`, or what the system says.
    pub fn seal(self) -> Result<Sealed, BlobError> {
        self.file.sync_all()?;
        Ok(Sealed(self))
    }
}

/// How much is written before the disk is told to begin with it.
const HAND_OVER_BYTES: u64 = 16 << 20;

/// A place in a staged file where bytes arrive.
#[derive(Debug)]
pub struct Writer {
    file: File,
    offset: u64,
    handed_over: u64,
}

impl Writer {
    /// # Errors
    /// `NoSpace`, or what the system says.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        let waiting = self.offset - self.handed_over;
        if waiting >= HAND_OVER_BYTES {
            // The advice makes Linux write these pages out at once without waiting for them, so
            // that sealing a large file has little left to do. It is advice: failing is fine.
            let advice = rustix::fs::Advice::DontNeed;
            fadvise(
                &self.file,
                self.handed_over,
                NonZeroU64::new(waiting),
                advice,
            )
            .ok();
            self.handed_over = self.offset;
        }
        Ok(())
    }
}

/// A file whose content is on disk, waiting for its name.
#[derive(Debug)]
pub struct Sealed(Staged);

impl Sealed {
    pub(crate) fn land(
        mut self,
        parent: &Dir,
        name: &str,
        mode: Mode,
    ) -> Result<(), (BlobError, Self)> {
        let from = &self.0.name;
        let renamed = match mode {
            Mode::Replace => from
                .dir
                .rename(&from.name, parent, name)
                .map_err(BlobError::from),
            Mode::IfAbsent => rename_free(&from.dir, &from.name, parent, name),
        };
        match renamed {
            Ok(()) => {
                self.0.name.landed = true;
                Ok(())
            }
            Err(error) => Err((error, self)),
        }
    }

    /// The same content in a hidden file next to its target, where staging is on another file
    /// system (mounts).
    pub(crate) fn copy_beside(&self, parent: &Dir) -> Result<Self, BlobError> {
        let near = Staged::create(Arc::new(parent.try_clone()?), PART_PREFIX)?;
        let mut from = &self.0.file;
        io::Seek::rewind(&mut from)?;
        io::copy(&mut from, &mut &near.file)?;
        near.seal()
    }
}

/// Names of files under way beside their target.
pub(crate) const PART_PREFIX: &str = ".forebay-part-";

/// A file that has its name; the name becomes durable with [`Landed::sync`].
#[derive(Debug)]
#[must_use = "the name is not durable before sync"]
pub struct Landed(pub(crate) Dir);

impl Landed {
    /// # Errors
    /// When the system refuses.
    pub fn sync(self) -> Result<(), BlobError> {
        sync_dir(&self.0)
    }
}

/// A directory under way; dropping it deletes what is still there.
#[derive(Debug)]
pub struct StagedTree {
    /// What is in it.
    pub root: Root,
    name: String,
}

impl StagedTree {
    /// Moves the directory to a name that is free.
    ///
    /// # Errors
    /// `Exists`, `Missing` without the directory above.
    pub fn land(self, root: &Root, path: &str) -> Result<Landed, BlobError> {
        let (parent, name) = root.parent(path)?;
        rename_free(&self.root.staging.0, &self.name, &parent, name)?;
        Ok(Landed(parent))
    }
}

impl Drop for StagedTree {
    fn drop(&mut self) {
        // After landing there is nothing of that name; otherwise nobody sees what is left.
        drop(self.root.staging.0.remove_dir_all(&self.name));
    }
}
