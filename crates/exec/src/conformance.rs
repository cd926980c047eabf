//! What every executor must do, as tests that run against any of them.
//!
//! An adapter says how its programs do a few simple things ([`Act`]), and turns the cases into
//! tests with [`executor_conformance!`](crate::executor_conformance).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test suite; a panic is how a test fails"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use forebay_notebook::Language;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::{
    CallId, CancelReason, CellKind, CellStatus, Ended, Event, ExecCell, Execution, Executor, Host,
    HostError, Outcome, Program, StartError, Workload,
};

/// Something that a cell can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Nothing,
    /// Print one line.
    Print(&'static str),
    /// Print so many bytes.
    Flood(usize),
    /// Raise `ValueError` with this message.
    Fail(&'static str),
    /// End the notebook with this value.
    Exit(&'static str),
    /// Loop until interrupted.
    Forever,
    /// Loop, whatever interrupts.
    ForeverDeaf,
    /// Ask the host for `fs.mounts` and print something of the answer.
    PrintMounts,
    /// The process dies by signal 9.
    Die,
    /// Use so many milliseconds of CPU time.
    Burn(u64),
}

#[derive(Clone)]
pub struct Fixture {
    pub executor: Arc<dyn Executor>,
    /// Another one, which a case may stop.
    pub fresh: Arc<dyn Executor>,
    /// A template: the suite replaces the program and some limits.
    pub workload: Workload,
    /// A cell's source for an act.
    pub source: fn(&Act) -> String,
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixture").finish_non_exhaustive()
    }
}

/// Answers `fs.mounts` and remembers that it was asked.
#[derive(Debug, Default)]
struct SuiteHost {
    asked: Mutex<Vec<String>>,
    refuses: bool,
}

#[async_trait]
impl Host for SuiteHost {
    async fn call(&self, _call: CallId, method: &str, _args: Value) -> Result<Value, HostError> {
        self.asked.lock().unwrap().push(method.to_owned());
        if self.refuses {
            return Err(HostError::new("PermissionError", "not for you"));
        }
        Ok(json!({"mounts": [{"mount_point": "/mnt/suite", "source": "suite"}]}))
    }
}

impl Fixture {
    fn workload(&self, acts: &[Act]) -> Workload {
        let cells = acts.iter().enumerate().map(|(index, act)| ExecCell {
            index,
            title: None,
            kind: CellKind::Python,
            source: (self.source)(act),
            language: Language::Python,
            flags: Vec::new(),
            lines_before: 0,
        });
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let mut workload = self.workload.clone();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        workload.spool_dir.push(number.to_string());
        workload.limits.grace = Duration::from_millis(500);
        workload.program = Program::Notebook {
            path: "/suite".to_owned(),
            cells: cells.collect(),
            parameters: [].into(),
            wants_data: false,
        };
        workload
    }

    async fn start(&self, acts: &[Act]) -> Box<dyn Execution> {
        let workload = self.workload(acts);
        self.executor
            .start(workload, Arc::new(SuiteHost::default()))
            .await
            .unwrap()
    }

    async fn run(&self, acts: &[Act]) -> (Vec<Event>, Ended) {
        drain(self.start(acts).await).await
    }
}

async fn drain(mut execution: Box<dyn Execution>) -> (Vec<Event>, Ended) {
    let mut events = Vec::new();
    while let Some(event) = execution.next_event().await {
        events.push(event);
    }
    assert_eq!(execution.next_event().await, None, "the end is the end");
    (events, execution.finish().await)
}

fn text(events: &[Event]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        Event::Stream { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn ends(events: &[Event]) -> Vec<(usize, CellStatus)> {
    let ends = events.iter().filter_map(|event| match event {
        Event::CellFinished { cell, status, .. } => Some((*cell, *status)),
        _ => None,
    });
    ends.collect()
}

pub async fn events_come_in_order(fixture: Fixture) {
    let (events, ended) = fixture
        .run(&[Act::Print("one"), Act::Nothing, Act::Print("two")])
        .await;
    assert_eq!(ended.outcome, Outcome::Succeeded { exit_value: None });
    let cell_of = |event: &Event| match event {
        Event::CellStarted { cell } | Event::Stream { cell, .. } => *cell,
        Event::CellFinished { cell, .. } => *cell,
        other => panic!("{other:?}"),
    };
    let cells: Vec<usize> = events.iter().map(cell_of).collect();
    assert_eq!(cells, [0, 0, 0, 1, 1, 2, 2, 2], "{events:?}");
    assert_eq!(text(&events), "one\ntwo\n");
}

pub async fn a_failure_stops_the_rest(fixture: Fixture) {
    let acts = [Act::Nothing, Act::Fail("no luck"), Act::Print("never")];
    let (events, ended) = fixture.run(&acts).await;
    let Outcome::Failed {
        ename,
        message,
        trace,
        cell,
    } = ended.outcome
    else {
        panic!("{ended:?}");
    };
    assert_eq!(
        (ename.as_str(), message.as_str(), cell),
        ("ValueError", "no luck", Some(1))
    );
    assert!(
        trace.contains("no luck") && !trace.contains('\x1b'),
        "{trace}"
    );
    assert_eq!(
        ends(&events),
        [(0, CellStatus::Succeeded), (1, CellStatus::Failed)]
    );
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Error { cell: 1, .. }))
    );
}

