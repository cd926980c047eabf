//! Content into the tree and out of it, in each format.

use std::sync::Arc;

use forebay_blob::{Blob, BlobError, Staged};
use forebay_notebook::outputs::render_html;
use forebay_notebook::{
    Format, Language, NOTEBOOK_BYTES_MAX, Notebook, SNIFF_BYTES, notebook_stem, with_header,
};
use forebay_runtime::blocking;
use forebay_types::{Error, ErrorCode, Result, WorkspacePath};

use super::archive::{self, Notebooks};
use super::dbc::{self, Unpacked};
use super::tree::{Form, Located, kind_name, parent_missing, taken};
use super::{Inner, Workspace};
use crate::Ctx;
use crate::access::{Access, Rights};

/// The largest plain file, in bytes.
pub const FILE_BYTES_MAX: u64 = 500 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// A notebook of the given language; without one, a zip archive of a directory.
    Source(Option<Language>),
    Jupyter,
    /// A page that holds a notebook.
    Html,
    /// A `.dbc` archive of a notebook, or of a directory; it never overwrites.
    Dbc,
    /// By name and content: a notebook without its extension, or a plain file.
    Auto,
}

#[derive(Debug, Clone)]
pub struct Import {
    pub path: WorkspacePath,
    pub format: ImportFormat,
    pub overwrite: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    Source,
    Jupyter,
    Html,
    Dbc,
    /// As it is kept.
    Auto,
}

/// What an export gives.
#[derive(Debug)]
pub struct Exported {
    pub content: Content,
    /// An extension without its dot, such as `py` or `zip`; empty when there is none.
    pub file_type: String,
}

#[derive(Debug)]
pub enum Content {
    Bytes(Vec<u8>),
    Blob(Blob),
}

impl Workspace {
    /// A new file for content that is on its way in.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn stage(&self) -> Result<Staged> {
        let staging = self.inner.staging.clone();
        blocking(move || staging.create().map_err(|e| e.at("of the upload"))).await
    }

    /// Imports a notebook, file or directory.
    ///
    /// # Errors
    /// `RESOURCE_ALREADY_EXISTS`, `RESOURCE_DOES_NOT_EXIST` without the folder above,
    /// `MAX_NOTEBOOK_SIZE_EXCEEDED`, or what is wrong with the content.
    pub async fn import(&self, ctx: &Ctx, import: Import, content: Staged) -> Result<()> {
        let rights = self.admit(ctx, &import.path, Access::Write).await?;
        if import.overwrite {
            self.refuse_libraries(&import.path).await?;
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.may_write_into(&rights, &import.path)?;
            let Import {
                path,
                format,
                overwrite,
            } = import;
            let placed = match format {
                ImportFormat::Source(None) => return inner.import_archive(&path, content),
                ImportFormat::Source(Some(language)) => {
                    let content = inner.as_notebook(content, Format::Source(language))?;
                    inner.place(
                        content,
                        &path,
                        Form::Notebook(Format::Source(language)),
                        overwrite,
                    )?
                }
                ImportFormat::Jupyter => {
                    let content = inner.as_notebook(content, Format::Jupyter)?;
                    inner.place(content, &path, Form::Notebook(Format::Jupyter), overwrite)?
                }
                ImportFormat::Html => {
                    let (content, form) = inner.read_page(content)?;
                    inner.place(content, &path, form, overwrite)?
                }
                ImportFormat::Dbc => return inner.import_dbc(&path, content),
                ImportFormat::Auto => inner.import_by_content(&path, content, overwrite)?,
            };
            placed.map_err(|existing| taken(&path, &existing))
        })
        .await
    }

    /// Imports by name and content, with the errors of `workspace-files/import-file`: exactly one
    /// of several callers that create a name wins.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` (409) for a file; 400 for a notebook or folder in the way.
    pub async fn import_file(
        &self,
        ctx: &Ctx,
        path: &WorkspacePath,
        overwrite: bool,
        content: Staged,
    ) -> Result<()> {
        let rights = self.admit(ctx, path, Access::Write).await?;
        if overwrite {
            self.refuse_libraries(path).await?;
        }
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            inner.may_write_into(&rights, &path)?;
            inner
                .import_by_content(&path, content, overwrite)?
                .map_err(|existing| match existing.form {
                    Form::File => Error::new(
                        ErrorCode::AlreadyExists,
                        format!("Path ({path}) already exists."),
                    ),
                    _ => taken(&existing.path.clone(), &existing),
                })
        })
        .await
    }

    /// Exports a notebook, a file, or a directory as a zip archive.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or a format that the object does not have.
    pub async fn export(
        &self,
        ctx: &Ctx,
        path: &WorkspacePath,
        format: ExportFormat,
    ) -> Result<Exported> {
        let rights = self.admit(ctx, path, Access::Read).await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            let located = inner.find(&rights, &path)?;
            match located.form {
                Form::Directory => inner.export_archive(&located, format, &rights),
                Form::Notebook(stored) => inner.export_notebook(&located, stored, format),
                Form::File => inner.export_file(&located, format),
            }
        })
        .await
    }

    /// Opens a file or notebook as it is kept.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`, or when it is a directory.
    pub async fn read(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<(Located, Blob)> {
        self.open_for(ctx, path, Access::Read).await
    }

    /// Opens a notebook for a run of the caller.
    ///
    /// # Errors
    /// As for [`Self::read`]; `PERMISSION_DENIED` without `CAN_RUN`.
    pub(crate) async fn read_to_run(
        &self,
        ctx: &Ctx,
        path: &WorkspacePath,
    ) -> Result<(Located, Blob)> {
        self.open_for(ctx, path, Access::Run).await
    }

    async fn open_for(
        &self,
        ctx: &Ctx,
        path: &WorkspacePath,
        access: Access,
    ) -> Result<(Located, Blob)> {
        let rights = self.admit(ctx, path, access).await?;
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || {
            let located = inner.find(&rights, &path)?;
            let blob = inner.tree.open(&located)?;
            Ok((located, blob))
        })
        .await
    }
}

