//! Deleting and copying whole trees.

use std::io;

use crate::error::BlobError;
use crate::root::{Root, at, join, rename_free, sync_dir};
use crate::staged::{Mode, Staging};

/// Deeper trees than this are refused, so that recursion stays bounded. Paths of the API are at
/// most 4096 bytes long, which is less.
const DEPTH_MAX: usize = 2048;

impl Root {
    /// Deletes a directory with everything in it, or a file. The name is gone in one step: the
    /// tree is first moved to staging, so a crash never leaves half of it.
    ///
    /// # Errors
    /// `Missing`, or what the system says.
    pub fn remove_all(&self, path: &str) -> Result<(), BlobError> {
        let (parent, name) = self.parent(path)?;
        let meta = parent.symlink_metadata(name)?;
        if !meta.is_dir() {
            return self.remove_file(path);
        }
        let trash = Staging::free_name();
        match rename_free(&parent, name, &self.staging.0, &trash) {
            Ok(()) => {
                sync_dir(&parent)?;
                Ok(self.staging.0.remove_dir_all(&trash)?)
            }
            // A mount on another file system has no staging of its own.
            Err(BlobError::CrossDevice) => {
                parent.remove_dir_all(name)?;
                sync_dir(&parent)
            }
            Err(e) => Err(e),
        }
    }

    /// Copies a file to a name; the directory above must exist.
    ///
    /// # Errors
    /// `Exists` by `mode`, `Missing`, `NoSpace`.
    pub fn copy_file(
        &self,
        from: &str,
        to: &Self,
        target: &str,
        mode: Mode,
    ) -> Result<(), BlobError> {
        let mut source = self.open_file(from)?.file;
        let staged = to.staging.create()?;
        // The standard library copies inside the kernel where the file systems can.
        io::copy(&mut source, &mut staged.handle()?)?;
        to.publish(staged.seal()?, target, mode)?.sync()
    }

    /// Copies a file or tree to a name that is free. When it fails, what was copied stays.
    ///
    /// # Errors
    /// `Exists`, `Missing`, `NoSpace`.
    pub fn copy_all(&self, from: &str, to: &Self, target: &str) -> Result<(), BlobError> {
        self.copy_below(from, to, target, 0)
    }

    fn copy_below(
        &self,
        from: &str,
        to: &Self,
        target: &str,
        depth: usize,
    ) -> Result<(), BlobError> {
        let meta = self.stat(from)?.ok_or(BlobError::Missing)?;
        if !meta.is_dir() {
            return self.copy_file(from, to, target, Mode::IfAbsent);
        }
        if depth > DEPTH_MAX {
            return Err(BlobError::Io(io::Error::other("the tree is too deep")));
        }
        to.dir.create_dir(at(target))?;
        for entry in self.list(from)? {
            let name = &entry.name;
            self.copy_below(&join(from, name), to, &join(target, name), depth + 1)?;
        }
        Ok(())
    }
}