pub async fn an_exit_value_ends_it_well(fixture: Fixture) {
    let (events, ended) = fixture.run(&[Act::Exit("42"), Act::Fail("never")]).await;
    let exit_value = Some("42".to_owned());
    assert_eq!(ended.outcome, Outcome::Succeeded { exit_value });
    assert_eq!(ends(&events), [(0, CellStatus::Succeeded)]);
}

pub async fn a_dead_process_is_told(fixture: Fixture) {
    let (events, ended) = fixture.run(&[Act::Die, Act::Print("never")]).await;
    assert!(
        matches!(
            ended.outcome,
            Outcome::Crashed {
                signal: Some(9),
                ..
            }
        ),
        "{ended:?}"
    );
    assert_eq!(ends(&events), [(0, CellStatus::Failed)]);
}

pub async fn cancel_ends_it_within_the_grace(fixture: Fixture) {
    for act in [Act::Forever, Act::ForeverDeaf] {
        let execution = fixture.start(&[Act::Print("go"), act]).await;
        let canceler = execution.canceler();
        let begun = Instant::now();
        canceler.cancel(CancelReason::Requested);
        canceler.cancel(CancelReason::TimedOut);
        let (_, ended) = drain(execution).await;
        assert_eq!(ended.outcome, Outcome::Canceled);
        // The grace is half a second here; the rest is for a machine that is busy.
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

pub async fn a_time_out_is_no_cancel(fixture: Fixture) {
    let execution = fixture.start(&[Act::Forever]).await;
    execution.canceler().cancel(CancelReason::TimedOut);
    assert_eq!(drain(execution).await.1.outcome, Outcome::TimedOut);
}

pub async fn a_cancel_after_the_end_changes_nothing(fixture: Fixture) {
    let mut execution = fixture.start(&[Act::Exit("x")]).await;
    let canceler = execution.canceler();
    while execution.next_event().await.is_some() {}
    canceler.cancel(CancelReason::Requested);
    let exit_value = Some("x".to_owned());
    assert_eq!(
        execution.finish().await.outcome,
        Outcome::Succeeded { exit_value }
    );
}

pub async fn finish_kills_what_still_runs(fixture: Fixture) {
    let mut execution = fixture.start(&[Act::Print("go"), Act::ForeverDeaf]).await;
    execution.next_event().await.unwrap();
    let begun = Instant::now();
    let ended = execution.finish().await;
    assert!(
        matches!(ended.outcome, Outcome::Crashed { .. }),
        "{ended:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

pub async fn programs_ask_the_host(fixture: Fixture) {
    let host = Arc::new(SuiteHost::default());
    let workload = fixture.workload(&[Act::PrintMounts]);
    let execution = fixture
        .executor
        .start(workload, host.clone())
        .await
        .unwrap();
    let (events, ended) = drain(execution).await;
    assert!(
        matches!(ended.outcome, Outcome::Succeeded { .. }),
        "{ended:?}"
    );
    assert!(text(&events).contains("/mnt/suite"), "{events:?}");
    assert_eq!(*host.asked.lock().unwrap(), ["fs.mounts"]);

    let refuses = SuiteHost {
        refuses: true,
        ..SuiteHost::default()
    };
    let workload = fixture.workload(&[Act::PrintMounts]);
    let execution = fixture
        .executor
        .start(workload, Arc::new(refuses))
        .await
        .unwrap();
    let (_, ended) = drain(execution).await;
    let Outcome::Failed { ename, message, .. } = ended.outcome else {
        panic!("{ended:?}");
    };
    assert_eq!(
        (ename.as_str(), message.as_str()),
        ("PermissionError", "not for you")
    );
}

pub async fn output_has_its_limits(fixture: Fixture) {
    let flood = || {
        let mut workload = fixture.workload(&[Act::Flood(5000), Act::Print("after")]);
        workload.limits.output_cell_bytes = 1000;
        workload
    };
    let host = Arc::new(SuiteHost::default());
    let execution = fixture.executor.start(flood(), host.clone()).await.unwrap();
    let (events, ended) = drain(execution).await;
    assert!(
        matches!(ended.outcome, Outcome::Succeeded { .. }),
        "{ended:?}"
    );
    let shown = text(&events);
    assert!(
        shown.contains("truncated") && shown.ends_with("after\n"),
        "{shown}"
    );
    assert!(shown.len() < 1200, "{}", shown.len());

    let mut workload = flood();
    workload.limits.output_run_bytes = 500;
    let execution = fixture.executor.start(workload, host).await.unwrap();
    let (_, ended) = drain(execution).await;
    assert_eq!(ended.outcome, Outcome::OutputLimit { limit_bytes: 500 });
}

pub async fn a_limit_of_cpu_time_ends_it(fixture: Fixture) {
    let mut workload = fixture.workload(&[Act::Print("go"), Act::Burn(600_000)]);
    workload.limits.cpu_ms = Some(400);
    let host = Arc::new(SuiteHost::default());
    let execution = fixture.executor.start(workload, host).await.unwrap();
    let (events, ended) = drain(execution).await;
    assert_eq!(text(&events), "go\n", "what it wrote is kept");
    let Outcome::CpuLimit { limit_ms, used_ms } = ended.outcome else {
        panic!("{ended:?}");
    };
    assert!(limit_ms == 400 && used_ms >= 400, "{used_ms}");
}

pub async fn two_run_side_by_side(fixture: Fixture) {
    let endless = fixture.start(&[Act::Forever]).await;
    let (events, _) = fixture.run(&[Act::Print("beside")]).await;
    assert_eq!(text(&events), "beside\n");
    endless.canceler().cancel(CancelReason::Requested);
    assert_eq!(drain(endless).await.1.outcome, Outcome::Canceled);
}

pub async fn an_unknown_runtime_is_refused(fixture: Fixture) {
    let mut workload = fixture.workload(&[Act::Nothing]);
    workload.place.runtime = "no-such-runtime".to_owned();
    let started = fixture
        .executor
        .start(workload, Arc::new(SuiteHost::default()))
        .await;
    let Err(error) = started else {
        panic!("it started");
    };
    assert!(
        matches!(error, StartError::UnknownRuntime { .. }),
        "{error}"
    );
    assert!(!error.is_transient());
}

pub async fn a_stopped_executor_starts_nothing(fixture: Fixture) {
    fixture.fresh.stop().await;
    let workload = fixture.workload(&[Act::Nothing]);
    let started = fixture
        .fresh
        .start(workload, Arc::new(SuiteHost::default()))
        .await;
    assert!(matches!(started, Err(StartError::Stopping)));
}

/// One `#[test]` per case. `$run` is a function that makes a [`Fixture`] and drives the case:
/// `fn run(case: impl AsyncFnOnce(Fixture))`.
#[macro_export]
macro_rules! executor_conformance {
    ($run:path) => {
        $crate::executor_conformance!(
            $run:
            events_come_in_order,
            a_failure_stops_the_rest,
            an_exit_value_ends_it_well,
            a_dead_process_is_told,
            cancel_ends_it_within_the_grace,
            a_time_out_is_no_cancel,
            a_cancel_after_the_end_changes_nothing,
            finish_kills_what_still_runs,
            programs_ask_the_host,
            output_has_its_limits,
            a_limit_of_cpu_time_ends_it,
            two_run_side_by_side,
            an_unknown_runtime_is_refused,
            a_stopped_executor_starts_nothing,
        );
    };
    ($run:path: $($case:ident),+ $(,)?) => {
        $(
            #[test]
            fn $case() {
                $run($crate::conformance::$case);
            }
        )+
    };
}
