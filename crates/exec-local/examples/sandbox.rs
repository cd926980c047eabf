//! What the walls around a run cost: scripts that do nothing, started with walls and without them, by
//! turns, each once by a child that waited for it and once by one that had to be made.
//!
//!     cargo run --release -p forebay-exec-local --example sandbox -- 200

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on should end where it stands, and it has no configuration"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use forebay_exec::{
    CallId, Context, Executor, Host, HostError, IsolationLevel, Limits, Mount, Mounts, Outcome,
    Place, Program, Workload,
};
use forebay_exec_local::{LocalConfig, LocalExecutor};
use forebay_types::{AttemptNumber, RunId};
use serde_json::Value;

struct NoHost;

#[async_trait]
impl Host for NoHost {
    async fn call(&self, _: CallId, method: &str, _: Value) -> Result<Value, HostError> {
        Err(HostError::new("RuntimeError", method))
    }
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1);
    let rounds: usize = rounds.map_or(200, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("dbfs/noop.py");
    std::fs::create_dir(folder.path().join("dbfs")).unwrap();
    std::fs::write(&script, "").unwrap();
    let open = async |name: &str| {
        let path = std::env::var("PATH").unwrap();
        let mut config = LocalConfig::new(folder.path().join(name), path);
        config.isolation_min = IsolationLevel::None;
        config.environments = Some(folder.path().join("environments"));
        LocalExecutor::open(config).await.unwrap()
    };
    let walled = open("walled").await;
    let plain = open("plain").await.without_walls();
    let script = script.to_string_lossy();
    let sides = [(&walled, "/dbfs/noop.py"), (&plain, &*script)];
    let mut times: [[Vec<Duration>; 2]; 2] = Default::default();
    for round in 0..rounds + WARM_UP {
        // No child was made for these limits, until the first of two runs had the next one made.
        let limits = Limits {
            memory_bytes: Some((1 << 30) + round as u64 * 4096),
            ..Limits::default()
        };
        for ((executor, file), times) in sides.iter().zip(&mut times) {
            for times in times {
                let workload = workload(folder.path(), file, limits.clone());
                let took = begin(executor, workload).await;
                if round >= WARM_UP {
                    times.push(took);
                }
            }
        }
        if round == 0 {
            walled.settle().await;
            plain.settle().await;
        }
    }
    let [walled_ms, plain_ms] = times.map(|both| both.map(median_ms));
    println!("From request to begun, ms, median of {rounds}");
    println!("{:28}{:>8}{:>8}", "", "walls", "none");
    for (what, side) in [
        ("a child made for the run", 0),
        ("a child that waited for it", 1),
    ] {
        println!("{what:28}{:8.2}{:8.2}", walled_ms[side], plain_ms[side]);
    }
    println!(
        "the walls cost {:.2} ms of the first",
        walled_ms[0] - plain_ms[0]
    );
    println!("isolation {}", walled.isolation().level);
    walled.stop().await;
    plain.stop().await;
}

/// Rounds in which environment and parents are made ready.
const WARM_UP: usize = 10;

fn median_ms(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn workload(folder: &Path, file: &str, limits: Limits) -> Workload {
    Workload {
        run_id: RunId(1),
        attempt: AttemptNumber(0),
        place: Place {
            workspace: "bench".to_owned(),
            runtime: "python-3.11".to_owned(),
            mounts: Mounts(vec![Mount::writable(folder.join("dbfs"), "/dbfs")]),
        },
        program: Program::Script {
            file: file.to_owned(),
            args: Vec::new(),
            source: None,
        },
        libraries: Vec::new(),
        env: BTreeMap::new(),
        working_dir: "/".to_owned(),
        python_path: Vec::new(),
        context: Context::default(),
        limits,
        spark_conf: BTreeMap::new(),
        secrets: Vec::new(),
        init_scripts: Vec::new(),
        preload: true,
        private: None,
        spool_dir: folder.join("spool"),
    }
}

/// How long it takes until the script has begun.
async fn begin(executor: &LocalExecutor, workload: Workload) -> Duration {
    let began = Instant::now();
    let mut run = executor.start(workload, Arc::new(NoHost)).await.unwrap();
    let took = began.elapsed();
    while run.next_event().await.is_some() {}
    let ended = run.finish().await;
    assert!(
        matches!(ended.outcome, Outcome::Succeeded { .. }),
        "{ended:?}"
    );
    // The next child is made meanwhile.
    tokio::time::sleep(Duration::from_millis(20)).await;
    took
}
