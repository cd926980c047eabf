//! What a run installs. Files among its libraries get a place in the run's folder, with the content
//! that they have at its start; a repeat gets the content that the first run had.

use std::path::Path;

use forebay_blob::Blob;
use forebay_exec::Library;
use forebay_runtime::blocking;
use forebay_store::LibraryState;
use forebay_types::{DbfsPath, Error, ErrorCode, Result, RunId, WorkspacePath, hex};
use sha2::{Digest, Sha256};

use super::archive::{self, FileKind};
use super::kept::digest_of;
use super::{Inner, Libraries, file_of, parsed, requirements};
use crate::access::CHECKOUTS;
use crate::clusters::ResolvedCluster;
use crate::runs::Code;

/// In a run's folder among the checkouts: the files of its libraries.
pub(super) const FOLDER: &str = ".libraries";

/// Requirements files that one takes in, and those that these take in.
const INCLUDED_MAX: usize = 50;

/// What a run installs before it begins.
#[derive(Debug, Default)]
pub(crate) struct RunLibraries {
    pub(crate) list: Vec<Library>,
    /// The name of the run's folder among the checkouts, if it has one.
    pub(crate) folder: Option<String>,
    pub(crate) files: Vec<RunFile>,
    /// What is looked for anew each time.
    pub(crate) unpinned: Vec<String>,
}

/// A file among the libraries of a run.
#[derive(Debug)]
pub(crate) struct RunFile {
    /// Where it was found, as the run would see it there.
    pub(crate) path: String,
    /// Of the bytes that the run has.
    pub(crate) sha256: String,
    /// Whether the cluster installed it, and keeps its bytes whatever becomes of the path.
    pub(crate) is_installed: bool,
}

impl Libraries {
    /// Whether content is still there.
    pub(crate) fn has(&self, digest: &str) -> bool {
        self.0.kept.path(digest).is_file()
    }

    /// What a run installs: what is on its cluster, then `own`. Files are taken as they are now, and
    /// stay so for this run.
    ///
    /// # Errors
    /// When a file is not there, may not be read, or is not what it has to be.
    pub(crate) async fn for_run(
        &self,
        code: &Code,
        run: RunId,
        compute: &ResolvedCluster,
        own: Vec<Library>,
        java: bool,
    ) -> Result<RunLibraries> {
        let inner = &self.0;
        let java = java || inner.runs_java(&compute.runtime);
        let mut wanted = Vec::new();
        if let Some(cluster) = &compute.cluster_id {
            for row in inner.store.cluster_libraries(Some(cluster)).await? {
                if row.state == LibraryState::Failed {
                    continue;
                }
                let library = parsed(&row.library)?;
                if java || !library.is_java() {
                    wanted.push((library, row.digest));
                }
            }
        }
        for library in own {
            if !wanted.iter().any(|(there, _)| *there == library) {
                wanted.push((library, None));
            }
        }
        let checkout = code.checkout.as_ref().map(|own| own.run);
        let name = checkout.unwrap_or(run).to_string();
        let folder = inner.dirs.checkouts.join(&name).join(FOLDER);
        let mut found = RunLibraries::default();
        for (mut library, digest) in wanted {
            found.unpinned.extend(unpinned(&library));
            let files = inner.placed(code, &mut library, digest, &folder).await?;
            found.files.extend(files);
            found.list.push(library);
        }
        found.folder = (!found.files.is_empty() || checkout.is_some()).then_some(name);
        Ok(found)
    }
}

impl Libraries {
    /// Opens a file that runs see at `path`, as the code's user may.
    pub(crate) async fn open(&self, code: &Code, path: &str) -> Result<Blob> {
        self.0.open(code, path).await
    }
}

impl Inner {
    /// Gives the file of a library, if it is one, and those that it takes in a place in the run's
    /// folder; the library names that place from then on. With a digest, the cluster installed it.
    ///
    /// # Errors
    /// As [`Libraries::for_run`].
    pub(super) async fn placed(
        &self,
        code: &Code,
        library: &mut Library,
        digest: Option<String>,
        folder: &Path,
    ) -> Result<Vec<RunFile>> {
        let Some((kind, path)) = file_of(library) else {
            return Ok(Vec::new());
        };
        let is_installed = digest.is_some();
        let key: String = hex(Sha256::digest(&*path)).chars().take(16).collect();
        let first = std::mem::take(path);
        let below = below(kind, &first);
        *path = format!("/Workspace{CHECKOUTS}/{FOLDER}/{key}/{below}");
        let folder = folder.join(key);
        let mut files: Vec<RunFile> = Vec::new();
        let mut open = vec![(first, digest)];
        while let Some((path, digest)) = open.pop() {
            if files.iter().any(|file| file.path == path) {
                continue;
            }
            if files.len() > INCLUDED_MAX {
                let message = format!(
                    "Library {} takes in more than {INCLUDED_MAX} files.",
                    shown(&path)
                );
                return Err(Error::invalid(message));
            }
            let sha256 = self.place_one(code, (kind, &path), digest, &folder).await?;
            if kind == FileKind::Requirements {
                let text = self.kept.text(&sha256, &path).await?;
                let included = requirements::included(&text, &path);
                open.extend(included?.into_iter().map(|path| (path, None)));
            }
            files.push(RunFile {
                path,
                sha256,
                is_installed,
            });
        }
        Ok(files)
    }

