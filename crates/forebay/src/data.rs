use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The right to use a data folder: one process at a time. Released by the system when the process
/// ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataLock(#[expect(dead_code, reason = "held for its lock")] File);

impl DataLock {
    /// Creates the folder when needed and takes its lock.
    pub(crate) fn take(data: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data)
            .with_context(|| format!("cannot create the data folder {}", data.display()))?;
        let path = data.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => bail!(
                "the data folder {} is in use by another Forebay process; stop that one, or choose \
                 another folder with --data",
                data.display()
            ),
            Err(TryLockError::Error(e)) => {
                Err(e).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

/// Whether a process has this folder; also true when nobody can tell.
#[must_use]
pub fn data_in_use(data: &Path) -> bool {
    match File::options().write(true).open(data.join("lock")) {
        Ok(file) => file.try_lock().is_err(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Replaces a private file in one step: readers see the old or the new text, never half of it.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
