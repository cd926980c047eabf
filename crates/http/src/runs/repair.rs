//! Repairs, and what clients read about them in a run.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::runs::{Episode, RepairRun, RunNow, RunView};
use forebay_types::{Millis, Result, RunId};
use forebay_wire::runs as wire;
use serde_json::{Value, json};

use super::view::{states, whole_states};
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::extract::Params;
use crate::jobs::{map_or_pairs, refuse_other_parameters};
use crate::server::App;

pub(super) async fn repair(
    State(app): State<Arc<App>>,
    Caller(ctx): Caller,
    Params(request): Params<wire::Repair>,
) -> ApiResult<Json<Value>> {
    refuse_other_parameters(&request.others, "repair")?;
    let parameters = RunNow {
        job_parameters: request.job_parameters,
        notebook_params: map_or_pairs(request.notebook_params)?,
        python_params: request.python_params,
        python_named_params: request.python_named_params,
        jar_params: request.jar_params,
        spark_submit_params: request.spark_submit_params,
        sql_params: request.sql_params,
        ..RunNow::default()
    };
    let repair = RepairRun {
        rerun_tasks: request.rerun_tasks,
        rerun_all_failed_tasks: request.rerun_all_failed_tasks,
        rerun_dependent_tasks: request.rerun_dependent_tasks,
        latest_repair_id: request.latest_repair_id.map(RunId),
        parameters,
    };
    let runs = &app.services.runs;
    let id = runs.repair(&ctx, RunId(request.run_id), repair).await?;
    Ok(Json(json!({"repair_id": id})))
}

/// How the run ended at first and after each repair, with the task runs of each time.
pub(super) async fn history(app: &App, view: &RunView) -> Result<Value> {
    let repairs = app.services.runs.repairs(view.run.id).await?;
    let shown = view.episodes(&repairs).into_iter().map(|episode| {
        let Episode { repair, phase, .. } = episode;
        let (state, status) = states(phase, whole_states(&view.run), None, episode.message);
        json!({
            "type": if repair.is_some() { "REPAIR" } else { "ORIGINAL" },
            "id": repair.map_or(view.run.id, |repair| repair.id),
            "start_time": episode.began_at,
            "end_time": episode.ended_at.unwrap_or(Millis(0)),
            "state": state,
            "status": status,
            "task_run_ids": episode.attempts.iter().map(|one| one.id).collect::<Vec<_>>(),
        })
    });
    Ok(shown.collect())
}
