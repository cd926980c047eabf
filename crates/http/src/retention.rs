use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_types::RunId;
use forebay_wire::Method::{Get, Post};
use forebay_wire::retention::{APPLY, PIN, PREVIEW, UNPIN};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::IdInPath;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, &[], PREVIEW, preview);
    routes.on(Post, &[], APPLY, apply);
    routes.on(Post, &[], PIN, pin);
    routes.on(Post, &[], UNPIN, unpin);
}

async fn preview(State(app): State<Arc<App>>, Caller(ctx): Caller) -> ApiResult<Json<Value>> {
    Ok(Json(json!(app.services.retention.preview(&ctx).await?)))
}

async fn apply(State(app): State<Arc<App>>, Caller(ctx): Caller) -> ApiResult<Json<Value>> {
    Ok(Json(json!(app.services.retention.apply(&ctx).await?)))
}

async fn pin(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
) -> ApiResult<Json<Value>> {
    let run = app.services.runs.pin(&ctx, RunId(id), true).await?;
    Ok(Json(json!({"run_id": run, "pinned": true})))
}

async fn unpin(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
) -> ApiResult<Json<Value>> {
    let run = app.services.runs.pin(&ctx, RunId(id), false).await?;
    Ok(Json(json!({"run_id": run, "pinned": false})))
}
