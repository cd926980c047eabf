use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::git_credentials::GitCredentialParts;
use forebay_store::GitCredentialRow;
use forebay_types::{CredentialId, Error, Result};
use forebay_wire::Method::{Delete, Get, Patch, Post};
use forebay_wire::git_credentials::{
    GitCredentialInfo, GitCredentialList, OfPrincipal, PutGitCredential,
};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{NumberPath, Params};
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    const ONE: &str = "/git-credentials/{credential_id}";
    routes.on(Post, &["2.0"], "/git-credentials", create);
    routes.on(Get, &["2.0"], "/git-credentials", list);
    routes.on(Get, &["2.0"], ONE, get);
    routes.on(Patch, &["2.0"], ONE, update);
    routes.on(Delete, &["2.0"], ONE, delete);
}

type Service = State<Arc<App>>;
type Answer<T> = ApiResult<Json<T>>;

async fn create(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<PutGitCredential>,
) -> Answer<GitCredentialInfo> {
    let parts = parts(request)?;
    let row = app.services.git_credentials.create(&ctx, parts).await?;
    Ok(Json(info(row)))
}

async fn list(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<OfPrincipal>,
) -> Answer<GitCredentialList> {
    own_only(request.principal_id)?;
    let rows = app.services.git_credentials.list(&ctx).await?;
    Ok(Json(GitCredentialList {
        credentials: rows.into_iter().map(info).collect(),
    }))
}

async fn get(
    State(app): Service,
    Caller(ctx): Caller,
    NumberPath(id): NumberPath,
    Params(request): Params<OfPrincipal>,
) -> Answer<GitCredentialInfo> {
    own_only(request.principal_id)?;
    let credentials = &app.services.git_credentials;
    Ok(Json(info(credentials.get(&ctx, CredentialId(id)).await?)))
}

async fn update(
    State(app): Service,
    Caller(ctx): Caller,
    NumberPath(id): NumberPath,
    Params(request): Params<PutGitCredential>,
) -> Answer<GitCredentialInfo> {
    let parts = parts(request)?;
    let credentials = &app.services.git_credentials;
    let row = credentials.update(&ctx, CredentialId(id), parts).await?;
    Ok(Json(info(row)))
}

async fn delete(
    State(app): Service,
    Caller(ctx): Caller,
    NumberPath(id): NumberPath,
    Params(request): Params<OfPrincipal>,
) -> Answer<Value> {
    own_only(request.principal_id)?;
    let credentials = &app.services.git_credentials;
    credentials.delete(&ctx, CredentialId(id)).await?;
    Ok(Json(json!({})))
}

fn own_only(principal: Option<i64>) -> Result<()> {
    match principal {
        None => Ok(()),
        Some(_) => Err(Error::not_implemented("principal_id of git-credentials")),
    }
}

fn parts(request: PutGitCredential) -> Result<GitCredentialParts> {
    own_only(request.principal_id)?;
    Ok(GitCredentialParts {
        provider: request.git_provider,
        name: request.name,
        username: request.git_username,
        email: request.git_email,
        token: request.personal_access_token,
    })
}

fn info(row: GitCredentialRow) -> GitCredentialInfo {
    GitCredentialInfo {
        credential_id: row.id.0,
        git_provider: row.provider,
        name: row.name,
        git_username: row.username,
        git_email: row.email,
        // There is one per provider.
        is_default_for_provider: true,
    }
}
