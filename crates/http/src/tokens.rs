use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_store::TokenRow;
use forebay_types::TokenId;
use forebay_wire::Method::{Get, Post};
use forebay_wire::tokens::{CreateToken, CreatedToken, DeleteToken, TokenInfo, TokenList};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &["2.0"], "/token/create", create);
    routes.on(Get, &["2.0"], "/token/list", list);
    routes.on(Post, &["2.0"], "/token/delete", delete);
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

fn info(row: TokenRow) -> TokenInfo {
    TokenInfo {
        token_id: row.id.0,
        creation_time: row.created_at.0,
        expiry_time: row.expires_at.map_or(-1, |at| at.0),
        comment: row.comment,
    }
}
