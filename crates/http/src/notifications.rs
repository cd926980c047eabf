use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use forebay_control::notifications::Destination;
use forebay_engine::Recipient;
use forebay_store::Notification;
use forebay_types::RunId;
use forebay_wire::Method::{Delete, Get, Patch, Post};
use forebay_wire::notifications::{
    ALL, ListDestinations, OF_RUN, ONE, PutDestination, REDELIVER, SIGNING_KEY,
};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{IdInPath, Params};
use crate::page;
use crate::routes::Routes;
use crate::server::App;

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 1000;

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Post, &["2.0"], ALL, create);
    routes.on(Get, &["2.0"], ALL, list);
    routes.on(Get, &["2.0"], ONE, get);
    routes.on(Patch, &["2.0"], ONE, update);
    routes.on(Delete, &["2.0"], ONE, delete);
    routes.on(Get, &[], SIGNING_KEY, signing_key);
    routes.on(Get, &[], OF_RUN, of_run);
    routes.on(Post, &[], REDELIVER, redeliver);
}

type Service = State<Arc<App>>;
type Answer = ApiResult<Json<Value>>;

async fn create(
    State(app): Service,
    Caller(ctx): Caller,
    Params(request): Params<PutDestination>,
) -> Answer {
    let name = request.display_name.unwrap_or_default();
    let config = request.config.unwrap_or_default();
    let notifications = &app.services.notifications;
    Ok(Json(shown(
        &notifications.create(&ctx, &name, config).await?,
    )))
}

async fn list(
    State(app): Service,
    Caller(_): Caller,
    Params(request): Params<ListDestinations>,
) -> Answer {
    let limit = page::limit(request.page_size, PAGE_DEFAULT, PAGE_MAX)?;
    let after = request.page_token.unwrap_or_default();
    let notifications = &app.services.notifications;
    let mut found = notifications.list(&after, limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let results: Vec<_> = found.iter().map(brief).collect();
    let mut answer = json!({"results": results});
    if let Some(last) = found.last().filter(|_| more) {
        answer["next_page_token"] = json!(last.id);
    }
    Ok(Json(answer))
}

async fn get(State(app): Service, Caller(_): Caller, Path(id): Path<String>) -> Answer {
    Ok(Json(shown(&app.services.notifications.get(&id).await?)))
}

async fn update(
    State(app): Service,
    Caller(ctx): Caller,
    Path(id): Path<String>,
    Params(request): Params<PutDestination>,
) -> Answer {
    let name = request.display_name.as_deref();
    let notifications = &app.services.notifications;
    let changed = notifications
        .update(&ctx, &id, name, request.config)
        .await?;
    Ok(Json(shown(&changed)))
}

async fn delete(State(app): Service, Caller(ctx): Caller, Path(id): Path<String>) -> Answer {
    app.services.notifications.delete(&ctx, &id).await?;
    Ok(Json(json!({})))
}

async fn signing_key(State(app): Service, Caller(ctx): Caller, Path(id): Path<String>) -> Answer {
    let key = app.services.notifications.signing_key(&ctx, &id).await?;
    Ok(Json(json!({"signing_key": key})))
}

async fn of_run(State(app): Service, Caller(ctx): Caller, IdInPath(id): IdInPath) -> Answer {
    let found = app.services.notifications.of_run(&ctx, RunId(id)).await?;
    let list: Vec<_> = found.iter().map(delivery).collect();
    Ok(Json(json!({"notifications": list})))
}

async fn redeliver(State(app): Service, Caller(ctx): Caller, Path(id): Path<String>) -> Answer {
    app.services.notifications.redeliver(&ctx, &id).await?;
    Ok(Json(json!({})))
}

fn brief(destination: &Destination) -> Value {
    json!({
        "id": destination.id,
        "display_name": destination.display_name,
        "destination_type": destination.config.destination_type(),
    })
}

fn shown(destination: &Destination) -> Value {
    let mut shown = brief(destination);
    shown["config"] = destination.config.shown();
    shown
}

fn delivery(notification: &Notification) -> Value {
    let (destination, mail) = match &notification.to {
        Recipient::Destination(id) => (Some(id), None),
        Recipient::Mail(address) => (None, Some(address)),
    };
    json!({
        "id": notification.id,
        "event": notification.moment.as_str(),
        "task_run_id": notification.attempt_id,
        "task_key": notification.facts["task_key"],
        "destination_id": destination,
        "email": mail,
        "state": notification.state,
        "tries": notification.tries,
        "created_at": notification.created_at,
        "tried_at": notification.tried_at,
        // Only while it will be tried again.
        "next_try_at": (notification.state == "due").then_some(notification.due_at),
        "error": notification.error,
    })
}
