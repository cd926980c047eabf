use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use forebay_control::triggers::TriggerView;
use forebay_types::{Error, ErrorCode, JobId};
use forebay_wire::Method::{Get, Post};
use forebay_wire::triggers::{
    EVENTS, JobTrigger, JobTriggers, OF_JOB, PREVIEW, PreviewSchedule, ScheduleFiring,
    SchedulePreview, SendEvent,
};
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::{NumberPath, QueryParams, read_body};
use crate::routes::Routes;
use crate::server::App;

const V: &[&str] = &["forebay/v1"];

pub(crate) fn routes(routes: &mut Routes) {
    routes.on(Get, V, PREVIEW, preview);
    routes.on(Get, V, OF_JOB, of_job);
    routes.on(Post, V, EVENTS, send);
}

async fn preview(
    State(app): State<Arc<App>>,
    Caller(_): Caller,
    QueryParams(request): QueryParams<PreviewSchedule>,
) -> ApiResult<Json<SchedulePreview>> {
    let timezone = request.timezone.as_deref().unwrap_or("UTC");
    let firings = app
        .services
        .triggers
        .preview(&request.expression, timezone)?;
    let firings = firings.into_iter().map(|firing| ScheduleFiring {
        time: firing.at.0,
        local: firing.local,
    });
    Ok(Json(SchedulePreview {
        firings: firings.collect(),
    }))
}

async fn of_job(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    NumberPath(job_id): NumberPath,
) -> ApiResult<Json<JobTriggers>> {
    let views = app.services.triggers.get(&ctx, JobId(job_id)).await?;
    Ok(Json(JobTriggers {
        job_id,
        triggers: views.into_iter().map(shown).collect(),
    }))
}

fn shown(view: TriggerView) -> JobTrigger {
    let trigger = view.trigger;
    JobTrigger {
        kind: trigger.kind.as_str().to_owned(),
        paused: trigger.paused,
        paused_by_brake: trigger.brake,
        next_firing: view.next_at.map(|at| at.0),
        last_firing: trigger.last_fired_at.map(|at| at.0),
        last_run_id: trigger.last_run_id.map(|id| id.0),
        error: trigger.error,
        files_known: view.files.map(|(known, _)| known),
        files_waiting: view.files.map(|(_, waiting)| waiting),
        events_waiting: view.events_waiting,
    }
}

/// The body is the event, any JSON; no body is `null`.
async fn send(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Path(topic): Path<String>,
    QueryParams(request): QueryParams<SendEvent>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let bytes: Bytes = read_body(body).await?;
    let event: Value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).map_err(|e| {
            let message = format!("The request body is not valid JSON: {e}.");
            Error::new(ErrorCode::MalformedRequest, message)
        })?
    };
    let repeated = headers.get("idempotency-key").map(|value| {
        let text = value.to_str().map(str::to_owned);
        text.map_err(|_| Error::invalid("Header 'Idempotency-Key' must be ASCII."))
    });
    let repeated = repeated.transpose()?;
    let triggers = &app.services.triggers;
    let id = triggers
        .send(&ctx, topic, request.key, event, repeated)
        .await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"event_id": id}))))
}
