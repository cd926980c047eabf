use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use forebay_blob::StagedTree;
use forebay_git::{Checkout, Git, GitError, Remote};
use forebay_runtime::{Clock, TaskKind, Tasks};
use forebay_store::{NewRepo, RepoRow, Store};
use forebay_types::{Error, RepoId, Result, WorkspacePath};
use tokio::sync::oneshot;

use crate::Ctx;
use crate::access::{Access, Rights};
use crate::git_credentials::{ChosenBy, Found, GitCredentials, provider_name, provider_of};
use crate::turns::Turns;
use crate::workspace::{GitFolder, GitFolders, Workspace};

pub use forebay_git::{Change, Commit, History, Revision};

mod repair;

/// Git folders: clones in the workspace tree, and checkouts for jobs that bring their own source.
#[derive(Debug, Clone)]
pub struct Repos(Arc<Inner>);

/// What the service is made from.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) git: Git,
    pub(crate) folders: GitFolders,
    pub(crate) credentials: GitCredentials,
    pub(crate) workspace: Workspace,
    /// One change of a Git folder at a time.
    pub(crate) turns: Turns<RepoId>,
}

/// A clone to make.
#[derive(Debug, Clone)]
pub struct CloneRequest {
    pub url: String,
    /// Guessed from the address when absent.
    pub provider: Option<String>,
    /// `/Repos/<user>/<name of the repository>` when absent.
    pub path: Option<WorkspacePath>,
    /// Only these folders; everything when absent.
    pub sparse: Option<Vec<String>>,
}

/// What to change of a Git folder.
#[derive(Debug, Clone)]
pub struct RepoChange {
    pub revision: Option<Revision>,
    pub sparse: Option<Vec<String>>,
}

/// Where a job takes its source from.
#[derive(Debug, Clone)]
pub struct GitSource {
    pub url: String,
    pub provider: Option<String>,
    pub revision: Revision,
}

/// One page of Git folders.
#[derive(Debug, Clone)]
pub struct RepoPage {
    pub repos: Vec<GitFolder>,
    /// Where the next page begins.
    pub next: Option<RepoId>,
}

const PAGE: usize = 20;
/// How many commits of a Git folder are shown.
const HISTORY: usize = 10;
const SPARSE_MAX: usize = 100;
const SPARSE_BYTES_MAX: usize = 1000;

impl Repos {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Clones a repository's default branch into the tree.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE`, `RESOURCE_ALREADY_EXISTS`, `RESOURCE_DOES_NOT_EXIST` for a
    /// missing parent folder, `BAD_REQUEST` when Git cannot read the address. Nothing is left.
    pub async fn create(&self, ctx: &Ctx, request: CloneRequest) -> Result<GitFolder> {
        let (this, ctx) = (self.clone(), ctx.clone());
        self.to_the_end("clone", async move { this.0.create(&ctx, request).await })
            .await
    }

    /// Checks out the newest commit of a branch, a tag, a commit, or other folders.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` for an unknown id, branch, tag or commit, `INVALID_STATE` when local
    /// changes would be overwritten, `BAD_REQUEST` when Git cannot read the address.
    pub async fn update(&self, ctx: &Ctx, id: RepoId, change: RepoChange) -> Result<GitFolder> {
        let (this, ctx) = (self.clone(), ctx.clone());
        self.to_the_end(
            "update",
            async move { this.0.update(&ctx, id, change).await },
        )
        .await
    }

    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn get(&self, ctx: &Ctx, id: RepoId) -> Result<GitFolder> {
        let row = self.0.row(ctx, id, Access::Read).await?;
        self.0.folders.describe(row).await
    }

