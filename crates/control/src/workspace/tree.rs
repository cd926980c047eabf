//! The workspace tree as files on disk, and the one rule by which names of the API and names on
//! disk follow from each other.
//!
//! A folder or plain file `/a/x` is the disk file `a/x`. A notebook `/a/x` is the disk file `a/x`
//! plus the extension of its language, or `.ipynb` when it is kept as Jupyter; so a Git checkout,
//! written by Git, is a workspace folder as it stands, and the API notebook `test.r` in R is the
//! file `test.r.r`. A file `x.py` that begins with the notebook header is the notebook `x`, and
//! without it the plain file `x.py`. Where two files claim one name (`x.py` and `x.ipynb`), the
//! first in the order of [`EXTENSIONS`] has it, and the other is called by its full name.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use forebay_blob::{Blob, BlobError, Meta, Mode, Root, Sealed};
use forebay_notebook::{Format, Language, Notebook, SNIFF_BYTES, notebook_stem};
use forebay_types::{Error, Result, WorkspacePath};

/// What a notebook's name on disk may end with, in the order in which names are looked up. Other
/// spellings, such as `.Py`, are notebooks too, under their full names.
const EXTENSIONS: [&str; 7] = [".py", ".r", ".R", ".scala", ".sql", ".SQL", ".ipynb"];

/// How many languages of `.ipynb` files are remembered, to list folders without reading them all.
const LANGUAGES_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Directory,
    File,
    Notebook(Format),
}

/// Something that exists.
#[derive(Debug, Clone)]
pub struct Located {
    /// Its name in the API.
    pub path: WorkspacePath,
    /// Its name on disk, relative to the root of the tree.
    pub disk: String,
    pub meta: Meta,
    pub form: Form,
    pub is_link: bool,
}

#[derive(Debug)]
pub(super) struct Tree {
    root: Root,
    /// Held while a name is looked up and then taken or given back, so that two callers cannot
    /// make `x.py` and `x.sql` at once. Runs write past it; for single names the file system
    /// itself decides.
    names: Mutex<()>,
    languages: Mutex<HashMap<String, (Meta, Language)>>,
}

impl Tree {
    pub(super) fn new(root: Root) -> Self {
        Self {
            root,
            names: Mutex::default(),
            languages: Mutex::default(),
        }
    }

    pub(super) fn locate(&self, path: &WorkspacePath) -> Result<Option<Located>> {
        let exact = self.look(path, path.relative())?;
        let Some(Located {
            form: Form::Notebook(_),
            ..
        }) = exact
        else {
            if exact.is_some() {
                return Ok(exact);
            }
            return self.notebook_called(path);
        };
        // A notebook file by its full name: it has the shorter name unless something else has.
        if let Some(other) = self.notebook_called(path)? {
            return Ok(Some(other));
        }
        self.with_api_name(exact)
    }

    /// What is at `disk`, called `path` for now.
    fn look(&self, path: &WorkspacePath, disk: &str) -> Result<Option<Located>> {
        let Some(meta) = self.root.stat(disk).map_err(|e| e.at(path.as_str()))? else {
            return Ok(None);
        };
        let form = self.form(disk, meta).map_err(|e| e.at(path.as_str()))?;
        let (path, disk) = (path.clone(), disk.to_owned());
        Ok(Some(Located {
            path,
            disk,
            meta,
            form,
            is_link: false,
        }))
    }

