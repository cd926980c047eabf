use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::contexts::{CommandRef, ContextRef};
use forebay_types::{ClusterId, Error, Result};
use forebay_wire::Method::{Get, Post};
use forebay_wire::contexts as wire;

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::routes::Routes;
use crate::server::App;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &["1.2"], "/contexts/create", create);
    routes.on(Get, &["1.2"], "/contexts/status", status);
    routes.on(Post, &["1.2"], "/contexts/destroy", destroy);
    routes.on(Post, &["1.2"], "/commands/execute", execute);
    routes.on(Get, &["1.2"], "/commands/status", command_status);
    routes.on(Post, &["1.2"], "/commands/cancel", cancel);
}

type Service = State<Arc<App>>;
type Answer<T> = ApiResult<Json<T>>;

async fn create(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<wire::OfContext>,
) -> Answer<wire::Id> {
    let cluster = ClusterId(needed("clusterId", request.cluster_id)?);
    let language = needed("language", request.language)?;
    let contexts = &app.services.contexts;
    let id = contexts.create(&ctx, cluster, &language).await?;
    Ok(Json(wire::Id { id: id.to_string() }))
}

async fn status(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<wire::OfContext>,
) -> Answer<wire::ContextStatus> {
    let context = context(request.cluster_id, request.context_id)?;
    let status = app.services.contexts.status(&ctx, &context).await?;
    Ok(Json(status))
}

async fn destroy(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<wire::OfContext>,
) -> Answer<wire::Id> {
    let context = context(request.cluster_id, request.context_id)?;
    app.services.contexts.destroy(&ctx, &context).await?;
    Ok(Json(wire::Id { id: context.id }))
}

async fn execute(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<wire::OfCommand>,
) -> Answer<wire::Id> {
    let context = context(request.cluster_id, request.context_id)?;
    let source = needed("command", request.command)?;
    let language = request.language.as_deref();
    let contexts = &app.services.contexts;
    let id = contexts.execute(&ctx, &context, language, source).await?;
    Ok(Json(wire::Id { id }))
}

async fn command_status(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<wire::OfCommand>,
) -> Answer<wire::CommandStatus> {
    let command = command(request)?;
    let status = app.services.contexts.command_status(&ctx, &command).await?;
    Ok(Json(status))
}

async fn cancel(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<wire::OfCommand>,
) -> Answer<wire::Id> {
    let command = command(request)?;
    app.services.contexts.cancel(&ctx, &command).await?;
    Ok(Json(wire::Id { id: command.id }))
}

fn context(cluster: Option<String>, id: Option<String>) -> Result<ContextRef> {
    Ok(ContextRef {
        cluster: ClusterId(needed("clusterId", cluster)?),
        id: needed("contextId", id)?,
    })
}

fn command(request: wire::OfCommand) -> Result<CommandRef> {
    Ok(CommandRef {
        context: context(request.cluster_id, request.context_id)?,
        id: needed("commandId", request.command_id)?,
    })
}

fn needed(field: &str, value: Option<String>) -> Result<String> {
    let value = value.filter(|value| !value.is_empty());
    value.ok_or_else(|| Error::invalid(format!("Missing required field: {field}")))
}