    /// The last commits of a Git folder, and what the newest of them changed.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn history(&self, ctx: &Ctx, id: RepoId) -> Result<History> {
        let row = self.0.row(ctx, id, Access::Read).await?;
        let git_dir = self.0.folders.git_dir(row.id);
        if self.0.folders.describe(row).await?.head_commit_id.is_none() {
            return Ok(History::default());
        }
        Ok(self.0.git.history(&git_dir, HISTORY).await?)
    }

    /// The Git folders the caller may read whose path begins with `prefix`, by id.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, ctx: &Ctx, prefix: &str, after: Option<RepoId>) -> Result<RepoPage> {
        let rights = Rights::of(&self.0.store, ctx).await?;
        let mut after = after.unwrap_or(RepoId(0));
        let mut repos = Vec::new();
        loop {
            let rows = self.0.store.repo_list(prefix, after, PAGE + 1).await?;
            let is_last = rows.len() <= PAGE;
            for row in rows.into_iter().take(PAGE) {
                if repos.len() == PAGE {
                    let next = Some(after);
                    return Ok(RepoPage { repos, next });
                }
                after = row.id;
                if rights.may(&row.path, Access::Read) {
                    repos.push(self.0.folders.describe(row).await?);
                }
            }
            if is_last || repos.len() == PAGE {
                let next = (!is_last).then_some(after);
                return Ok(RepoPage { repos, next });
            }
        }
    }

    /// Deletes a Git folder with everything in it.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST`.
    pub async fn delete(&self, ctx: &Ctx, id: RepoId) -> Result<()> {
        let (this, ctx) = (self.clone(), ctx.clone());
        self.to_the_end("delete", async move { this.0.delete(&ctx, id).await })
            .await
    }

    /// The Git folder that is `path` or around it, whoever asks.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn git_info(&self, path: &WorkspacePath) -> Result<Option<GitFolder>> {
        self.0.folders.around(path).await
    }

    /// Writes the files of a job's source to the folder `to`, which must not exist, and returns
    /// the commit. `ctx` is the user the job runs as, whose credential is used.
    ///
    /// # Errors
    /// As for [`Repos::create`]; nothing is left then.
    pub async fn checkout_for_run(
        &self,
        ctx: &Ctx,
        source: GitSource,
        to: &Path,
    ) -> Result<String> {
        let remote = self.0.git.remote(&source.url)?;
        let provider = provider(source.provider.as_deref(), &remote, "git_provider")?;
        let found = self
            .0
            .find(ctx, provider, &remote, ChosenBy::Caller)
            .await?;
        let (git, revision) = (&self.0.git, &source.revision);
        Ok(git.export(&remote, found.key(), revision, to).await?)
    }

    /// Finishes or takes back what a crash left. For the start, before any call.
    pub(crate) async fn repair(&self) -> Result<()> {
        repair::repair(&self.0).await
    }

    /// Does `work` whether or not the caller waits for it: a client that hangs up must not leave
    /// half a clone.
    async fn to_the_end<T: Send + 'static>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (send, receive) = oneshot::channel();
        let work = async move {
            // The caller may be gone; then nobody wants the answer.
            drop(send.send(work.await));
            Ok::<_, Error>(())
        };
        self.0
            .tasks
            .spawn(TaskKind::Chore, format!("git {name}"), work);
        let stopped = |e| Error::internal("the work on a Git folder was cut off", e);
        receive.await.map_err(stopped)?
    }
}

impl Inner {
    async fn create(&self, ctx: &Ctx, request: CloneRequest) -> Result<GitFolder> {
        let remote = self.git.remote(&request.url)?;
        let provider = provider(request.provider.as_deref(), &remote, "provider")?;
        check_sparse(request.sparse.as_deref())?;
        let path = match request.path {
            Some(path) => path,
            None => self.default_path(ctx, &remote).await?,
        };
        check_place(&path)?;
        self.forget_if_gone(&path).await?;
        self.workspace.require_free(ctx, &path).await?;
        let staged = self.workspace.stage_folder().await?;
        let root = staged.root.pin("").map_err(|e| e.at(path.as_str()))?;
        let new = NewRepo {
            path: path.clone(),
            url: remote.address().to_owned(),
            provider: provider.to_owned(),
            sparse: request.sparse,
            creator: ctx.user.id,
            inode: root.inode().map_err(|e| e.at(path.as_str()))?,
        };
        let sparse = new.sparse.clone();
        let id = self.store.repo_begin(new, self.clock.now()).await?;
        let found = self.find(ctx, provider, &remote, ChosenBy::Caller).await;
        let filled = async {
            let to = Checkout {
                git_dir: self.folders.git_dir(id),
                work_tree: root.path(),
            };
            let key = found?;
            let clone = self
                .git
                .clone_to(&remote, key.key(), sparse.as_deref(), &to);
            clone.await?;
            self.land(staged, &path, id).await
        };
        if let Err(error) = filled.await {
            // Should this fail as well, the next start does it.
            if let Err(left) = self.folders.forget(vec![id]).await {
                tracing::warn!(error = ?left, "could not take back the Git folder {path}");
            }
            return Err(error);
        }
        self.folders.describe(self.store.repo_get(id).await?).await
    }

    async fn land(&self, staged: StagedTree, path: &WorkspacePath, id: RepoId) -> Result<()> {
        self.workspace.land_folder(staged, path).await?;
        self.store.repo_ready(id).await
    }

    /// `/Repos/<user>/<name>`, whose parent is made when it is missing.
    async fn default_path(&self, ctx: &Ctx, remote: &Remote) -> Result<WorkspacePath> {
        let parent = WorkspacePath::parse("/Repos")?.join(&ctx.user.name)?;
        let name = remote.name();
        let path = parent.join(name)?;
        if path.name() != name || path.parent().as_ref() != Some(&parent) {
            return Err(Error::invalid(
                "The address has no name for the folder; give field 'path'.",
            ));
        }
        self.workspace.mkdirs(ctx, &parent).await?;
        Ok(path)
    }

    /// Code in runs may delete a Git folder's tree; its name is free then.
    async fn forget_if_gone(&self, path: &WorkspacePath) -> Result<()> {
        match self.store.repo_at(path).await? {
            Some(row) if row.ready && self.workspace.pin_folder(path).await.is_err() => {
                self.folders.forget(vec![row.id]).await
            }
            _ => Ok(()),
        }
    }

