use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, fstat, openat};

use crate::error::BlobError;
use crate::root::Root;

/// A directory held open: a program that works in it cannot be led elsewhere, whatever happens to
/// the names above it.
#[derive(Debug)]
pub struct Pinned(OwnedFd);

impl Pinned {
    /// A path that leads to the directory in this process, and in a child until it begins its
    /// program: good as a child's working directory, while `self` lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// The number by which the file system knows the directory; a rename does not change it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn inode(&self) -> Result<u64, BlobError> {
        Ok(fstat(&self.0)?.st_ino)
    }
}

impl Root {
    /// Opens a directory, following no link on the way: code in runs could plant one.
    ///
    /// # Errors
    /// `Missing`, or `NotDirectory` also for a link.
    pub fn pin(&self, path: &str) -> Result<Pinned, BlobError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut pinned = openat(&*self.dir, ".", flags, Mode::empty())?;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            pinned = openat(&pinned, segment, flags, Mode::empty())?;
        }
        Ok(Pinned(pinned))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::Staging;

    #[test]
    fn a_pinned_directory_stays_the_same_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("root/a/b")).unwrap();
        std::fs::create_dir(at("staging")).unwrap();
        symlink(at("root/a"), at("root/link")).unwrap();
        let staging = Staging::open(&at("staging")).unwrap();
        let root = Root::open(&at("root"), &staging).unwrap();
        let pinned = root.pin("a/b").unwrap();
        std::fs::rename(at("root/a"), at("root/moved")).unwrap();
        std::fs::write(pinned.path().join("x"), "1").unwrap();
        assert_eq!(std::fs::read_to_string(at("root/moved/b/x")).unwrap(), "1");
        assert_eq!(
            pinned.inode().unwrap(),
            root.pin("moved/b").unwrap().inode().unwrap()
        );
        assert!(matches!(root.pin("link/b"), Err(BlobError::NotDirectory)));
        assert!(matches!(root.pin("none"), Err(BlobError::Missing)));
    }
}
