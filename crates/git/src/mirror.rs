//! One bare mirror per address and owner: what many folders of one repository need is fetched
//! once. Clones take hard links of its objects, so a mirror can go at any time.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use forebay_types::hex;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use crate::error::GitError;
use crate::program::{Credential, Git, option, remote_failure};
use crate::refs::RemoteRefs;
use crate::remote::Remote;

/// How long a host may take to list its branches, and to send everything.
const LIST_SECONDS_MAX: u64 = 60;
const FETCH_SECONDS_MAX: u64 = 1800;
/// Above this number, mirrors that nobody uses are forgotten (their files stay).
const OPEN_MAX: usize = 1024;
/// The file in a mirror whose time says when it was used last.
const USED: &str = "forebay-used";
/// How the name of a mirror ends that is being deleted.
const GONE: &str = ".gone";

#[derive(Debug)]
pub(crate) struct Mirrors {
    folder: PathBuf,
    open: Mutex<HashMap<String, Arc<Mirror>>>,
}

#[derive(Debug)]
pub(crate) struct Mirror {
    dir: PathBuf,
    /// Counts the calls, so that one fetch serves all that came before it began.
    calls: AtomicU64,
    turn: tokio::sync::Mutex<()>,
    state: Arc<RwLock<State>>,
}

#[derive(Debug)]
pub(crate) struct State {
    /// The fetch served calls up to this number.
    served: u64,
    outcome: Result<Arc<RemoteRefs>, GitError>,
}

/// A mirror as it was right after a fetch; it does not change while this is held.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) dir: PathBuf,
    pub(crate) refs: Arc<RemoteRefs>,
    _unchanged: OwnedRwLockReadGuard<State>,
}

impl Mirrors {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            open: Mutex::default(),
        }
    }

    fn get(&self, remote: &Remote, credential: Option<&Credential>) -> Arc<Mirror> {
        let owner = credential.map_or_else(String::new, |c| c.owner.to_string());
        let digest = Sha256::digest(format!("{}\0{owner}", remote.target()));
        let name = hex(&digest[..16]);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_MAX {
            open.retain(|_, mirror| Arc::strong_count(mirror) > 1);
        }
        let mirror = open.entry(name).or_insert_with_key(|name| {
            Arc::new(Mirror {
                dir: self.folder.join(format!("{name}.git")),
                calls: AtomicU64::new(0),
                turn: tokio::sync::Mutex::default(),
                state: Arc::new(RwLock::new(State {
                    served: 0,
                    outcome: Ok(Arc::default()),
                })),
            })
        });
        Arc::clone(mirror)
    }
}