    /// Gives one file its place, and returns the digest of what lies there.
    async fn place_one(
        &self,
        code: &Code,
        (kind, path): (FileKind, &str),
        installed: Option<String>,
        folder: &Path,
    ) -> Result<String> {
        let place = folder.join(below(kind, path));
        // An earlier attempt of the run, or another task, has it already.
        let (there, name) = (place.clone(), shown(path));
        if let Some(digest) = blocking(move || digest_of(&there, &name)).await? {
            return Ok(digest);
        }
        let _held = self.kept.hold().await;
        let before = code.library_before(path).map(str::to_owned);
        let is_own = installed.is_none();
        let kept = before
            .or(installed)
            .filter(|digest| self.kept.path(digest).is_file());
        let digest = match kept {
            Some(digest) => {
                // What has gone from its path may be had from the run before, not what is forbidden.
                match self.open(code, path).await {
                    Err(e) if is_own && e.code == ErrorCode::PermissionDenied => return Err(e),
                    _ => digest,
                }
            }
            None => self.take(code, kind, path).await?,
        };
        self.kept.place(&digest, place).await?;
        Ok(digest)
    }

    /// Opens a file that a library names, as the code's user may.
    async fn open(&self, code: &Code, path: &str) -> Result<Blob> {
        let blob = match path.strip_prefix("/Workspace") {
            Some(path) => code
                .read(&WorkspacePath::parse(path)?)
                .await
                .map(|(_, blob)| blob),
            None => {
                let path = path.strip_prefix("/dbfs").unwrap_or(path);
                self.dbfs.open_file(&DbfsPath::parse(path)?).await
            }
        };
        let named =
            |e: Error| Error::new(e.code, format!("Library {}: {}", shown(path), e.message));
        blob.map_err(named)
    }

    /// Takes a file in, as the code's user may, and gives its digest. The caller holds the gate.
    pub(super) async fn take(&self, code: &Code, kind: FileKind, path: &str) -> Result<String> {
        // A library of the workspace is its row; the file in DBFS is for people to see.
        if let Some(file) = path.strip_prefix("/dbfs/FileStore/jars/")
            && let Some(library) = self.store.library_by_file(file).await?
        {
            return Ok(library.digest);
        }
        let blob = self.open(code, path).await?;
        let shown = shown(path);
        let digest = self.kept.keep(blob, &shown).await?;
        let (content, name) = (self.kept.path(&digest), path.rsplit('/').next());
        let name = name.unwrap_or_default().to_owned();
        // What was taken is looked at: the file itself may be another by now.
        blocking(move || {
            let file = std::fs::File::open(&content)
                .map_err(|e| Error::internal(format!("cannot read {shown}"), e))?;
            archive::check(kind, file, &name, &shown)
        })
        .await?;
        Ok(digest)
    }

    pub(super) fn runs_java(&self, runtime: &str) -> bool {
        self.clusters.engine_of(runtime).as_deref() == Some("apache")
    }
}

/// Where a file lies below the folder of its library. Requirements files name others by the way from
/// one to the other, so that stays as it is.
fn below(kind: FileKind, path: &str) -> &str {
    match kind {
        FileKind::Requirements => path.trim_start_matches('/'),
        _ => path.rsplit('/').next().unwrap_or(path),
    }
}

fn unpinned(library: &Library) -> Option<String> {
    match library {
        Library::Pypi { package, .. } if !package.contains("==") => Some(format!("pypi {package}")),
        Library::Cran { package, .. } => Some(format!("cran {package}")),
        Library::Requirements { path } => Some(format!("what {path} names without a version")),
        _ => None,
    }
}

/// As the API writes it.
fn shown(path: &str) -> String {
    match path.strip_prefix("/dbfs/") {
        Some(rest) => format!("dbfs:/{rest}"),
        None => path.to_owned(),
    }
}