    async fn update(&self, ctx: &Ctx, id: RepoId, change: RepoChange) -> Result<GitFolder> {
        self.row(ctx, id, Access::Write).await?;
        let turn = self.turns.of(id);
        let _turn = turn.lock().await;
        // It may have been deleted while others had their turn.
        let row = self.row(ctx, id, Access::Write).await?;
        self.workspace.require_writable(ctx, &row.path).await?;
        let root = self.workspace.pin_folder(&row.path).await?;
        let at = Checkout {
            git_dir: self.folders.git_dir(id),
            work_tree: root.path(),
        };
        if let Some(patterns) = change.sparse {
            check_sparse(Some(&patterns))?;
            if row.sparse.is_none() {
                return Err(Error::invalid(
                    "Field 'sparse_checkout' is only for Git folders created with it.",
                ));
            }
            self.git.sparse_set(&at, &patterns).await?;
            self.store.repo_set_sparse(id, patterns).await?;
        }
        if let Some(revision) = change.revision {
            self.check_out(ctx, &row, &at, &revision).await?;
        }
        self.folders.describe(self.store.repo_get(id).await?).await
    }

    async fn check_out(
        &self,
        ctx: &Ctx,
        row: &RepoRow,
        at: &Checkout,
        revision: &Revision,
    ) -> Result<()> {
        let remote = self.git.remote(&row.url)?;
        let chosen_by = match row.creator == ctx.user.id {
            true => ChosenBy::Caller,
            false => ChosenBy::SomebodyElse,
        };
        let found = self.find(ctx, &row.provider, &remote, chosen_by).await?;
        let updated = self.git.update(&remote, found.key(), at, revision).await;
        match updated {
            Err(GitError::NoCredential { address }) if matches!(found, Found::Withheld) => {
                Err(Error::new(
                    forebay_types::ErrorCode::BadRequest,
                    format!(
                        "{address} wants a credential. Yours for {} was not sent: the folder was \
                         made by somebody else, and the host is not one of the provider's own. \
                         Make a Git folder of your own.",
                        row.provider
                    ),
                ))
            }
            updated => Ok(updated.map(drop)?),
        }
    }

    async fn delete(&self, ctx: &Ctx, id: RepoId) -> Result<()> {
        self.row(ctx, id, Access::Manage).await?;
        let turn = self.turns.of(id);
        let _turn = turn.lock().await;
        let row = self.row(ctx, id, Access::Manage).await?;
        match self.workspace.delete(ctx, &row.path, true).await {
            // Code in runs may have deleted it before.
            Err(e) if e.code == forebay_types::ErrorCode::ResourceDoesNotExist => {
                self.folders.forget(vec![id]).await
            }
            other => other,
        }
    }

    /// A Git folder that the caller may use to this extent.
    async fn row(&self, ctx: &Ctx, id: RepoId, access: Access) -> Result<RepoRow> {
        let row = self.store.repo_get(id).await?;
        let rights = Rights::of(&self.store, ctx).await?;
        rights.require(&row.path, access)?;
        Ok(row)
    }

    async fn find(
        &self,
        ctx: &Ctx,
        provider: &str,
        remote: &Remote,
        chosen_by: ChosenBy,
    ) -> Result<Found> {
        let credentials = &self.credentials;
        credentials.find(ctx, provider, remote, chosen_by).await
    }
}

/// The provider that was named, or whose host the address names. An address that names none, such
/// as a local one, needs no credential, so any name does.
fn provider(given: Option<&str>, remote: &Remote, field: &str) -> Result<&'static str> {
    match given.filter(|text| !text.is_empty()) {
        Some(text) => provider_name(field, text),
        None => provider_of(remote).ok_or_else(|| {
            Error::invalid(format!(
                "Field '{field}' is missing, and the address does not tell it."
            ))
        }),
    }
}

/// Below `/Repos` a Git folder stands in a folder, as clients expect.
fn check_place(path: &WorkspacePath) -> Result<()> {
    let depth = path.relative().split('/').count();
    if path.is_root() || (path.relative().starts_with("Repos/") && depth < 3) {
        return Err(Error::invalid(format!(
            "Field 'path' is {path}; use /Repos/<folder>/<name>, or a place in another folder."
        )));
    }
    Ok(())
}

fn check_sparse(patterns: Option<&[String]>) -> Result<()> {
    let patterns = patterns.unwrap_or_default();
    let bad = |pattern: &String| {
        pattern.is_empty()
            || pattern.len() > SPARSE_BYTES_MAX
            || pattern.starts_with(['-', '!'])
            || pattern.contains(char::is_control)
    };
    if patterns.len() > SPARSE_MAX || patterns.iter().any(bad) {
        return Err(Error::invalid(format!(
            "Field 'sparse_checkout.patterns' must be at most {SPARSE_MAX} folders of the \
             repository, each of at most {SPARSE_BYTES_MAX} bytes."
        )));
    }
    Ok(())
}
