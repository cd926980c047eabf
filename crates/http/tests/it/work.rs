//! Steps that tests of runs share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_config::WorkspaceConfig;
use forebay_exec::Program;
use forebay_testkit::TestServer;
use serde_json::{Value, json};

/// A server whose clusters come from the executor that runs the tests.
pub(crate) async fn start(attempts_max: usize) -> TestServer {
    TestServer::start_with(|setup| {
        setup.server.limits.running_attempts_max = attempts_max;
        setup.runtimes = None;
    })
    .await
}

/// The same with another configuration.
pub(crate) async fn start_with(configure: impl FnOnce(&mut WorkspaceConfig)) -> TestServer {
    TestServer::start_with(|setup| {
        setup.runtimes = None;
        configure(&mut setup.config);
    })
    .await
}

/// A notebook of one cell per line of `cells`.
pub(crate) async fn notebook(server: &TestServer, path: &str, cells: &[&str]) {
    let source = cells.join("\n\n# COMMAND ----------\n\n");
    let content = STANDARD.encode(format!("# Databricks notebook source\n{source}\n"));
    let import = json!({"path": path, "language": "PYTHON", "content": content, "overwrite": true});
    server.post("/api/2.0/workspace/import", import).await.ok();
}

pub(crate) fn flat(path: &str) -> Value {
    json!({"run_name": "t", "notebook_task": {"notebook_path": path}})
}

pub(crate) fn task(key: &str, path: &str, after: &[&str]) -> Value {
    let after: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({"task_key": key, "depends_on": after, "notebook_task": {"notebook_path": path}})
}

pub(crate) fn condition(key: &str, op: &str, left: &str, right: &str, after: &[&str]) -> Value {
    let after: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({
        "task_key": key,
        "depends_on": after,
        "condition_task": {"op": op, "left": left, "right": right},
    })
}

pub(crate) fn for_each(key: &str, inputs: &str, concurrency: usize, inner: Value) -> Value {
    json!({
        "task_key": key,
        "for_each_task": {"inputs": inputs, "concurrency": concurrency, "task": inner},
    })
}

/// A job by its settings.
pub(crate) async fn job(server: &TestServer, settings: Value) -> i64 {
    let created = server.post("/api/2.1/jobs/create", settings).await.ok();
    created["job_id"].as_i64().unwrap()
}

/// A job whose one task runs the notebook, with more settings over that.
pub(crate) async fn job_of(server: &TestServer, path: &str, more: Value) -> i64 {
    let task = json!({"task_key": "t", "notebook_task": {"notebook_path": path}});
    let mut settings = json!({"name": "j", "tasks": [task]});
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    job(server, settings).await
}

pub(crate) async fn submit(server: &TestServer, settings: Value) -> i64 {
    let answer = server.post("/api/2.1/jobs/runs/submit", settings).await;
    answer.ok()["run_id"].as_i64().unwrap()
}

pub(crate) async fn run_now(server: &TestServer, request: Value) -> i64 {
    let answer = server.post("/api/2.1/jobs/run-now", request).await;
    answer.ok()["run_id"].as_i64().unwrap()
}

pub(crate) async fn run_of(server: &TestServer, job: i64) -> i64 {
    run_now(server, json!({"job_id": job})).await
}

/// A run of the job, waited for.
pub(crate) async fn ran(server: &TestServer, job: i64) -> i64 {
    let run = run_of(server, job).await;
    ended(server, run).await;
    run
}

/// Starts a repair and gives its id.
pub(crate) async fn repair(server: &TestServer, body: Value) -> i64 {
    let answer = server.post("/api/2.2/jobs/runs/repair", body).await;
    answer.ok()["repair_id"].as_i64().unwrap()
}

pub(crate) async fn get(server: &TestServer, run: i64) -> Value {
    let path = format!("/api/2.2/jobs/runs/get?run_id={run}");
    server.get(&path).await.ok()
}

/// A page of a for-each task's iterations; `token` is empty, or a parameter.
pub(crate) async fn iterations_of(server: &TestServer, task: &Value, token: &str) -> Value {
    let path = format!("/api/2.2/jobs/runs/get?run_id={}{token}", task["run_id"]);
    server.get(&path).await.ok()
}

/// The run as our own API shows it, once it has ended.
pub(crate) async fn ended(server: &TestServer, run: i64) -> Value {
    let path = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    let shown = server.get(&path).await.ok();
    assert!(shown["state"]["result_state"].is_string(), "{shown}");
    shown
}

pub(crate) fn state(run: &Value) -> (String, String) {
    let text = |name: &str| run["state"][name].as_str().unwrap_or_default().to_owned();
    (text("life_cycle_state"), text("result_state"))
}

pub(crate) fn states(life_cycle: &str, result: &str) -> (String, String) {
    (life_cycle.to_owned(), result.to_owned())
}

/// What became of each task, by its key.
pub(crate) fn results(run: &Value) -> Vec<(&str, &str)> {
    let tasks = run["tasks"].as_array().unwrap().iter();
    tasks
        .map(|task| {
            let key = task["task_key"].as_str().unwrap();
            (key, task["state"]["result_state"].as_str().unwrap_or(""))
        })
        .collect()
}

/// The parameters of the notebook runs that were started, in order.
pub(crate) fn parameters(server: &TestServer) -> Vec<Value> {
    let started = server.executor.started().into_iter();
    started
        .map(|workload| match workload.program {
            Program::Notebook { parameters, .. } => json!(parameters),
            other => panic!("{other:?}"),
        })
        .collect()
}
