//! What an attempt is made from, noted when it starts: enough to do it again, or to say why not.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use forebay_exec::{Mounts, Program};
use forebay_runtime::blocking;
use forebay_store::Run;
use forebay_types::{Result, RunId, WorkspacePath, hex};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::checkout::Checkout;
use super::origin::Origin;
use super::output::{self, Snapshot};
use super::script::{self, Script};
use super::source::{self, Code, Past};
use super::workload::Prepared;
use crate::clusters::ResolvedCluster;
use crate::services::WorkspaceDirs;

/// Where the facts of an attempt have them.
pub(crate) const INPUTS: &str = "inputs";

/// As the facts of an attempt show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// What the program finds as `FOREBAY_SEED`; random numbers of Python and R begin with it.
    pub seed: u32,
    /// Of the Git source.
    pub commit: Option<String>,
    pub runtime: String,
    /// Of everything that the cluster gives: runtime, settings, variables, memory.
    pub cluster_sha256: String,
    /// What does not lie in the commit.
    pub files: Vec<InputFile>,
    /// What is found anew each time, such as a package without a version.
    pub unpinned: Vec<String>,
    /// Scripts that have changed or gone since the run that this one repeats, and are what they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InputFile {
    pub kind: InputKind,
    /// A workspace path of a notebook, else the path that the program sees.
    pub path: String,
    /// Of the file's bytes, in hexadecimal digits.
    pub sha256: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    Notebook,
    /// By `%run` or `dbutils.notebook.run`.
    Included,
    Script,
    Library,
    /// A library that the cluster had installed.
    Installed,
}

impl InputKind {
    fn word(self) -> &'static str {
        match self {
            Self::Notebook | Self::Included => "Notebook",
            Self::Script => "Script",
            Self::Library | Self::Installed => "Library",
        }
    }
}

impl Inputs {
    /// # Errors
    /// When a file cannot be read; one that is not there is for the program to miss.
    pub(crate) async fn of(origin: &Origin<'_>, prepared: &Prepared) -> Result<Self> {
        let (workload, compute) = (&prepared.workload, origin.compute);
        let notebook = prepared.snapshot.as_ref();
        let notebook = notebook.and_then(|own| InputFile::of_notebook(InputKind::Notebook, own));
        let mut files: Vec<InputFile> = notebook.into_iter().collect();
        let mut wanted = Vec::new();
        let script = prepared.script.as_ref();
        files.extend(script.map(|taken| taken.script.input()));
        if let Program::Script { file, .. } = &workload.program
            && script.is_none()
        {
            wanted.push((InputKind::Script, file.clone()));
        }
        let mounts = &workload.place.mounts;
        wanted.retain(|(_, path)| !script::in_commit(path));
        let scripts = wanted.into_iter().map(|(kind, path)| {
            let file = host_file(mounts, &path);
            (kind, path, file)
        });
        let wanted: Vec<_> = scripts.collect();
        if !wanted.is_empty() {
            let found = blocking(move || {
                let read = |(kind, path, file): (InputKind, String, Option<PathBuf>)| {
                    let sha256 = digest_of(file.as_deref(), &path)?;
                    Ok(sha256.map(|sha256| InputFile { kind, path, sha256 }))
                };
                let found = wanted.into_iter().map(read);
                found.collect::<Result<Vec<_>>>()
            });
            files.extend(found.await?.into_iter().flatten());
        }
        files.extend(prepared.files.iter().map(|library| InputFile {
            kind: match library.is_installed {
                true => InputKind::Installed,
                false => InputKind::Library,
            },
            path: library.path.clone(),
            sha256: library.sha256.clone(),
        }));
        Ok(Self {
            seed: origin.seed,
            commit: origin.code.commit().map(str::to_owned),
            runtime: compute.runtime.clone(),
            cluster_sha256: cluster_digest(compute),
            files,
            unpinned: prepared.unpinned.clone(),
            kept: script
                .filter(|taken| taken.is_past)
                .map(|taken| taken.script.path.clone())
                .into_iter()
                .collect(),
        })
    }

    /// Adds the notebooks that the program took in while it ran.
    pub(crate) async fn with_included(mut self, dirs: &WorkspaceDirs, attempt: RunId) -> Self {
        let file = output::included_file(dirs, attempt);
        let later = move || Ok(included(std::fs::read_to_string(file).unwrap_or_default()));
        for Included { file, .. } in blocking(later).await.unwrap_or_default() {
            if !self.files.contains(&file) {
                self.files.push(file);
            }
        }
        self
    }

