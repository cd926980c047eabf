use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::GitError;
use crate::head::Head;
use crate::mirror::Synced;
use crate::program::{Call, Credential, Git, failure, option};
use crate::remote::Remote;

/// A work tree and, away from it and out of reach for user code, its Git folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    pub git_dir: PathBuf,
    pub work_tree: PathBuf,
}

/// What to check out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revision {
    Branch(String),
    Tag(String),
    /// A commit's id, in full or at least seven digits of it.
    Commit(String),
}

/// A revision as it was found: a commit, and the branch that shall point to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    commit: String,
    branch: Option<String>,
}

/// Exists while a work tree is being changed to what it says.
const UPDATE_MARK: &str = "forebay-update";
const LOCK: &str = "forebay-lock";
/// How long to wait for a `git` that an earlier server process left behind.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(60);
const LOCK_WAIT_STEP: Duration = Duration::from_millis(20);
/// Writing a large work tree on a slow disk.
const CHECKOUT_SECONDS_MAX: u64 = 900;

impl Git {
    /// Clones the default branch, or of it only the folders in `sparse`. The work tree of `to` must
    /// be an empty folder, its Git folder must not exist; when it fails, the caller throws away
    /// what is there.
    ///
    /// # Errors
    /// When the remote cannot be read, or the disk is full.
    pub async fn clone_to(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
        sparse: Option<&[String]>,
        to: &Checkout,
    ) -> Result<Head, GitError> {
        let synced = self.sync(remote, credential).await?;
        self.clone_mirror(&synced, to).await?;
        // The mirror may change now; all that is needed has a link of its own.
        let branch = synced.refs.default_branch().map(str::to_owned);
        let commit = branch
            .as_ref()
            .and_then(|name| synced.refs.heads.get(name))
            .cloned();
        drop(synced);
        let lock = lock(&to.git_dir).await?;
        if let Some(patterns) = sparse {
            self.sparse_call(to, &lock, patterns)?.run().await?;
        }
        match (branch, commit) {
            (branch, Some(commit)) => {
                self.checkout(to, &lock, &Target { commit, branch }).await?;
            }
            (_, None) => {
                let empty = ["symbolic-ref", "HEAD", "refs/heads/main"];
                self.tree_call("begin an empty branch", to, &lock)?
                    .args(empty)
                    .run()
                    .await?;
            }
        }
        Head::read(&to.git_dir)
    }

    /// Makes the Git folder.
    async fn clone_mirror(&self, synced: &Synced, to: &Checkout) -> Result<(), GitError> {
        let doing = "clone";
        // `git` insists on a work tree around a new Git folder, which then moves out.
        let around = to.git_dir.with_extension("clone");
        let call = self
            .call(doing)
            .env("GIT_ALLOW_PROTOCOL", "file")
            .args([
                "clone",
                "--quiet",
                "--local",
                "--no-checkout",
                "--template=",
            ])
            .args(["--config", "core.fileMode=false", "--origin=origin", "--"])
            .args([&synced.dir, &around]);
        call.time_max(CHECKOUT_SECONDS_MAX).run().await?;
        let place = || -> std::io::Result<()> {
            fs::rename(around.join(".git"), &to.git_dir)?;
            fs::remove_dir(&around)
        };
        place().map_err(|e| GitError::server(doing, e))
    }

    /// Fetches and moves the work tree to `revision`'s newest commit. Local changes elsewhere
    /// stay; where the revision differs they are not overwritten.
    ///
    /// # Errors
    /// `MissingRevision`, `LocalChanges`, or when the remote cannot be read; then nothing was
    /// changed.
    pub async fn update(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
        at: &Checkout,
        revision: &Revision,
    ) -> Result<Head, GitError> {
        let lock = lock(&at.git_dir).await?;
        self.repair(at, &lock).await?;
        let synced = self.sync(remote, credential).await?;
        let target = self.find(&synced, remote, credential, revision).await?;
        let all = [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        ];
        let call = self
            .tree_call("fetch", at, &lock)?
            .env("GIT_ALLOW_PROTOCOL", "file");
        let fetch = [
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
        ];
        let call = call.args(fetch).args(["--no-recurse-submodules", "--"]);
        let call = call.args([&synced.dir]).args(all);
        call.time_max(CHECKOUT_SECONDS_MAX).run().await?;
        drop(synced);
        if Head::read(&at.git_dir)?.commit.is_some() {
            self.try_out(at, &lock, &target).await?;
            mark(at, &target)?;
        }
        self.checkout(at, &lock, &target).await?;
        unmark(at)?;
        Head::read(&at.git_dir)
    }

