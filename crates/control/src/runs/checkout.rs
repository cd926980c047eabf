//! The source of runs that comes from Git: one checkout for each run, made when its first task
//! starts and removed when the run has ended. All its tasks, retries and repairs see the same commit.
//!
//! A checkout is `<workspace>/checkouts/<run>/<commit>`, and runs see their own one, read-only, as
//! `/Workspace/Repos/.internal/<commit>`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_blob::Blob;
use forebay_runtime::blocking;
use forebay_store::{Run, Store};
use forebay_types::{Error, Result, RunId, WorkspacePath};
use tracing::warn;

use crate::Ctx;
use crate::access::CHECKOUTS;
use crate::jobs::GitSourceSpec;
use crate::repos::{GitSource, Repos};
use crate::services::WorkspaceDirs;
use crate::turns::Turns;
use crate::workspace::{Located, SourceTree, Workspace};

/// The checkouts of a workspace. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Checkouts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    repos: Repos,
    workspace: Workspace,
    folder: PathBuf,
    staging: PathBuf,
    turns: Turns<RunId>,
}

/// The checkout of one run.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    /// The name of its folder among the checkouts.
    pub(crate) run: RunId,
    pub(crate) commit: String,
    tree: SourceTree,
}

impl Checkout {
    /// Where the run sees `relative`, a path in the repository.
    ///
    /// # Errors
    /// When the path climbs or is too long.
    pub(crate) fn path(&self, relative: &str) -> Result<WorkspacePath> {
        Ok(root()?.join(&self.commit)?.join(relative)?)
    }

    /// Whether a path lies where runs see their checkout.
    pub(crate) fn holds(path: &WorkspacePath) -> Result<bool> {
        Ok(path.is_within(&root()?))
    }

    /// Opens what is at `path`, which [`Checkout::holds`].
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub(crate) async fn read(&self, path: &WorkspacePath) -> Result<(Located, Blob)> {
        let below = path.as_str().strip_prefix(CHECKOUTS).unwrap_or_default();
        let below = WorkspacePath::parse("/")?.join(below)?;
        let tree = self.tree.clone();
        blocking(move || tree.read(&below)).await
    }
}

/// The path in the repository of what a run saw in its checkout; `None` for every other path.
#[must_use]
pub fn path_in_repository(path: &str) -> Option<&str> {
    let below = path.strip_prefix(CHECKOUTS)?.strip_prefix('/')?;
    below.split_once('/').map(|(_commit, inside)| inside)
}

fn root() -> Result<WorkspacePath> {
    Ok(WorkspacePath::parse(CHECKOUTS)?)
}

/// A folder that is not finished: gone again unless it was moved to its place.
struct Half(PathBuf);

impl Drop for Half {
    fn drop(&mut self) {
        // What cannot be removed now goes with the staging folder at the next start.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Checkouts {
    pub(crate) fn new(
        store: Store,
        repos: Repos,
        workspace: Workspace,
        dirs: &WorkspaceDirs,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            repos,
            workspace,
            folder: dirs.checkouts.clone(),
            staging: dirs.staging.clone(),
            turns: Turns::default(),
        }))
    }

    /// The checkout of `run`, made now unless it is there. `ctx` is the user the run acts for.
    ///
    /// # Errors
    /// As for [`Repos::checkout_for_run`]; nothing is left then.
    pub(crate) async fn of(
        &self,
        ctx: &Ctx,
        run: RunId,
        source: &GitSourceSpec,
    ) -> Result<Checkout> {
        let inner = &self.0;
        let turn = inner.turns.of(run);
        let _turn = turn.lock().await;
        // Read after the wait: another task of the run may have made it meanwhile.
        let (Run { used_commit, .. }, _) = inner.store.run_get(run).await?;
        let commit = match used_commit {
            Some(commit) if inner.place(run).join(&commit).is_dir() => commit,
            known => inner.make(ctx, run, source, known).await?,
        };
        let (workspace, folder) = (inner.workspace.clone(), inner.place(run));
        let tree = blocking(move || workspace.source_tree(&folder)).await?;
        Ok(Checkout { run, commit, tree })
    }

    /// Removes the checkout of a run that has ended. One that is still wanted stays.
    pub(crate) async fn settle(&self, run: RunId) {
        let inner = &self.0;
        let turn = inner.turns.of(run);
        let _turn = turn.lock().await;
        let folder = inner.place(run);
        if !folder.exists() {
            return;
        }
        match inner.store.run_get(run).await {
            Ok((run, _)) if !run.phase.is_ended() => return,
            Err(e) if e.code != forebay_types::ErrorCode::InvalidParameterValue => {
                warn!(run.id = %run, error = ?e, "cannot tell whether a checkout is still wanted");
                return;
            }
            // Ended, or deleted.
            _ => {}
        }
        if let Err(e) = blocking(move || remove(&folder)).await {
            warn!(run.id = %run, error = ?e, "a checkout stays until the next start");
        }
    }

    /// Removes what a crash left. For the start.
    ///
    /// # Errors
    /// When the folder of checkouts cannot be read.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let folder = self.0.folder.clone();
        let names = blocking(move || {
            let cannot = |e| Error::internal(format!("cannot read {}", folder.display()), e);
            let entries = std::fs::read_dir(&folder).map_err(cannot)?;
            entries
                .map(|entry| Ok(entry.map_err(cannot)?.file_name()))
                .collect::<Result<Vec<_>>>()
        });
        for name in names.await? {
            if let Some(run) = name.to_str().and_then(|name| name.parse().ok()) {
                self.settle(RunId(run)).await;
            }
        }
        Ok(())
    }
}

impl Inner {
    fn place(&self, run: RunId) -> PathBuf {
        self.folder.join(run.to_string())
    }

    /// `known` is the commit that an earlier task of the run used.
    async fn make(
        &self,
        ctx: &Ctx,
        run: RunId,
        source: &GitSourceSpec,
        known: Option<String>,
    ) -> Result<String> {
        let half = Half(
            self.staging
                .join(format!("{:032x}", rand::random::<u128>())),
        );
        let (made, old) = (half.0.clone(), self.place(run));
        blocking(move || {
            // Of an attempt to make it that a crash cut off before the commit was noted.
            remove(&old)?;
            std::fs::create_dir(&made).map_err(|e| Error::internal("cannot make a checkout", e))
        })
        .await?;
        let source = GitSource {
            url: source.git_url.clone(),
            provider: source.git_provider.clone(),
            revision: match known {
                Some(commit) => crate::repos::Revision::Commit(commit),
                None => source.revision()?,
            },
        };
        let tree = half.0.join("tree");
        let commit = self.repos.checkout_for_run(ctx, source, &tree).await?;
        let (from, place, name) = (half.0.clone(), self.place(run), commit.clone());
        blocking(move || {
            std::fs::rename(&tree, from.join(name))
                .and_then(|()| std::fs::rename(&from, place))
                .map_err(|e| Error::internal("cannot put a checkout in its place", e))
        })
        .await?;
        self.store.run_checkout_set(run, &commit).await?;
        Ok(commit)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::internal(
            format!("cannot remove {}", folder.display()),
            e,
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_checkouts_are_told_apart() {
        let path = "/Repos/.internal/ab12/notebooks/train";
        assert_eq!(path_in_repository(path), Some("notebooks/train"));
        for other in ["/Repos/me/x/n", "/Repos/.internal", "/Repos/.internalx/a/b"] {
            assert_eq!(path_in_repository(other), None, "{other}");
        }
    }
}