    /// Why a run from these inputs would be another one than a run from `now`.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.runtime != now.runtime {
            found.push(format!(
                "The runtime was {} and is {}.",
                self.runtime, now.runtime
            ));
        } else if self.cluster_sha256 != now.cluster_sha256 {
            found.push("The settings of the cluster have changed.".to_owned());
        }
        if self.commit != now.commit {
            let shown = |commit: &Option<String>| commit.clone().unwrap_or("none".to_owned());
            found.push(format!(
                "The commit was {} and is {}.",
                shown(&self.commit),
                shown(&now.commit)
            ));
        }
        let is_library =
            |file: &&InputFile| matches!(file.kind, InputKind::Library | InputKind::Installed);
        for file in self.files.iter().filter(is_library) {
            let others = now.files.iter().filter(is_library);
            let same = others.into_iter().find(|other| other.path == file.path);
            let is = same.map(|same| same.sha256.clone());
            found.extend(file.difference(is));
        }
        found
    }

    /// Which of the files have changed or gone, as the code's user sees them, and are not kept as
    /// they were. Of libraries, `kept` says that of a digest.
    ///
    /// # Errors
    /// When one cannot be read for another reason.
    pub(crate) async fn changed(
        &self,
        code: &Code,
        mounts: &Mounts,
        kept: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for file in &self.files {
            let now = match file.kind {
                InputKind::Notebook | InputKind::Included => {
                    notebook_digest(code, &file.path).await
                }
                InputKind::Library if kept(&file.sha256) => continue,
                InputKind::Script if code.script_before(&file.path).await.is_some() => continue,
                InputKind::Script | InputKind::Library => {
                    let (mounts, path) = (mounts.clone(), file.path.clone());
                    blocking(move || digest_of(host_file(&mounts, &path).as_deref(), &path)).await?
                }
                // The cluster has it, whatever lies at its path.
                InputKind::Installed => continue,
            };
            found.extend(file.difference(now));
        }
        Ok(found)
    }
}

impl InputFile {
    /// `None` when the notebook lies in the commit.
    pub(crate) fn of_notebook(kind: InputKind, snapshot: &Snapshot) -> Option<Self> {
        (!is_in_commit(&snapshot.path)).then(|| Self {
            kind,
            path: snapshot.path.clone(),
            sha256: hex(Sha256::digest(snapshot.source.as_bytes())),
        })
    }

    /// In words, when its digest is not the one that it was.
    fn difference(&self, now: Option<String>) -> Option<String> {
        let (what, path, was) = (self.kind.word(), &self.path, &self.sha256);
        match now {
            None => Some(format!("{what} {path} is gone: its sha-256 was {was}.")),
            Some(now) if now != *was => Some(format!(
                "{what} {path} has changed: its sha-256 was {was} and is {now}."
            )),
            Some(_) => None,
        }
    }
}

/// A notebook that an attempt takes in while it runs, as a line of a file beside its output.
#[derive(Debug, Serialize, Deserialize)]
struct Included {
    #[serde(flatten)]
    file: InputFile,
    // Lines of older servers have no more than that.
    file_name: Option<String>,
    source: Option<String>,
}

/// Half a line is what a crash left of one whose notebook was not given out.
fn included(lines: String) -> Vec<Included> {
    let lines = lines.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Keeps a notebook that is taken in with each of these attempts.
pub(crate) fn note_included(
    dirs: &WorkspaceDirs,
    attempts: impl Iterator<Item = RunId>,
    (file, snapshot): (InputFile, &Snapshot),
) {
    let line = Included {
        file,
        file_name: Some(snapshot.file_name.clone()),
        source: Some(snapshot.source.clone()),
    };
    let write = |attempt: RunId| {
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        std::fs::File::options()
            .create(true)
            .append(true)
            .open(output::included_file(dirs, attempt))?
            .write_all(&line)
    };
    for attempt in attempts {
        if let Err(error) = write(attempt) {
            tracing::warn!(%error, "cannot note what attempt {attempt} includes");
        }
    }
}

/// What is kept of an ended attempt's code, with what it was made from.
///
/// # Errors
/// When reading does not come to its end; what is not there is not kept.
pub(crate) async fn past(
    dirs: &WorkspaceDirs,
    attempt: RunId,
    inputs: Inputs,
) -> Result<(Past, Inputs)> {
    let dirs = dirs.clone();
    blocking(move || Ok((read_past(&dirs, attempt, &inputs.files), inputs))).await
}

fn read_past(dirs: &WorkspaceDirs, attempt: RunId, files: &[InputFile]) -> Past {
    let of_inputs = |path: &str, sha256: &str| {
        let mut files = files.iter();
        files.any(|file| file.path == path && file.sha256 == sha256)
    };
    let mut past = Past::default();
    let lines = std::fs::read_to_string(output::included_file(dirs, attempt));
    for Included {
        file,
        file_name,
        source,
    } in included(lines.unwrap_or_default())
    {
        if let (Some(file_name), Some(source)) = (file_name, source)
            && of_inputs(&file.path, &file.sha256)
        {
            let path = file.path.clone();
            past.notebooks.insert(
                file.path,
                Snapshot {
                    path,
                    file_name,
                    source,
                },
            );
        }
    }
    if let Some(own) = Snapshot::kept(dirs, attempt).filter(|own| !is_in_commit(&own.path)) {
        past.notebooks.insert(own.path.clone(), own);
    }
    past.script = Script::kept(dirs, attempt, files);
    for file in files {
        if matches!(file.kind, InputKind::Library | InputKind::Installed) {
            past.libraries
                .insert(file.path.clone(), file.sha256.clone());
        }
    }
    past
}

/// The seed of a task, when nothing says otherwise: another one for each run, the same for all tries.
pub(crate) fn seed_of(workspace: i64, run: &Run, task_key: &str) -> u32 {
    seed_from(&format!("{workspace}-{}-{task_key}", run.id))
}

/// The seed of the run that an attempt with `parent` starts by its call with this number.
pub(crate) fn seed_below(parent: u32, call: u64) -> u32 {
    seed_from(&format!("{parent}-{call}"))
}

/// Of 31 bits: R's integers have no more.
fn seed_from(text: &str) -> u32 {
    let digest = Sha256::digest(text);
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&digest[..4]);
    u32::from_be_bytes(bytes) >> 1
}

