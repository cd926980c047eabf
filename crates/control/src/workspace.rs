//! The workspace tree: folders, notebooks, files and Git folders.
//!
//! The files on disk say what exists and what is in it, because runs and Git write them too;
//! the database only remembers the ids of what was shown.

use std::sync::Arc;

use forebay_blob::{Root, Staging};
use forebay_notebook::{Format, Language};
use forebay_runtime::blocking;
use forebay_store::Store;
use forebay_types::{Error, ErrorCode, Millis, ObjectId, Result, WorkspacePath};

use crate::access::{self, Access, Rights};
use crate::{Ctx, WorkspaceDirs};

mod archive;
mod dbc;
mod git_folders;
mod libraries;
mod permissions;
mod source_tree;
#[cfg(test)]
mod tests;
mod transfer;
mod tree;

pub use git_folders::GitFolder;
pub(crate) use git_folders::{GitFolders, remove_git_dir};
pub(crate) use source_tree::SourceTree;
pub use transfer::{Content, ExportFormat, Exported, FILE_BYTES_MAX, Import, ImportFormat};
pub use tree::{Form, Located};

use tree::Tree;

/// The workspace tree as the API sees it.
#[derive(Debug, Clone)]
pub struct Workspace {
    inner: Arc<Inner>,
    store: Store,
    git_folders: GitFolders,
}

#[derive(Debug)]
struct Inner {
    tree: Tree,
    staging: Staging,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    Directory,
    /// The root of a Git folder.
    Repo,
    File,
    Library,
    Notebook {
        language: Language,
        format: Format,
    },
}

/// An object with everything that the API tells about it.
#[derive(Debug, Clone)]
pub struct Object {
    pub path: WorkspacePath,
    pub kind: ObjectKind,
    pub id: ObjectId,
    pub created_at: Millis,
    pub modified_at: Millis,
    /// 0 for directories.
    pub size_bytes: u64,
}

/// What `list` found: the content of a folder, or the one object that was named.
#[derive(Debug, Clone)]
pub enum Listing {
    Folder(Vec<Object>),
    Single(Object),
}

/// A folder of the tree as the runs of one user see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFolder {
    pub(crate) path: WorkspacePath,
    pub(crate) writable: bool,
}

/// Each folder of a run is a mount of its warm parent.
const RUN_FOLDERS_MAX: usize = 64;

impl Workspace {
    pub(crate) fn open(
        dirs: &WorkspaceDirs,
        store: Store,
        git_folders: GitFolders,
    ) -> Result<Self> {
        let at = |e: forebay_blob::BlobError| e.at(&dirs.root.display().to_string());
        let staging = Staging::open(&dirs.staging).map_err(at)?;
        let tree = Tree::new(Root::open(&dirs.workspace, &staging).map_err(at)?);
        Ok(Self {
            inner: Arc::new(Inner { tree, staging }),
            store,
            git_folders,
        })
    }

