//! The suite of the port, with fresh and with warm parents.

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
