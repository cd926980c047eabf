//! Measures runs through the executor, without a server around it.
//!
//!     cargo run --release -p forebay-exec-local --example bench -- DATA_DIR
//!
//! Prints medians with the smallest and largest value.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring program for a terminal"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use forebay_exec::{
    CallId, CancelReason, CellKind, Ended, Event, ExecCell, Executor, Host, HostError,
    IsolationLevel, Limits, Mount, Mounts, Outcome, Place, Program, Workload,
};
use forebay_exec_local::{LocalConfig, LocalExecutor};
use forebay_types::{AttemptNumber, RunId};
use futures_util::future::join_all;

struct NoHost;

#[async_trait]
impl Host for NoHost {
    async fn call(
        &self,
        _: CallId,
        method: &str,
        _: serde_json::Value,
    ) -> Result<serde_json::Value, HostError> {
        Err(HostError::unknown_method(method))
    }
}

fn workload(folder: &std::path::Path, sources: &[String], preload: bool, walls: bool) -> Workload {
    let cells = sources.iter().enumerate().map(|(index, source)| ExecCell {
        index,
        title: None,
        kind: CellKind::Python,
        source: source.clone(),
        language: forebay_notebook::Language::Python,
        flags: Vec::new(),
        lines_before: 0,
    });
    let mounts = ["/dbfs", "/Workspace", "/Volumes"].map(|at| {
        let host = folder.join(&at[1..]);
        std::fs::create_dir_all(&host).unwrap();
        Mount::writable(host, at)
    });
    Workload {
        run_id: RunId(1),
        attempt: AttemptNumber(0),
        place: Place {
            workspace: "bench".to_owned(),
            runtime: "python-3.11".to_owned(),
            mounts: Mounts(mounts.to_vec()),
        },
        program: Program::Notebook {
            path: "/bench".to_owned(),
            cells: cells.collect(),
            parameters: BTreeMap::new(),
            wants_data: false,
        },
        libraries: Vec::new(),
        env: BTreeMap::new(),
        working_dir: if walls { "/Workspace" } else { "/tmp" }.to_owned(),
        python_path: Vec::new(),
        context: forebay_exec::Context::default(),
        limits: Limits::default(),
        spark_conf: BTreeMap::new(),
        secrets: Vec::new(),
        init_scripts: Vec::new(),
        preload,
        private: None,
        spool_dir: folder.join("spool"),
    }
}

async fn run(executor: &LocalExecutor, workload: Workload) -> Ended {
    let mut execution = executor.start(workload, Arc::new(NoHost)).await.unwrap();
    while execution.next_event().await.is_some() {}
    let ended = execution.finish().await;
    assert!(
        matches!(ended.outcome, Outcome::Succeeded { .. }),
        "{ended:?}"
    );
    ended
}

async fn measure(name: &str, executor: &LocalExecutor, workload: &Workload, count: usize) {
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        let ended = run(executor, workload.clone()).await;
        wall.push(begun.elapsed().as_secs_f64() * 1000.0);
        cpu.push(ended.usage.cpu_ms.unwrap_or(0));
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_unstable();
    let (low, middle, high) = (wall[0], wall[count / 2], wall[count - 1]);
    let cpu = cpu[count / 2];
    println!("{name:44} {middle:7.1} ms ({low:.1}-{high:.1}), CPU {cpu} ms, n = {count}");
}

async fn throughput(executor: &LocalExecutor, workload: &Workload, side_by_side: usize) {
    let begun = Instant::now();
    let count = 200;
    for _ in 0..count / side_by_side {
        join_all((0..side_by_side).map(|_| run(executor, workload.clone()))).await;
    }
    let rate = f64::from(u32::try_from(count).unwrap()) / begun.elapsed().as_secs_f64();
    println!(
        "{:44} {rate:7.1} runs/s",
        format!("warm, {side_by_side} side by side")
    );
}

/// Memory that only this run has, after it used pandas, and the level reported by the group.
async fn memory(executor: &LocalExecutor, mut workload: Workload) {
    let source = "import os, time, pandas as pd\ndf = pd.DataFrame({'a': range(1000)}).describe()\n\
                  def own(pid):\n    text = open(f'/proc/{pid}/smaps_rollup').read()\n    \
                  return sum(int(l.split()[1]) for l in text.splitlines() if l.startswith('Private'))\n\
                  print(own('self'), flush=True)\ntime.sleep(1000)";
    if let Program::Notebook { cells, .. } = &mut workload.program {
        cells.truncate(1);
        source.clone_into(&mut cells[0].source);
    }
    let mut execution = executor.start(workload, Arc::new(NoHost)).await.unwrap();
    while let Some(event) = execution.next_event().await {
        if let Event::Stream { text, .. } = &event {
            println!(
                "{:44} {:>7} KiB",
                "private memory of a run that used pandas",
                text.trim()
            );
            execution.canceler().cancel(CancelReason::Requested);
        }
    }
    let usage = execution.finish().await.usage;
    println!("{:44} {:?}", "what its cgroup says", usage);
}

#[tokio::main]
async fn main() {
    let folder = std::env::args()
        .nth(1)
        .map(std::path::PathBuf::from)
        .unwrap();
    let config = || LocalConfig {
        isolation_min: IsolationLevel::None,
        ..LocalConfig::new(&folder, std::env::var_os("PATH").unwrap())
    };
    let executor = LocalExecutor::open(config()).await.unwrap();
    let bare = LocalExecutor::open(config()).await.unwrap().without_walls();
    println!("{:?}", executor.isolation());
    let trivial: Vec<String> = (0..10)
        .map(|n| format!("x = {n}\nprint(x)\nx + 1"))
        .collect();
    let mut pandas = trivial.clone();
    "import pandas, pyarrow\nx = 1".clone_into(&mut pandas[0]);

    let warm = workload(&folder.join("bench"), &trivial, true, true);
    let begun = Instant::now();
    executor.prepare(&warm.place).await.unwrap();
    println!(
        "environment and warm parent ready after {:?}",
        begun.elapsed()
    );
    executor.settle().await;
    executor.stop().await;
    let executor = LocalExecutor::open(config()).await.unwrap();
    let begun = Instant::now();
    executor.prepare(&warm.place).await.unwrap();
    println!("warm parent ready after {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_millis(200)).await;

    let warm_pandas = workload(&folder.join("bench"), &pandas, true, true);
    let fresh = workload(&folder.join("bench"), &trivial, false, true);
    let mut unwalled = workload(&folder.join("bench"), &trivial, false, false);
    unwalled.place.mounts = Mounts::default();
    let mut unwalled_warm = unwalled.clone();
    unwalled_warm.preload = true;
    bare.prepare(&unwalled_warm.place).await.unwrap();
    for _ in 0..2 {
        measure("10 trivial cells, warm", &executor, &warm, 101).await;
        measure(
            "10 trivial cells, warm, no walls",
            &bare,
            &unwalled_warm,
            101,
        )
        .await;
        measure(
            "the same, pandas and pyarrow imported first",
            &executor,
            &warm_pandas,
            51,
        )
        .await;
        measure("10 trivial cells, new process", &executor, &fresh, 15).await;
        measure(
            "10 trivial cells, new process, no walls",
            &bare,
            &unwalled,
            15,
        )
        .await;
    }
    throughput(&executor, &warm, 1).await;
    throughput(&executor, &warm, 4).await;
    memory(&executor, warm).await;
}
