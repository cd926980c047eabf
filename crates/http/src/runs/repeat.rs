//! What a run was made from, and doing it again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::runs::{inputs_of, refusals};
use forebay_types::RunId;
use serde_json::{Value, json};

use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::IdInPath;
use crate::server::App;

pub(super) async fn facts(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
) -> ApiResult<Json<Value>> {
    let view = app.services.runs.get(&ctx, RunId(id)).await?;
    let tasks: Vec<Value> = (view.newest())
        .map(|attempt| {
            let fact = |name: &str| attempt.facts.get(name).cloned().unwrap_or_default();
            json!({
                "task_key": attempt.task_key,
                "run_id": attempt.id,
                "environment": fact("environment"),
                "engine": fact("engine"),
                "source_digest": fact("source_digest"),
                "inputs": inputs_of(attempt),
            })
        })
        .collect();
    let run = &view.run;
    Ok(Json(json!({
        "run_id": run.id,
        "run_name": run.name,
        "commit": run.used_commit,
        "parameters": run.parameters,
        "repeats": run.settings.get("forebay").and_then(|own| own.get("repeat")),
        "not_repeatable": refusals(&view),
        "tasks": tasks,
    })))
}

pub(super) async fn repeat(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    IdInPath(id): IdInPath,
) -> ApiResult<Json<Value>> {
    let repeat = app.services.runs.repeat(&ctx, RunId(id)).await?;
    Ok(Json(json!({"run_id": repeat})))
}
