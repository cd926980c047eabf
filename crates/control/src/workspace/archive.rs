//! Directories as zip files.

use std::io::{BufWriter, Read, Seek, Write};

use forebay_blob::{Blob, BlobError, Mode, Staged, StagedTree, Staging};
use forebay_notebook::{Format, NOTEBOOK_BYTES_MAX, Notebook, SNIFF_BYTES};
use forebay_types::{Error, ErrorCode, Result, WorkspacePath};
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::tree::{Form, Located, Tree};

/// What one archive may hold, packed or unpacked.
pub(super) const ENTRIES_MAX: usize = 10_000;
pub(super) const SIZE_BYTES_MAX: u64 = 1 << 30;
pub(super) const DEPTH_MAX: usize = 64;

/// In which form notebooks go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notebooks {
    Source,
    Kept,
    /// As the JSON models of a `.dbc` archive, which has no plain files.
    Models,
}

struct Packer<'a> {
    tree: &'a Tree,
    notebooks: Notebooks,
    shown: &'a dyn Fn(&WorkspacePath) -> bool,
    zip: ZipWriter<BufWriter<std::fs::File>>,
    entries: usize,
    size_bytes: u64,
}

/// Writes a notebook, or everything below a folder, into `staged`, under names relative to it. Links are left out:
/// they may lead where the caller may not go; so is what is not `shown`.
pub(super) fn pack(
    tree: &Tree,
    packed: &Located,
    notebooks: Notebooks,
    shown: &dyn Fn(&WorkspacePath) -> bool,
    staged: &Staged,
) -> Result<()> {
    let file = staged.handle().map_err(|e| e.at(packed.path.as_str()))?;
    let zip = ZipWriter::new(BufWriter::with_capacity(1 << 20, file));
    let mut packer = Packer {
        tree,
        notebooks,
        shown,
        zip,
        entries: 0,
        size_bytes: 0,
    };
    match packed.form {
        Form::Directory => packer.top(packed)?,
        _ => packer.object(packed, "")?,
    }
    let failed = |e| zip_failed(packed.path.as_str(), e);
    let mut file = packer.zip.finish().map_err(failed)?;
    file.flush()
        .map_err(|e| BlobError::from(e).at(packed.path.as_str()))
}

impl Packer<'_> {
    /// An archive of models has the folder itself, which tells it from that of one notebook.
    fn top(&mut self, folder: &Located) -> Result<()> {
        let name = folder.path.name();
        if self.notebooks != Notebooks::Models || name.is_empty() {
            return self.directory(folder, "", 0);
        }
        let failed = |e| zip_failed(folder.path.as_str(), e);
        self.zip.add_directory(name, options()).map_err(failed)?;
        self.directory(folder, &format!("{name}/"), 1)
    }

    fn directory(&mut self, folder: &Located, prefix: &str, depth: usize) -> Result<()> {
        if depth > DEPTH_MAX {
            return Err(too_much(
                &folder.path,
                &format!("{DEPTH_MAX} levels of folders"),
            ));
        }
        for child in self
            .tree
            .children(folder)?
            .iter()
            .filter(|child| !child.is_link && (self.shown)(&child.path))
        {
            self.entries += 1;
            self.size_bytes += child.meta.size_bytes;
            if self.entries > ENTRIES_MAX {
                return Err(too_much(
                    &folder.path,
                    &format!("{ENTRIES_MAX} files and folders"),
                ));
            }
            if self.size_bytes > SIZE_BYTES_MAX {
                return Err(too_much(&folder.path, &format!("{SIZE_BYTES_MAX} bytes")));
            }
            match child.form {
                Form::Directory => {
                    let name = format!("{prefix}{}", child.path.name());
                    let failed = |e| zip_failed(child.path.as_str(), e);
                    self.zip.add_directory(&name, options()).map_err(failed)?;
                    self.directory(child, &format!("{name}/"), depth + 1)?;
                }
                _ => self.object(child, prefix)?,
            }
        }
        Ok(())
    }

    fn object(&mut self, child: &Located, prefix: &str) -> Result<()> {
        let name = child.disk.rsplit('/').next().unwrap_or_default();
        let name = format!("{prefix}{name}");
        match (child.form, self.notebooks) {
            (Form::Notebook(format), Notebooks::Models) => self.model(child, format, prefix),
            (_, Notebooks::Models) => Ok(()),
            (Form::Notebook(Format::Jupyter), Notebooks::Source) => self.converted(child, &name),
            _ => self.file(child, &name),
        }
    }

    fn file(&mut self, child: &Located, name: &str) -> Result<()> {
        let mut blob = self.tree.open(child)?;
        let failed = |e| zip_failed(child.path.as_str(), e);
        self.zip.start_file(name, options()).map_err(failed)?;
        std::io::copy(&mut blob.file, &mut self.zip)
            .map_err(|e| BlobError::from(e).at(child.path.as_str()))?;
        Ok(())
    }

    fn converted(&mut self, child: &Located, name: &str) -> Result<()> {
        let notebook = self.parsed(child, Format::Jupyter)?;
        let stem = name.strip_suffix(".ipynb").unwrap_or(name);
        let name = format!("{stem}{}", notebook.language.extension());
        self.bytes(child, &name, &notebook.to_source())
    }

    fn model(&mut self, child: &Located, format: Format, prefix: &str) -> Result<()> {
        let notebook = self.parsed(child, format)?;
        let name = child.path.name();
        let entry = format!("{prefix}{name}.{}", notebook.language.name());
        self.bytes(child, &entry, notebook.to_model(name).as_bytes())
    }

    fn parsed(&self, child: &Located, format: Format) -> Result<Notebook> {
        let blob = self.tree.open(child)?;
        let bytes = blob.read(0, NOTEBOOK_BYTES_MAX + 1);
        let bytes = bytes.map_err(|e| e.at(child.path.as_str()))?;
        Ok(Notebook::parse(&bytes, format)?)
    }

    fn bytes(&mut self, child: &Located, name: &str, bytes: &[u8]) -> Result<()> {
        let failed = |e| zip_failed(child.path.as_str(), e);
        self.zip.start_file(name, options()).map_err(failed)?;
        self.zip
            .write_all(bytes)
            .map_err(|e| BlobError::from(e).at(child.path.as_str()))
    }
}

