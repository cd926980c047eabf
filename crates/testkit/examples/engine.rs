//! What the server itself costs: no-op runs through submission, dispatch and recording, on a real
//! disk and a real clock, with an executor that does nothing.
//!
//!     cargo run --release -p forebay-testkit --example engine -- 5000

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on should end where it stands"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_config::{Config, WorkspaceConfig};
use forebay_control::{Ctx, ExecutorHandle, Services, WorkspaceSetup, server_slots};
use forebay_exec::dummy::DummyExecutor;
use forebay_runtime::{Clock, Tasks};
use forebay_testkit::TestRuntimes;
use forebay_types::RunId;
use serde_json::{Map, Value, json};

#[tokio::main]
async fn main() {
    let count: usize = std::env::args()
        .nth(1)
        .map_or(5000, |count| count.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let config = Config {
        workspaces: vec![WorkspaceConfig::default()],
        ..Config::default()
    };
    let tasks = Tasks::default();
    let setup = WorkspaceSetup {
        config: config.workspaces[0].clone(),
        server: config.clone(),
        root: data.path().join("dev"),
        public_url: "http://forebay.test".to_owned(),
        clock: Clock::system(),
        tasks: tasks.clone(),
        runtimes: Some(Arc::new(TestRuntimes::ready())),
        executor: ExecutorHandle(Arc::new(DummyExecutor::default())),
        slots: server_slots(&config),
    };
    let services = Services::open(setup).await.unwrap();
    let user = Ctx::new(services.identity.first_admin().await.unwrap());

    let mut waits: Vec<i64> = Vec::new();
    for _ in 0..200 {
        let id = services.runs.submit(&user, settings()).await.unwrap();
        services
            .runs
            .wait(&user, id, Duration::from_secs(30))
            .await
            .unwrap();
        let (run, attempts) = services.store.run_get(id).await.unwrap();
        let executed = attempts[0].executed_at.or(attempts[0].started_at);
        waits.extend(executed.map(|at| at.since(run.created_at)));
    }
    waits.sort_unstable();
    println!(
        "trigger to start, one at a time: {} ms median",
        waits[waits.len() / 2]
    );

    let (cpu, began) = (cpu_seconds(), Instant::now());
    let mut ids: Vec<RunId> = Vec::new();
    for chunk in 0..count.div_ceil(100) {
        let left = (count - chunk * 100).min(100);
        let calls = (0..left).map(|_| services.runs.submit(&user, settings()));
        ids.extend(futures_util::future::try_join_all(calls).await.unwrap());
    }
    let submitted = began.elapsed();
    for id in &ids {
        services
            .runs
            .wait(&user, *id, Duration::from_secs(600))
            .await
            .unwrap();
    }
    let (elapsed, cpu) = (began.elapsed(), cpu_seconds() - cpu);
    println!(
        "{count} runs: all submitted after {:.2} s, all ended after {:.2} s, {:.0} runs/s, \
         {:.2} ms CPU each",
        submitted.as_secs_f64(),
        elapsed.as_secs_f64(),
        count as f64 / elapsed.as_secs_f64(),
        cpu * 1000.0 / count as f64
    );
    tasks.shutdown(Duration::from_secs(10)).await;
}

fn settings() -> Map<String, Value> {
    let task = json!({"task_key": "t", "spark_python_task": {"python_file": "dbfs:/x.py"}});
    match json!({"run_name": "no-op", "tasks": [task]}) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}