    /// The notebook whose name without extension is `path`.
    fn notebook_called(&self, path: &WorkspacePath) -> Result<Option<Located>> {
        if path.is_root() {
            return Ok(None);
        }
        for extension in EXTENSIONS {
            let found = self.look(path, &format!("{}{extension}", path.relative()))?;
            if let Some(Located {
                form: Form::Notebook(_),
                ..
            }) = found
            {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn with_api_name(&self, found: Option<Located>) -> Result<Option<Located>> {
        let Some(mut found) = found else {
            return Ok(None);
        };
        let Some(short) = short_name(found.path.name()) else {
            return Ok(Some(found));
        };
        let Some(parent) = found.path.parent() else {
            return Ok(Some(found));
        };
        let short = parent.join(short)?;
        let taken = self.look(&short, short.relative())?;
        let holder = match taken {
            Some(Located {
                form: Form::Directory | Form::File,
                ..
            }) => taken,
            _ => self.notebook_called(&short)?,
        };
        if holder.is_some_and(|holder| holder.disk == found.disk) {
            found.path = short;
        }
        Ok(Some(found))
    }

    fn form(&self, disk: &str, meta: Meta) -> Result<Form, BlobError> {
        if meta.is_dir() {
            return Ok(Form::Directory);
        }
        let name = disk.rsplit('/').next().unwrap_or(disk);
        if notebook_stem(name).is_none() {
            return Ok(Form::File);
        }
        let head = match Format::detect(name, &[]) {
            // Known by its name alone.
            Some(format) => return Ok(Form::Notebook(format)),
            None => self.root.open_file(disk)?.read(0, SNIFF_BYTES)?,
        };
        Ok(Format::detect(name, &head).map_or(Form::File, Form::Notebook))
    }

    /// What is in a directory, by name in the API.
    pub(super) fn children(&self, folder: &Located) -> Result<Vec<Located>> {
        let at = |e: BlobError| e.at(folder.path.as_str());
        let mut found = Vec::new();
        for entry in self.root.list(&folder.disk).map_err(at)? {
            if folder.disk == "Repos" && entry.name == ".internal" {
                // Where runs see the checkout of their Git source.
                continue;
            }
            // A name that the API cannot express, such as one with a line break, is not shown.
            let Ok(path) = folder.path.join(&entry.name) else {
                continue;
            };
            let disk = path_below(&folder.disk, &entry.name);
            let form = match self.form(&disk, entry.meta) {
                Ok(form) => form,
                // Deleted, or made unreadable, since the directory was read.
                Err(BlobError::Missing | BlobError::Forbidden(_)) => continue,
                Err(e) => return Err(e.at(path.as_str())),
            };
            found.push(Located {
                path,
                disk,
                meta: entry.meta,
                form,
                is_link: entry.is_link,
            });
        }
        shorten_names(&folder.path, &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    pub(super) fn open(&self, located: &Located) -> Result<Blob> {
        self.root
            .open_file(&located.disk)
            .map_err(|e| e.at(located.path.as_str()))
    }

    /// The language of a notebook. An `.ipynb` that cannot be read, which only Git or a run can
    /// have put there, counts as Python so that its folder can still be listed.
    pub(super) fn language(&self, located: &Located, format: Format) -> Language {
        if let Format::Source(language) = format {
            return language;
        }
        let known = lock(&self.languages).get(&located.disk).copied();
        if let Some((meta, language)) = known
            && meta == located.meta
        {
            return language;
        }
        let size = usize::try_from(located.meta.size_bytes).unwrap_or(usize::MAX);
        let parsed = self
            .open(located)
            .and_then(|blob| {
                blob.read(0, size.min(forebay_notebook::NOTEBOOK_BYTES_MAX))
                    .map_err(|e| e.at(""))
            })
            .and_then(|bytes| Ok(Notebook::parse(&bytes, Format::Jupyter)?));
        let language = parsed.map_or(Language::Python, |notebook| notebook.language);
        let mut languages = lock(&self.languages);
        if languages.len() >= LANGUAGES_MAX {
            languages.clear();
        }
        languages.insert(located.disk.clone(), (located.meta, language));
        language
    }

    /// Where `disk` really is, after the links of the deepest part of it that exists.
    pub(super) fn real_path(&self, disk: &str) -> Result<WorkspacePath> {
        let mut prefix = disk;
        loop {
            match self.root.real_path(prefix) {
                Ok(real) => {
                    let rest = disk.get(prefix.len()..).unwrap_or_default();
                    return Ok(WorkspacePath::parse(&format!("/{real}{rest}"))?);
                }
                Err(BlobError::Missing | BlobError::NotDirectory | BlobError::TooLong)
                    if !prefix.is_empty() =>
                {
                    prefix = prefix.rsplit_once('/').map_or("", |(parent, _)| parent);
                }
                Err(e) => return Err(e.at(&format!("/{disk}"))),
            }
        }
    }

    pub(super) fn mkdirs(&self, path: &WorkspacePath) -> Result<()> {
        let _names = lock(&self.names);
        let mut prefix = WorkspacePath::parse("/")?;
        for segment in path
            .relative()
            .split('/')
            .filter(|segment| !segment.is_empty())
        {
            prefix = prefix.join(segment)?;
            match self.locate(&prefix)? {
                None => break,
                Some(Located {
                    form: Form::Directory,
                    ..
                }) => {}
                Some(other) => return Err(taken(&prefix, &other)),
            }
        }
        self.root.mkdirs(path.relative()).map_err(|e| match e {
            BlobError::NotDirectory => Error::exists(format!("Path ({path}) already exists.")),
            e => e.at(path.as_str()),
        })
    }

    /// Gives a file its name as a plain file or notebook. Returns what is in the way, if anything.
    pub(super) fn publish(
        &self,
        file: Sealed,
        path: &WorkspacePath,
        form: Form,
        overwrite: bool,
    ) -> Result<Result<(), Located>> {
        let at = |e: BlobError| e.at(path.as_str());
        let disk = disk_name(path, form);
        let landed = {
            let _names = lock(&self.names);
            let existing = self.locate(path)?;
            if let Some(existing) = existing.clone()
                && !(overwrite && replaceable(&existing, path, form))
            {
                return Ok(Err(existing));
            }
            let landed = match self.root.publish(file, &disk, Mode::overwrite(overwrite)) {
                Ok(landed) => landed,
                Err(BlobError::Exists | BlobError::IsDirectory) => {
                    let other = WorkspacePath::parse(&format!("/{disk}"))?;
                    let other = self.locate(&other)?;
                    return other
                        .map(Err)
                        .ok_or_else(|| BlobError::Exists.at(path.as_str()));
                }
                Err(BlobError::Missing | BlobError::NotDirectory) => {
                    return Err(parent_missing(path));
                }
                Err(e) => return Err(at(e)),
            };
            if let Some(old) = existing.filter(|old| old.disk != disk) {
                // The same notebook in another language or format than before.
                self.root.remove_file(&old.disk).map_err(at)?;
            }
            landed
        };
        landed.sync().map_err(at)?;
        Ok(Ok(()))
    }

    pub(super) fn delete(&self, located: &Located, recursive: bool) -> Result<()> {
        let _names = lock(&self.names);
        let disk = &located.disk;
        let deleted = match located.form {
            Form::Directory if recursive => self.root.remove_all(disk),
            Form::Directory => self.root.remove_dir(disk),
            _ => self.root.remove_file(disk),
        };
        deleted.map_err(|e| e.at(located.path.as_str()))
    }

    /// Holds a directory open; no link is followed.
    pub(super) fn pin(&self, path: &WorkspacePath) -> Result<forebay_blob::Pinned> {
        self.root
            .pin(path.relative())
            .map_err(|e| e.at(path.as_str()))
    }

    /// Moves a filled directory to a name that is free.
    pub(super) fn land(
        &self,
        filled: forebay_blob::StagedTree,
        path: &WorkspacePath,
    ) -> Result<()> {
        let at = |e: BlobError| match e {
            BlobError::Missing | BlobError::NotDirectory => parent_missing(path),
            e => e.at(path.as_str()),
        };
        let _names = lock(&self.names);
        if let Some(existing) = self.locate(path)? {
            return Err(taken(path, &existing));
        }
        filled
            .land(&self.root, path.relative())
            .map_err(at)?
            .sync()
            .map_err(at)
    }
}

/// Whether an import may replace `existing`: a file a file, a notebook a notebook, and anything
/// the very file on disk that has its name.
fn replaceable(existing: &Located, path: &WorkspacePath, form: Form) -> bool {
    match (existing.form, form) {
        (Form::Directory, _) | (_, Form::Directory) => false,
        _ if existing.path != *path => true,
        (old, new) => (old == Form::File) == (new == Form::File),
    }
}

/// The path on disk, relative to the root of the tree.
pub(super) fn disk_name(path: &WorkspacePath, form: Form) -> String {
    let name = path.relative();
    match form {
        Form::Directory | Form::File => name.to_owned(),
        Form::Notebook(Format::Source(language)) => format!("{name}{}", language.extension()),
        // Only `x.designer.ipynb` is its own stem.
        Form::Notebook(Format::Jupyter) if notebook_stem(path.name()) == Some(path.name()) => {
            name.to_owned()
        }
        Form::Notebook(Format::Jupyter) => format!("{name}.ipynb"),
    }
}

/// The name a notebook file has in the API when nothing else has it.
fn short_name(name: &str) -> Option<&str> {
    let stem = notebook_stem(name)?;
    let extension = &name[stem.len()..];
    EXTENSIONS.contains(&extension).then_some(stem)
}

/// Gives the notebooks of one directory their names in the API.
fn shorten_names(folder: &WorkspacePath, found: &mut [Located]) -> Result<()> {
    let is_notebook = |located: &Located| matches!(located.form, Form::Notebook(_));
    let mut taken: HashSet<String> = found
        .iter()
        .filter(|located| !is_notebook(located))
        .map(|located| located.path.name().to_owned())
        .collect();
    for extension in EXTENSIONS {
        for located in found.iter_mut().filter(|located| is_notebook(located)) {
            let name = located.path.name();
            let Some(short) = short_name(name).filter(|short| &name[short.len()..] == extension)
            else {
                continue;
            };
            if taken.insert(short.to_owned()) {
                located.path = folder.join(short)?;
            }
        }
    }
    Ok(())
}

fn path_below(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

pub(super) fn kind_name(form: Form) -> &'static str {
    match form {
        Form::Directory => "DIRECTORY",
        Form::File => "FILE",
        Form::Notebook(_) => "NOTEBOOK",
    }
}

/// What a caller hears who wanted a name that something else has.
pub(super) fn taken(path: &WorkspacePath, existing: &Located) -> Error {
    let kind = kind_name(existing.form);
    Error::exists(format!(
        "Path ({path}) already exists. It is a {kind}: {}",
        existing.path
    ))
}

pub(super) fn parent_missing(path: &WorkspacePath) -> Error {
    let parent = path.parent().unwrap_or_else(|| path.clone());
    Error::missing(format!("The parent folder ({parent}) does not exist."))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
