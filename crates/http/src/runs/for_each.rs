//! The iterations of for-each tasks, as clients see them in a run.

use forebay_control::runs::RunView;
use forebay_engine::Children;
use forebay_store::ChildRun;
use forebay_types::{Result, RunId};
use serde_json::{Value, json};

use super::view::task_json;
use crate::page;
use crate::server::App;

const PAGE: usize = 100;

/// Adds to each for-each among the tasks of `shown` how many iterations stand how, and to the view
/// of one such task its iterations, by pages of 100.
pub(super) async fn describe(
    app: &App,
    view: &RunView,
    shown: &mut Value,
    page_token: Option<&str>,
) -> Result<()> {
    let tasks = shown.get_mut("tasks").and_then(Value::as_array_mut);
    for task in tasks.into_iter().flatten() {
        let id = task.get("run_id").and_then(Value::as_i64).map(RunId);
        if let (Some(id), Some(each)) = (id, task.get_mut("for_each_task")) {
            each["stats"] = stats(app, id).await?;
        }
    }
    let attempt = view.task.and(view.only_attempt());
    let each = attempt.filter(|attempt| view.has_type(attempt, "for_each_task"));
    if let Some(each) = each {
        iterations(app, each.id, shown, page_token).await?;
    }
    Ok(())
}

async fn iterations(
    app: &App,
    each: RunId,
    shown: &mut Value,
    page_token: Option<&str>,
) -> Result<()> {
    let start = page::start(page_token)?;
    let runs = &app.services.runs;
    let mut children = runs.iterations(each, start, PAGE + 1).await?;
    let more = children.len() > PAGE;
    children.truncate(PAGE);
    let iterations: Vec<Value> = children
        .into_iter()
        .filter_map(|child| iteration(app, child))
        .collect();
    shown["iterations"] = Value::Array(iterations);
    if more {
        shown["has_more"] = json!(true);
        page::put_token(shown, i64::try_from(start + PAGE).ok());
    }
    Ok(())
}

/// `None` for one whose run is not there yet, or not any more.
fn iteration(app: &App, child: ChildRun) -> Option<Value> {
    let (run, attempts) = child.run?;
    let view = RunView {
        using: app.services.runs.using_of(run.id),
        unrecorded: app.services.runs.unrecorded_of(run.id),
        run,
        attempts,
        task: None,
    };
    let mut shown = task_json(app, &view, view.attempts.last()?);
    shown["forebay"]["iteration"] = json!({"number": child.number, "input": child.input});
    Some(shown)
}

async fn stats(app: &App, each: RunId) -> Result<Value> {
    let runs = &app.services.runs;
    let (children, failures) = runs.iteration_stats(each).await?;
    let Children {
        planned,
        started,
        active,
        failed,
        canceled,
    } = children;
    let completed = started.saturating_sub(active);
    let failures: Vec<Value> = failures
        .into_iter()
        .map(|(message, count)| {
            json!({
                "count": count,
                "error_message": message,
                "termination_category": "RUN_EXECUTION_ERROR",
            })
        })
        .collect();
    Ok(json!({
        "error_message_stats": failures,
        "task_run_stats": {
            "active_iterations": active,
            "completed_iterations": completed,
            "failed_iterations": failed,
            "scheduled_iterations": started,
            "succeeded_iterations": completed.saturating_sub(failed + canceled),
            "total_iterations": planned,
        },
    }))
}
