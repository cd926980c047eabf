//! An executor for tests of everything above the port: it runs nothing and does as it is told.
//!
//! Each Python cell of a notebook is one command:
//!
//! | command | what happens |
//! |---|---|
//! | `print TEXT` | a line on standard output |
//! | `flood BYTES` | so many bytes of output |
//! | `sleep MS` | takes that long, by Tokio's clock, which tests can pause |
//! | `wait` | goes on when [`DummyExecutor::release`] is called |
//! | `silence` | nothing, until canceled |
//! | `deaf` | nothing, and a cancel works only after the grace |
//! | `call METHOD JSON` | calls the host and prints the answer, or fails with its error |
//! | `exit VALUE` | ends the notebook well |
//! | `fail NAME MESSAGE` | ends it badly |
//! | `oom`, `crash SIGNAL` | its process dies |
//! | `interrupt` | in a context: goes on until the host wants this cell interrupted |
//! | `use CPU_MS READ WRITE MEMORY` | is counted as the use of the run, and ends it at its limit of CPU time |
//!
//! Anything else does nothing. Scripts and wheels succeed at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{
    CallId, CancelReason, Canceler, CellKind, CellStatus, Ended, Event, ExecCell, Execution,
    Executor, Host, Isolation, IsolationLevel, Limits, Meter, Outcome, Place, Prepared, Program,
    RuntimeInfo, StartError, StreamName, Usage, Workload, method,
};

/// The only runtime there is.
pub const RUNTIME: &str = "dummy";

#[derive(Debug)]
pub struct DummyExecutor {
    released: watch::Sender<bool>,
    stopping: AtomicBool,
    isolation: Isolation,
    started: Mutex<Vec<Workload>>,
}

impl Default for DummyExecutor {
    fn default() -> Self {
        Self {
            released: watch::Sender::new(false),
            stopping: AtomicBool::new(false),
            isolation: Isolation {
                level: IsolationLevel::Namespaces,
                accounting: "none".to_owned(),
                reasons: Vec::new(),
            },
            started: Mutex::default(),
        }
    }
}

impl DummyExecutor {
    /// Lets every `wait` cell go on, now and later.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// What was started so far, in order.
    #[must_use]
    pub fn started(&self) -> Vec<Workload> {
        self.started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[async_trait]
impl Executor for DummyExecutor {
    async fn start(
        &self,
        workload: Workload,
        host: Arc<dyn Host>,
    ) -> Result<Box<dyn Execution>, StartError> {
        self.prepare(&workload.place).await?;
        let cells = match &workload.program {
            Program::Notebook { cells, .. } => cells.iter().cloned().collect(),
            Program::Session { .. }
            | Program::Script { .. }
            | Program::Wheel { .. }
            | Program::Jar { .. }
            | Program::Submit { .. } => VecDeque::new(),
        };
        let session = matches!(workload.program, Program::Session { .. }).then_some(0);
        let limits = workload.limits.clone();
        self.started
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(workload);
        Ok(Box::new(DummyRun {
            cells,
            session,
            events: VecDeque::new(),
            host,
            limits,
            canceler: Canceler::new(),
            released: self.released.subscribe(),
            output_bytes: 0,
            started: Instant::now(),
            outcome: None,
            usage: Arc::default(),
        }))
    }

    async fn prepare(&self, place: &Place) -> Result<Prepared, StartError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(StartError::Stopping);
        }
        if place.runtime != RUNTIME {
            return Err(StartError::UnknownRuntime {
                name: place.runtime.clone(),
                known: RUNTIME.to_owned(),
            });
        }
        Ok(Prepared {
            environment: RUNTIME.to_owned(),
            warm: true,
        })
    }

    fn runtimes(&self) -> Vec<RuntimeInfo> {
        vec![RuntimeInfo {
            name: RUNTIME.to_owned(),
            python: "3.11".to_owned(),
            description: "does as its cells say, for tests".to_owned(),
            engine: String::new(),
        }]
    }

    fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

struct DummyRun {
    cells: VecDeque<ExecCell>,
    /// Of a context: the index of its next cell at the least.
    session: Option<usize>,
    events: VecDeque<Event>,
    host: Arc<dyn Host>,
    limits: Limits,
    canceler: Canceler,
    released: watch::Receiver<bool>,
    output_bytes: u64,
    started: Instant,
    outcome: Option<Outcome>,
    usage: Arc<Mutex<Usage>>,
}

#[async_trait]
impl Execution for DummyRun {
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.outcome.is_some() {
                return None;
            }
            // The cell stays in the list until it is done, so that a caller may drop this future.
            match self.cells.front().cloned() {
                Some(cell) => self.run_cell(&cell).await,
                None => self.next_cell().await,
            }
        }
    }

    fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }

    fn meter(&self) -> Meter {
        let (usage, started) = (Arc::clone(&self.usage), self.started);
        Meter::new(move || {
            Some(Usage {
                wall_ms: millis(started),
                ..*usage.lock().unwrap_or_else(PoisonError::into_inner)
            })
        })
    }

    async fn finish(self: Box<Self>) -> Ended {
        let killed = Outcome::Crashed {
            signal: Some(9),
            exit: None,
            message: "the run was killed".to_owned(),
        };
        Ended {
            outcome: self.outcome.unwrap_or(killed),
            usage: Usage {
                wall_ms: millis(self.started),
                memory_bytes: None,
                ..*self.usage.lock().unwrap_or_else(PoisonError::into_inner)
            },
            isolation: IsolationLevel::Namespaces.as_str().to_owned(),
            environment: RUNTIME.to_owned(),
            warm: true,
            engine: None,
        }
    }
}

impl DummyRun {
    /// A context asks for it; everything else is over.
    async fn next_cell(&mut self) {
        let over = Outcome::Succeeded { exit_value: None };
        let Some(after) = self.session else {
            self.outcome = Some(over);
            return;
        };
        let args = serde_json::json!({"after": after});
        let asked = self.host.call(CallId(1), method::CONTEXT_NEXT, args);
        let answer = tokio::select! {
            answer = asked => answer,
            reason = self.canceler.canceled() => {
                self.outcome = Some(stopped(reason));
                return;
            }
        };
        let cell = answer.map(|answer| serde_json::from_value(answer["cell"].clone()));
        match cell {
            Ok(Ok(Some(cell))) => {
                let cell: ExecCell = cell;
                self.session = Some(cell.index + 1);
                self.cells.push_back(cell);
            }
            Ok(Ok(None)) => self.outcome = Some(over),
            other => {
                let message = format!("{other:?}");
                self.fail(0, "HostError", &message);
            }
        }
    }

    async fn run_cell(&mut self, cell: &ExecCell) {
        let index = cell.index;
        let status = if cell.kind == CellKind::Skip {
            CellStatus::Skipped
        } else {
            let (name, rest) = cell.source.split_once(' ').unwrap_or((&cell.source, ""));
            let canceled = tokio::select! {
                () = self.patience(name, rest) => None,
                reason = canceled(&self.canceler, name == "deaf", self.limits.grace) => {
                    Some(reason)
                }
            };
            match canceled {
                None if name == "interrupt" && self.session.is_some() => {
                    self.interrupt(index).await
                }
                Some(reason) => self.outcome = Some(stopped(reason)),
                None => self.obey(index, name, rest).await,
            }
            match self.outcome {
                None | Some(Outcome::Succeeded { .. }) => CellStatus::Succeeded,
                Some(_) => CellStatus::Failed,
            }
        };
        if self.session.is_some()
            && matches!(
                self.outcome,
                Some(Outcome::Failed { .. } | Outcome::Succeeded { .. })
            )
        {
            self.outcome = None;
        }
        self.cells.pop_front();
        self.events.push_front(Event::CellStarted { cell: index });
        self.events.push_back(Event::CellFinished {
            cell: index,
            status,
            duration_ms: 0,
        });
    }

    async fn interrupt(&mut self, cell: usize) {
        let args = serde_json::json!({"after": cell});
        let asked = self.host.call(CallId(2), method::CONTEXT_INTERRUPT, args);
        let ended = tokio::select! {
            _ = asked => None,
            reason = self.canceler.canceled() => Some(stopped(reason)),
        };
        self.fail(cell, "KeyboardInterrupt", "");
        self.outcome = ended.or(self.outcome.take());
    }

    /// The commands that take time.
    async fn patience(&self, name: &str, rest: &str) {
        match name {
            "sleep" => tokio::time::sleep(Duration::from_millis(rest.parse().unwrap_or(0))).await,
            "silence" | "deaf" => std::future::pending().await,
            "wait" => {
                let mut released = self.released.clone();
                // The executor is gone: nobody can release the cell any more.
                drop(released.wait_for(|released| *released).await);
            }
            _ => {}
        }
    }

