//! Tasks that run another job: what they give to it, and circles of such jobs.

use serde_json::{Value, json};

use crate::work::{ended, job, notebook, parameters, run_of, start, state, states, submit, task};

fn run_job(key: &str, job: i64, parameters: Value) -> Value {
    json!({"task_key": key, "run_job_task": {"job_id": job, "job_parameters": parameters}})
}

#[tokio::test]
async fn a_run_job_starts_the_other_job_with_parameters_and_ends_as_it_does() {
    let server = start(1).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let child = json!({
        "name": "child",
        "parameters": [{"name": "day", "default": "none"}, {"name": "who", "default": "me"}],
        "tasks": [task("a", "/Shared/ok", &[])],
    });
    let child = job(&server, child).await;
    let parent = json!({
        "name": "parent",
        "parameters": [{"name": "day", "default": "mon"}, {"name": "else", "default": "x"}],
        "tasks": [run_job("call", child, json!({"who": "{{job.name}}"}))],
    });
    let parent = job(&server, parent).await;
    let run = run_of(&server, parent).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    assert_eq!(
        parameters(&server),
        [json!({"day": "mon", "who": "parent"})]
    );
    let task_id = run["tasks"][0]["run_id"].as_i64().unwrap();
    let output = server
        .get(&format!("/api/2.2/jobs/runs/get-output?run_id={task_id}"))
        .await
        .ok();
    let child_run = output["run_job_output"]["run_id"].as_i64().unwrap();
    let child_run = ended(&server, child_run).await;
    assert_eq!(child_run["trigger"], "RUN_JOB_TASK");
    assert_eq!(child_run["trigger_info"]["run_id"], task_id);
    assert_eq!(child_run["job_id"], child);

    let bad = json!({"name": "bad", "tasks": [task("a", "/Shared/bad", &[])]});
    let bad = job(&server, bad).await;
    let run = submit(&server, json!({"tasks": [run_job("call", bad, json!({}))]})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("INTERNAL_ERROR", "FAILED"));
    let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
    assert!(
        message.contains(&format!("of job {bad} failed: ")),
        "{message}"
    );
}

/// What a reference brings in is not looked at again, also where it was brought in by the caller.
#[tokio::test]
async fn a_run_job_gives_texts_as_they_came_to_it() {
    let server = start(1).await;
    let set =
        r#"call jobs.taskValues.set {"key":"odd","value":"{{tasks.none.values.x}} {{job.id}}"}"#;
    notebook(&server, "/Shared/load", &[set]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let child = json!({
        "name": "child",
        "parameters": [{"name": "odd", "default": ""}, {"name": "own", "default": "{{job.name}}"}],
        "tasks": [task("a", "/Shared/ok", &[])],
    });
    let child = job(&server, child).await;
    let mut call = run_job("call", child, json!({"odd": "{{tasks.load.values.odd}}"}));
    call["depends_on"] = json!([{"task_key": "load"}]);
    let mut older = run_job("older", child, json!({}));
    older["depends_on"] = json!([{"task_key": "call"}, {"task_key": "load"}]);
    older["run_job_task"]["notebook_params"] = json!({"word": "{{tasks.load.values.odd}}"});
    let tasks = json!([task("load", "/Shared/load", &[]), call, older]);
    let run = submit(&server, json!({"tasks": tasks})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    let given = parameters(&server);
    let as_it_came = "{{tasks.none.values.x}} {{job.id}}";
    assert_eq!(given[1], json!({"odd": as_it_came, "own": "child"}));
    assert_eq!(given[2]["word"], as_it_came);
    assert_eq!(given[2]["own"], "child");
}

#[tokio::test]
async fn a_run_job_passes_parameters_of_the_older_kind_to_tasks_of_their_type() {
    let server = start(1).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let sql = json!({"path": "/Shared/q.sql", "format": "AUTO", "content": "c2VsZWN0IDE="});
    server.post("/api/2.0/workspace/import", sql).await.ok();
    let mut query = json!({"task_key": "q", "sql_task": {"file": {"path": "/Shared/q.sql"}}});
    query["sql_task"]["parameters"] = json!({"word": "own", "other": "kept"});
    let child = json!({"name": "child", "tasks": [query, task("n", "/Shared/ok", &["q"])]});
    let child = job(&server, child).await;
    let mut call = run_job("call", child, json!({}));
    call["run_job_task"]["sql_params"] = json!({"word": "{{task.name}}"});
    let run = submit(&server, json!({"tasks": [call]})).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    let expected = [json!({"word": "call", "other": "kept"}), json!({})];
    assert_eq!(parameters(&server), expected);
}

/// Each of two changes is good alone; together they would close a circle.
#[tokio::test]
async fn changes_at_once_close_no_circle_of_jobs() {
    let server = start(1).await;
    let plain = || json!({"name": "plain", "tasks": [task("t", "/Shared/ok", &[])]});
    for _ in 0..20 {
        let one = job(&server, plain()).await;
        let two = job(&server, plain()).await;
        let update = |job: i64, runs: i64| {
            let new_settings = json!({"tasks": [run_job("t", runs, json!({}))]});
            let body = json!({"job_id": job, "new_settings": new_settings});
            server.post("/api/2.2/jobs/update", body)
        };
        let (first, second) = tokio::join!(update(one, two), update(two, one));
        let mut statuses = [first.status.as_u16(), second.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
    }
}

#[tokio::test]
async fn jobs_that_run_each_other_in_a_circle_are_refused() {
    let server = start(1).await;
    let first = json!({"name": "a", "tasks": [task("t", "/Shared/ok", &[])]});
    let first = job(&server, first).await;
    let second = json!({"name": "b", "tasks": [run_job("t", first, json!({}))]});
    let second = job(&server, second).await;
    let new_settings = json!({"name": "a", "tasks": [run_job("t", second, json!({}))]});
    let body = json!({"job_id": first, "new_settings": new_settings});
    for path in ["/api/2.1/jobs/reset", "/api/2.1/jobs/update"] {
        let message = server
            .post(path, body.clone())
            .await
            .refused(400, "INVALID_PARAMETER_VALUE");
        let circle = format!("in a circle: {first} -> {second} -> {first}");
        assert!(message.contains(&circle), "{message}");
    }
    let itself =
        json!({"job_id": first, "new_settings": {"tasks": [run_job("t", first, json!({}))]}});
    let message = server
        .post("/api/2.1/jobs/update", itself)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(
        message.contains(&format!("{first} -> {first}")),
        "{message}"
    );
    let mut last = second;
    for _ in 0..2 {
        let next = json!({"name": "n", "tasks": [run_job("t", last, json!({}))]});
        last = job(&server, next).await;
    }
    let deep = json!({"name": "n", "tasks": [run_job("t", last, json!({}))]});
    let message = server
        .post("/api/2.1/jobs/create", deep)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("more than 3 deep"), "{message}");
    let missing = json!({"name": "n", "tasks": [run_job("t", 4242, json!({}))]});
    let message = server
        .post("/api/2.1/jobs/create", missing)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(
        message.contains("Task 't'") && message.contains("Job 4242 does not exist"),
        "{message}"
    );
}
