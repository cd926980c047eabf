use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::repos::{CloneRequest, RepoChange, Revision};
use forebay_control::workspace::GitFolder;
use forebay_types::{Error, RepoId, Result, WorkspacePath};
use forebay_wire::Method::{Delete, Get, Patch, Post};
use forebay_wire::repos::{CreateRepo, ListRepos, RepoInfo, RepoList, SparseCheckout, UpdateRepo};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{NumberPath, Params};
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &["2.0"], "/repos", create);
    routes.on(Get, &["2.0"], "/repos", list);
    routes.on(Get, &["2.0"], "/repos/{id}", get);
    routes.on(Patch, &["2.0"], "/repos/{id}", update);
    routes.on(Delete, &["2.0"], "/repos/{id}", delete);
}

type Service = State<Arc<App>>;
type Answer<T> = ApiResult<Json<T>>;

async fn create(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<CreateRepo>,
) -> Answer<RepoInfo> {
    let path = request.path.filter(|path| !path.is_empty());
    let path = path.map(|path| WorkspacePath::parse(&path)).transpose()?;
    let clone = CloneRequest {
        url: request.url,
        provider: request.provider,
        path,
        sparse: request.sparse_checkout.map(|sparse| sparse.patterns),
    };
    Ok(Json(info(app.services.repos.create(&ctx, clone).await?)))
}

async fn list(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<ListRepos>,
) -> Answer<RepoList> {
    let prefix = request.path_prefix.as_deref().unwrap_or("/");
    let prefix = prefix.strip_prefix("/Workspace").unwrap_or(prefix);
    let token = request.next_page_token.filter(|token| !token.is_empty());
    let page = app.services.repos.list(&ctx, prefix, after(token)?).await?;
    Ok(Json(RepoList {
        repos: page.repos.into_iter().map(info).collect(),
        next_page_token: page.next.map(|id| id.to_string()),
    }))
}

fn after(token: Option<String>) -> Result<Option<RepoId>> {
    let id = token.map(|token| token.parse().map(RepoId)).transpose();
    id.map_err(|_| Error::invalid("Field 'next_page_token' is not one this server gave."))
}

async fn get(
    State(app): Service,
    Caller(ctx): Caller,
    NumberPath(id): NumberPath,
) -> Answer<RepoInfo> {
    Ok(Json(info(app.services.repos.get(&ctx, RepoId(id)).await?)))
}

async fn update(
    State(app): Service,
    Caller(ctx): Caller,
    NumberPath(id): NumberPath,
    Params(request): Params<UpdateRepo>,
) -> Answer<RepoInfo> {
    let change = RepoChange {
        revision: revision(request.branch, request.tag, request.commit)?,
        sparse: request.sparse_checkout.map(|sparse| sparse.patterns),
    };
    if change.revision.is_none() && change.sparse.is_none() {
        return Err(
            Error::invalid("Give one of 'branch', 'tag', 'commit' and 'sparse_checkout'.").into(),
        );
    }
    let repos = &app.services.repos;
    Ok(Json(info(repos.update(&ctx, RepoId(id), change).await?)))
}

fn revision(
    branch: Option<String>,
    tag: Option<String>,
    commit: Option<String>,
) -> Result<Option<Revision>> {
    let given = [
        branch.map(Revision::Branch),
        tag.map(Revision::Tag),
        commit.map(Revision::Commit),
    ];
    let is_given = |revision: &Revision| {
        let (Revision::Branch(name) | Revision::Tag(name) | Revision::Commit(name)) = revision;
        !name.is_empty()
    };
    let mut given = given.into_iter().flatten().filter(is_given);
    match (given.next(), given.next()) {
        (_, Some(_)) => Err(Error::invalid(
            "Give only one of 'branch', 'tag' and 'commit'.",
        )),
        (one, None) => Ok(one),
    }
}

async fn delete(
    State(app): Service,
    Caller(ctx): Caller,
    NumberPath(id): NumberPath,
) -> Answer<Value> {
    app.services.repos.delete(&ctx, RepoId(id)).await?;
    Ok(Json(json!({})))
}

fn info(folder: GitFolder) -> RepoInfo {
    RepoInfo {
        id: folder.id.0,
        path: folder.path.to_string(),
        url: folder.url,
        provider: folder.provider,
        branch: folder.branch,
        head_commit_id: folder.head_commit_id,
        sparse_checkout: folder.sparse.map(|patterns| SparseCheckout { patterns }),
    }
}
