//! `.dbc` archives: zip files with one JSON model for each notebook.

use std::io::{Read, Seek};

use forebay_blob::{Blob, BlobError, Mode, StagedTree, Staging};
use forebay_notebook::{Exported, Format, NOTEBOOK_BYTES_MAX, Notebook};
use forebay_types::{Error, Result, WorkspacePath};
use zip::ZipArchive;

use super::archive::{DEPTH_MAX, ENTRIES_MAX, SIZE_BYTES_MAX, Within, too_much, zip_failed};
use super::tree::{Form, disk_name};

/// What an archive holds.
pub(super) enum Unpacked {
    /// One notebook and no folder: it gets the very path of the import.
    Notebook(Notebook),
    /// What is below the archive's top folder, or at its top when there are several things.
    Folder(StagedTree),
}

/// Unpacks an archive. Nothing is written where anybody sees it, and every name is checked.
///
/// # Errors
/// For what is no archive of notebooks, with the entry that is wrong; for more than one may hold.
pub(super) fn unpack(archive: &Blob, path: &WorkspacePath, staging: &Staging) -> Result<Unpacked> {
    let at = |e: BlobError| e.at(path.as_str());
    let mut file = &archive.file;
    file.rewind().map_err(|e| at(e.into()))?;
    let mut zip = ZipArchive::new(std::io::BufReader::new(file))
        .map_err(|_| Error::invalid("The content is not a .dbc archive, which is a zip file."))?;
    if zip.len() > ENTRIES_MAX {
        return Err(too_much(path, &format!("{ENTRIES_MAX} files and folders")));
    }
    let (mut folders, mut notebooks) = (Vec::new(), Vec::new());
    let mut left = SIZE_BYTES_MAX;
    for index in 0..zip.len() {
        let mut entry = zip
            .by_index(index)
            .map_err(|e| zip_failed(path.as_str(), e))?;
        let name = entry.name().to_owned();
        let below = WorkspacePath::parse("/")?.join(&name)?;
        if below.relative().split('/').count() > DEPTH_MAX {
            return Err(too_much(path, &format!("{DEPTH_MAX} levels of folders")));
        }
        if entry.is_dir() {
            folders.push(below);
        } else if below.name() != "manifest.mf" {
            let read = read_notebook(&mut entry, &name, &mut left, path)?;
            let parent = below.parent().unwrap_or_else(|| below.clone());
            notebooks.push((parent.join(stem(below.name()))?, read));
        }
    }
    if notebooks.len() == 1
        && folders.is_empty()
        && notebooks[0].0.relative().split('/').count() == 1
    {
        return Ok(Unpacked::Notebook(notebooks.remove(0).1.notebook));
    }
    if notebooks.is_empty() && folders.is_empty() {
        return Err(Error::invalid("The .dbc archive holds no notebooks."));
    }
    let names = folders.iter().chain(notebooks.iter().map(|(path, _)| path));
    let top = top_folder(&names.map(WorkspacePath::relative).collect::<Vec<_>>());
    let inner = |path: &WorkspacePath| {
        let inner = path.relative().strip_prefix(&top).unwrap_or_default();
        Ok::<_, Error>(WorkspacePath::parse(&format!("/{inner}"))?)
    };
    let filled = staging.create_tree().map_err(at)?;
    for folder in &folders {
        filled.root.mkdirs(inner(folder)?.relative()).map_err(at)?;
    }
    for (path, read) in &notebooks {
        let path = inner(path)?;
        if let Some(parent) = path.parent() {
            filled.root.mkdirs(parent.relative()).map_err(at)?;
        }
        let form = Form::Notebook(Format::Source(read.notebook.language));
        let mut staged = staging.create().map_err(at)?;
        staged.write(&read.notebook.to_source()).map_err(at)?;
        let sealed = staged.seal().map_err(at)?;
        let landed = filled
            .root
            .publish(sealed, &disk_name(&path, form), Mode::IfAbsent)
            .map_err(at)?;
        landed.sync().map_err(at)?;
    }
    Ok(Unpacked::Folder(filled))
}

/// What the archive says about its sizes is not believed.
fn read_notebook(
    entry: &mut impl Read,
    name: &str,
    left: &mut u64,
    path: &WorkspacePath,
) -> Result<Exported> {
    let mut json = Vec::new();
    let limit = NOTEBOOK_BYTES_MAX as u64 + 1;
    entry
        .take(limit.min(*left + 1))
        .read_to_end(&mut json)
        .map_err(|e| Error::invalid(format!("The .dbc archive cannot be read: {e}.")))?;
    *left = left
        .checked_sub(json.len() as u64)
        .ok_or_else(|| too_much(path, &format!("{SIZE_BYTES_MAX} bytes")))?;
    Exported::from_model(&json).map_err(|e| Error::from(e).within(name))
}

/// `etl.python` is the notebook `etl`.
fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, "python" | "r" | "scala" | "sql")) if !stem.is_empty() => stem,
        _ => name,
    }
}

/// The first folder of all names, with its slash, when they share one; otherwise nothing.
fn top_folder(names: &[&str]) -> String {
    let top = names
        .first()
        .and_then(|name| name.split('/').next())
        .unwrap_or_default();
    let folder = format!("{top}/");
    let inside = |name: &&&str| name.starts_with(&folder);
    let is_shared = names.iter().all(|name| *name == top || inside(&name));
    if is_shared && names.iter().any(|name| inside(&name)) {
        folder
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_they_share_and_their_language() {
        assert_eq!(top_folder(&["a", "a/b", "a/b/y"]), "a/");
        for names in [&["a/x", "ab/y"][..], &["x", "y"], &["a"], &[]] {
            assert_eq!(top_folder(names), "", "{names:?}");
        }
        assert_eq!(
            [stem("a.python"), stem("a.b.r"), stem("a.txt")],
            ["a", "a.b", "a.txt"]
        );
    }
}