fn cluster_digest(compute: &ResolvedCluster) -> String {
    let env: BTreeMap<_, _> = compute.env.iter().collect();
    let conf: BTreeMap<_, _> = compute.spark_conf.iter().collect();
    let scripts = &compute.init_scripts;
    let all = json!([compute.runtime, compute.memory_bytes, env, conf, scripts]);
    hex(Sha256::digest(all.to_string()))
}

pub(super) fn is_in_commit(path: &str) -> bool {
    WorkspacePath::parse(path).is_ok_and(|path| Checkout::holds(&path).unwrap_or(false))
}

async fn notebook_digest(code: &Code, path: &str) -> Option<String> {
    let path = WorkspacePath::parse(path).ok()?;
    // A file of SQL statements is kept with a first line of its own.
    let (snapshot, _) = match source::load(code, &path).await {
        Ok(found) => found,
        Err(_) => source::load_sql(code, &path).await.ok()?,
    };
    Some(hex(Sha256::digest(snapshot.source.as_bytes())))
}

/// Of a file that programs know as `path`; `None` when there is none.
fn digest_of(file: Option<&Path>, path: &str) -> Result<Option<String>> {
    file.map_or(Ok(None), |file| crate::libraries::digest_of(file, path))
}

/// Where the file lies, if it is one and below the folder that the program sees.
pub(super) fn host_file(mounts: &Mounts, path: &str) -> Option<PathBuf> {
    let mut last = None;
    for mount in &mounts.0 {
        let rest = path.strip_prefix(mount.at.as_str());
        if let Some(rest) = rest.and_then(|rest| rest.strip_prefix('/')) {
            last = Some((mount, rest));
        }
    }
    let (mount, rest) = last?;
    // A program may have put a link there that leads out of its folders.
    let root = mount.host.join(&mount.inner).canonicalize().ok()?;
    let file = root.join(Path::new(rest)).canonicalize().ok()?;
    (file.starts_with(&root) && file.is_file()).then_some(file)
}

#[cfg(test)]
mod tests {
    use forebay_exec::Mount;

    use super::*;

    #[test]
    fn files_are_read_where_the_program_sees_them_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let (dbfs, mounted) = (dir.path().join("dbfs"), dir.path().join("mounted"));
        for folder in [&dbfs, &mounted] {
            std::fs::create_dir(folder).unwrap();
        }
        std::fs::write(dbfs.join("a"), "abc").unwrap();
        std::fs::write(mounted.join("a"), "").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), dbfs.join("link")).unwrap();
        let mounts = Mounts(vec![
            Mount::writable(&dbfs, "/dbfs"),
            Mount::read_only(&mounted, "/dbfs/mnt/raw"),
        ]);
        let digest = |path: &str| digest_of(host_file(&mounts, path).as_deref(), path).unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest("/dbfs/a").as_deref(), Some(abc));
        assert_eq!(digest("/dbfs/mnt/raw/a").as_deref(), Some(empty));
        for gone in [
            "/dbfs/b",
            "/dbfs/link",
            "/dbfs/../secret",
            "/dbfs",
            "/etc/passwd",
        ] {
            assert_eq!(digest(gone), None, "{gone}");
        }
    }

    #[test]
    fn seeds_differ_by_run_and_call_and_fit_into_31_bits() {
        let seeds: std::collections::HashSet<u32> = (0..1000).map(|n| seed_below(7, n)).collect();
        assert_eq!(seeds.len(), 1000);
        assert!(seeds.iter().all(|seed| *seed < 1 << 31));
        assert_eq!(seed_below(7, 1), seed_below(7, 1));
    }
}