impl Git {
    /// Keeps the `keep` mirrors that were used last; only at start, before any call. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be read or changed.
    pub fn mirrors_trim(&self, keep: usize) -> Result<(), GitError> {
        let cannot = |e| GitError::server("tidy up the mirrors", e);
        let mut mirrors = Vec::new();
        let mut surplus = 0;
        for entry in fs::read_dir(&self.0.mirrors.folder).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let path = entry.path();
            let used = fs::metadata(path.join(USED)).and_then(|meta| meta.modified());
            let gone = path
                .as_os_str()
                .as_encoded_bytes()
                .ends_with(GONE.as_bytes());
            surplus += usize::from(gone);
            mirrors.push((!gone, used.unwrap_or(UNIX_EPOCH), path));
        }
        mirrors.sort();
        let surplus = surplus.max(mirrors.len().saturating_sub(keep));
        for (_, _, path) in &mirrors[..surplus] {
            fs::remove_dir_all(path).map_err(cannot)?;
        }
        Ok(())
    }

    /// Brings the mirror up to date. Of calls that come while one fetch runs, all but the first
    /// share the next fetch and its outcome.
    pub(crate) async fn sync(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
    ) -> Result<Synced, GitError> {
        let mirror = self.0.mirrors.get(remote, credential);
        let call = mirror.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let turn = mirror.turn.lock().await;
        let state = Arc::clone(&mirror.state).read_owned().await;
        if state.served >= call {
            return Synced::new(&mirror, state);
        }
        drop(state);
        let mut state = Arc::clone(&mirror.state).write_owned().await;
        let served = mirror.calls.load(Ordering::SeqCst);
        state.outcome = self
            .fetch(&mirror.dir, remote, credential)
            .await
            .map(Arc::new);
        state.served = served;
        let state = state.downgrade();
        drop(turn);
        Synced::new(&mirror, state)
    }

    async fn fetch(
        &self,
        dir: &Path,
        remote: &Remote,
        credential: Option<&Credential>,
    ) -> Result<RemoteRefs, GitError> {
        self.reach(remote).await?;
        let refs = self.list(remote, credential).await?;
        if !self.has(dir, &refs).await {
            self.refresh(dir, remote, credential).await?;
        }
        let used = tokio::fs::write(dir.join(USED), "").await;
        used.map_err(|e| GitError::server("mark a mirror as used", e))?;
        Ok(refs)
    }

    async fn refresh(
        &self,
        dir: &Path,
        remote: &Remote,
        credential: Option<&Credential>,
    ) -> Result<(), GitError> {
        match self.fetch_all(dir, remote, credential).await {
            // A fetch that was cut off leaves locks behind; a mirror is worth nothing but time.
            Err(GitError::Failed { .. }) => {
                tracing::info!(git.mirror = %dir.display(), "mirror is made anew");
                remove(dir).await?;
                self.fetch_all(dir, remote, credential).await
            }
            other => other,
        }
    }

    async fn list(
        &self,
        remote: &Remote,
        credential: Option<&Credential>,
    ) -> Result<RemoteRefs, GitError> {
        let doing = "list branches and tags";
        let call = self
            .remote_call(doing, remote, credential)
            .args(["ls-remote", "--quiet", "--symref"])
            .args(remote.upload_pack())
            .args(["--", remote.target(), "HEAD", "refs/heads/*", "refs/tags/*"]);
        let done = call.time_max(LIST_SECONDS_MAX).done().await?;
        if done.success {
            return Ok(RemoteRefs::parse(&done.stdout));
        }
        let with_credential = credential.is_some();
        Err(remote_failure(doing, remote, with_credential, &done.stderr))
    }

    /// Whether the mirror holds exactly what the remote offers.
    async fn has(&self, dir: &Path, refs: &RemoteRefs) -> bool {
        let call = self.call("read a mirror").args([option("--git-dir", dir)]);
        let call = call.args(["for-each-ref", "--format=%(objectname) %(refname)"]);
        call.run().await.is_ok_and(|text| refs.same_as(&text))
    }

    async fn fetch_all(
        &self,
        dir: &Path,
        remote: &Remote,
        credential: Option<&Credential>,
    ) -> Result<(), GitError> {
        let init = ["init", "--quiet", "--bare", "--template=", "--"].map(Into::into);
        let init = init.into_iter().chain([dir.as_os_str().to_owned()]);
        self.call("make a mirror").args(init).run().await?;
        let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        self.fetch_refs(dir, remote, credential, &all).await
    }

    async fn fetch_refs(
        &self,
        dir: &Path,
        remote: &Remote,
        credential: Option<&Credential>,
        refs: &[&str],
    ) -> Result<(), GitError> {
        let doing = "fetch";
        let call = self
            .remote_call(doing, remote, credential)
            .args([option("--git-dir", dir)])
            .args([
                "fetch",
                "--quiet",
                "--prune",
                "--no-tags",
                "--no-write-fetch-head",
            ])
            .args(["--no-recurse-submodules"])
            .args(remote.upload_pack())
            .args(["--", remote.target()])
            .args(refs);
        let done = call.time_max(FETCH_SECONDS_MAX).done().await?;
        if done.success {
            return Ok(());
        }
        let with_credential = credential.is_some();
        Err(remote_failure(doing, remote, with_credential, &done.stderr))
    }

    /// The full id of a commit that the mirror holds, or that the remote gives out by its id.
    pub(crate) async fn find_commit(
        &self,
        synced: &Synced,
        remote: &Remote,
        credential: Option<&Credential>,
        id: &str,
    ) -> Result<String, GitError> {
        let missing = || GitError::MissingRevision {
            kind: "Commit",
            name: id.to_owned(),
            address: remote.address().to_owned(),
        };
        if id.len() < 7 || id.len() > 64 || !id.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(missing());
        }
        if let Some(found) = self.local_commit(&synced.dir, id).await? {
            return Ok(found);
        }
        // Commits of no branch, such as those of pull requests.
        if id.len() >= 40
            && self
                .fetch_refs(&synced.dir, remote, credential, &[id])
                .await
                .is_ok()
        {
            return self
                .local_commit(&synced.dir, id)
                .await?
                .ok_or_else(missing);
        }
        Err(missing())
    }

    async fn local_commit(&self, dir: &Path, id: &str) -> Result<Option<String>, GitError> {
        let call = self.call("find a commit").args([option("--git-dir", dir)]);
        let commit = format!("{id}^{{commit}}");
        let call = call.args([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ]);
        let done = call.done().await?;
        Ok(done.success.then(|| done.stdout.trim().to_owned()))
    }
}

impl Synced {
    fn new(mirror: &Mirror, state: OwnedRwLockReadGuard<State>) -> Result<Self, GitError> {
        Ok(Self {
            dir: mirror.dir.clone(),
            refs: state.outcome.clone()?,
            _unchanged: state,
        })
    }
}

/// Takes a mirror away in one step. A `git` that an earlier server left behind may still write in
/// it, so that not all of it can be deleted now; the rest goes at the next start.
async fn remove(dir: &Path) -> Result<(), GitError> {
    let doing = "remove a mirror";
    let away = dir.with_extension(format!("{:016x}{GONE}", rand::random::<u64>()));
    match tokio::fs::rename(dir, &away).await {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        moved => moved.map_err(|e| GitError::server(doing, e))?,
    }
    if let Err(error) = tokio::fs::remove_dir_all(&away).await {
        tracing::warn!(%error, "could not delete all of an old mirror");
    }
    Ok(())
}
