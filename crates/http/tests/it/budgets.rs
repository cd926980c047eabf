//! What single attempts may use, and what those under way have used.

use forebay_testkit::TestServer;
use serde_json::{Value, json};

use crate::work::{ended, job_of, notebook, ran, run_of, start_with};

fn task<'a>(shown: &'a Value, key: &str) -> &'a Value {
    let tasks = shown["tasks"].as_array().unwrap();
    tasks.iter().find(|task| task["task_key"] == key).unwrap()
}

async fn live(server: &TestServer, token: &str) -> Vec<Value> {
    let path = "/api/forebay/v1/cost/live";
    let answer = server.call(token, "GET", path, Value::Null).await.ok();
    answer["rows"].as_array().unwrap().clone()
}

/// Until an attempt under way has told what it uses.
async fn until_live(server: &TestServer) -> Value {
    loop {
        let rows = live(server, &server.admin.clone()).await;
        if let Some(row) = rows.first().filter(|row| row["cpu_seconds"].is_number()) {
            return row.clone();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn cpu_time_over_the_budget_ends_an_attempt_and_it_is_retried() {
    let server = start_with(|_| {}).await;
    notebook(
        &server,
        "/Shared/n",
        &["print before", "use 3500", "print after"],
    )
    .await;
    let tasks = json!([
        {"task_key": "tight", "max_retries": 1, "notebook_task": {"notebook_path": "/Shared/n"}},
        {"task_key": "wide", "notebook_task": {"notebook_path": "/Shared/n"}},
    ]);
    let budget = json!({"attempt": {"cpu_seconds": 2}, "tasks": {"wide": {"cpu_seconds": 4}}});
    let settings = json!({"tasks": tasks, "forebay": {"budget": budget}});
    let job = job_of(&server, "/Shared/n", settings).await;
    let shown = ended(&server, ran(&server, job).await).await;
    let tight = task(&shown, "tight");
    assert_eq!(tight["attempt_number"], 1, "{shown}");
    let why = &tight["status"]["termination_details"];
    assert_eq!(why["code"], "BUDGET_POLICY_LIMIT_EXCEEDED");
    let message = why["message"].as_str().unwrap();
    assert!(
        message.contains("used 3.5 CPU-seconds; its budget has 2"),
        "{message}"
    );
    assert_eq!(tight["state"]["result_state"], "FAILED");
    assert_eq!(task(&shown, "wide")["state"]["result_state"], "SUCCESS");
}

#[tokio::test]
async fn the_workspace_has_a_usual_limit_and_a_ceiling() {
    let server = start_with(|config| {
        config.budget.attempt.cpu_seconds = 2;
        config.budget.attempt_max.cpu_seconds = 5;
        config.budget.attempt_max.memory_mib = 256;
    })
    .await;
    notebook(&server, "/Shared/n", &["use 3500"]).await;
    let usual = job_of(&server, "/Shared/n", json!({})).await;
    let shown = ended(&server, ran(&server, usual).await).await;
    assert_eq!(shown["state"]["result_state"], "FAILED");
    let more = json!({"forebay": {"budget": {"attempt": {"cpu_seconds": 5, "memory_mib": 128}}}});
    let more = job_of(&server, "/Shared/n", more).await;
    let shown = ended(&server, ran(&server, more).await).await;
    assert_eq!(shown["state"]["result_state"], "SUCCESS");
    let memory: Vec<_> = server
        .executor
        .started()
        .iter()
        .map(|w| w.limits.memory_bytes)
        .collect();
    assert_eq!(memory, [Some(256 << 20), Some(128 << 20)]);

    let task = json!({"task_key": "t", "notebook_task": {"notebook_path": "/Shared/n"}});
    let too_much = json!({"budget": {"tasks": {"t": {"cpu_seconds": 6}}}});
    let settings = json!({"name": "j", "tasks": [task], "forebay": too_much});
    for (path, body) in [
        ("/api/2.1/jobs/create", settings.clone()),
        (
            "/api/2.1/jobs/reset",
            json!({"job_id": usual, "new_settings": settings}),
        ),
        (
            "/api/2.1/jobs/update",
            json!({"job_id": usual, "new_settings": {"forebay": too_much}}),
        ),
        ("/api/2.1/jobs/runs/submit", settings),
    ] {
        let answer = server.post(path, body).await;
        assert_eq!(answer.status, 400, "{path}");
        let text = answer.text();
        let named = "'forebay.budget.tasks.t.cpu_seconds' is 6; this workspace allows 5";
        assert!(text.contains(named), "{path}: {text}");
    }
}

#[tokio::test]
async fn wall_time_over_the_budget_ends_an_attempt_by_the_clock() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["silence"]).await;
    let budget = json!({"budget": {"attempt": {"wall_seconds": 60}}});
    let task = json!({"task_key": "t", "notebook_task": {"notebook_path": "/Shared/n"}});
    let submit = json!({"tasks": [task], "forebay": budget});
    let answer = server.post("/api/2.1/jobs/runs/submit", submit).await.ok();
    let run = answer["run_id"].as_i64().unwrap();
    until_started(&server).await;
    server.clock.advance(std::time::Duration::from_secs(61));
    let shown = ended(&server, run).await;
    let task = task_of(&shown);
    assert_eq!(task["state"]["result_state"], "TIMEDOUT", "{shown}");
    let why = &task["status"]["termination_details"];
    assert_eq!(why["code"], "BUDGET_POLICY_LIMIT_EXCEEDED");
    assert!(
        why["message"]
            .as_str()
            .unwrap()
            .contains("the 60 s of its budget"),
        "{why}"
    );
}

fn task_of(shown: &Value) -> &Value {
    task(shown, "t")
}

async fn until_started(server: &TestServer) {
    while server.executor.started().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn iterations_and_nested_notebooks_have_the_limits_of_their_task() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/inner", &["use 3500"]).await;
    let call = r#"call notebook.run {"from": "/Shared/outer", "path": "inner", "timeout_seconds": 0, "arguments": {}}"#;
    notebook(&server, "/Shared/outer", &[call]).await;
    let inner = json!({"task_key": "each", "notebook_task": {"notebook_path": "/Shared/inner"}});
    let tasks = json!([
        {"task_key": "many", "for_each_task": {"inputs": "[1]", "task": inner}},
        {"task_key": "nested", "notebook_task": {"notebook_path": "/Shared/outer"}},
    ]);
    let limit = json!({"cpu_seconds": 2});
    let budget = json!({"tasks": {"many": limit, "nested": limit}});
    let settings = json!({"tasks": tasks, "forebay": {"budget": budget}});
    let job = job_of(&server, "/Shared/inner", settings).await;
    let shown = ended(&server, ran(&server, job).await).await;
    for key in ["many", "nested"] {
        assert_eq!(
            task(&shown, key)["state"]["result_state"],
            "FAILED",
            "{shown}"
        );
    }
    let limits: Vec<_> = server
        .executor
        .started()
        .iter()
        .map(|w| w.limits.cpu_ms)
        .collect();
    assert_eq!(limits, [Some(2000); 3]);
}

#[tokio::test]
async fn what_goes_on_shows_its_use_and_counts_for_the_day() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["use 1500 10 20 4096", "wait"]).await;
    let budget = json!({"budget": {"cpu_seconds_per_day": 1}});
    let settings = json!({"max_concurrent_runs": 2, "forebay": budget});
    let job = job_of(&server, "/Shared/n", settings).await;
    let run = run_of(&server, job).await;
    let row = until_live(&server).await;
    assert_eq!(
        (&row["run_id"], &row["task_key"]),
        (&json!(run), &json!("t"))
    );
    assert_eq!(
        (&row["cpu_seconds"], &row["memory_bytes"]),
        (&json!(1.5), &json!(4096))
    );
    assert!(live(&server, &server.plain.clone()).await.is_empty());
    let path = format!("/api/2.1/jobs/runs/get?run_id={run}");
    let shown = server.get(&path).await.ok();
    let usage = &task_of(&shown)["forebay"]["usage"];
    assert_eq!(
        (&usage["cpu_ms"], &usage["memory_bytes"]),
        (&json!(1500), &json!(4096))
    );
    let shown = server
        .get(&format!("/api/forebay/v1/runs/{run}"))
        .await
        .ok();
    assert_eq!(shown["forebay"]["usage"]["cpu_seconds"], 1.5);

    let held = run_of(&server, job).await;
    let path = format!("/api/2.1/jobs/runs/get?run_id={held}");
    let message = server.get(&path).await.ok()["state"]["state_message"].clone();
    let message = message.as_str().unwrap();
    assert!(
        message.contains("the job used 1.5 of its 1 CPU-seconds"),
        "{message}"
    );
    server.executor.release();
    let shown = ended(&server, run).await;
    assert!(task_of(&shown)["forebay"]["usage"]["memory_bytes"].is_null());
    assert!(live(&server, &server.admin.clone()).await.is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_a_budget_is_named() {
    let server = start_with(|_| {}).await;
    for (budget, named) in [
        (
            json!({"attempt": {"cpu_seconds": 0}}),
            "forebay.budget.attempt.cpu_seconds",
        ),
        (
            json!({"attempt": {"memory_mib": 1}}),
            "forebay.budget.attempt.memory_mib",
        ),
        (
            json!({"tasks": {"t": {"wall_seconds": 0}}}),
            "forebay.budget.tasks.t.wall_seconds",
        ),
        (json!({"tasks": {"u": {}}}), "there is no task 'u'"),
        (json!({"attempt": {"gpu_seconds": 1}}), "gpu_seconds"),
        (
            json!({"action": "stop"}),
            "needs 'forebay.budget.cpu_seconds_per_day'",
        ),
    ] {
        let task = json!({"task_key": "t", "notebook_task": {"notebook_path": "/Shared/n"}});
        let settings = json!({"tasks": [task], "forebay": {"budget": budget}});
        let answer = server.post("/api/2.1/jobs/create", settings).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(named), "{}", answer.text());
    }
}
