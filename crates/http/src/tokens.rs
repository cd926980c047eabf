use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use forebay_store::{TokenRow, User};
use forebay_types::{Error, TokenId};
use forebay_wire::Method::{Delete, Get, Patch, Post};
use forebay_wire::tokens::{
    CreateToken, CreatedToken, DeleteToken, ListManaged, MANAGED, MANAGED_LIST, ManagedToken,
    SIGN_IN_LINKS, TOKEN, TokenInfo, TokenList, UpdateToken,
};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &[], SIGN_IN_LINKS, sign_in_link);
    routes.on(Post, &["2.0"], "/token/create", create);
    routes.on(Get, &["2.0"], "/token/list", list);
    routes.on(Post, &["2.0"], "/token/delete", delete);
    routes.on(Patch, &["2.0"], TOKEN, update);
    routes.on(Get, &["2.0"], MANAGED_LIST, list_managed);
    routes.on(Get, &["2.0"], MANAGED, get_managed);
    routes.on(Delete, &["2.0"], MANAGED, delete_managed);
}

/// An address that signs the caller in to the pages, once, for a while.
async fn sign_in_link(State(app): State<Arc<App>>, Caller(ctx): Caller) -> Json<Value> {
    let services = &app.services;
    let (code, until) = services.sign_in.issue(ctx.user);
    let url = format!("{}/login?code={code}", services.setup.public_url);
    Json(json!({"url": url, "expiry_time": until}))
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<CreateToken>,
) -> ApiResult<Json<CreatedToken>> {
    let comment = request.comment.unwrap_or_default();
    let (token_value, row) = app
        .services
        .tokens
        .create(&ctx, &comment, request.lifetime_seconds)
        .await?;
    Ok(Json(CreatedToken {
        token_value,
        token_info: info(row),
    }))
}

async fn list(State(app): State<Arc<App>>, Caller(ctx): Caller) -> ApiResult<Json<TokenList>> {
    let rows = app.services.tokens.list(&ctx).await?;
    Ok(Json(TokenList {
        token_infos: rows.into_iter().map(info).collect(),
    }))
}

async fn delete(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<DeleteToken>,
) -> ApiResult<Json<Value>> {
    app.services
        .tokens
        .delete(&ctx, TokenId(request.token_id))
        .await?;
    Ok(Json(json!({})))
}

pub(crate) fn info(row: TokenRow) -> TokenInfo {
    TokenInfo {
        token_id: row.id.0,
        creation_time: row.created_at.0,
        expiry_time: row.expires_at.map_or(-1, |at| at.0),
        comment: row.comment,
    }
}

async fn update(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Params(request): Params<UpdateToken>,
) -> ApiResult<Json<Value>> {
    let other = request.update_mask.split(',').map(str::trim);
    let other = other
        .into_iter()
        .find(|field| !field.is_empty() && *field != "comment");
    if let Some(field) = other {
        return Err(
            Error::not_implemented(format!("Change of the token's field '{field}'")).into(),
        );
    }
    let comment = request.token.comment.unwrap_or_default();
    let tokens = &app.services.tokens;
    tokens.comment(&ctx, TokenId(id), comment).await?;
    Ok(Json(json!({})))
}

async fn list_managed(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<ListManaged>,
) -> ApiResult<Json<Value>> {
    let tokens = app.services.tokens.list_all(&ctx).await?;
    let wanted = tokens.into_iter().filter(|(_, owner)| {
        let by_id = request.created_by_id.is_none_or(|id| id == owner.id.0);
        let name = request.created_by_username.as_deref();
        by_id && name.is_none_or(|name| name.eq_ignore_ascii_case(&owner.name))
    });
    let infos: Vec<_> = wanted.map(managed).collect();
    Ok(Json(json!({"token_infos": infos})))
}

async fn get_managed(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    let tokens = app.services.tokens.list_all(&ctx).await?;
    let token = tokens.into_iter().find(|(token, _)| token.id.0 == id);
    let missing = || Error::missing(format!("Token with id {id} does not exist"));
    let token = token.ok_or_else(missing)?;
    Ok(Json(json!({"token_info": managed(token)})))
}

async fn delete_managed(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    app.services.tokens.delete(&ctx, TokenId(id)).await?;
    Ok(Json(json!({})))
}

fn managed((token, owner): (TokenRow, User)) -> ManagedToken {
    ManagedToken {
        created_by_id: owner.id.0,
        created_by_username: owner.name,
        owner_id: owner.id.0,
        token: info(token),
    }
}