    /// Creates a folder and those above it; folders that exist are fine.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when something on the way is not a folder.
    pub async fn mkdirs(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<()> {
        let rights = self.admit(ctx, path, Access::Write).await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            inner.may_write_into(&rights, &path)?;
            inner.tree.mkdirs(&path)
        })
        .await
    }

    /// What the caller may see of a folder, or the object at `path` when it is not one. Of
    /// notebooks, only those modified after `modified_after` when that is given.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn list(
        &self,
        ctx: &Ctx,
        path: &WorkspacePath,
        modified_after: Option<Millis>,
    ) -> Result<Listing> {
        let rights = self.admit(ctx, path, Access::Read).await?;
        let (located, children) = {
            let (inner, path) = (Arc::clone(&self.inner), path.clone());
            blocking(move || {
                let located = inner.find(&rights, &path)?;
                if located.form != Form::Directory {
                    return Ok((located, None));
                }
                let mut children = inner.tree.children(&located)?;
                children.retain(|child| {
                    let is_old = modified_after.is_some_and(|at| child.meta.modified <= at);
                    rights.may(&child.path, Access::Read)
                        && !(is_old && matches!(child.form, Form::Notebook(_)))
                });
                Ok((located, Some(children)))
            })
            .await?
        };
        match children {
            Some(children) => Ok(Listing::Folder(
                self.objects(&located.path, children).await?,
            )),
            None => Ok(Listing::Single(self.object(located).await?)),
        }
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn status(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<Object> {
        let located = self.locate(ctx, path).await?;
        self.object(located).await
    }

    /// The Git folder around an object that the caller may read.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub async fn git_folder(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<Option<GitFolder>> {
        self.admit(ctx, path, Access::Read).await?;
        self.git_folders.around(path).await
    }

    /// Where an object that the caller may read is on disk, and what it is.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn locate(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<Located> {
        let rights = self.admit(ctx, path, Access::Read).await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || inner.find(&rights, &path)).await
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`; `DIRECTORY_NOT_EMPTY` without `recursive`.
    pub async fn delete(&self, ctx: &Ctx, path: &WorkspacePath, recursive: bool) -> Result<()> {
        let rights = self.admit(ctx, path, Access::Manage).await?;
        refuse_fixed_folder(ctx, path)?;
        self.refuse_libraries(path).await?;
        let (inner, target) = (Arc::clone(&self.inner), path.clone());
        let located = blocking(move || {
            inner.may_write_into(&rights, &target)?;
            let located = inner
                .tree
                .locate(&target)?
                .ok_or_else(|| missing(&target))?;
            inner.tree.delete(&located, recursive)?;
            Ok(located)
        })
        .await?;
        // After the files: a row without a file is only an id that waits, a file without a row
        // gets a new one.
        self.store.object_forget(&located.path).await?;
        if located.form == Form::Directory {
            self.git_folders.deleted(&located.path).await?;
        }
        Ok(())
    }

    /// The folders that a run of the caller sees, the outer ones first: those in which everything
    /// belongs to the caller or to all, which exist afterwards, and those that others shared.
    ///
    /// # Errors
    /// When one cannot be made, because a link or a file has its name for instance.
    pub(crate) async fn folders_of(&self, ctx: &Ctx) -> Result<Vec<RunFolder>> {
        let rights = Rights::of(&self.store, ctx).await?;
        let mut folders = vec![WorkspacePath::parse("/Shared")?];
        if let Some(home) = access::home(ctx) {
            folders.push(WorkspacePath::parse("/Repos")?.join(home.name())?);
            folders.push(home);
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            for folder in &folders {
                inner.tree.mkdirs(folder)?;
            }
            let own = folders.into_iter().map(|path| RunFolder {
                path,
                writable: true,
            });
            let shared = rights.shares().iter().map(|(path, _)| RunFolder {
                path: path.clone(),
                writable: rights.may(path, Access::Write),
            });
            let mut all: Vec<RunFolder> = own.chain(shared).collect();
            all.sort_by(|one, other| one.path.cmp(&other.path));
            let mut shown: Vec<RunFolder> = Vec::new();
            for folder in all {
                let is_covered = shown.iter().any(|outer| {
                    folder.path.is_within(&outer.path) && (outer.writable || !folder.writable)
                });
                // Only real folders: what is gone, or a link by now, is not shown.
                let is_there = || inner.tree.pin(&folder.path).is_ok();
                if !is_covered && shown.len() < RUN_FOLDERS_MAX && is_there() {
                    shown.push(folder);
                }
            }
            Ok(shown)
        })
        .await
    }

    /// Checks the right to `path` by its name, and makes the caller's home on its first use. Gives
    /// what else the caller may do.
    async fn admit(&self, ctx: &Ctx, path: &WorkspacePath, access: Access) -> Result<Rights> {
        let rights = Rights::of(&self.store, ctx).await?;
        rights.require(path, access)?;
        let Some(home) = access::home(ctx) else {
            return Ok(rights);
        };
        if path.is_within(&home) || path.as_str() == "/Users" {
            let inner = Arc::clone(&self.inner);
            blocking(move || match inner.tree.locate(&home)? {
                None => inner.tree.mkdirs(&home),
                Some(_) => Ok(()),
            })
            .await?;
        }
        Ok(rights)
    }

    async fn object(&self, located: Located) -> Result<Object> {
        let folder = located.path.clone();
        let objects = self.objects(&folder, vec![located]).await?;
        objects.into_iter().next().ok_or_else(|| missing(&folder))
    }

    /// Adds ids and what is a Git folder; `around` is a folder that all of them are in, or are.
    async fn objects(&self, around: &WorkspacePath, located: Vec<Located>) -> Result<Vec<Object>> {
        let repos = self.git_folders.within(around).await?;
        let seen = located
            .iter()
            .map(|one| (one.path.clone(), one.meta.modified))
            .collect();
        let rows = self.store.object_rows(seen).await?;
        let has_files = located.iter().any(|one| one.form == Form::File);
        let libraries = match has_files {
            true => self.store.library_list().await?,
            false => Vec::new(),
        };
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let objects = located.into_iter().zip(rows).map(|(located, row)| {
                let kind = match located.form {
                    Form::Directory if repos.contains(&located.path) => ObjectKind::Repo,
                    Form::Directory => ObjectKind::Directory,
                    Form::File if libraries.iter().any(|library| library.id == row.id) => {
                        ObjectKind::Library
                    }
                    Form::File => ObjectKind::File,
                    Form::Notebook(format) => ObjectKind::Notebook {
                        language: inner.tree.language(&located, format),
                        format,
                    },
                };
                Object {
                    kind,
                    id: row.id,
                    created_at: row.created_at,
                    modified_at: located.meta.modified,
                    size_bytes: located.meta.size_bytes,
                    path: located.path,
                }
            });
            Ok(objects.collect())
        })
        .await
    }
}

impl Inner {
    /// The object at `path`, if the caller may read where it really is: links that runs plant in
    /// shared folders open nobody's home.
    fn find(&self, rights: &Rights, path: &WorkspacePath) -> Result<Located> {
        let located = self.tree.locate(path)?.ok_or_else(|| missing(path))?;
        if !rights.is_admin() {
            let real = self.tree.real_path(&located.disk)?;
            if real.relative() != located.disk {
                rights.require(&real, Access::Read)?;
            }
        }
        Ok(located)
    }

    /// Whether the caller may change what has the name `path`, where that name really is.
    fn may_write_into(&self, rights: &Rights, path: &WorkspacePath) -> Result<()> {
        let Some(parent) = path.parent().filter(|_| !rights.is_admin()) else {
            return Ok(());
        };
        let real = self.tree.real_path(parent.relative())?;
        if real == parent {
            // Nothing but the name, which was checked.
            return Ok(());
        }
        rights.require(&real.join(path.name())?, Access::Write)
    }
}

fn missing(path: &WorkspacePath) -> Error {
    Error::missing(format!("Path ({path}) doesn't exist."))
}

/// The root and the three folders every workspace has stay; a home goes with its user only.
fn refuse_fixed_folder(ctx: &Ctx, path: &WorkspacePath) -> Result<()> {
    let is_fixed = ["/", "/Users", "/Shared", "/Repos"].contains(&path.as_str());
    let is_own_home = access::home(ctx).as_ref() == Some(path);
    if is_fixed || (is_own_home && !ctx.is_admin()) {
        return Err(Error::new(
            ErrorCode::BadRequest,
            format!("Folder {path} cannot be deleted."),
        ));
    }
    Ok(())
}
