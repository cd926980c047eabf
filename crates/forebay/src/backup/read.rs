use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forebay_store::{SCHEMA_VERSION, integrity_problems};
use tar::{Archive, Entry, EntryType};

use super::digest::{of_file, parse_line};
use super::{ABOUT, About, DATABASE, DIGESTS, FORMAT, Report};

/// No description of a backup is larger.
const ABOUT_BYTES_MAX: u64 = 1 << 20;

/// Restores the backup `file` as the data folder `data`, which must not exist or be empty, and
/// calls `progress` with the number of files and bytes so far.
///
/// # Errors
/// When the folder is not empty, the backup is damaged, cut off or of a newer program, or the disk
/// is full. `data` is then as it was.
pub fn restore(file: &Path, data: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Report> {
    let data = std::path::absolute(data)?;
    let name = data.file_name().context("the data folder has no name")?;
    let parent = data.parent().context("the data folder has no name")?;
    if data.try_exists()? && fs::read_dir(&data)?.next().is_some() {
        bail!(
            "{} is not empty; a backup is restored into a new folder only",
            data.display()
        );
    }
    fs::create_dir_all(parent)?;
    // A name of its own until all is checked: what is half there never looks like a data folder.
    let staging = tempfile::Builder::new()
        .prefix(&format!(".{}.restoring-", name.to_string_lossy()))
        .tempdir_in(parent)
        .with_context(|| format!("cannot write to {}", parent.display()))?;
    let root = staging.path().join("data");
    fs::DirBuilder::new().mode(0o700).create(&root)?;
    let mut reader = Reader::open(file, &root, &mut progress)?;
    reader.everything()?;
    let report = reader.check()?;
    rustix::fs::syncfs(File::open(&root)?)?;
    fs::rename(&root, &data).with_context(|| format!("cannot put {} in place", data.display()))?;
    File::open(parent)?.sync_all()?;
    Ok(report)
}

struct Reader<'a> {
    file: &'a Path,
    root: &'a Path,
    archive: Archive<BufReader<File>>,
    /// Modes of folders, set at last: one that may not be written to has content as well.
    folders: Vec<(PathBuf, u32)>,
    report: Report,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl<'a> Reader<'a> {
    fn open(file: &'a Path, root: &'a Path, progress: &'a mut dyn FnMut(u64, u64)) -> Result<Self> {
        let content =
            File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut archive = Archive::new(BufReader::with_capacity(1 << 20, content));
        archive.set_preserve_mtime(true);
        archive.set_overwrite(false);
        Ok(Self {
            file,
            root,
            archive,
            folders: Vec::new(),
            report: Report {
                about: About {
                    format: 0,
                    forebay: String::new(),
                    made_at: 0,
                    workspaces: Vec::new(),
                },
                files: 0,
                bytes: 0,
                notes: Vec::new(),
            },
            progress,
        })
    }

    fn damaged(&self) -> String {
        format!("{} is damaged", self.file.display())
    }

    /// Unpacks every entry.
    fn everything(&mut self) -> Result<()> {
        let damaged = self.damaged();
        let file = File::open(self.file)?;
        // Entries borrow their archive, which therefore cannot stay in `self`.
        let empty = Archive::new(BufReader::new(file));
        let mut archive = std::mem::replace(&mut self.archive, empty);
        let mut entries = archive.entries()?;
        let first = entries.next().transpose();
        match first.ok().flatten() {
            Some(entry) if entry.path_bytes() == ABOUT.as_bytes() => self.about(entry)?,
            _ => bail!("{} is no backup of Forebay", self.file.display()),
        }
        for entry in entries {
            self.entry(entry.with_context(|| damaged.clone())?)
                .with_context(|| damaged.clone())?;
        }
        Ok(())
    }

    fn about(&mut self, entry: Entry<'_, impl Read>) -> Result<()> {
        let mut text = String::new();
        entry.take(ABOUT_BYTES_MAX).read_to_string(&mut text)?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let newer = "a newer Forebay made this backup; restore it with that one";
        if value["format"]
            .as_u64()
            .is_some_and(|format| format > u64::from(FORMAT))
        {
            bail!(
                "{newer} (its format is {}, this program knows {FORMAT})",
                value["format"]
            );
        }
        let about: About = serde_json::from_value(value)?;
        for workspace in &about.workspaces {
            if workspace.schema > SCHEMA_VERSION {
                bail!(
                    "{newer} (the database of {} has schema version {}, this program knows \
                     {SCHEMA_VERSION})",
                    workspace.name,
                    workspace.schema
                );
            }
        }
        self.report.about = about;
        Ok(())
    }

    fn entry(&mut self, mut entry: Entry<'_, impl Read>) -> Result<()> {
        let path = entry.path()?.into_owned();
        let kind = entry.header().entry_type();
        match kind {
            EntryType::Directory => {
                // `unpack_in` below refuses what leads out; a folder is made here for its mode.
                let plain = path
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                if !plain {
                    bail!("{} leads out of the folder", path.display());
                }
                let mode = entry.header().mode()?;
                let at = self.root.join(&path);
                fs::DirBuilder::new().mode(0o700).create(&at)?;
                self.folders.push((at, mode));
                return Ok(());
            }
            EntryType::Regular | EntryType::Symlink => {}
            other => bail!("{} is of the kind {other:?}", path.display()),
        }
        let bytes = entry.size();
        if !entry.unpack_in(self.root)? {
            bail!("{} leads out of the folder", path.display());
        }
        if kind == EntryType::Regular && path != Path::new(DIGESTS) {
            self.report.files += 1;
            self.report.bytes += bytes;
            (self.progress)(self.report.files, self.report.bytes);
        }
        Ok(())
    }

    /// Compares what was unpacked with the list of digests, and looks through the databases.
    fn check(self) -> Result<Report> {
        let damaged = self.damaged();
        let list = self.root.join(DIGESTS);
        let lines = File::open(&list).with_context(|| {
            format!("{damaged}: it was cut off, its list of digests is missing")
        })?;
        let mut known = 0;
        for line in BufReader::new(lines).split(b'\n') {
            let (digest, path) = parse_line(&line?).with_context(|| damaged.clone())?;
            let found = of_file(&self.root.join(&path))
                .with_context(|| format!("{damaged}: {} is missing", path.display()))?;
            if found != digest {
                bail!("{damaged}: {} is not what was backed up", path.display());
            }
            known += 1;
        }
        if known != self.report.files {
            bail!(
                "{damaged}: it has {} files, its list {known}",
                self.report.files
            );
        }
        fs::remove_file(&list)?;
        for workspace in &self.report.about.workspaces {
            let path = self.root.join(&workspace.name).join(DATABASE);
            let problems = integrity_problems(&path).map_err(|e| anyhow::anyhow!("{e:?}"))?;
            if !problems.is_empty() {
                bail!(
                    "the database of {} is not sound: {}",
                    workspace.name,
                    problems.join("; ")
                );
            }
        }
        for (path, mode) in self.folders.iter().rev() {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))?;
        }
        Ok(self.report)
    }
}
