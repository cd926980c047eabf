mod repair;

use std::collections::VecDeque;
use std::str::FromStr;

use forebay_types::Millis;
use serde::{Deserialize, Serialize};

pub use self::repair::{NothingToRepair, RepairRequest};

use crate::plan::{Dependency, Plan};
use crate::run_if::{Readiness, readiness};
use crate::verdict::{Verdict, run_verdict};

/// Where a run or a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A run that waits because its job has as many runs as it may have.
    Queued,
    /// A task that waits for the tasks before it.
    Blocked,
    /// Waits for a slot.
    Pending,
    Running,
    /// Asked to stop; its processes may still be there.
    Terminating,
    WaitingForRetry,
    Ended(Verdict),
}

impl Phase {
    /// The stored form of the phase itself; the verdict is a column of its own.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Blocked => "blocked",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Terminating => "terminating",
            Self::WaitingForRetry => "waiting_for_retry",
            Self::Ended(_) => "ended",
        }
    }

    /// Reads the stored form back.
    #[must_use]
    pub fn parse(phase: &str, verdict: Option<&str>) -> Option<Self> {
        Some(match phase {
            "queued" => Self::Queued,
            "blocked" => Self::Blocked,
            "pending" => Self::Pending,
            "running" => Self::Running,
            "terminating" => Self::Terminating,
            "waiting_for_retry" => Self::WaitingForRetry,
            "ended" => Self::Ended(Verdict::from_str(verdict?).ok()?),
            _ => return None,
        })
    }

    #[must_use]
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Ended(verdict) => Some(verdict),
            _ => None,
        }
    }

    #[must_use]
    pub fn is_ended(self) -> bool {
        self.verdict().is_some()
    }
}

/// The state of one task: its newest attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    pub phase: Phase,
    /// From 0.
    pub attempt: u32,
    /// The attempt that the retries are counted from: a repair gives the task a new budget.
    pub first: u32,
    /// How a condition came out; `None` for other tasks and until it has ended.
    pub outcome: Option<bool>,
}

/// The state of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub phase: Phase,
    pub tasks: Vec<Task>,
    /// Set once somebody asked the whole run to stop; nothing starts from then on.
    pub stopping: Option<StopReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    Canceled,
    TimedOut,
}

impl StopReason {
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Canceled => Verdict::Canceled,
            Self::TimedOut => Verdict::TimedOut,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The run may go: it was admitted.
    Admitted,
    /// An attempt of a task ended, with the verdict on that attempt alone.
    AttemptEnded {
        task: usize,
        attempt: u32,
        verdict: Verdict,
        /// How the task's condition came out, if it is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outcome: Option<bool>,
        /// Whether another attempt could end better: not when the definition itself is wrong.
        retry: bool,
    },
    StopRequested(StopReason),
    /// Somebody asked one task to stop; what depends on it decides for itself.
    TaskStopRequested {
        task: usize,
    },
    /// The run has ended and shall do these tasks again.
    Repair {
        tasks: Vec<usize>,
    },
}

/// What shall happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Put this attempt in line for a slot.
    Start {
        task: usize,
        attempt: u32,
    },
    /// The same, but not before `due`; the attempt waits for its retry until then.
    StartAt {
        task: usize,
        attempt: u32,
        due: Millis,
    },
    /// The task is open again with this attempt, which waits for the tasks before it.
    Reopen {
        task: usize,
        attempt: u32,
    },
    /// Stop the attempt's processes; its end will be reported as an event.
    Stop {
        task: usize,
        attempt: u32,
        reason: StopReason,
    },
    /// The task is over without (another) attempt, or with its last one.
    Close {
        task: usize,
        verdict: Verdict,
    },
    Finish(Verdict),
}

