use std::path::Path;
use std::sync::Arc;

use forebay_blob::{Blob, Root};
use forebay_types::{Result, WorkspacePath};

use super::tree::{Located, Tree};
use super::{Workspace, missing};

/// A folder beside the workspace tree whose names follow the same rules: the checkout of a run.
#[derive(Debug, Clone)]
pub(crate) struct SourceTree(Arc<Tree>);

impl SourceTree {
    /// Opens a notebook or file as it is kept. Blocks.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or when it is a directory.
    pub(crate) fn read(&self, path: &WorkspacePath) -> Result<(Located, Blob)> {
        let located = self.0.locate(path)?.ok_or_else(|| missing(path))?;
        let blob = self.0.open(&located)?;
        Ok((located, blob))
    }
}

impl Workspace {
    /// Blocks.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn source_tree(&self, folder: &Path) -> Result<SourceTree> {
        let root = Root::open(folder, &self.inner.staging);
        let root = root.map_err(|e| e.at(&folder.display().to_string()))?;
        Ok(SourceTree(Arc::new(Tree::new(root))))
    }
}