impl Inner {
    fn import_by_content(
        &self,
        path: &WorkspacePath,
        content: Staged,
        overwrite: bool,
    ) -> Result<Result<(), Located>> {
        let at = |e: BlobError| e.at(path.as_str());
        let head = content.head(SNIFF_BYTES).map_err(at)?;
        let stem = notebook_stem(path.name());
        let (Some(format), Some(stem), Some(parent)) =
            (Format::detect(path.name(), &head), stem, path.parent())
        else {
            if content.size_bytes().map_err(at)? > FILE_BYTES_MAX {
                return Err(Error::new(
                    ErrorCode::PayloadTooLarge,
                    format!(
                        "Workspace files may have at most {FILE_BYTES_MAX} bytes; put larger ones on a volume."
                    ),
                ));
            }
            return self.place(content, path, Form::File, overwrite);
        };
        let content = self.as_notebook(content, format)?;
        self.place(
            content,
            &parent.join(stem)?,
            Form::Notebook(format),
            overwrite,
        )
    }

    fn place(
        &self,
        content: Staged,
        path: &WorkspacePath,
        form: Form,
        overwrite: bool,
    ) -> Result<Result<(), Located>> {
        self.require_parent(path)?;
        let sealed = content.seal().map_err(|e| e.at(path.as_str()))?;
        self.tree.publish(sealed, path, form, overwrite)
    }

