use std::time::Duration;

use forebay_testkit::{TestServer, wait_until};
use forebay_types::RunId;
use serde_json::{Value, json};

use crate::work::{ended, job_of, notebook, ran, run_of, start_with};

const DAY: Duration = Duration::from_secs(86_400);

async fn cost(server: &TestServer, query: &str) -> Value {
    let path = format!("/api/forebay/v1/cost?{query}");
    server.get(&path).await.ok()
}

#[tokio::test]
async fn what_attempts_used_is_summed_up_and_outlives_them() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["use 1500 10 20"]).await;
    notebook(&server, "/Shared/unknown", &["print x"]).await;
    let counted = job_of(&server, "/Shared/n", json!({"name": "counted"})).await;
    let unknown = job_of(&server, "/Shared/unknown", json!({})).await;
    let run = ran(&server, counted).await;
    ran(&server, unknown).await;
    server.clock.advance(DAY);
    ran(&server, counted).await;

    let shown = ended(&server, run).await["forebay"]["usage"].clone();
    assert_eq!(shown["cpu_seconds"], 1.5);
    assert_eq!(
        (&shown["read_bytes"], &shown["write_bytes"]),
        (&json!(10), &json!(20))
    );
    let days = cost(&server, "by=day").await;
    assert_eq!(days["to"], "2023-11-15");
    let days = days["rows"].as_array().unwrap();
    assert_eq!(
        (&days[0]["day"], &days[0]["attempts"]),
        (&json!("2023-11-14"), &json!(2))
    );
    assert_eq!(days[0]["cpu_unknown"], 1);
    assert_eq!(
        (&days[1]["cpu_seconds"], &days[1]["cpu_unknown"]),
        (&json!(1.5), &json!(0))
    );

    server.clock.advance(DAY * 61);
    let done = server
        .post("/api/forebay/v1/retention/apply", json!({}))
        .await;
    done.ok();
    let jobs = cost(&server, "by=job&from=2023-11-14").await;
    assert_eq!(jobs["rows"][0]["job_name"], "counted");
    assert_eq!(jobs["rows"][0]["cpu_seconds"], 3.0);
    assert_eq!(jobs["total"]["attempts"], 3);
    let first = cost(&server, "by=user&from=2023-11-14&to=2023-11-14").await;
    assert_eq!(first["rows"].as_array().unwrap().len(), 1);
    assert_eq!(first["total"]["attempts"], 2);
}

#[tokio::test]
async fn iterations_count_for_the_job_of_their_run() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["use 1500 10 20"]).await;
    let inner = json!({"task_key": "inner", "notebook_task": {"notebook_path": "/Shared/n"}});
    let settings = json!({"name": "each", "tasks": [{
        "task_key": "all",
        "for_each_task": {"inputs": "[1, 2]", "concurrency": 2, "task": inner},
    }]});
    let path = "/api/2.1/jobs/create";
    let job = server.post(path, settings).await.ok()["job_id"]
        .as_i64()
        .unwrap();
    ran(&server, job).await;
    let jobs = cost(&server, "by=job").await;
    assert_eq!(jobs["rows"].as_array().unwrap().len(), 1, "{jobs}");
    assert_eq!(jobs["rows"][0]["job_name"], "each");
    assert_eq!(jobs["rows"][0]["cpu_seconds"], 3.0);
}

