//! Finding what a task names: a notebook of the workspace tree or of the run's checkout, by its path
//! without extension.

use std::collections::HashMap;
use std::sync::Arc;

use forebay_blob::Blob;
use forebay_notebook::{Format, Language, NOTEBOOK_BYTES_MAX, Notebook, SNIFF_BYTES};
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Result, WorkspacePath};

use super::checkout::Checkout;
use super::inputs::{InputFile, InputKind};
use super::output::Snapshot;
use super::script::Script;
use crate::Ctx;
use crate::workspace::{Form, Located, Workspace};

/// Where a run finds notebooks: in the workspace tree as a user who may read there, and in the
/// checkout of its own Git source.
#[derive(Clone)]
pub(crate) struct Code {
    pub(crate) workspace: Workspace,
    pub(crate) ctx: Ctx,
    pub(crate) checkout: Option<Checkout>,
    /// Of a run that is to be like an earlier one: what that was made from.
    pub(crate) past: Option<Arc<Past>>,
}

/// What is kept of an earlier run's code, by the paths that it had.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) notebooks: HashMap<String, Snapshot>,
    pub(crate) script: Option<Script>,
    /// Digests of the files among its libraries.
    pub(crate) libraries: HashMap<String, String>,
}

impl Past {
    /// Whether it has the code of a file; libraries are kept elsewhere.
    pub(super) fn has(&self, file: &InputFile) -> bool {
        let script = self.script.as_ref();
        match file.kind {
            InputKind::Notebook | InputKind::Included => self.notebooks.contains_key(&file.path),
            InputKind::Script => script.is_some_and(|script| script.path == file.path),
            InputKind::Library | InputKind::Installed => false,
        }
    }
}

impl Code {
    /// The digest that a library's file had.
    pub(crate) fn library_before(&self, path: &str) -> Option<&str> {
        let past = self.past.as_ref()?;
        past.libraries.get(path).map(String::as_str)
    }

    /// What is kept of a notebook, unless the code's user may not read it.
    fn notebook_before<T>(&self, path: &WorkspacePath, now: &Result<T>) -> Option<&Snapshot> {
        let is_denied = |e: &Error| e.code == ErrorCode::PermissionDenied;
        if now.as_ref().err().is_some_and(is_denied) {
            return None;
        }
        self.past.as_ref()?.notebooks.get(path.as_str())
    }

    /// What is kept of a script, unless the code's user may not read it.
    pub(crate) async fn script_before(&self, path: &str) -> Option<&Script> {
        let before = self.past.as_ref()?.script.as_ref();
        let before = before.filter(|script| script.path == path)?;
        if let Some(path) = path.strip_prefix("/Workspace")
            && let Err(e) = self.read(&WorkspacePath::parse(path).ok()?).await
            && e.code == ErrorCode::PermissionDenied
        {
            return None;
        }
        Some(before)
    }

    /// The commit that is checked out.
    pub(crate) fn commit(&self) -> Option<&str> {
        self.checkout.as_ref().map(|own| own.commit.as_str())
    }

    pub(crate) async fn read(&self, path: &WorkspacePath) -> Result<(Located, Blob)> {
        match &self.checkout {
            Some(checkout) if Checkout::holds(path)? => checkout.read(path).await,
            _ => self.workspace.read_to_run(&self.ctx, path).await,
        }
    }
}

/// Reads the notebook at `path`, in whatever form its file has; for a repeat, as it was.
///
/// # Errors
/// `RESOURCE_DOES_NOT_EXIST` that says what was looked for; `PERMISSION_DENIED`; a file too large
/// to be a notebook.
pub(crate) async fn load(code: &Code, path: &WorkspacePath) -> Result<(Snapshot, Notebook)> {
    let now = load_now(code, path).await;
    as_it_was(code, path, now)
}

fn as_it_was(
    code: &Code,
    path: &WorkspacePath,
    now: Result<(Snapshot, Notebook)>,
) -> Result<(Snapshot, Notebook)> {
    let Some(before) = code.notebook_before(path, &now) else {
        return now;
    };
    let notebook = parse(&before.file_name, before.source.as_bytes())?;
    Ok((before.clone(), notebook))
}

