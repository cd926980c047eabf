//! Finding what a task names: a notebook of the workspace tree, by its path without extension.

use forebay_blob::Root;
use forebay_notebook::{Format, Language, NOTEBOOK_BYTES_MAX, Notebook, SNIFF_BYTES};
use forebay_types::{Error, ErrorCode, Result, WorkspacePath};

use super::output::Snapshot;

/// Reads the notebook at `path`, in whatever form its file has. Blocks.
///
/// # Errors
/// `RESOURCE_DOES_NOT_EXIST` that says what was looked for; a file too large to be a notebook.
pub(crate) fn load(root: &Root, path: &WorkspacePath) -> Result<Snapshot> {
    let extensions = Language::ALL.map(Language::extension);
    let stems = extensions.into_iter().chain([".ipynb", ""]);
    for extension in stems {
        let extension = extension.trim_start_matches('.');
        let dot = if extension.is_empty() { "" } else { "." };
        let file_name = format!("{}{dot}{extension}", path.name());
        let relative = format!("{}{dot}{extension}", path.relative());
        let Ok(Some(meta)) = root.stat(&relative) else {
            continue;
        };
        if meta.is_dir() {
            continue;
        }
        if meta.size_bytes > NOTEBOOK_BYTES_MAX as u64 {
            return Err(Error::new(
                ErrorCode::MaxNotebookSizeExceeded,
                format!(
                    "{path} is larger than {NOTEBOOK_BYTES_MAX} bytes, the most of a notebook."
                ),
            ));
        }
        let file = root.open_file(&relative).map_err(|e| e.at(path.as_str()))?;
        let bytes = file
            .read(0, NOTEBOOK_BYTES_MAX)
            .map_err(|e| e.at(path.as_str()))?;
        let head = bytes.get(..SNIFF_BYTES).unwrap_or(&bytes);
        if Format::detect(&file_name, head).is_none() {
            continue;
        }
        let source = String::from_utf8(bytes).map_err(|e| {
            Error::invalid(format!("Notebook {path} is not UTF-8 text.")).because(e)
        })?;
        return Ok(Snapshot {
            path: path.to_string(),
            file_name,
            source,
        });
    }
    Err(Error::missing(format!(
        "Notebook {path} does not exist: there is no notebook of that name in the workspace."
    )))
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