    /// Chooses which folders of the repository the work tree has.
    ///
    /// # Errors
    /// When a pattern is not acceptable or the disk is full.
    pub async fn sparse_set(&self, at: &Checkout, patterns: &[String]) -> Result<(), GitError> {
        let lock = lock(&at.git_dir).await?;
        self.repair(at, &lock).await?;
        self.sparse_call(at, &lock, patterns)?.run().await?;
        Ok(())
    }

    fn sparse_call(&self, at: &Checkout, lock: &File, dirs: &[String]) -> Result<Call, GitError> {
        let call = self.tree_call("choose the folders to check out", at, lock)?;
        let call = call.args(["sparse-checkout", "set", "--cone", "--"]);
        Ok(call.args(dirs).time_max(CHECKOUT_SECONDS_MAX))
    }

    /// What the work tree stands at. Reads two small files.
    ///
    /// # Errors
    /// When there is no Git folder.
    pub fn head(&self, git_dir: &Path) -> Result<Head, GitError> {
        Head::read(git_dir)
    }

    /// Whether the work tree is as it was checked out, but for files that it tells to ignore.
    ///
    /// # Errors
    /// When a folder is missing.
    pub async fn is_clean(&self, at: &Checkout) -> Result<bool, GitError> {
        let lock = lock(&at.git_dir).await?;
        let call = self.tree_call("look for local changes", at, &lock)?;
        let call = call.args(["status", "--porcelain", "--ignore-submodules=all"]);
        Ok(call.run().await?.is_empty())
    }

    /// Writes the files of a revision to the folder `to`, which must not exist, and returns the
    /// commit. There is no Git folder; what fails leaves nothing behind.
    ///
    /// # Errors
    /// `MissingRevision`, or when the remote cannot be read.
    pub async fn export(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
        revision: &Revision,
        to: &Path,
    ) -> Result<String, GitError> {
        let doing = "check out";
        let synced = self.sync(remote, credential).await?;
        let target = self.find(&synced, remote, credential, revision).await?;
        fs::create_dir(to).map_err(|e| GitError::server(doing, e))?;
        let mut index = OsString::from(to);
        index.push(".index");
        let call = self
            .call(doing)
            .env("GIT_DIR", &synced.dir)
            .env("GIT_WORK_TREE", ".")
            .env("GIT_INDEX_FILE", &index)
            .args(["read-tree", "-m", "-u", &target.commit])
            .dir(to);
        let written = call.time_max(CHECKOUT_SECONDS_MAX).run().await;
        let removed = fs::remove_file(&index);
        if written.is_err() {
            // The error of the checkout tells more than one of tidying up.
            drop(fs::remove_dir_all(to));
        }
        written?;
        removed.map_err(|e| GitError::server(doing, e))?;
        Ok(target.commit)
    }

    async fn find(
        &self,
        synced: &Synced,
        remote: &Remote,
        credential: Option<&Credential>,
        revision: &Revision,
    ) -> Result<Target, GitError> {
        let (kind, name, commits) = match revision {
            Revision::Branch(name) => ("Branch", name, &synced.refs.heads),
            Revision::Tag(name) => ("Tag", name, &synced.refs.tags),
            Revision::Commit(id) => {
                let commit = self.find_commit(synced, remote, credential, id).await?;
                return Ok(Target {
                    commit,
                    branch: None,
                });
            }
        };
        let commit = commits.get(name).cloned();
        let branch = matches!(revision, Revision::Branch(_)).then(|| name.clone());
        let found = commit.map(|commit| Target { commit, branch });
        found.ok_or_else(|| GitError::MissingRevision {
            kind,
            name: name.clone(),
            address: remote.address().to_owned(),
        })
    }

    fn tree_call(&self, doing: &'static str, at: &Checkout, lock: &File) -> Result<Call, GitError> {
        let call = self.call(doing).env("GIT_DIR", &at.git_dir);
        call.env("GIT_WORK_TREE", ".")
            .dir(&at.work_tree)
            .holding(lock)
    }

    /// Refuses, before anything is written, what would overwrite local changes.
    async fn try_out(&self, at: &Checkout, lock: &File, to: &Target) -> Result<(), GitError> {
        let doing = "compare with local changes";
        // Files that were touched but not changed must not count; its status tells of others.
        let refresh = self.tree_call(doing, at, lock)?;
        refresh
            .args(["update-index", "-q", "--refresh"])
            .done()
            .await?;
        let call = self.tree_call(doing, at, lock)?;
        let call = call.args(["read-tree", "-n", "-m", "-u", "HEAD", &to.commit]);
        let done = call.time_max(CHECKOUT_SECONDS_MAX).done().await?;
        if done.success {
            return Ok(());
        }
        Err(match quoted(&done.stderr) {
            Some(file) => GitError::LocalChanges { file },
            None => failure(doing, &done.stderr),
        })
    }

