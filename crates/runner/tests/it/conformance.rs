//! The suite of the port, through the socket.

use std::sync::Arc;

use forebay_exec::conformance::{Act, Fixture};

use crate::support::Bench;

fn source(act: &Act) -> String {
    match act {
        Act::Nothing => String::new(),
        Act::Print(text) => format!("print {text}"),
        Act::Flood(bytes) => format!("flood {bytes}"),
        Act::Fail(message) => format!("fail ValueError {message}"),
        Act::Exit(value) => format!("exit {value}"),
        Act::Forever => "silence".to_owned(),
        Act::ForeverDeaf => "deaf".to_owned(),
        Act::PrintMounts => "call fs.mounts {}".to_owned(),
        Act::Die => "crash 9".to_owned(),
        Act::Burn(ms) => format!("use {ms}"),
    }
}

fn run(case: impl AsyncFnOnce(Fixture)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (bench, fresh) = (Bench::new(), Bench::new());
        let (server, other) = (bench.server().await, fresh.server().await);
        let fixture = Fixture {
            executor: Arc::new(server.client.clone()),
            fresh: Arc::new(other.client.clone()),
            workload: bench.workload("suite", &[]),
            source,
        };
        case(fixture).await;
        server.client.kill().await;
        other.client.kill().await;
    });
}

forebay_exec::executor_conformance!(run);