#[tokio::test]
async fn a_plain_user_sees_the_own_cost_and_bad_dates_are_named() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["use 1500 10 20"]).await;
    let job = job_of(&server, "/Shared/n", json!({})).await;
    ran(&server, job).await;
    let plain = server.plain.clone();
    let path = "/api/forebay/v1/cost?by=user";
    let own = server.call(&plain, "GET", path, Value::Null).await.ok();
    assert_eq!(own["rows"], json!([]));
    for (query, named) in [
        ("by=weather", "'by'"),
        ("from=yesterday", "'from'"),
        ("from=2023-11-14&to=2023-11-13", "'from' is after 'to'"),
    ] {
        let answer = server.get(&format!("/api/forebay/v1/cost?{query}")).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains(named), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_used_up_day_makes_runs_wait_for_the_next() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["use 1500"]).await;
    let budget = json!({"forebay": {"budget": {"cpu_seconds_per_day": 1}}});
    let job = job_of(&server, "/Shared/n", budget).await;
    ran(&server, job).await;
    let held = run_of(&server, job).await;
    let shown = server
        .get(&format!("/api/2.1/jobs/runs/get?run_id={held}"))
        .await
        .ok();
    let message = shown["state"]["state_message"].as_str().unwrap();
    assert!(
        message.contains("the job used 1.5 of its 1 CPU-seconds of today"),
        "{shown}"
    );
    assert!(shown["state"]["result_state"].is_null());
    server.clock.advance(DAY);
    let over = ended(&server, held).await;
    assert_eq!(over["state"]["result_state"], "SUCCESS");
}

#[tokio::test]
async fn a_workspace_can_skip_what_is_over_its_day() {
    let server = start_with(|config| {
        config.budget.cpu_seconds_per_day = 1;
        config.budget.action = "stop".to_owned();
    })
    .await;
    notebook(&server, "/Shared/n", &["use 1000"]).await;
    let job = job_of(&server, "/Shared/n", json!({})).await;
    ran(&server, job).await;
    let refused = run_of(&server, job).await;
    let shown = ended(&server, refused).await;
    assert_eq!(shown["state"]["life_cycle_state"], "SKIPPED", "{shown}");
    assert_eq!(
        shown["status"]["termination_details"]["code"],
        "BUDGET_POLICY_LIMIT_EXCEEDED"
    );
    let message = shown["state"]["state_message"].as_str().unwrap();
    assert!(
        message.contains("the workspace used 1 of its 1 CPU-seconds"),
        "{message}"
    );
}

#[tokio::test]
async fn the_time_of_a_held_run_begins_when_it_gets_a_slot() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["use 1500"]).await;
    let limited = json!({
        "timeout_seconds": 3600,
        "forebay": {"budget": {"cpu_seconds_per_day": 1}},
    });
    let job = job_of(&server, "/Shared/n", limited).await;
    ran(&server, job).await;
    let held = run_of(&server, job).await;
    server.clock.advance(DAY);
    let path = format!("/api/2.1/jobs/runs/get?run_id={held}");
    let look = async || {
        // The dispatcher may have looked at the clock just before.
        server.clock.advance(Duration::from_millis(100));
        server.get(&path).await.ok()["state"].clone()
    };
    let over = wait_until("its end", look, |state| state["result_state"].is_string()).await;
    assert_eq!(over["result_state"], "SUCCESS", "{over}");
    assert_eq!(over["state_message"], "");
    let (run, _) = server
        .app
        .services
        .store
        .run_get(RunId(held))
        .await
        .unwrap();
    let waited = run.started_at.unwrap().since(run.created_at);
    assert!(
        waited >= 6_400_000,
        "{waited} ms, and midnight is 6400 s away"
    );
}

#[tokio::test]
async fn what_is_under_way_goes_on_over_the_budget_with_all_its_parts() {
    let server = start_with(|config| config.budget.cpu_seconds_per_day = 1).await;
    notebook(&server, "/Shared/n", &["use 1500"]).await;
    let own = json!({"budget": {"cpu_seconds_per_day": 1, "action": "stop"}});
    let child = job_of(&server, "/Shared/n", json!({"forebay": own})).await;
    let inner = json!({"task_key": "one", "notebook_task": {"notebook_path": "/Shared/n"}});
    let each = json!({"inputs": "[1,2,3]", "concurrency": 1, "task": inner});
    let call = json!({"task_key": "call", "depends_on": [{"task_key": "each"}],
        "run_job_task": {"job_id": child}});
    let tasks = json!([{"task_key": "each", "for_each_task": each}, call]);
    let body = json!({"run_name": "r", "tasks": tasks});
    let path = "/api/2.1/jobs/runs/submit";
    let run = server.post(path, body).await.ok()["run_id"].as_i64();
    let run = ended(&server, run.unwrap()).await;
    assert_eq!(run["state"]["result_state"], "SUCCESS", "{run}");
}
