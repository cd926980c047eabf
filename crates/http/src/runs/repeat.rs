//! What a run was made from, and doing it again.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::runs::inputs_of;
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
    let runs = &app.services.runs;
    let view = runs.get(&ctx, RunId(id)).await?;
    let mut tasks = Vec::new();
    for attempt in view.newest() {
        let fact = |name: &str| attempt.facts.get(name).cloned().unwrap_or_default();
        let mut shown = json!({
            "task_key": attempt.task_key,
            "run_id": attempt.id,
            "environment": fact("environment"),
            "engine": fact("engine"),
            "source_digest": fact("source_digest"),
            "inputs": inputs_of(attempt),
        });
        let is_each = view.has_type(attempt, "for_each_task");
        if is_each || view.has_type(attempt, "run_job_task") {
            let started = runs.started(&view, attempt).await?.into_iter();
            let started = started.map(|child| {
                let run = child.run;
                match is_each {
                    true => json!({"number": child.number, "input": child.input, "run_id": run}),
                    false => json!({"run_id": run}),
                }
            });
            shown["started"] = started.collect();
        }
        tasks.push(shown);
    }
    let refusals = runs.refusals(&ctx, &view).await?;
    let run = &view.run;
    Ok(Json(json!({
        "run_id": run.id,
        "run_name": run.name,
        "commit": run.used_commit,
        "parameters": run.parameters,
        "repeats": run.settings.get("forebay").and_then(|own| own.get("repeat")),
        "not_repeatable": refusals,
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
