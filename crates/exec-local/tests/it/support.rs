//! One executor for all tests, because building an environment takes long; one runtime under it.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use forebay_exec::{
    CallId, CellKind, CellStatus, Ended, Event, ExecCell, Execution, Executor, Host, HostError,
    Limits, Mount, Mounts, Outcome, Place, Program, StreamName, Workload,
};
use forebay_exec_local::{LocalConfig, LocalExecutor};
use forebay_types::{AttemptNumber, RunId};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
});

/// Kept between test runs.
pub fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("exec-local")
}

pub fn config() -> LocalConfig {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test has no configuration to ask"
    )]
    let path = std::env::var("PATH").unwrap();
    LocalConfig::new(data_dir(), OsString::from(path))
}

pub async fn executor() -> Arc<LocalExecutor> {
    static EXECUTOR: OnceCell<Arc<LocalExecutor>> = OnceCell::const_new();
    let open = async || Arc::new(LocalExecutor::open(config()).await.unwrap());
    EXECUTOR.get_or_init(open).await.clone()
}

/// A workspace of its own: folders for its mounts.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub host: Arc<TestHost>,
    pub workload: Workload,
}

static RUNS: AtomicI64 = AtomicI64::new(1);

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mounts = Vec::new();
        for at in ["/dbfs", "/Workspace", "/Volumes"] {
            let host = folder.path().join(&at[1..]);
            std::fs::create_dir_all(&host).unwrap();
            mounts.push(Mount::writable(host, at));
        }
        std::fs::create_dir_all(folder.path().join("Workspace/project")).unwrap();
        let workload = Workload {
            run_id: RunId(RUNS.fetch_add(1, Ordering::Relaxed)),
            attempt: AttemptNumber(0),
            place: Place {
                workspace: "test".to_owned(),
                runtime: "python-3.11".to_owned(),
                mounts: Mounts(mounts),
            },
            program: notebook(&[]),
            libraries: Vec::new(),
            env: BTreeMap::new(),
            working_dir: "/Workspace/project".to_owned(),
            python_path: vec!["/Workspace/project".to_owned()],
            context: forebay_exec::Context::default(),
            limits: Limits {
                memory_bytes: Some(1 << 30),
                grace: std::time::Duration::from_secs(2),
                ..Limits::default()
            },
            spark_conf: BTreeMap::new(),
            secrets: Vec::new(),
            init_scripts: Vec::new(),
            preload: false,
            private: None,
            spool_dir: folder.path().join("spool"),
        };
        Self {
            folder,
            host: Arc::default(),
            workload,
        }
    }

    pub async fn start(&self) -> Box<dyn Execution> {
        executor()
            .await
            .start(self.workload.clone(), self.host.clone())
            .await
            .unwrap()
    }

    pub async fn run(&self) -> Report {
        finish(self.start().await).await
    }

    pub async fn cells(&mut self, cells: &[&str]) -> Report {
        self.workload.run_id = RunId(RUNS.fetch_add(1, Ordering::Relaxed));
        self.workload.program = notebook(cells);
        self.run().await
    }
}

pub async fn finish(mut execution: Box<dyn Execution>) -> Report {
    let mut events = Vec::new();
    while let Some(event) = execution.next_event().await {
        events.push(event);
    }
    Report {
        events,
        ended: execution.finish().await,
    }
}

/// Cells by their source; a first line `%kind` chooses the kind.
pub fn notebook(sources: &[&str]) -> Program {
    let cells = sources
        .iter()
        .enumerate()
        .map(|(index, source)| cell(index, source));
    Program::Notebook {
        path: "/project/notebook".to_owned(),
        cells: cells.collect(),
        parameters: BTreeMap::new(),
        wants_data: false,
    }
}

pub fn cell(index: usize, source: &str) -> ExecCell {
    let (first, rest) = source.split_once(['\n', ' ']).unwrap_or((source, ""));
    let (kind, source) = match first {
        "%md" => (CellKind::Md, rest),
        "%sh" => (CellKind::Sh, rest),
        "%fs" => (CellKind::Fs, rest),
        "%run" => (CellKind::Run, rest),
        "%pip" => (CellKind::Pip, rest),
        "%r" => (CellKind::R, rest),
        "%sql" => (CellKind::Sql, rest),
        "%skip" => (CellKind::Skip, rest),
        _ => (CellKind::Python, source),
    };
    ExecCell {
        index,
        title: None,
        kind,
        source: source.to_owned(),
        language: forebay_notebook::Language::Python,
        flags: Vec::new(),
        lines_before: 0,
    }
}

