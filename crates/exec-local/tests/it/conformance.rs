//! The suite of the port: with fresh and with warm parents, and through a runner's socket.

use forebay_exec::Executor;
use forebay_exec::conformance::{Act, Fixture};
use forebay_exec_local::LocalExecutor;

use crate::support::{Bench, RUNTIME, config, executor};

fn source(act: &Act) -> String {
    let forever = "while True: pass";
    match act {
        Act::Nothing => "x = 1".to_owned(),
        Act::Print(text) => format!("print({text:?})"),
        Act::Flood(bytes) => format!("print('x' * {bytes})"),
        Act::Fail(message) => format!("raise ValueError({message:?})"),
        Act::Exit(value) => format!("dbutils.notebook.exit({value:?})"),
        Act::Forever => forever.to_owned(),
        Act::ForeverDeaf => {
            format!("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{forever}")
        }
        Act::PrintMounts => "print(dbutils.fs.mounts())".to_owned(),
        Act::Burn(ms) => {
            format!("import time\nwhile time.process_time() * 1000 < {ms}: pass")
        }
        Act::Die => "import os; os.kill(os.getpid(), 9)".to_owned(),
    }
}

fn drive(case: impl AsyncFnOnce(Fixture), warm: bool) {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.preload = warm;
        if warm {
            executor()
                .await
                .prepare(&bench.workload.place)
                .await
                .unwrap();
        }
        let fixture = Fixture {
            executor: executor().await,
            fresh: std::sync::Arc::new(LocalExecutor::open(config()).await.unwrap()),
            workload: bench.workload.clone(),
            source,
        };
        case(fixture).await;
    });
}

mod fresh {
    fn run(case: impl AsyncFnOnce(super::Fixture)) {
        super::drive(case, false);
    }
    forebay_exec::executor_conformance!(run);
}

mod warm {
    fn run(case: impl AsyncFnOnce(super::Fixture)) {
        super::drive(case, true);
    }
    forebay_exec::executor_conformance!(run);
}

/// As a server has its attempts executed: by another process.
mod socket {
    use std::sync::Arc;

    use forebay_exec::Executor;
    use forebay_runner::{RunnerClient, RunnerSetup};
    use forebay_runtime::{Clock, Tasks};

    use super::{Bench, Fixture, RUNTIME, executor, source};
    use crate::support::data_dir;

    async fn client(folder: &std::path::Path) -> RunnerClient {
        let mut program = std::env::current_exe().unwrap();
        program.pop();
        let setup = RunnerSetup {
            program: program.join("../examples/runner"),
            args: vec![folder.into(), data_dir().into()],
            folder: folder.to_owned(),
            build: "test".to_owned(),
            options: "none".to_owned(),
        };
        let open = RunnerClient::open(setup, Clock::system(), Tasks::default());
        open.await.unwrap()
    }

    fn run(case: impl AsyncFnOnce(Fixture)) {
        RUNTIME.block_on(async {
            let bench = Bench::new();
            // The environment is built once for all.
            let place = &bench.workload.place;
            executor().await.prepare(place).await.unwrap();
            let homes = [(); 2].map(|()| tempfile::tempdir().unwrap());
            let (near, other) = (client(homes[0].path()).await, client(homes[1].path()).await);
            let fixture = Fixture {
                executor: Arc::new(near.clone()),
                fresh: Arc::new(other.clone()),
                workload: bench.workload.clone(),
                source,
            };
            case(fixture).await;
            near.kill().await;
            other.kill().await;
        });
    }

    forebay_exec::executor_conformance!(run);
}