    async fn checkout(&self, at: &Checkout, lock: &File, to: &Target) -> Result<(), GitError> {
        let doing = "check out";
        let call = self
            .tree_call(doing, at, lock)?
            .args(["checkout", "--quiet"]);
        let call = match &to.branch {
            Some(branch) => call.args(["-B", branch]),
            None => call.args(["--detach"]),
        };
        let call = call.args([&to.commit, "--"]).time_max(CHECKOUT_SECONDS_MAX);
        let done = call.done().await?;
        if done.success {
            return Ok(());
        }
        let file = done.stderr.lines().find_map(|line| line.strip_prefix('\t'));
        Err(match file {
            Some(file) if done.stderr.contains("overwritten") => GitError::LocalChanges {
                file: file.to_owned(),
            },
            _ => failure(doing, &done.stderr),
        })
    }

    /// Ends a change that was cut off: a work tree half old and half new would look like local
    /// changes for ever. Only files in which the two commits differ are written; they had no
    /// local changes when the change began.
    async fn repair(&self, at: &Checkout, lock: &File) -> Result<(), GitError> {
        let doing = "finish an interrupted update";
        clear_locks(&at.git_dir).map_err(|e| GitError::server(doing, e))?;
        let Some(target) = marked(at)? else {
            return Ok(());
        };
        tracing::warn!(git.dir = %at.git_dir.display(), "an update was interrupted, finishing it");
        let paths = at.git_dir.join("forebay-paths");
        let file = File::create(&paths).map_err(|e| GitError::server(doing, e))?;
        let differ = [
            "diff-tree",
            "-r",
            "-z",
            "--name-only",
            "--no-renames",
            "HEAD",
        ];
        let call = self.tree_call(doing, at, lock)?.args(differ);
        call.args([&target.commit]).stdout_to(file).run().await?;
        if fs::metadata(&paths).is_ok_and(|meta| meta.len() > 0) {
            let call = self
                .tree_call(doing, at, lock)?
                .args(["restore", "--staged"]);
            let call = call.args(["--worktree", "--pathspec-file-nul"]);
            let call = call.args([option("--pathspec-from-file", &paths)]);
            let call = call.args([format!("--source={}", target.commit)]);
            call.time_max(CHECKOUT_SECONDS_MAX).run().await?;
        }
        self.checkout(at, lock, &target).await?;
        unmark(at)
    }
}

/// The first name in quotes.
fn quoted(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('\'')?;
    let (name, _) = rest.split_once("' ")?;
    Some(name.to_owned())
}

/// The right to change a work tree, also against a `git` that outlived an earlier server.
async fn lock(git_dir: &Path) -> Result<File, GitError> {
    let doing = "lock a repository";
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.open(git_dir.join(LOCK));
    let file = file.map_err(|e| GitError::server(doing, e))?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if waited < LOCK_WAIT_MAX => {
                tokio::time::sleep(LOCK_WAIT_STEP).await;
                waited += LOCK_WAIT_STEP;
            }
            Err(TryLockError::WouldBlock) => {
                let seconds = LOCK_WAIT_MAX.as_secs();
                return Err(GitError::TooSlow { doing, seconds });
            }
            Err(TryLockError::Error(e)) => return Err(GitError::server(doing, e)),
        }
    }
}

fn mark(at: &Checkout, target: &Target) -> Result<(), GitError> {
    let branch = target.branch.as_deref().unwrap_or_default();
    let text = format!("{}\n{branch}\n", target.commit);
    let new = at.git_dir.join(format!("{UPDATE_MARK}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, at.git_dir.join(UPDATE_MARK))
    };
    write().map_err(|e| GitError::server("note an update", e))
}

fn marked(at: &Checkout) -> Result<Option<Target>, GitError> {
    let text = match fs::read_to_string(at.git_dir.join(UPDATE_MARK)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|e| GitError::server("read an update's note", e))?,
    };
    let mut lines = text.lines().map(str::to_owned);
    let commit = lines.next().unwrap_or_default();
    let branch = lines.next().filter(|branch| !branch.is_empty());
    Ok(Some(Target { commit, branch }))
}

fn unmark(at: &Checkout) -> Result<(), GitError> {
    match fs::remove_file(at.git_dir.join(UPDATE_MARK)) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(GitError::server("end an update's note", e))
        }
        _ => Ok(()),
    }
}

/// Removes what a killed `git` left; whoever holds our lock knows that none is running.
fn clear_locks(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // Objects have no locks and may be many.
            if entry.file_name() != "objects" {
                clear_locks(&path)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "lock") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
