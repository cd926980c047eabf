//! Condition tasks and the branches behind them, on an executor that does what its cells say.

use serde_json::{Value, json};

use crate::work::{condition, ended, notebook, results, start, state, states, submit, task};

/// A notebook task behind one outcome of a condition.
fn branch(key: &str, of: &str, outcome: &str) -> Value {
    let mut branch = task(key, "/Shared/ok", &[]);
    branch["depends_on"] = json!([{"task_key": of, "outcome": outcome}]);
    branch
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
