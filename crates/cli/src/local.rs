//! Files of this machine on their way into the workspace.

use std::path::{Path, PathBuf};

use forebay_client::{Client, ImportFormat};
use forebay_notebook::{Format, Language, SNIFF_BYTES, notebook_stem};

use crate::failure::Failure;

/// A local file, read, with what it becomes in the workspace.
#[derive(Debug)]
pub(crate) struct LocalFile {
    pub(crate) bytes: Vec<u8>,
    /// Notebooks lose their extension.
    pub(crate) name: String,
    /// `None` for a plain file.
    pub(crate) notebook: Option<Format>,
}

impl LocalFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path)
            .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let first = &bytes[..bytes.len().min(SNIFF_BYTES)];
        let notebook = Format::detect(&name, first);
        let stem = notebook.and_then(|_| notebook_stem(&name));
        let name = stem.unwrap_or(&name).to_owned();
        Ok(Self {
            bytes,
            name,
            notebook,
        })
    }

    pub(crate) fn is_python(&self) -> bool {
        self.notebook.is_none() && Language::of_file(&self.name) == Some(Language::Python)
    }

    /// Puts the file at exactly this path; the folder above it must be there.
    pub(crate) async fn import(
        &self,
        client: &Client,
        path: &str,
        overwrite: bool,
    ) -> Result<(), Failure> {
        let format = match self.notebook {
            None => ImportFormat::Auto,
            Some(Format::Jupyter) => ImportFormat::Jupyter,
            Some(Format::Source(language)) => ImportFormat::Source(language.api_name()),
        };
        let imported = client.workspace_import(path, &self.bytes, format, overwrite);
        Ok(imported.await?)
    }
}

/// Files below a folder by their path relative to it, in order; hidden ones and caches are left
/// out, as are links, which could lead out of the folder.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let here = folder.join(&relative);
        let failed =
            |e: std::io::Error| Failure::usage(format!("cannot read {}: {e}", here.display()));
        for entry in std::fs::read_dir(&here).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') || name == "__pycache__" {
                continue;
            }
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                open.push(relative.join(name));
            } else if kind.is_file() {
                found.push(relative.join(name));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn a_notebook_is_told_from_a_script_by_its_first_line() {
        let (_folder, path) = written("n.py", "# Databricks notebook source\nx = 1\n");
        let file = LocalFile::read(&path).unwrap();
        assert_eq!((file.name.as_str(), file.is_python()), ("n", false));
        assert_eq!(file.notebook, Some(Format::Source(Language::Python)));
        let (_folder, path) = written("s.py", "x = 1\n");
        let file = LocalFile::read(&path).unwrap();
        assert_eq!((file.name.as_str(), file.is_python()), ("s.py", true));
    }

    #[test]
    fn hidden_files_and_caches_stay_at_home() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "b.py",
            ".git/config",
            "a/c.py",
            "a/__pycache__/c.pyc",
            ".env",
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = files_below(folder.path()).unwrap();
        assert_eq!(found, [PathBuf::from("a/c.py"), PathBuf::from("b.py")]);
    }
}
