//! What comes with heartbeats, and a runner that has none any more.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_control::ExecutorHandle;
use forebay_exec::{Executor, Outcome};
use forebay_runner::inspect;
use forebay_runtime::Clock;
use forebay_testkit::TestServer;
use forebay_types::Millis;
use serde_json::{Value, json};

use crate::support::{Answers, Bench, Server, printed};

const HEARTBEAT: Duration = Duration::from_secs(10);

/// Until `done`, which what another process does brings about. Its deadline only ends a test that
/// has failed.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    let patience = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), patience)
        .await
        .unwrap();
}

/// Stops the runner's process without ending it, and lets heartbeats go by until the server has
/// another one; its process id.
async fn hang(bench: &Bench, clock: &Clock) -> u32 {
    let folder = bench.setup().folder;
    let old = inspect(&folder).await.unwrap().unwrap().pid;
    signal(old, "-STOP");
    next_runner(bench, clock, old).await
}

fn signal(pid: u32, signal: &str) {
    let mut kill = std::process::Command::new("kill");
    let status = kill.args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Lets heartbeats go by until there is another runner than `old`.
async fn next_runner(bench: &Bench, clock: &Clock, old: u32) -> u32 {
    let mut new = old;
    until(async || {
        clock.advance(HEARTBEAT);
        // The one that hangs listens and does not answer.
        if let Ok(Some(found)) = inspect_briefly(bench).await {
            new = found;
        }
        new != old
    })
    .await;
    new
}

async fn inspect_briefly(bench: &Bench) -> std::io::Result<Option<u32>> {
    let folder = bench.setup().folder;
    let asked = tokio::time::timeout(Duration::from_millis(100), inspect(&folder));
    match asked.await {
        Ok(found) => Ok(found?.map(|welcome| welcome.pid)),
        Err(_) => Ok(None),
    }
}

#[tokio::test]
async fn what_an_attempt_uses_comes_with_the_next_heartbeat() {
    let (bench, clock) = (Bench::new(), Clock::manual(Millis(0)));
    let server = bench.server_by(clock.clone()).await;
    let workload = bench.workload("a", &["use 700 1 2 4096", "print go", "silence"]);
    let start = server.client.start(workload, Answers::open());
    let mut execution = start.await.unwrap();
    assert_eq!(printed(&mut *execution).await, "go\n");
    let meter = execution.meter();
    assert_eq!(meter.read(), None, "no heartbeat yet");
    clock.advance(HEARTBEAT);
    until(async || meter.read().is_some()).await;
    let usage = meter.read().unwrap();
    assert_eq!((usage.cpu_ms, usage.memory_bytes), (Some(700), Some(4096)));
    assert_eq!((usage.read_bytes, usage.write_bytes), (Some(1), Some(2)));
    server.client.kill().await;
}

#[tokio::test]
async fn a_runner_that_hangs_is_ended_and_its_attempts_are_lost() {
    let (bench, clock) = (Bench::new(), Clock::manual(Millis(0)));
    let server = bench.server_by(clock.clone()).await;
    let workload = bench.workload("a", &["print before", "silence"]);
    let start = server.client.start(workload, Answers::open());
    let mut execution = start.await.unwrap();
    assert_eq!(printed(&mut *execution).await, "before\n");
    hang(&bench, &clock).await;
    assert_eq!(printed(&mut *execution).await, "the end");
    let ended = execution.finish().await;
    let Outcome::Lost { message } = ended.outcome else {
        panic!("{ended:?}");
    };
    assert!(
        message.contains("did not answer for 30 seconds"),
        "{message}"
    );
    let workload = bench.workload("b", &["print again"]);
    let start = server.client.start(workload, Answers::open());
    assert_eq!(printed(&mut *start.await.unwrap()).await, "again\n");
    server.client.kill().await;
}

#[tokio::test]
async fn what_a_runner_that_hangs_was_asked_to_begin_the_next_one_begins() {
    let (bench, clock) = (Bench::new(), Clock::manual(Millis(0)));
    let server = bench.server_by(clock.clone()).await;
    let folder = bench.setup().folder;
    let old = inspect(&folder).await.unwrap().unwrap().pid;
    signal(old, "-STOP");
    let workload = bench.workload("a", &["print at last"]);
    let start = server.client.start(workload, Answers::open());
    let (started, _) = tokio::join!(start, next_runner(&bench, &clock, old));
    let mut execution = started.unwrap();
    assert_eq!(printed(&mut *execution).await, "at last\n");
    server.client.kill().await;
}

/// A workspace whose attempts this bench's runner executes.
async fn workspace(server: &Server) -> TestServer {
    let executor = Arc::new(server.client.clone());
    TestServer::start_with(|setup| {
        setup.runtimes = None;
        setup.executor = ExecutorHandle(executor);
    })
    .await
}

async fn shown(workspace: &TestServer, run: &Value) -> Value {
    let path = format!("/api/2.1/jobs/runs/get?run_id={run}");
    workspace.get(&path).await.ok()
}

#[tokio::test]
async fn the_runs_of_a_runner_that_hangs_are_retried_by_their_jobs_rules() {
    let (bench, clock) = (Bench::new(), Clock::manual(Millis(0)));
    let server = bench.server_by(clock.clone()).await;
    let workspace = workspace(&server).await;
    let source = "# Databricks notebook source\nprint go\n\n# COMMAND ----------\n\nsilence\n";
    let import =
        json!({"path": "/Shared/n", "language": "PYTHON", "content": STANDARD.encode(source)});
    workspace
        .post("/api/2.0/workspace/import", import)
        .await
        .ok();
    let mut runs = Vec::new();
    for retries in [0, 1] {
        let notebook = json!({"notebook_path": "/Shared/n"});
        let task = json!({"task_key": "t", "max_retries": retries, "notebook_task": notebook});
        let submit = json!({"tasks": [task]});
        let answer = workspace
            .post("/api/2.1/jobs/runs/submit", submit)
            .await
            .ok();
        runs.push(answer["run_id"].clone());
    }
    let folder = bench.setup().folder;
    let busy = async || inspect(&folder).await.unwrap().unwrap().attempts.len();
    until(async || busy().await == 2).await;
    hang(&bench, &clock).await;

    let over = async || shown(&workspace, &runs[0]).await["state"]["result_state"].is_string();
    until(over).await;
    let lost = shown(&workspace, &runs[0]).await;
    let details = &lost["tasks"][0]["status"]["termination_details"];
    assert_eq!(details["code"], "INTERNAL_ERROR", "{lost}");
    assert!(
        details["message"]
            .as_str()
            .unwrap()
            .contains("did not answer")
    );
    until(async || busy().await == 1).await;
    let again = shown(&workspace, &runs[1]).await;
    assert_eq!(again["tasks"][0]["attempt_number"], 1, "{again}");
    server.client.kill().await;
}
