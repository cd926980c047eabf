//! Repairs, and what clients read about them in a run.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use forebay_control::runs::{RepairRun, RunNow, RunView};
use forebay_engine::Phase;
use forebay_store::Attempt;
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
    let run = &view.run;
    let repairs = app.services.runs.repairs(run.id).await?;
    let mut shown = Vec::with_capacity(repairs.len() + 1);
    for index in 0..=repairs.len() {
        let began = index.checked_sub(1).map(|before| &repairs[before]);
        let (phase, message, end) = match repairs.get(index) {
            Some(next) => (
                Phase::Ended(next.verdict_before),
                next.message_before.as_str(),
                next.ended_before,
            ),
            None => (
                run.phase,
                run.message.as_str(),
                run.ended_at.unwrap_or(Millis(0)),
            ),
        };
        let (state, status) = states(phase, whole_states(run), None, message);
        // The attempts of this time are those from its beginning on, before those of the next.
        let first = |task: usize, index: usize| {
            let known = repairs[..index]
                .iter()
                .rev()
                .flat_map(|repair| &repair.attempts);
            let mut of_task = known.filter(|(other, _)| *other == task);
            of_task.next().map_or(0, |(_, attempt)| *attempt)
        };
        let belongs = |attempt: &&Attempt| {
            let ran_again = began.is_none_or(|repair| {
                let mut tasks = repair.attempts.iter();
                tasks.any(|(task, _)| *task == attempt.task)
            });
            let until = repairs.get(index).and_then(|next| {
                let mut tasks = next.attempts.iter();
                tasks.find(|(task, _)| *task == attempt.task)
            });
            ran_again
                && attempt.attempt >= first(attempt.task, index)
                && until.is_none_or(|(_, until)| attempt.attempt < *until)
        };
        let mut ids: Vec<(usize, RunId)> = Vec::new();
        for attempt in view.attempts.iter().filter(belongs) {
            // Of the tries of one time, the last stands for the task.
            ids.retain(|(task, _)| *task != attempt.task);
            ids.push((attempt.task, attempt.id));
        }
        shown.push(json!({
            "type": if began.is_some() { "REPAIR" } else { "ORIGINAL" },
            "id": began.map_or(run.id, |repair| repair.id),
            "start_time": began.map_or(run.created_at, |repair| repair.created_at),
            "end_time": end,
            "state": state,
            "status": status,
            "task_run_ids": ids.iter().map(|(_, id)| id).collect::<Vec<_>>(),
        }));
    }
    Ok(Value::Array(shown))
}
