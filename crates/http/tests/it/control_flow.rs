//! Conditions, references, for-eaches, runs of other jobs and repairs, on an executor that does what
//! its cells say.

use forebay_testkit::TestServer;
use serde_json::{Value, json};

use crate::runs::{ended, notebook, start, state, states, submit, task};

fn condition(key: &str, op: &str, left: &str, right: &str, after: &[&str]) -> Value {
    let after: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({
        "task_key": key,
        "depends_on": after,
        "condition_task": {"op": op, "left": left, "right": right},
    })
}

/// A notebook task behind one outcome of a condition.
fn branch(key: &str, of: &str, outcome: &str) -> Value {
    let mut branch = task(key, "/Shared/ok", &[]);
    branch["depends_on"] = json!([{"task_key": of, "outcome": outcome}]);
    branch
}

fn results(run: &Value) -> Vec<(&str, &str)> {
    let tasks = run["tasks"].as_array().unwrap().iter();
    tasks
        .map(|task| {
            let key = task["task_key"].as_str().unwrap();
            (key, task["state"]["result_state"].as_str().unwrap_or(""))
        })
        .collect()
}

/// The parameters of the notebook runs that were started, in order.
fn parameters(server: &TestServer) -> Vec<Value> {
    let started = server.executor.started().into_iter();
    started
        .map(|workload| match workload.program {
            forebay_exec::Program::Notebook { parameters, .. } => json!(parameters),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_condition_needs_no_slot_and_leaves_the_other_branch_out() {
    let server = start(1).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let set = r#"call jobs.taskValues.set {"key":"rows","value":12}"#;
    notebook(&server, "/Shared/load", &[set]).await;
    let tasks = [
        task("load", "/Shared/load", &[]),
        condition(
            "enough",
            "GREATER_THAN",
            "{{tasks.load.values.rows}}",
            "9",
            &["load"],
        ),
        branch("yes", "enough", "true"),
        branch("no", "enough", "false"),
        task("after_no", "/Shared/ok", &["no"]),
        task("join", "/Shared/ok", &["yes", "no"]),
    ];
    let run = submit(&server, json!({"tasks": tasks})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"));
    let expected = [
        ("load", "SUCCESS"),
        ("enough", "SUCCESS"),
        ("yes", "SUCCESS"),
        ("no", "EXCLUDED"),
        ("after_no", "EXCLUDED"),
        ("join", "SUCCESS"),
    ];
    assert_eq!(results(&run), expected);
    assert_eq!(run["tasks"][1]["condition_task"]["outcome"], "true");
    assert_eq!(server.executor.started().len(), 3);
}

#[tokio::test]
async fn a_condition_starts_whatever_the_cap() {
    let server = start(1).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    submit(&server, json!({"tasks": [task("a", "/Shared/wait", &[])]})).await;
    let tasks = [condition("c", "EQUAL_TO", "a", "a", &[])];
    let run = submit(&server, json!({"tasks": tasks})).await;
    assert_eq!(
        state(&ended(&server, run).await),
        states("TERMINATED", "SUCCESS")
    );
    server.executor.release();
}

#[tokio::test]
async fn a_condition_that_cannot_be_decided_fails_with_its_reason() {
    let server = start(1).await;
    for (left, reason) in [
        (
            "many",
            "condition_task.left is 'many', which is not a number",
        ),
        ("{{tasks.x.values.n}}", "no task 'x' comes before this one"),
        ("{{job.colour}}", "'job' has no such name"),
    ] {
        let tasks = [condition("c", "LESS_THAN", left, "9", &[])];
        let run = submit(&server, json!({"tasks": tasks})).await;
        let run = ended(&server, run).await;
        assert_eq!(state(&run).1, "FAILED", "{run}");
        let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn bad_control_flow_is_refused_with_the_task_named() {
    let server = start(1).await;
    for (tasks, reason) in [
        (
            json!([condition("c", "SAME", "1", "1", &[])]),
            "condition_task.op 'SAME'",
        ),
        (
            json!([task("a", "/x", &[]), branch("b", "a", "true")]),
            "task 'a', which is no condition_task",
        ),
        (
            json!([
                condition("c", "EQUAL_TO", "1", "1", &[]),
                branch("b", "c", "maybe")
            ]),
            "depends_on.outcome 'maybe'",
        ),
        (
            json!([{"task_key": "c", "condition_task": {"op": "EQUAL_TO"}}]),
            "left",
        ),
    ] {
        let answer = server
            .post("/api/2.2/jobs/create", json!({"tasks": tasks}))
            .await;
        let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(reason), "{message}");
    }
}

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