#[derive(Debug)]
pub struct Report {
    pub events: Vec<Event>,
    pub ended: Ended,
}

impl Report {
    pub fn outcome(&self) -> &Outcome {
        &self.ended.outcome
    }

    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert!(
            matches!(self.outcome(), Outcome::Succeeded { .. }),
            "{self:#?}"
        );
        self
    }

    #[track_caller]
    pub fn failed(&self, with: &str) -> &Self {
        let Outcome::Failed { ename, .. } = self.outcome() else {
            panic!("{self:#?}");
        };
        assert_eq!(ename, with, "{self:#?}");
        self
    }

    pub fn stream(&self, of: StreamName) -> String {
        let texts = self.events.iter().filter_map(|event| match event {
            Event::Stream { name, text, .. } if *name == of => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    pub fn stdout(&self) -> String {
        self.stream(StreamName::Stdout)
    }

    pub fn stderr(&self) -> String {
        self.stream(StreamName::Stderr)
    }

    /// What results and displays say in plain text, in order.
    pub fn shown(&self) -> Vec<String> {
        let bundles = self.events.iter().filter_map(|event| match event {
            Event::Result { data, .. } | Event::Display { data, .. } => Some(data),
            _ => None,
        });
        bundles
            .map(|data| data["text/plain"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    pub fn statuses(&self) -> Vec<(usize, CellStatus)> {
        let ends = self.events.iter().filter_map(|event| match event {
            Event::CellFinished { cell, status, .. } => Some((*cell, *status)),
            _ => None,
        });
        ends.collect()
    }
}

/// Answers what the tests need, and remembers what was asked.
#[derive(Default)]
pub struct TestHost {
    pub calls: Mutex<Vec<(String, Value)>>,
    pub notebooks: Mutex<BTreeMap<String, Vec<String>>>,
    pub values: Mutex<BTreeMap<String, Value>>,
}

#[async_trait]
impl Host for TestHost {
    async fn call(&self, _: CallId, method: &str, args: Value) -> Result<Value, HostError> {
        self.calls
            .lock()
            .unwrap()
            .push((method.to_owned(), args.clone()));
        let text = |name: &str| args[name].as_str().unwrap_or_default().to_owned();
        match method {
            "secrets.get" if text("key") == "password" => Ok(json!({"value": "aHVudGVyMi1sb25n"})),
            "secrets.get" => Err(HostError::new("SecretNotFound", "there is no such secret")),
            "secrets.list" => Ok(json!({"keys": ["password"]})),
            "secrets.listScopes" => Ok(json!({"scopes": ["main"]})),
            "notebook.run" => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                if text("path") == "broken" {
                    return Err(HostError::new("WorkflowException", "the run failed"));
                }
                Ok(json!({"exit_value": format!("ran {} {}", text("path"), args["arguments"])}))
            }
            "notebook.source" => {
                let notebooks = self.notebooks.lock().unwrap();
                let Some(cells) = notebooks.get(&text("path")) else {
                    return Err(HostError::new("FileNotFoundError", text("path")));
                };
                let cells: Vec<_> = cells
                    .iter()
                    .enumerate()
                    .map(|(i, source)| cell(i, source))
                    .collect();
                Ok(json!({"path": text("path"), "cells": cells}))
            }
            "jobs.taskValues.set" => {
                self.values
                    .lock()
                    .unwrap()
                    .insert(text("key"), args["value"].clone());
                Ok(Value::Null)
            }
            "jobs.taskValues.get" => match self.values.lock().unwrap().get(&text("key")) {
                Some(value) => Ok(json!({"value": value})),
                None if args["has_default"] == true => Ok(json!({"value": args["default"]})),
                None => Err(HostError::new("ValueError", "no such task value")),
            },
            "fs.mounts" => Ok(json!({"mounts": [{"mount_point": "/mnt/raw", "source": "raw"}]})),
            _ => Err(HostError::unknown_method(method)),
        }
    }
}

/// Cgroups without processes that are not kept for another run, and folders that no process sees, of
/// runs of this process: what is there for a moment only, between two steps of another test's run, does
/// not count.
pub fn leftovers() -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    let mut found = left();
    while !found.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        let now = left();
        found.retain(|name| now.contains(name));
    }
    found
}

fn left() -> Vec<String> {
    let own = format!("{}-", std::process::id());
    let mut found = Vec::new();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let fds = names(Path::new("/proc/self/fd")).into_iter();
    // Who keeps a group keeps its doors open.
    let open: HashSet<PathBuf> = fds
        .filter_map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok())
        .collect();
    // And its peak begins anew; that of a run which is over and forgotten is there still.
    let has_peak = |name: &str| {
        let used = open.iter().find(|door| {
            door.starts_with("/sys/fs/cgroup/memory") && door.parent().unwrap().ends_with(name)
        });
        let peak = used.map(|door| door.with_file_name("memory.max_usage_in_bytes"));
        let peak = peak.and_then(|file| std::fs::read_to_string(file).ok());
        peak.is_some_and(|bytes| bytes.trim().parse::<u64>().unwrap() > 1 << 20)
    };
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controller, path) = (parts.next().unwrap(), parts.next().unwrap());
        let folder = match controller {
            // Version 2, where a server has moved into a leaf.
            "" => format!("/sys/fs/cgroup{}", path.trim_end_matches("/forebay-server")),
            _ => format!("/sys/fs/cgroup/{controller}{path}/forebay"),
        };
        let folder = PathBuf::from(folder);
        for name in names(&folder) {
            let group = folder.join(&name);
            let door = group.join("cgroup.procs");
            let is_empty = std::fs::read_to_string(&door).is_ok_and(|ids| ids.is_empty());
            let is_kept = open.contains(&door) && !has_peak(&name);
            if name.starts_with(&format!("run-{own}")) && is_empty && !is_kept {
                found.push(group.display().to_string());
            }
        }
    }
    let scratch = data_dir().join("scratch");
    for parent in names(&scratch) {
        if parent.starts_with(&own) {
            found.extend(left_below(&scratch.join(parent)));
        }
    }
    found
}

