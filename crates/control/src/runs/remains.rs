//! What attempts leave on disk, and its removal.

use std::path::Path;

use forebay_runtime::{blocking, remove_tree};
use forebay_store::Store;
use forebay_types::{Result, RunId};

use super::output::folder;
use crate::services::WorkspaceDirs;

/// Removes the files of attempts and forgets those of which nothing is left. The others are told in
/// the log, and stay noted for the next time.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn remove(
    store: &Store,
    dirs: &WorkspaceDirs,
    attempts: Vec<RunId>,
) -> Result<()> {
    let dirs = dirs.clone();
    let gone = move || {
        let gone = attempts.into_iter().filter(|attempt| {
            let folder = folder(&dirs, *attempt);
            let removed = remove_tree(&folder);
            if let Err(error) = &removed {
                tracing::warn!(%error, "could not delete all of {}", folder.display());
            }
            removed.is_ok()
        });
        Ok(gone.collect())
    };
    store.trash_forget(blocking(gone).await?).await
}

/// What the files of attempts take, in bytes; what cannot be read counts as nothing.
pub(crate) async fn size(dirs: &WorkspaceDirs, attempts: Vec<RunId>) -> Result<u64> {
    let dirs = dirs.clone();
    let sizes = move || {
        let sizes = attempts.iter().map(|id| size_of(&folder(&dirs, *id)));
        Ok(sizes.sum())
    };
    blocking(sizes).await
}

fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn folders_count_with_what_is_in_them_and_go_whoever_may_write_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let (attempt, outside) = (dir.path().join("1"), dir.path().join("outside"));
        let cache = attempt.join("home/go/mod");
        std::fs::create_dir_all(&cache).unwrap();
        std::fs::write(attempt.join("output.jsonl"), "12345").unwrap();
        std::fs::write(cache.join("a"), "123").unwrap();
        std::fs::write(&outside, "123456789").unwrap();
        assert_eq!(size_of(&attempt), 8);
        std::os::unix::fs::symlink(dir.path(), attempt.join("home/link")).unwrap();
        for folder in [&cache, &attempt.join("home")] {
            std::fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
        }
        remove_tree(&attempt).unwrap();
        assert!(!attempt.exists() && outside.exists());
        remove_tree(&attempt).unwrap();
    }
}
