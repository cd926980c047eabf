//! Dynamic value references in the texts of tasks.

use serde_json::json;

use crate::work::{ended, notebook, parameters, start, state, submit, task};

#[tokio::test]
async fn references_reach_every_text_of_a_task() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let mut one = task("first", "/Shared/ok", &[]);
    one["notebook_task"]["base_parameters"] = json!({
        "job": "{{job.run_id}}/{{task.name}}/{{ task.execution_count }}",
        "at": "{{job.start_time.iso_date}}",
        "trigger": "{{job.trigger.type}}",
        "path": "{{task.notebook_path}}",
        "left": "{{ not.ours }} {{job.run_id",
    });
    let mut two = task("second", "/Shared/{{tasks.first.result_state}}", &["first"]);
    two["notebook_task"]["base_parameters"] =
        json!({"before": "{{tasks.first.run_id}} {{tasks.first.notebook_path}}"});
    notebook(&server, "/Shared/success", &["print x"]).await;
    let run = submit(&server, json!({"tasks": [one, two]})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run).1, "SUCCESS", "{run}");
    let (id, first) = (&run["run_id"], &run["tasks"][0]["run_id"]);
    let expected = [
        json!({
            "job": format!("{id}/first/1"),
            "at": "2023-11-14",
            "trigger": "one_time",
            "path": "/Shared/ok",
            "left": "{{ not.ours }} {{job.run_id",
        }),
        json!({"before": format!("{first} /Shared/ok")}),
    ];
    assert_eq!(parameters(&server), expected);
}
