//! The Files API: whole files and directories on volumes, and the files of the workspace tree
//! under `/Workspace`, in the API's own words for what goes wrong.

use std::sync::Arc;

use forebay_blob::{Blob, BlobError, Mode, Root, Staged, Staging};
use forebay_runtime::{Clock, blocking};
use forebay_types::{Error, ErrorCode, Millis, Result, VolumePath, WorkspacePath};

use crate::sessions::Sessions;
use crate::workspace::{FILE_BYTES_MAX, Listing, Object, ObjectKind, Workspace};
use crate::{Ctx, WorkspaceDirs};

mod uploads;

pub use uploads::{PART_BYTES_MAX, Part, Upload};

/// The largest file of one PUT, in bytes.
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// How many entries one page of a listing has at most.
const PAGE_MAX: usize = 1000;

#[derive(Debug, Clone)]
pub struct Files {
    inner: Arc<Inner>,
    workspace: Workspace,
}

#[derive(Debug)]
struct Inner {
    volumes: Root,
    staging: Staging,
    uploads: Sessions<String, Upload>,
}

/// A path that the Files API serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesPath {
    Volume(VolumePath),
    Workspace(WorkspacePath),
}

impl FilesPath {
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` when it climbs or does not name a volume; 404 or 501 for other
    /// roots, by name.
    pub fn parse(raw: &str) -> Result<Self> {
        let root = raw
            .trim_start_matches('/')
            .split('/')
            .next()
            .unwrap_or_default();
        match root {
            "Volumes" => Ok(Self::Volume(VolumePath::parse(raw)?)),
            "Workspace" => Ok(Self::Workspace(WorkspacePath::parse(raw)?)),
            "WorkspaceInternal" | "Models" => Err(Error::not_implemented(format!(
                "the Files API below /{root}"
            ))),
            _ => Err(Error::new(
                ErrorCode::NotFound,
                format!("Path {raw} is not served; the Files API has /Volumes and /Workspace."),
            )),
        }
    }

    /// Below its root in the API; with the root's name.
    #[must_use]
    pub fn display(&self) -> String {
        match self {
            Self::Volume(path) => path.to_string(),
            Self::Workspace(path) => format!("/Workspace{path}"),
        }
    }

    /// How large a file at this path may be.
    #[must_use]
    pub fn size_bytes_max(&self) -> u64 {
        match self {
            Self::Volume(_) => PUT_BYTES_MAX,
            Self::Workspace(_) => FILE_BYTES_MAX,
        }
    }
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesEntry {
    pub name: String,
    pub is_dir: bool,
    pub size_bytes: u64,
    pub modified: Millis,
}

/// Part of a listing.
#[derive(Debug, Clone)]
pub struct FilesPage {
    pub entries: Vec<FilesEntry>,
    /// The last name of this page when more follow.
    pub next_after: Option<String>,
}

impl Files {
    pub(crate) fn open(dirs: &WorkspaceDirs, workspace: Workspace, clock: Clock) -> Result<Self> {
        let staging = Staging::open(&dirs.staging).map_err(|e| e.at("of the staging folder"))?;
        let volumes = Root::open(&dirs.volumes, &staging).map_err(|e| e.at("/Volumes"))?;
        let uploads = Sessions::new(clock, uploads::IDLE_MS, uploads::OPEN_MAX);
        Ok(Self {
            inner: Arc::new(Inner {
                volumes,
                staging,
                uploads,
            }),
            workspace,
        })
    }

    /// Drops uploads that nobody continued.
    pub(crate) fn sweep(&self) {
        self.inner.uploads.sweep();
    }

    /// A new file for content that is on its way in.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn stage(&self) -> Result<Staged> {
        let staging = self.inner.staging.clone();
        blocking(move || staging.create().map_err(|e| e.at("of the upload"))).await
    }

    /// Gives staged content its name; on volumes with the directories above.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` (409).
    pub async fn put(
        &self,
        ctx: &Ctx,
        path: &FilesPath,
        overwrite: bool,
        content: Staged,
    ) -> Result<()> {
        match path {
            FilesPath::Volume(path) => {
                let mode = Mode::overwrite(overwrite);
                self.run(path, move |inner, path| inner.publish(content, &path, mode))
                    .await
            }
            FilesPath::Workspace(path) => self
                .workspace
                .import_file(ctx, path, overwrite, content)
                .await
                .map_err(in_files_words),
        }
    }

