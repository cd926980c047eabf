use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forebay_runtime::Clock;
use forebay_store::{copy_database, forget_deleted, schema_version};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::digest::{Measured, write_line};
use super::{ABOUT, About, DATABASE, DIGESTS, FORMAT, Report, WorkspaceAbout};

/// Of the data folder: what is built again, and what belongs to one process.
const NOT_DATA: &[&str] = &["exec", "lock", "runner"];
/// Of a workspace: half-made things. Its database is copied in a way of its own.
const NOT_WORKSPACE: &[&str] = &[
    "staging",
    "trash",
    "forebay.db",
    "forebay.db-wal",
    "forebay.db-shm",
];
/// Of its `git` folder: mirrors only save time.
const NOT_GIT: &[&str] = &["mirrors"];

/// Writes a backup of the data folder `data` to the new file `file`, and calls `progress` with
/// the number of files and bytes so far.
///
/// # Errors
/// When `file` exists or lies in the data folder, when something cannot be read, or the disk is
/// full; then there is no such file.
pub fn backup(
    data: &Path,
    file: &Path,
    clock: &Clock,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report> {
    let data = data
        .canonicalize()
        .with_context(|| format!("there is no data folder {}", data.display()))?;
    let folder = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = folder
        .canonicalize()
        .with_context(|| format!("there is no folder {}", folder.display()))?;
    if folder.starts_with(&data) {
        bail!("{} lies in the data folder itself", file.display());
    }
    if file.try_exists()? {
        bail!("{} exists already", file.display());
    }
    let databases = workspaces(&data)?;
    if databases.is_empty() {
        bail!(
            "{} is no data folder: no workspace is in it",
            data.display()
        );
    }
    // Beside the file and not in /tmp: where there is room for the one there is for the other.
    let staging = tempfile::Builder::new()
        .prefix(".forebay-backup")
        .tempdir_in(&folder)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    let mut about = About {
        format: FORMAT,
        forebay: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: clock.now().0,
        workspaces: Vec::new(),
    };
    for name in databases {
        let copy = staging.path().join(format!("{name}.db"));
        copy_database(&data.join(&name).join(DATABASE), &copy).map_err(failed)?;
        let schema = schema_version(&copy).map_err(failed)?;
        about.workspaces.push(WorkspaceAbout { name, schema });
    }
    let half = staging.path().join("half");
    let mut writer = Writer::create(&half, &staging, about, &mut progress)?;
    writer.everything(&data, &staging)?;
    let report = writer.finish()?;
    // Fails when somebody made the file meanwhile, instead of replacing it.
    fs::hard_link(&half, file).with_context(|| format!("cannot create {}", file.display()))?;
    File::open(&folder)?.sync_all()?;
    Ok(report)
}

/// Keeps the cause, which the store tells apart from its words.
fn failed(error: forebay_types::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}

/// The folders that have a database.
fn workspaces(data: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(data).with_context(|| format!("cannot read {}", data.display()))? {
        let entry = entry?;
        if entry.path().join(DATABASE).is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

struct Writer<'a> {
    tar: Builder<BufWriter<File>>,
    digests: BufWriter<File>,
    digests_path: PathBuf,
    report: Report,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Writer<'a> {
    fn create(
        half: &Path,
        staging: &TempDir,
        about: About,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        // Keys and tokens are in it, so it is its owner's alone.
        let file = File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(half)?;
        let mut tar = Builder::new(BufWriter::with_capacity(1 << 20, file));
        tar.follow_symlinks(false);
        let text = serde_json::to_vec_pretty(&about)?;
        tar.append_data(&mut header(0o600, text.len() as u64, 0), ABOUT, &*text)?;
        let digests_path = staging.path().join(DIGESTS);
        Ok(Self {
            tar,
            digests: BufWriter::new(File::create(&digests_path)?),
            digests_path,
            report: Report {
                about,
                files: 0,
                bytes: 0,
                notes: Vec::new(),
            },
            progress,
        })
    }

    fn everything(&mut self, data: &Path, staging: &TempDir) -> Result<()> {
        self.folder(data, Path::new(""))?;
        for index in 0..self.report.about.workspaces.len() {
            let name = self.report.about.workspaces[index].name.clone();
            let copy = staging.path().join(format!("{name}.db"));
            forget_deleted(&copy, &data.join(&name).join(DATABASE)).map_err(failed)?;
            let to = Path::new(&name).join(DATABASE);
            self.file(&copy, &to)?;
            fs::remove_file(&copy)?;
        }
        Ok(())
    }

    /// The content of the folder `at`, which is `to` in the backup.
    fn folder(&mut self, at: &Path, to: &Path) -> Result<()> {
        let entries = match fs::read_dir(at) {
            Ok(entries) => entries,
            // Deleted while we were on the way.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", at.display())),
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?;
        names.sort();
        for name in names {
            let to = to.join(&name);
            if !self.is_left_out(&to) {
                self.entry(&at.join(&name), &to)
                    .with_context(|| format!("cannot back up {}", at.join(&name).display()))?;
            }
        }
        Ok(())
    }

    fn is_left_out(&self, to: &Path) -> bool {
        let parts: Vec<_> = to.iter().filter_map(|part| part.to_str()).collect();
        let workspaces = &self.report.about.workspaces;
        let is_workspace = |name: &str| workspaces.iter().any(|known| known.name == name);
        match parts[..] {
            [name] => NOT_DATA.contains(&name),
            [workspace, name] => is_workspace(workspace) && NOT_WORKSPACE.contains(&name),
            [workspace, "git", name] => is_workspace(workspace) && NOT_GIT.contains(&name),
            _ => false,
        }
    }

    fn entry(&mut self, at: &Path, to: &Path) -> Result<()> {
        let meta = match fs::symlink_metadata(at) {
            Ok(meta) => meta,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let kind = meta.file_type();
        if kind.is_dir() {
            let mut header = header(meta.mode(), 0, meta.mtime());
            header.set_entry_type(EntryType::Directory);
            self.tar.append_data(&mut header, to, std::io::empty())?;
            self.folder(at, to)
        } else if kind.is_symlink() {
            let mut header = header(meta.mode(), 0, meta.mtime());
            header.set_entry_type(EntryType::Symlink);
            Ok(self.tar.append_link(&mut header, to, fs::read_link(at)?)?)
        } else if kind.is_file() {
            match self.file(at, to) {
                Err(e) if is_gone(&e) => Ok(()),
                done => done,
            }
        } else {
            let what = if kind.is_socket() {
                "socket"
            } else {
                "device or pipe"
            };
            let note = format!("{} is a {what} and was left out", to.display());
            self.report.notes.push(note);
            Ok(())
        }
    }

    fn file(&mut self, at: &Path, to: &Path) -> Result<()> {
        let file = File::open(at)?;
        let meta = file.metadata()?;
        let mut header = header(meta.mode(), meta.len(), meta.mtime());
        let mut content = Measured::new(file, meta.len());
        self.tar.append_data(&mut header, to, &mut content)?;
        if content.shrank {
            let note = format!("{} became shorter while it was copied", to.display());
            self.report.notes.push(note);
        }
        write_line(&mut self.digests, &content.digest(), to)?;
        self.report.files += 1;
        self.report.bytes += meta.len();
        (self.progress)(self.report.files, self.report.bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<Report> {
        self.digests.flush()?;
        let digests = File::open(&self.digests_path)?;
        let length = digests.metadata()?.len();
        let mut header = header(0o600, length, 0);
        self.tar.append_data(&mut header, DIGESTS, digests)?;
        let file = self.tar.into_inner()?;
        let file = file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(self.report)
    }
}

fn is_gone(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

fn header(mode: u32, length: u64, modified: i64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode & 0o7777);
    header.set_size(length);
    header.set_mtime(u64::try_from(modified).unwrap_or(0));
    header
}