/// Unpacks an archive into a directory that nobody sees yet. Only folders and plain files are
/// taken, every name is checked, and notebooks must be readable.
pub(super) fn unpack(
    archive: &Blob,
    path: &WorkspacePath,
    staging: &Staging,
) -> Result<StagedTree> {
    let at = |e: BlobError| e.at(path.as_str());
    let mut file = &archive.file;
    file.rewind().map_err(|e| at(e.into()))?;
    let mut zip = ZipArchive::new(std::io::BufReader::new(file)).map_err(|_| no_items())?;
    if zip.is_empty() {
        return Err(no_items());
    }
    if zip.len() > ENTRIES_MAX {
        return Err(too_much(path, &format!("{ENTRIES_MAX} files and folders")));
    }
    let filled = staging.create_tree().map_err(at)?;
    let mut left = SIZE_BYTES_MAX;
    for index in 0..zip.len() {
        let mut entry = zip
            .by_index(index)
            .map_err(|e| zip_failed(path.as_str(), e))?;
        // A path of its own, so that a name cannot climb and stays within the limits.
        let below = WorkspacePath::parse("/")?.join(entry.name())?;
        if entry.is_dir() {
            filled.root.mkdirs(below.relative()).map_err(at)?;
            continue;
        }
        if entry.is_symlink() || !entry.is_file() {
            return Err(Error::invalid(format!(
                "The archive's entry '{}' is not a file.",
                entry.name()
            )));
        }
        let mut staged = staging.create().map_err(at)?;
        let size_bytes = copy_within(&mut entry, &mut staged, left, path)?;
        left -= size_bytes;
        check_notebook(&staged, below.name(), entry.name())?;
        if let Some(parent) = below.parent() {
            filled.root.mkdirs(parent.relative()).map_err(at)?;
        }
        let sealed = staged.seal().map_err(at)?;
        let landed = filled
            .root
            .publish(sealed, below.relative(), Mode::IfAbsent)
            .map_err(at)?;
        landed.sync().map_err(at)?;
    }
    Ok(filled)
}

/// Copies at most `left` bytes; what the archive says about its sizes is not believed.
fn copy_within(
    entry: &mut impl Read,
    staged: &mut Staged,
    left: u64,
    path: &WorkspacePath,
) -> Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut size_bytes = 0;
    loop {
        let count = entry
            .read(&mut buffer)
            .map_err(|e| Error::invalid(format!("The zip archive cannot be read: {e}.")))?;
        if count == 0 {
            return Ok(size_bytes);
        }
        size_bytes += count as u64;
        if size_bytes > left {
            return Err(too_much(path, &format!("{SIZE_BYTES_MAX} bytes")));
        }
        staged
            .write(&buffer[..count])
            .map_err(|e| e.at(path.as_str()))?;
    }
}

fn check_notebook(staged: &Staged, name: &str, entry: &str) -> Result<()> {
    let head = staged.head(SNIFF_BYTES).map_err(|e| e.at(entry))?;
    let Some(format) = Format::detect(name, &head) else {
        return Ok(());
    };
    let bytes = staged
        .head(NOTEBOOK_BYTES_MAX + 1)
        .map_err(|e| e.at(entry))?;
    Notebook::parse(&bytes, format)
        .map(drop)
        .map_err(|e| Error::from(e).within(entry))
}

/// Adds which entry of the archive an error is about.
pub(super) trait Within {
    fn within(self, entry: &str) -> Self;
}

impl Within for Error {
    fn within(self, entry: &str) -> Self {
        Self::new(self.code, format!("{entry}: {}", self.message))
    }
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().large_file(false)
}

fn no_items() -> Error {
    Error::invalid(
        "The zip archive contains no items. Without 'language', format SOURCE takes 'content' as a \
         zip archive of a directory; for one notebook give its language.",
    )
}

pub(super) fn too_much(path: &WorkspacePath, limit: &str) -> Error {
    Error::new(
        ErrorCode::ResourceLimitExceeded,
        format!("The archive of {path} would hold more than {limit}."),
    )
}

pub(super) fn zip_failed(path: &str, error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(e) => BlobError::from(e).at(path),
        e => Error::invalid(format!("The zip archive cannot be read: {e}.")),
    }
}