/// The folders of runs below that of their parent that have something in them and are nobody's.
pub fn left_below(parent: &Path) -> Vec<String> {
    let is_used = |name: &String| names(&parent.join(name)) != ["r"];
    let mut found: Vec<PathBuf> = names(parent)
        .into_iter()
        .filter(is_used)
        .map(|name| parent.join(name))
        .collect();
    if !found.is_empty() {
        let mounts = names(Path::new("/proc")).into_iter().filter_map(|process| {
            std::fs::read_to_string(format!("/proc/{process}/mountinfo")).ok()
        });
        let mounts: Vec<String> = mounts.collect();
        let seen = |folder: &Path| {
            let end = folder.iter().rev().take(3).collect::<Vec<_>>();
            let end: PathBuf = end.into_iter().rev().collect();
            let root = format!("/{} /", end.display());
            mounts.iter().any(|text| text.contains(&root))
        };
        // One that has gone meanwhile is not there.
        found.retain(|folder| !seen(folder) && !names(folder).is_empty());
    }
    found
        .into_iter()
        .map(|folder| folder.display().to_string())
        .collect()
}

/// Processes on this machine that sleep for one of `durations`: each test that starts some has
/// durations of its own, because tests run side by side.
pub fn sleepers(durations: &[&str]) -> Vec<String> {
    let commands = names(Path::new("/proc"))
        .into_iter()
        .filter_map(|process| std::fs::read_to_string(format!("/proc/{process}/cmdline")).ok());
    let ours = |command: &String| {
        let duration = command.strip_prefix("sleep\u{0}");
        duration.is_some_and(|text| durations.contains(&text.trim_end_matches('\u{0}')))
    };
    commands.filter(ours).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Waits for a condition that needs no event of ours to come true.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
