//! Which folders of the tree are Git checkouts, and what the Repos service does to the tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_blob::{Pinned, StagedTree};
use forebay_git::Git;
use forebay_runtime::blocking;
use forebay_store::{RepoRow, Store};
use forebay_types::{Error, RepoId, Result, WorkspacePath};

use super::tree::{parent_missing, taken};
use super::{Form, Workspace, refuse_fixed_folder};
use crate::Ctx;
use crate::access::Access;

/// A Git folder as the calls show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitFolder {
    pub id: RepoId,
    /// Its root.
    pub path: WorkspacePath,
    /// `None` on a tag.
    pub branch: Option<String>,
    /// `None` in a repository without commits.
    pub head_commit_id: Option<String>,
    pub url: String,
    pub provider: String,
    /// The folders of a sparse checkout.
    pub sparse: Option<Vec<String>>,
}

/// The Git folders of the workspace, for reading. Their `.git` is kept apart from the tree, where
/// code in runs could change it.
#[derive(Debug, Clone)]
pub(crate) struct GitFolders {
    store: Store,
    git: Git,
    folder: PathBuf,
}

impl GitFolders {
    pub(crate) fn open(store: Store, git: Git, root: &Path) -> Result<Self> {
        let folder = root.join("git").join("repos");
        std::fs::create_dir_all(&folder)
            .map_err(|e| Error::internal(format!("cannot prepare {}", folder.display()), e))?;
        Ok(Self { store, git, folder })
    }

    /// Where all `.git` folders are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the `.git` of a Git folder is.
    pub(crate) fn git_dir(&self, id: RepoId) -> PathBuf {
        self.folder.join(format!("{id}.git"))
    }

    /// The Git folder that is `path` or holds it.
    pub(crate) async fn around(&self, path: &WorkspacePath) -> Result<Option<GitFolder>> {
        match self.store.repo_around(path).await? {
            Some(row) => Ok(Some(self.describe(row).await?)),
            None => Ok(None),
        }
    }

    /// The roots of Git folders at or below `folder`.
    pub(crate) async fn within(&self, folder: &WorkspacePath) -> Result<Vec<WorkspacePath>> {
        let rows = self.store.repo_within(folder).await?;
        Ok(rows.into_iter().map(|row| row.path).collect())
    }

    /// Adds branch and commit.
    pub(crate) async fn describe(&self, row: RepoRow) -> Result<GitFolder> {
        let (git, git_dir) = (self.git.clone(), self.git_dir(row.id));
        let head = blocking(move || Ok(git.head(&git_dir)?)).await?;
        Ok(GitFolder {
            id: row.id,
            path: row.path,
            branch: head.branch,
            head_commit_id: head.commit,
            url: row.url,
            provider: row.provider,
            sparse: row.sparse,
        })
    }

    /// Called after the tree at and below `folder` was deleted.
    pub(crate) async fn deleted(&self, folder: &WorkspacePath) -> Result<()> {
        let rows = self.store.repo_within(folder).await?;
        self.forget(rows.into_iter().map(|row| row.id).collect())
            .await
    }

    /// Forgets Git folders whose trees are gone. Rows go first: a `.git` without a row is removed
    /// at the next start, a row without a `.git` would be a broken folder.
    pub(crate) async fn forget(&self, ids: Vec<RepoId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let dirs: Vec<_> = ids.iter().map(|id| self.git_dir(*id)).collect();
        self.store.repo_forget(ids).await?;
        blocking(move || {
            dirs.iter().for_each(|dir| remove_git_dir(dir));
            Ok(())
        })
        .await
    }
}

/// A `git` that is still at work may write there meanwhile; what stays goes at the next start.
pub(crate) fn remove_git_dir(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(error = %e, "could not delete all of {}", dir.display());
        }
        _ => {}
    }
}

/// What the Repos service needs of the tree.
impl Workspace {
    /// Checks that the caller may make a folder at `path`, that the one above exists and that the
    /// name is free.
    pub(crate) async fn require_free(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<()> {
        let rights = self.admit(ctx, path, Access::Write).await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            inner.may_write_into(&rights, &path)?;
            if let Some(existing) = inner.tree.locate(&path)? {
                return Err(taken(&path, &existing));
            }
            let parent = path.parent().unwrap_or_else(|| path.clone());
            match inner.tree.locate(&parent)? {
                Some(above) if above.form == Form::Directory => Ok(()),
                _ => Err(parent_missing(&path)),
            }
        })
        .await
    }

    /// Checks that the caller may change what is in the folder at `path`, wherever that is.
    pub(crate) async fn require_writable(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<()> {
        let rights = self.admit(ctx, path, Access::Write).await?;
        refuse_fixed_folder(ctx, path)?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || inner.may_write_into(&rights, &path)).await
    }

    /// A folder that nobody sees, to be filled and then landed.
    pub(crate) async fn stage_folder(&self) -> Result<StagedTree> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.staging.create_tree().map_err(|e| e.at("(staging)"))).await
    }

    /// Moves a staged folder to its place.
    pub(crate) async fn land_folder(&self, filled: StagedTree, path: &WorkspacePath) -> Result<()> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || inner.tree.land(filled, &path)).await
    }

    /// Holds a folder open for a program to work in.
    pub(crate) async fn pin_folder(&self, path: &WorkspacePath) -> Result<Pinned> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || inner.tree.pin(&path)).await
    }
}
