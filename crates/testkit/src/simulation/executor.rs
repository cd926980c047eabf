use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use forebay_exec::{
    CancelReason, Canceler, Ended, Event, Execution, Executor, Host, Isolation, IsolationLevel,
    Outcome, Place, Prepared, RuntimeInfo, StartError, Usage, Workload,
};
use forebay_runtime::Clock;

use super::random::Random;

/// An executor that starts late or not at all, takes its time by the clock, and sometimes never
/// tells an end. It outlives crashes of the server, and sees what really runs.
#[derive(Debug)]
pub(super) struct FaultyExecutor {
    clock: Clock,
    isolation: Isolation,
    seen: Arc<Mutex<Seen>>,
}

/// What an executor saw.
#[derive(Debug)]
pub(super) struct Seen {
    random: Random,
    /// Faults are over; everything works from now on.
    pub(super) calm: bool,
    live: HashMap<String, usize>,
    /// The most at once, over all workspaces.
    pub(super) peak: usize,
    /// The most at once, by workspace.
    pub(super) peaks: HashMap<String, usize>,
    /// How often each attempt was started, by workspace and id.
    pub(super) starts: HashMap<(String, i64, u32), usize>,
}

impl FaultyExecutor {
    pub(super) fn new(clock: Clock, seed: u64) -> Self {
        let seen = Seen {
            random: Random::new(seed ^ 0xf00d),
            calm: false,
            live: HashMap::new(),
            peak: 0,
            peaks: HashMap::new(),
            starts: HashMap::new(),
        };
        Self {
            clock,
            isolation: Isolation {
                level: IsolationLevel::Namespaces,
                accounting: "none".to_owned(),
                reasons: Vec::new(),
            },
            seen: Arc::new(Mutex::new(seen)),
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that is there, until it is dropped.
struct Process {
    seen: Arc<Mutex<Seen>>,
    workspace: String,
}

impl Process {
    fn start(seen: &Arc<Mutex<Seen>>, workload: &Workload) -> Self {
        let workspace = workload.place.workspace.clone();
        let mut state = lock(seen);
        let attempt = (workspace.clone(), workload.run_id.0, workload.attempt.0);
        *state.starts.entry(attempt).or_default() += 1;
        let live = state.live.entry(workspace.clone()).or_default();
        *live += 1;
        let (live, all) = (*live, state.live.values().sum());
        state.peak = state.peak.max(all);
        let peak = state.peaks.entry(workspace.clone()).or_default();
        *peak = live.max(*peak);
        drop(state);
        Self {
            seen: Arc::clone(seen),
            workspace,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(live) = lock(&self.seen).live.get_mut(&self.workspace) {
            *live -= 1;
        }
    }
}

#[async_trait]
impl Executor for FaultyExecutor {
    async fn start(
        &self,
        workload: Workload,
        _host: Arc<dyn Host>,
    ) -> Result<Box<dyn Execution>, StartError> {
        let (fails, late_ms, ends) = {
            let mut seen = self.seen();
            let calm = seen.calm;
            let random = &mut seen.random;
            let ends = match random.below(100) {
                0..=5 if !calm => None,
                6..=20 => Some((random.below(20_000), false)),
                _ => Some((random.below(20_000), true)),
            };
            let late_ms = if random.chance(20) {
                random.below(3_000)
            } else {
                0
            };
            (!calm && random.chance(5), late_ms, ends)
        };
        let process = Process::start(&self.seen, &workload);
        self.clock
            .sleep(Duration::from_millis(late_ms as u64))
            .await;
        if fails {
            return Err(StartError::Host {
                doing: "starting a process".to_owned(),
                source: std::io::Error::from(std::io::ErrorKind::OutOfMemory),
            });
        }
        let end = ends.map(|(ms, good)| (self.clock.now().plus_ms(ms as i64), good));
        Ok(Box::new(FaultyRun {
            clock: self.clock.clone(),
            canceler: Canceler::new(),
            outcome: None,
            end,
            _process: process,
        }))
    }

    async fn prepare(&self, _place: &Place) -> Result<Prepared, StartError> {
        Ok(Prepared {
            environment: String::new(),
            warm: true,
        })
    }

    fn runtimes(&self) -> Vec<RuntimeInfo> {
        Vec::new()
    }

    fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    async fn stop(&self) {}
}

struct FaultyRun {
    clock: Clock,
    canceler: Canceler,
    outcome: Option<Outcome>,
    /// When it ends by itself and how; never, when its end is lost.
    end: Option<(forebay_types::Millis, bool)>,
    _process: Process,
}

#[async_trait]
impl Execution for FaultyRun {
    async fn next_event(&mut self) -> Option<Event> {
        let end = async {
            match self.end {
                Some((at, _)) => self.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            () = end => match self.end {
                Some((_, true)) => Outcome::Succeeded { exit_value: None },
                _ => Outcome::Failed {
                    ename: "ValueError".to_owned(),
                    message: "no".to_owned(),
                    trace: String::new(),
                    cell: None,
                },
            },
            reason = self.canceler.canceled() => match reason {
                CancelReason::Requested => Outcome::Canceled,
                CancelReason::TimedOut => Outcome::TimedOut,
            },
        };
        self.outcome = Some(outcome);
        None
    }

    fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }

    async fn finish(self: Box<Self>) -> Ended {
        Ended {
            outcome: self.outcome.clone().unwrap_or(Outcome::Canceled),
            usage: Usage::default(),
            isolation: IsolationLevel::Namespaces.as_str().to_owned(),
            environment: String::new(),
            warm: true,
            engine: None,
        }
    }
}
