//! What a crash can leave, and how the next start mends it:
//!
//! - a row whose clone was under way: finished when the folder had reached its place, which its
//!   inode tells, else taken back without touching what may be at the path;
//! - a row whose folder is gone, because it was being deleted: forgotten;
//! - a `.git` without a row: removed.
//!
//! Staged folders are emptied by the start itself.

use std::collections::HashSet;
use std::path::PathBuf;

use forebay_runtime::blocking;
use forebay_store::RepoRow;
use forebay_types::{Error, Result};

use super::Inner;
use crate::workspace::remove_git_dir;

pub(super) async fn repair(inner: &Inner) -> Result<()> {
    let mut kept = HashSet::new();
    let mut gone = Vec::new();
    for (row, inode) in inner.store.repo_all().await? {
        if is_whole(inner, &row, inode).await? {
            if !row.ready {
                tracing::info!("finished the Git folder {}", row.path);
                inner.store.repo_ready(row.id).await?;
            }
            kept.insert(inner.folders.git_dir(row.id));
        } else {
            tracing::warn!("the Git folder {} is not whole and is forgotten", row.path);
            gone.push(row.id);
        }
    }
    inner.folders.forget(gone).await?;
    let folder = inner.folders.folder().to_owned();
    blocking(move || {
        let cannot = |e| Error::internal(format!("cannot read {}", folder.display()), e);
        for entry in std::fs::read_dir(&folder).map_err(cannot)? {
            let path: PathBuf = entry.map_err(cannot)?.path();
            if !kept.contains(&path) {
                remove_git_dir(&path);
            }
        }
        Ok(())
    })
    .await
}

/// Whether both halves of a Git folder are there.
async fn is_whole(inner: &Inner, row: &RepoRow, inode: u64) -> Result<bool> {
    let git_dir = inner.folders.git_dir(row.id);
    let git_dir_is_there = blocking(move || Ok(git_dir.join("HEAD").is_file())).await?;
    let Ok(root) = inner.workspace.pin_folder(&row.path).await else {
        return Ok(false);
    };
    let same = root.inode().is_ok_and(|found| found == inode);
    Ok(git_dir_is_there && (row.ready || same))
}