    async fn obey(&mut self, cell: usize, name: &str, rest: &str) {
        match name {
            "print" => self.print(cell, &format!("{rest}\n")),
            "flood" => self.print(cell, &"x".repeat(rest.parse().unwrap_or(0))),
            "call" => self.call(cell, rest).await,
            "exit" => {
                let exit_value = Some(rest.to_owned());
                self.outcome = Some(Outcome::Succeeded { exit_value });
            }
            "fail" => {
                let (ename, message) = rest.split_once(' ').unwrap_or((rest, ""));
                self.fail(cell, ename, message);
            }
            "use" => {
                let mut numbers = rest.split(' ').map(|number| number.parse().ok());
                let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
                usage.cpu_ms = numbers.next().flatten();
                usage.read_bytes = numbers.next().flatten();
                usage.write_bytes = numbers.next().flatten();
                usage.memory_bytes = numbers.next().flatten();
                if let Some((limit_ms, used_ms)) = self.limits.cpu_ms.zip(usage.cpu_ms)
                    && used_ms >= limit_ms
                {
                    self.outcome = Some(Outcome::CpuLimit { limit_ms, used_ms });
                }
            }
            "oom" => {
                let limit_bytes = self.limits.memory_bytes;
                self.outcome = Some(Outcome::OutOfMemory { limit_bytes });
            }
            "crash" => {
                self.outcome = Some(Outcome::Crashed {
                    signal: rest.parse().ok(),
                    exit: None,
                    message: format!("the program was ended by signal {rest}"),
                });
            }
            _ => {}
        }
    }

    fn print(&mut self, cell: usize, text: &str) {
        let limit = self.limits.output_cell_bytes;
        let room = usize::try_from(limit).unwrap_or(usize::MAX);
        let kept = &text[..text.floor_char_boundary(room)];
        let stream = |name, text: &str| Event::Stream {
            cell,
            name,
            text: text.to_owned(),
        };
        self.events.push_back(stream(StreamName::Stdout, kept));
        if kept.len() < text.len() {
            let notice = format!("\n[output truncated: this cell wrote more than {limit} bytes]\n");
            self.events.push_back(stream(StreamName::Stderr, &notice));
        }
        self.output_bytes += kept.len() as u64;
        if self.output_bytes > self.limits.output_run_bytes {
            let limit_bytes = self.limits.output_run_bytes;
            self.outcome = Some(Outcome::OutputLimit { limit_bytes });
        }
    }

    async fn call(&mut self, cell: usize, rest: &str) {
        let (method, args) = rest.split_once(' ').unwrap_or((rest, "null"));
        let args = serde_json::from_str(args).unwrap_or_default();
        // Asked again when a caller drops `next_event` in the middle of it.
        let id = CallId(cell as u64 + 1);
        match self.host.call(id, method, args).await {
            Ok(answer) => self.print(cell, &format!("{answer}\n")),
            Err(error) => self.fail(cell, &error.kind, &error.message),
        }
    }

    fn fail(&mut self, cell: usize, ename: &str, message: &str) {
        let trace = format!("{ename}: {message}");
        self.events.push_back(Event::Error {
            cell,
            ename: ename.to_owned(),
            evalue: message.to_owned(),
            traceback: vec![trace.clone()],
        });
        self.outcome = Some(Outcome::Failed {
            ename: ename.to_owned(),
            message: message.to_owned(),
            trace,
            cell: Some(cell),
        });
    }
}

fn stopped(reason: CancelReason) -> Outcome {
    match reason {
        CancelReason::Requested => Outcome::Canceled,
        CancelReason::TimedOut => Outcome::TimedOut,
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn canceled(canceler: &Canceler, deaf: bool, grace: Duration) -> CancelReason {
    let reason = canceler.canceled().await;
    if deaf {
        tokio::time::sleep(grace).await;
    }
    reason
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use forebay_types::{AttemptNumber, RunId};

    use super::*;
    use crate::conformance::{Act, Fixture};
    use crate::{Mounts, executor_conformance};

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
        let workload = Workload {
            run_id: RunId(1),
            attempt: AttemptNumber(0),
            place: Place {
                workspace: "test".to_owned(),
                runtime: RUNTIME.to_owned(),
                mounts: Mounts::default(),
            },
            program: Program::Script {
                file: String::new(),
                args: Vec::new(),
                source: None,
            },
            libraries: Vec::new(),
            env: BTreeMap::new(),
            working_dir: "/".to_owned(),
            python_path: Vec::new(),
            context: crate::Context::default(),
            limits: Limits::default(),
            spark_conf: std::collections::BTreeMap::new(),
            secrets: Vec::new(),
            init_scripts: Vec::new(),
            preload: true,
            private: None,
            spool_dir: std::path::PathBuf::new(),
        };
        let fixture = Fixture {
            executor: Arc::new(DummyExecutor::default()),
            fresh: Arc::new(DummyExecutor::default()),
            workload,
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(case(fixture));
    }

    executor_conformance!(run);
}