    /// Opens a file.
    ///
    /// # Errors
    /// `NOT_FOUND`, also for a directory.
    pub async fn get(&self, ctx: &Ctx, path: &FilesPath) -> Result<Blob> {
        match path {
            FilesPath::Volume(path) => {
                self.run(path, |inner, path| {
                    inner.volumes.open_file(&below(&path)).map_err(|e| match e {
                        BlobError::Missing | BlobError::NotDirectory | BlobError::IsDirectory => {
                            no_file(path.as_str())
                        }
                        e => e.at(path.as_str()),
                    })
                })
                .await
            }
            FilesPath::Workspace(path) => {
                let (_, blob) = self
                    .workspace
                    .read(ctx, path)
                    .await
                    .map_err(in_files_words)?;
                Ok(blob)
            }
        }
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// `NOT_FOUND`, also for a directory.
    pub async fn delete(&self, ctx: &Ctx, path: &FilesPath) -> Result<()> {
        match path {
            FilesPath::Volume(path) => {
                self.run(path, |inner, path| {
                    inner
                        .volumes
                        .remove_file(&below(&path))
                        .map_err(|e| match e {
                            BlobError::Missing
                            | BlobError::NotDirectory
                            | BlobError::IsDirectory => no_file(path.as_str()),
                            e => e.at(path.as_str()),
                        })
                })
                .await
            }
            FilesPath::Workspace(path) => {
                if self
                    .workspace_object(ctx, path)
                    .await?
                    .is_none_or(|object| is_dir(&object))
                {
                    return Err(no_file(path.as_str()));
                }
                self.workspace
                    .delete(ctx, path, false)
                    .await
                    .map_err(in_files_words)
            }
        }
    }

    /// Creates a directory and those above it.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` when a file is in the way.
    pub async fn directory_create(&self, ctx: &Ctx, path: &FilesPath) -> Result<()> {
        match path {
            FilesPath::Volume(path) => self.run(path, |inner, path| inner.mkdirs(&path)).await,
            FilesPath::Workspace(path) => self
                .workspace
                .mkdirs(ctx, path)
                .await
                .map_err(in_files_words),
        }
    }

    /// # Errors
    /// `NOT_FOUND` when there is no directory.
    pub async fn directory_check(&self, ctx: &Ctx, path: &FilesPath) -> Result<()> {
        let found = match path {
            FilesPath::Volume(path) => {
                self.run(path, |inner, path| {
                    let meta = inner
                        .volumes
                        .stat(&below(&path))
                        .map_err(|e| e.at(path.as_str()))?;
                    Ok(meta.is_some_and(|meta| meta.is_dir()))
                })
                .await?
            }
            FilesPath::Workspace(path) => self
                .workspace_object(ctx, path)
                .await?
                .is_some_and(|object| is_dir(&object)),
        };
        if found {
            Ok(())
        } else {
            Err(no_directory(&path.display()))
        }
    }

    /// Deletes an empty directory.
    ///
    /// # Errors
    /// `NOT_FOUND`, or 400 when it is not empty.
    pub async fn directory_delete(&self, ctx: &Ctx, path: &FilesPath) -> Result<()> {
        self.directory_check(ctx, path).await?;
        match path {
            FilesPath::Volume(path) => {
                self.run(path, |inner, path| {
                    inner
                        .volumes
                        .remove_dir(&below(&path))
                        .map_err(|e| match e {
                            BlobError::Missing => no_directory(path.as_str()),
                            BlobError::NotEmpty => not_empty(path.as_str()),
                            e => e.at(path.as_str()),
                        })
                })
                .await
            }
            FilesPath::Workspace(path) => self
                .workspace
                .delete(ctx, path, false)
                .await
                .map_err(in_files_words),
        }
    }

    /// A directory's names in order, from after `after`; at most `page_size` of them.
    ///
    /// # Errors
    /// `NOT_FOUND`, also for a file.
    pub async fn directory_list(
        &self,
        ctx: &Ctx,
        path: &FilesPath,
        page_size: Option<usize>,
        after: Option<String>,
    ) -> Result<FilesPage> {
        let mut entries = match path {
            FilesPath::Volume(path) => self.run(path, |inner, path| inner.list(&path)).await?,
            FilesPath::Workspace(path) => self.workspace_list(ctx, path).await?,
        };
        if let Some(after) = after {
            entries.retain(|entry| entry.name > after);
        }
        let size = page_size
            .filter(|size| *size > 0)
            .unwrap_or(PAGE_MAX)
            .min(PAGE_MAX);
        let more = entries.len() > size;
        entries.truncate(size);
        let next_after = entries
            .last()
            .filter(|_| more)
            .map(|entry| entry.name.clone());
        Ok(FilesPage {
            entries,
            next_after,
        })
    }

    async fn workspace_list(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<Vec<FilesEntry>> {
        let Listing::Folder(objects) = self
            .workspace
            .list(ctx, path, None)
            .await
            .map_err(in_files_words)?
        else {
            return Err(no_directory(path.as_str()));
        };
        let mut entries: Vec<_> = objects
            .into_iter()
            .map(|object| FilesEntry {
                name: object.path.name().to_owned(),
                is_dir: is_dir(&object),
                size_bytes: object.size_bytes,
                modified: object.modified_at,
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    async fn workspace_object(&self, ctx: &Ctx, path: &WorkspacePath) -> Result<Option<Object>> {
        match self.workspace.status(ctx, path).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.code == ErrorCode::ResourceDoesNotExist => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Runs blocking work on a path.
    async fn run<T: Send + 'static>(
        &self,
        path: &VolumePath,
        work: impl FnOnce(&Inner, VolumePath) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        blocking(move || work(&inner, path)).await
    }
}

impl Inner {
    fn publish(&self, content: Staged, path: &VolumePath, mode: Mode) -> Result<()> {
        let at = |e: BlobError| match e {
            BlobError::Exists | BlobError::IsDirectory => exists(path.as_str()),
            e => e.at(path.as_str()),
        };
        if let Some(parent) = path.parent() {
            self.mkdirs(&parent)?;
        }
        let sealed = content.seal().map_err(at)?;
        self.volumes
            .publish(sealed, &below(path), mode)
            .map_err(at)?
            .sync()
            .map_err(at)
    }

    fn mkdirs(&self, path: &VolumePath) -> Result<()> {
        self.volumes.mkdirs(&below(path)).map_err(|e| match e {
            BlobError::NotDirectory => exists(path.as_str()),
            e => e.at(path.as_str()),
        })
    }

    fn list(&self, path: &VolumePath) -> Result<Vec<FilesEntry>> {
        let entries = self.volumes.list(&below(path)).map_err(|e| match e {
            BlobError::Missing | BlobError::NotDirectory => no_directory(path.as_str()),
            e => e.at(path.as_str()),
        })?;
        let named = entries.into_iter().map(|entry| FilesEntry {
            name: entry.name,
            is_dir: entry.meta.is_dir(),
            size_bytes: entry.meta.size_bytes,
            modified: entry.meta.modified,
        });
        Ok(named.collect())
    }
}

/// The path below `/Volumes`.
fn below(path: &VolumePath) -> String {
    path.relative()
        .trim_start_matches("Volumes")
        .trim_start_matches('/')
        .to_owned()
}

fn is_dir(object: &Object) -> bool {
    matches!(object.kind, ObjectKind::Directory | ObjectKind::Repo)
}

/// The workspace's errors under the codes that clients of the Files API know.
fn in_files_words(error: Error) -> Error {
    let code = match error.code {
        ErrorCode::ResourceDoesNotExist => ErrorCode::NotFound,
        ErrorCode::ResourceAlreadyExists => ErrorCode::AlreadyExists,
        ErrorCode::DirectoryNotEmpty => ErrorCode::DirectoryNotEmptyFilesApi,
        _ => return error,
    };
    Error::new(code, error.message)
}

fn no_file(path: &str) -> Error {
    Error::new(
        ErrorCode::NotFound,
        format!("The file {path} does not exist."),
    )
}

fn no_directory(path: &str) -> Error {
    Error::new(
        ErrorCode::DirectoryNotFoundFilesApi,
        format!("The directory {path} does not exist."),
    )
}

fn exists(path: &str) -> Error {
    Error::new(
        ErrorCode::AlreadyExists,
        format!("The path {path} already exists."),
    )
}

fn not_empty(path: &str) -> Error {
    Error::new(
        ErrorCode::DirectoryNotEmptyFilesApi,
        format!("The directory {path} is not empty."),
    )
}