async fn load_now(code: &Code, path: &WorkspacePath) -> Result<(Snapshot, Notebook)> {
    let mut names = vec![path.clone()];
    // Where a folder has the notebook's name, the file's whole name still tells them apart.
    let extensions = Language::ALL.map(Language::extension);
    for extension in extensions.into_iter().chain([".ipynb"]) {
        let dot = if extension.starts_with('.') { "" } else { "." };
        let name = format!("{path}{dot}{extension}");
        names.push(WorkspacePath::parse(&name)?);
    }
    for name in names {
        let (located, blob) = match code.read(&name).await {
            Ok(found) => found,
            Err(e) if e.code == ErrorCode::PermissionDenied => return Err(e),
            Err(_) => continue,
        };
        if !matches!(located.form, Form::Notebook(_)) {
            continue;
        }
        if blob.meta.size_bytes > NOTEBOOK_BYTES_MAX as u64 {
            return Err(Error::new(
                ErrorCode::MaxNotebookSizeExceeded,
                format!("{path} has more than {NOTEBOOK_BYTES_MAX} bytes, the most of a notebook."),
            ));
        }
        let shown = path.to_string();
        return blocking(move || {
            let bytes = blob.read(0, NOTEBOOK_BYTES_MAX).map_err(|e| e.at(&shown))?;
            let source = String::from_utf8(bytes).map_err(|e| {
                Error::invalid(format!("Notebook {shown} is not UTF-8 text.")).because(e)
            })?;
            let file_name = located
                .disk
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            let notebook = parse(&file_name, source.as_bytes())?;
            Ok((
                Snapshot {
                    path: shown,
                    file_name,
                    source,
                },
                notebook,
            ))
        })
        .await;
    }
    Err(Error::missing(format!(
        "Notebook {path} does not exist: there is no notebook of that name."
    )))
}

/// Reads the file of SQL statements at `path`, as a notebook with one cell; for a repeat, as it was.
///
/// # Errors
/// `RESOURCE_DOES_NOT_EXIST`, `PERMISSION_DENIED`, or what keeps it from being read as text.
pub(crate) async fn load_sql(code: &Code, path: &WorkspacePath) -> Result<(Snapshot, Notebook)> {
    let now = load_sql_now(code, path).await;
    as_it_was(code, path, now)
}

async fn load_sql_now(code: &Code, path: &WorkspacePath) -> Result<(Snapshot, Notebook)> {
    const HEADER: &str = "-- Databricks notebook source\n";
    let (located, blob) = match code.read(path).await {
        Ok(found) => found,
        Err(e) if e.code == ErrorCode::PermissionDenied => return Err(e),
        // Where it was imported as a notebook, its name has lost the extension.
        Err(missing) => {
            let name = path.to_string();
            let Some(name) = name.strip_suffix(".sql") else {
                return Err(missing);
            };
            return load_now(code, &WorkspacePath::parse(name)?).await;
        }
    };
    if matches!(located.form, Form::Notebook(_)) {
        return load_now(code, path).await;
    }
    let shown = path.to_string();
    blocking(move || {
        let bytes = blob.read(0, NOTEBOOK_BYTES_MAX).map_err(|e| e.at(&shown))?;
        let text = String::from_utf8(bytes)
            .map_err(|e| Error::invalid(format!("{shown} is not UTF-8 text.")).because(e))?;
        let source = format!("{HEADER}{text}");
        let file_name = "statements.sql".to_owned();
        let notebook = parse(&file_name, source.as_bytes())?;
        let snapshot = Snapshot {
            path: shown,
            file_name,
            source,
        };
        Ok((snapshot, notebook))
    })
    .await
}

/// Reads cells from a kept or found source.
///
/// # Errors
/// When it is no notebook, with line and column where there is one.
pub(crate) fn parse(file_name: &str, source: &[u8]) -> Result<Notebook> {
    let head = source.get(..SNIFF_BYTES).unwrap_or(source);
    let format = Format::detect(file_name, head)
        .ok_or_else(|| Error::invalid(format!("{file_name} is not a notebook.")))?;
    Ok(Notebook::parse(source, format)?)
}
