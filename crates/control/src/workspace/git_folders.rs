//! Which folders of the tree are Git checkouts. The tree asks here only; the answers come from
//! the Repos service's table.

use forebay_types::{RepoId, Result, WorkspacePath};

use super::Workspace;

/// A Git folder as the workspace calls show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFolder {
    pub id: RepoId,
    /// Its root.
    pub path: WorkspacePath,
    pub branch: Option<String>,
    pub head_commit_id: Option<String>,
    pub url: String,
    pub provider: String,
}

impl Workspace {
    /// The Git folder that is `path` or holds it.
    pub(crate) async fn git_folder_of(&self, _path: &WorkspacePath) -> Result<Option<GitFolder>> {
        Ok(None)
    }

    /// The roots of Git folders at or below `folder`.
    pub(crate) async fn git_folders_within(
        &self,
        _folder: &WorkspacePath,
    ) -> Result<Vec<GitFolder>> {
        Ok(Vec::new())
    }

    /// Called after the tree below `folder` was deleted.
    pub(crate) async fn git_folders_deleted(&self, _folder: &WorkspacePath) -> Result<()> {
        Ok(())
    }
}
