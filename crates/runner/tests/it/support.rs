//! A runner's folder, and servers that come and go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use forebay_exec::{
    Adoption, CallId, CellKind, Context, Event, ExecCell, Execution, Executor, Host, HostError,
    Limits, Mounts, Place, Program, Workload,
};
use forebay_notebook::Language;
use forebay_runner::{RunnerClient, RunnerSetup};
use forebay_runtime::{Clock, Tasks};
use forebay_types::{AttemptNumber, RunId};
use serde_json::Value;
use tokio::sync::Notify;

pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// A server: dropped, it is as dead as after `kill -9`.
pub(crate) struct Server {
    pub(crate) client: RunnerClient,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub(crate) fn setup(&self) -> RunnerSetup {
        let mut program = std::env::current_exe().unwrap();
        program.pop();
        let folder = self.folder.path().join("runner");
        RunnerSetup {
            program: program.join("../examples/dummy"),
            args: vec![folder.clone().into()],
            folder,
            build: "test".to_owned(),
            options: "none".to_owned(),
        }
    }

    /// In a runtime of its own, so that nothing of it survives it.
    pub(crate) async fn server(&self) -> Server {
        self.server_by(Clock::system()).await
    }

    /// The same, with heartbeats by `clock`.
    pub(crate) async fn server_by(&self, clock: Clock) -> Server {
        Self::server_of(self.setup(), clock).await
    }

    pub(crate) async fn server_of(setup: RunnerSetup, clock: Clock) -> Server {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let open = runtime.spawn(RunnerClient::open(setup, clock, Tasks::default()));
        Server {
            client: open.await.unwrap().unwrap(),
            runtime: Some(runtime),
        }
    }

    /// What a server that has taken `from` events of an attempt learns about it.
    pub(crate) async fn adopt(
        &self,
        client: &RunnerClient,
        name: &str,
        from: u64,
        host: Arc<Answers>,
    ) -> Adoption {
        client.adopt(&self.spool(name), from, host).await
    }

    pub(crate) fn spool(&self, name: &str) -> PathBuf {
        self.folder.path().join("runs").join(name)
    }

    pub(crate) fn workload(&self, name: &str, cells: &[&str]) -> Workload {
        let cells = cells.iter().enumerate().map(|(index, source)| ExecCell {
            index,
            title: None,
            kind: CellKind::Python,
            source: (*source).to_owned(),
            language: Language::Python,
            flags: Vec::new(),
            lines_before: 0,
        });
        Workload {
            run_id: RunId(1),
            attempt: AttemptNumber(0),
            place: Place {
                workspace: "test".to_owned(),
                runtime: forebay_exec::dummy::RUNTIME.to_owned(),
                mounts: Mounts::default(),
            },
            private: None,
            program: Program::Notebook {
                path: "/test".to_owned(),
                cells: cells.collect(),
                parameters: BTreeMap::new(),
                wants_data: false,
            },
            libraries: Vec::new(),
            env: BTreeMap::new(),
            working_dir: "/".to_owned(),
            python_path: Vec::new(),
            context: Context::default(),
            limits: Limits::default(),
            spark_conf: BTreeMap::new(),
            secrets: Vec::new(),
            init_scripts: Vec::new(),
            preload: true,
            spool_dir: self.spool(name),
        }
    }
}

/// Remembers what it is asked; answers only when it is open.
#[derive(Default)]
pub(crate) struct Answers {
    asked: Mutex<Vec<CallId>>,
    pub(crate) was_asked: Notify,
    pub(crate) open: bool,
}

impl Answers {
    pub(crate) fn open() -> Arc<Self> {
        Arc::new(Self {
            open: true,
            ..Self::default()
        })
    }

    pub(crate) fn closed() -> Arc<Self> {
        Arc::default()
    }

    /// What it was asked, in order, each once.
    pub(crate) fn calls(&self) -> Vec<CallId> {
        let mut calls = self.asked.lock().unwrap().clone();
        calls.dedup();
        calls
    }
}

#[async_trait]
impl Host for Answers {
    async fn call(&self, call: CallId, method: &str, _: Value) -> Result<Value, HostError> {
        self.asked.lock().unwrap().push(call);
        self.was_asked.notify_one();
        if !self.open {
            std::future::pending::<()>().await;
        }
        Ok(Value::String(format!("{method} answered")))
    }
}

/// The next line that the program prints.
pub(crate) async fn printed(execution: &mut dyn Execution) -> String {
    loop {
        match execution.next_event().await {
            Some(Event::Stream { text, .. }) => return text,
            Some(_) => {}
            None => return "the end".to_owned(),
        }
    }
}