    fn require_parent(&self, path: &WorkspacePath) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Err(Error::exists("Path (/) already exists. It is a DIRECTORY."));
        };
        match self.tree.locate(&parent)? {
            Some(Located {
                form: Form::Directory,
                ..
            }) => Ok(()),
            _ => Err(parent_missing(path)),
        }
    }

    /// Checks that content is a notebook, and puts the header before source text that lacks it.
    fn as_notebook(&self, content: Staged, format: Format) -> Result<Staged> {
        let at = |e: BlobError| e.at("of the upload");
        let bytes = content.head(NOTEBOOK_BYTES_MAX + 1).map_err(at)?;
        if format == Format::Jupyter || bytes.len() > NOTEBOOK_BYTES_MAX {
            // Any text is a notebook in source format; only its size can be wrong.
            Notebook::parse(&bytes, format)?;
        }
        let Format::Source(language) = format else {
            return Ok(content);
        };
        match with_header(&bytes, language) {
            std::borrow::Cow::Borrowed(_) => Ok(content),
            std::borrow::Cow::Owned(with_header) => {
                let mut staged = self.staging.create().map_err(at)?;
                staged.write(&with_header).map_err(at)?;
                Ok(staged)
            }
        }
    }

    fn import_archive(&self, path: &WorkspacePath, content: Staged) -> Result<()> {
        self.require_parent(path)?;
        if let Some(existing) = self.tree.locate(path)? {
            return Err(taken(path, &existing));
        }
        let blob = content.into_blob().map_err(|e| e.at("of the upload"))?;
        let filled = archive::unpack(&blob, path, &self.staging)?;
        self.tree.land(filled, path)
    }

    /// The notebook that is in a page, as source.
    fn read_page(&self, content: Staged) -> Result<(Staged, Form)> {
        let at = |e: BlobError| e.at("of the upload");
        let page = content.head(NOTEBOOK_BYTES_MAX + 1).map_err(at)?;
        let notebook = forebay_notebook::Exported::from_page(&page)?.notebook;
        self.as_source(&notebook)
    }

    fn as_source(&self, notebook: &Notebook) -> Result<(Staged, Form)> {
        let at = |e: BlobError| e.at("of the upload");
        let mut staged = self.staging.create().map_err(at)?;
        staged.write(&notebook.to_source()).map_err(at)?;
        let form = Form::Notebook(Format::Source(notebook.language));
        Ok((staged, form))
    }

    fn import_dbc(&self, path: &WorkspacePath, content: Staged) -> Result<()> {
        self.require_parent(path)?;
        if let Some(existing) = self.tree.locate(path)? {
            return Err(taken(path, &existing));
        }
        let blob = content.into_blob().map_err(|e| e.at("of the upload"))?;
        match dbc::unpack(&blob, path, &self.staging)? {
            Unpacked::Folder(filled) => self.tree.land(filled, path),
            Unpacked::Notebook(notebook) => {
                let (content, form) = self.as_source(&notebook)?;
                let placed = self.place(content, path, form, false)?;
                placed.map_err(|existing| taken(path, &existing))
            }
        }
    }

    fn export_notebook(
        &self,
        located: &Located,
        stored: Format,
        format: ExportFormat,
    ) -> Result<Exported> {
        let blob = self.tree.open(located)?;
        let bytes = blob
            .read(0, NOTEBOOK_BYTES_MAX + 1)
            .map_err(|e| e.at(located.path.as_str()))?;
        let parse = || Notebook::parse(&bytes, stored);
        let (bytes, file_type) = match (format, stored) {
            (ExportFormat::Auto | ExportFormat::Source, Format::Source(language)) => {
                let extension = &language.extension()[1..];
                // A notebook that a run made larger than the limit still comes out whole.
                return Ok(Exported {
                    content: Content::Blob(blob),
                    file_type: extension.to_owned(),
                });
            }
            (ExportFormat::Source, Format::Jupyter) => {
                let notebook = parse()?;
                (notebook.to_source(), &notebook.language.extension()[1..])
            }
            (ExportFormat::Auto | ExportFormat::Jupyter, Format::Jupyter) => {
                return Ok(Exported {
                    content: Content::Blob(blob),
                    file_type: "ipynb".to_owned(),
                });
            }
            (ExportFormat::Jupyter, Format::Source(_)) => (parse()?.to_jupyter(), "ipynb"),
            (ExportFormat::Dbc, _) => {
                return self.packed(located, Notebooks::Models, "dbc", &|_| true);
            }
            (ExportFormat::Html, _) => (
                render_html(&parse()?, &[], located.path.name()).into_bytes(),
                "html",
            ),
        };
        Ok(Exported {
            content: Content::Bytes(bytes),
            file_type: file_type.to_owned(),
        })
    }

    fn export_file(&self, located: &Located, format: ExportFormat) -> Result<Exported> {
        if matches!(
            format,
            ExportFormat::Jupyter | ExportFormat::Html | ExportFormat::Dbc
        ) {
            return Err(not_a_notebook(located, format));
        }
        let name = located.path.name();
        let file_type = name
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension)
            .to_owned();
        Ok(Exported {
            content: Content::Blob(self.tree.open(located)?),
            file_type,
        })
    }

    /// What of a directory the caller may read.
    fn export_archive(
        &self,
        located: &Located,
        format: ExportFormat,
        rights: &Rights,
    ) -> Result<Exported> {
        let shown = |path: &WorkspacePath| rights.may(path, Access::Read);
        match format {
            ExportFormat::Source => self.packed(located, Notebooks::Source, "zip", &shown),
            ExportFormat::Auto => self.packed(located, Notebooks::Kept, "zip", &shown),
            ExportFormat::Dbc => self.packed(located, Notebooks::Models, "dbc", &shown),
            _ => Err(not_a_notebook(located, format)),
        }
    }

    fn packed(
        &self,
        located: &Located,
        notebooks: Notebooks,
        file_type: &str,
        shown: &dyn Fn(&WorkspacePath) -> bool,
    ) -> Result<Exported> {
        let at = |e: BlobError| e.at(located.path.as_str());
        let staged = self.staging.create().map_err(at)?;
        archive::pack(&self.tree, located, notebooks, shown, &staged)?;
        let content = Content::Blob(staged.into_blob().map_err(at)?);
        Ok(Exported {
            content,
            file_type: file_type.to_owned(),
        })
    }
}

fn not_a_notebook(located: &Located, format: ExportFormat) -> Error {
    Error::invalid(format!(
        "{} is a {}, which has no format {}; use SOURCE or AUTO.",
        located.path,
        kind_name(located.form),
        format!("{format:?}").to_uppercase()
    ))
}
