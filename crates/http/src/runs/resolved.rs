//! The parameters of tasks as they were after their references were filled in.

use forebay_control::runs::RunView;
use forebay_types::Result;
use serde_json::Value;

use crate::server::App;

/// Adds `resolved_values` to each task of `shown` that has begun.
pub(super) async fn describe(app: &App, view: &RunView, shown: &mut Value) -> Result<()> {
    let known = app.services.runs.resolved_values(view.run.id).await?;
    let tasks = shown.get_mut("tasks").and_then(Value::as_array_mut);
    for task in tasks.into_iter().flatten() {
        let id = task.get("run_id").and_then(Value::as_i64);
        let value = known.iter().find(|(attempt, _)| Some(attempt.0) == id);
        if let Some((_, value)) = value {
            task["resolved_values"] = value.clone();
        }
    }
    Ok(())
}