impl Run {
    /// A run that has not been admitted yet.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let task = Task {
            phase: Phase::Blocked,
            attempt: 0,
            first: 0,
            outcome: None,
        };
        Self {
            phase: Phase::Pending,
            tasks: vec![task; plan.tasks.len()],
            stopping: None,
        }
    }

    /// Takes one event. What comes too late (an old attempt, an ended run) has no effect.
    pub fn advance(&mut self, plan: &Plan, event: &Event, now: Millis) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.phase.is_ended() != matches!(event, Event::Repair { .. }) {
            return effects;
        }
        // The tasks that the event may have set free.
        let mut next = VecDeque::new();
        match event {
            Event::Admitted => {
                if self.stopping.is_none() {
                    self.phase = Phase::Running;
                    next.extend(0..self.tasks.len());
                }
            }
            Event::AttemptEnded {
                task,
                attempt,
                verdict,
                outcome,
                retry,
            } => {
                if !self.is_current(*task, *attempt) {
                    return effects;
                }
                self.tasks[*task].outcome = *outcome;
                self.attempt_ended(plan, *task, (*verdict, *retry), now, &mut effects);
                next.extend(plan.dependents(*task));
            }
            Event::StopRequested(reason) => {
                if self.stopping.is_some() {
                    return effects;
                }
                self.stop(*reason, &mut effects);
            }
            Event::TaskStopRequested { task } => {
                if *task >= self.tasks.len() {
                    return effects;
                }
                self.stop_task(*task, StopReason::Canceled, Verdict::Canceled, &mut effects);
                next.extend(plan.dependents(*task));
            }
            Event::Repair { tasks } => {
                self.reopen(tasks, &mut effects);
                next.extend(tasks);
            }
        }
        self.settle(plan, next, &mut effects);
        effects
    }

    /// Whether `attempt` is the task's newest and has not ended.
    fn is_current(&self, task: usize, attempt: u32) -> bool {
        self.tasks.get(task).is_some_and(|state| {
            state.attempt == attempt && !state.phase.is_ended() && state.phase != Phase::Blocked
        })
    }

    fn attempt_ended(
        &mut self,
        plan: &Plan,
        task: usize,
        (verdict, retry): (Verdict, bool),
        now: Millis,
        effects: &mut Vec<Effect>,
    ) {
        let policy = &plan.tasks[task];
        let Task { attempt, first, .. } = self.tasks[task];
        let retryable = match verdict {
            Verdict::Failed | Verdict::InternalError => true,
            Verdict::TimedOut => policy.retry_on_timeout,
            _ => false,
        };
        let tried = attempt.saturating_sub(first);
        let retries_left = policy.retries_max.is_none_or(|max| tried < max);
        // A task that was asked to stop has its wish, however its attempt ended.
        let asked_to_stop = self.stopping.is_some() || self.tasks[task].phase == Phase::Terminating;
        if asked_to_stop || !(retry && retryable && retries_left) {
            return self.close(task, verdict, effects);
        }
        let next = attempt + 1;
        self.tasks[task].attempt = next;
        let interval_ms = policy.retry_interval_ms.max(patience_ms(tried + 1));
        if interval_ms > 0 {
            self.tasks[task].phase = Phase::WaitingForRetry;
            effects.push(Effect::StartAt {
                task,
                attempt: next,
                due: now.plus_ms(interval_ms),
            });
        } else {
            self.tasks[task].phase = Phase::Pending;
            effects.push(Effect::Start {
                task,
                attempt: next,
            });
        }
    }

    fn stop(&mut self, reason: StopReason, effects: &mut Vec<Effect>) {
        self.stopping = Some(reason);
        self.phase = Phase::Terminating;
        for task in 0..self.tasks.len() {
            self.stop_task(task, reason, Verdict::UpstreamCanceled, effects);
        }
    }

    /// `unstarted` is the verdict on a task that still waits for others.
    fn stop_task(
        &mut self,
        task: usize,
        reason: StopReason,
        unstarted: Verdict,
        effects: &mut Vec<Effect>,
    ) {
        let Task { phase, attempt, .. } = self.tasks[task];
        match phase {
            Phase::Running => {
                self.tasks[task].phase = Phase::Terminating;
                effects.push(Effect::Stop {
                    task,
                    attempt,
                    reason,
                });
            }
            Phase::Pending | Phase::WaitingForRetry | Phase::Queued => {
                self.close(task, reason.verdict(), effects);
            }
            Phase::Blocked => self.close(task, unstarted, effects),
            Phase::Terminating | Phase::Ended(_) => {}
        }
    }

    /// Starts or closes those of `next` whose dependencies have all ended, and what that sets free;
    /// then ends the run when all its tasks have.
    fn settle(&mut self, plan: &Plan, mut next: VecDeque<usize>, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Running {
            while let Some(task) = next.pop_front() {
                if self.settle_task(plan, task, effects) {
                    next.extend(plan.dependents(task));
                }
            }
        }
        if self.phase.is_ended() || !self.tasks.iter().all(|task| task.phase.is_ended()) {
            return;
        }
        let verdict = match self.stopping {
            Some(reason) => reason.verdict(),
            None => {
                let verdicts = self.tasks.iter().filter_map(|task| task.phase.verdict());
                run_verdict(plan, &verdicts.collect::<Vec<_>>())
            }
        };
        self.phase = Phase::Ended(verdict);
        effects.push(Effect::Finish(verdict));
    }

    /// Whether the task was closed, so that those behind it may move.
    fn settle_task(&mut self, plan: &Plan, task: usize, effects: &mut Vec<Effect>) -> bool {
        if self.tasks[task].phase != Phase::Blocked {
            return false;
        }
        let policy = &plan.tasks[task];
        let before: Option<Vec<Verdict>> = policy
            .depends_on
            .iter()
            .map(|edge| self.verdict_along(*edge))
            .collect();
        let Some(before) = before else {
            return false;
        };
        match readiness(policy.run_if, policy.disabled, &before) {
            Readiness::Start => {
                self.tasks[task].phase = Phase::Pending;
                let attempt = self.tasks[task].attempt;
                effects.push(Effect::Start { task, attempt });
                false
            }
            Readiness::Close(verdict) => {
                self.close(task, verdict, effects);
                true
            }
        }
    }

    /// What the task behind an edge sees of the one before: a branch that the condition did not
    /// take was left out.
    fn verdict_along(&self, edge: Dependency) -> Option<Verdict> {
        let before = self.tasks[edge.task];
        let verdict = before.phase.verdict()?;
        let taken = edge.outcome.is_none() || edge.outcome == before.outcome;
        Some(if verdict == Verdict::Succeeded && !taken {
            Verdict::Excluded
        } else {
            verdict
        })
    }

    fn close(&mut self, task: usize, verdict: Verdict, effects: &mut Vec<Effect>) {
        self.tasks[task].phase = Phase::Ended(verdict);
        effects.push(Effect::Close { task, verdict });
    }
}

/// What a task that fails at once has to wait at least: nothing for its first attempts, then longer
/// and longer, so that endless retries are no busy loop.
fn patience_ms(attempt: u32) -> i64 {
    match attempt {
        0..=3 => 0,
        _ => (1_000_i64 << (attempt - 4).min(6)).min(60_000),
    }
}

#[cfg(test)]
mod tests;
