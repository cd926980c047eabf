//! Libraries in the tree: each is a small file that says where its content is. The database says
//! which files are libraries.

use std::sync::Arc;

use forebay_runtime::blocking;
use forebay_types::{Error, Result, WorkspacePath};

use super::Workspace;
use super::tree::{Form, taken};
use crate::Ctx;
use crate::access::{Access, Rights};

impl Workspace {
    /// Makes the folder of a library to be, in which the caller may write.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `RESOURCE_ALREADY_EXISTS` when something else is at `path`.
    pub(crate) async fn library_folder(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<()> {
        let rights = self.admit(ctx, path, Access::Write).await?;
        let known = self.store.library_list().await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            inner.may_write_into(&rights, &path)?;
            if let Some(existing) = inner.tree.locate(&path)?
                && !known.iter().any(|library| library.path == path)
            {
                return Err(taken(&path, &existing));
            }
            match path.parent() {
                Some(parent) => inner.tree.mkdirs(&parent),
                None => Err(Error::invalid("A library needs a name.")),
            }
        })
        .await
    }

    /// Puts the file of a library where it belongs, unless it is there.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS` when something else is there.
    pub(crate) async fn library_mark(&self, path: &WorkspacePath, text: String) -> Result<()> {
        let mut content = self.stage().await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            if let Some(parent) = path.parent() {
                inner.tree.mkdirs(&parent)?;
            }
            match inner.tree.locate(&path)? {
                Some(there) if there.form == Form::File => return Ok(()),
                Some(there) => return Err(taken(&path, &there)),
                None => {}
            }
            content
                .write(text.as_bytes())
                .map_err(|e| e.at(path.as_str()))?;
            let sealed = content.seal().map_err(|e| e.at(path.as_str()))?;
            let placed = inner.tree.publish(sealed, &path, Form::File, false)?;
            placed.map_err(|existing| taken(&path, &existing))
        })
        .await
    }

    /// Takes it away again; what is gone is gone.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) async fn library_unmark(&self, path: &WorkspacePath) -> Result<()> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || match inner.tree.locate(&path)? {
            Some(there) if there.form == Form::File => inner.tree.delete(&there, false),
            _ => Ok(()),
        })
        .await
    }

    /// What the caller may do in the tree.
    ///
    /// # Errors
    /// When the database refuses.
    pub(crate) async fn rights(&self, ctx: &Ctx) -> Result<Rights> {
        Rights::of(&self.store, ctx).await
    }

    /// # Errors
    /// When a library is at or below `path`: it has users, and goes in its own way.
    pub(super) async fn refuse_libraries(&self, path: &WorkspacePath) -> Result<()> {
        let libraries = self.store.library_list().await?;
        match libraries.iter().find(|each| each.path.is_within(path)) {
            Some(library) => Err(Error::state(format!(
                "{} is a library: remove it with POST /api/1.2/libraries/delete \
                 and libraryId={}, which looks who uses it.",
                library.path, library.id
            ))),
            None => Ok(()),
        }
    }
}
