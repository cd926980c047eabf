//! Programs that ask for their cells.

use std::sync::Arc;

use async_trait::async_trait;
use forebay_exec::{
    CallId, CellStatus, Event, Executor, Host, HostError, Language, Outcome, Program, method,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::support::{Bench, RUNTIME, cell, executor, finish};

const DONE: CellStatus = CellStatus::Succeeded;
const FAILED: CellStatus = CellStatus::Failed;

/// Has these cells and no more, and wants the second one interrupted once it is told to.
struct Cells {
    sources: Vec<&'static str>,
    interrupt: Notify,
    /// The index that was asked for last.
    asked: watch::Sender<usize>,
}

#[async_trait]
impl Host for Cells {
    async fn call(&self, _: CallId, name: &str, args: Value) -> Result<Value, HostError> {
        let after = usize::try_from(args["after"].as_u64().unwrap()).unwrap();
        match name {
            method::CONTEXT_NEXT => {
                self.asked.send_replace(after);
                let next = self.sources.get(after).map(|source| cell(after, source));
                Ok(json!({"cell": next}))
            }
            method::CONTEXT_INTERRUPT if after < 2 => {
                self.interrupt.notified().await;
                Ok(json!({"command": 2}))
            }
            _ => std::future::pending().await,
        }
    }
}

#[test]
fn a_session_takes_cells_one_by_one_and_outlives_what_fails() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.program = Program::Session {
            language: Language::Python,
            path: "/project/context".to_owned(),
        };
        let host = Arc::new(Cells {
            sources: vec![
                "x = 20",
                "print('began')\nimport time\ntime.sleep(600)",
                "1 / 0",
                "%r y <- 2",
                "dbutils.notebook.exit('out')",
                "x + 1",
            ],
            interrupt: Notify::new(),
            asked: watch::Sender::new(0),
        });
        let executor = executor().await;
        let started = executor.start(bench.workload.clone(), host.clone());
        let mut execution = started.await.unwrap();
        let mut events = Vec::new();
        loop {
            let event = execution.next_event().await.unwrap();
            let began = matches!(&event, Event::Stream { text, .. } if text.contains("began"));
            events.push(event);
            if began {
                break;
            }
        }
        host.interrupt.notify_one();
        let mut report = finish(execution).await;
        report.events.splice(0..0, events);
        let statuses = [DONE, FAILED, FAILED, DONE, DONE, DONE];
        let statuses: Vec<_> = statuses.into_iter().enumerate().collect();
        assert_eq!(report.statuses(), statuses);
        let errors = report.events.iter().filter_map(|event| match event {
            Event::Error { ename, .. } => Some(ename.as_str()),
            _ => None,
        });
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors, ["KeyboardInterrupt", "ZeroDivisionError"]);
        assert_eq!(report.shown().last().map(String::as_str), Some("21"));
        assert_eq!(report.outcome(), &Outcome::Succeeded { exit_value: None });
        assert_eq!(*host.asked.borrow(), 6);
    });
}
