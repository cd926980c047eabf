//! Steps that tests of runs share.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_config::WorkspaceConfig;
use forebay_testkit::TestServer;
use serde_json::{Value, json};

/// A server whose clusters come from the executor that runs the tests.
pub(crate) async fn start(configure: impl FnOnce(&mut WorkspaceConfig)) -> TestServer {
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

/// A job whose one task runs the notebook, with more settings over that.
pub(crate) async fn job(server: &TestServer, path: &str, more: Value) -> i64 {
    let task = json!({"task_key": "t", "notebook_task": {"notebook_path": path}});
    let mut settings = json!({"name": "j", "tasks": [task]});
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    let created = server.post("/api/2.1/jobs/create", settings).await.ok();
    created["job_id"].as_i64().unwrap()
}

pub(crate) async fn run_now(server: &TestServer, job: i64) -> i64 {
    let request = json!({"job_id": job});
    let answer = server.post("/api/2.1/jobs/run-now", request).await.ok();
    answer["run_id"].as_i64().unwrap()
}

/// The run as our own API shows it, once it has ended.
pub(crate) async fn ended(server: &TestServer, run: i64) -> Value {
    let path = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    let shown = server.get(&path).await.ok();
    assert!(shown["state"]["result_state"].is_string(), "{shown}");
    shown
}

/// A run of the job, waited for.
pub(crate) async fn ran(server: &TestServer, job: i64) -> i64 {
    let run = run_now(server, job).await;
    ended(server, run).await;
    run
}
