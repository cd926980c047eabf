//! Repair: an ended run does some of its tasks again. Their old attempts stay as they ended.

use std::fmt;

use super::{Effect, Phase, Run, Task};
use crate::plan::Plan;

/// Which tasks a caller wants again, by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairRequest {
    pub tasks: Vec<usize>,
    /// Also every task that did not end well.
    pub all_failed: bool,
    /// Also everything behind those, however it ended.
    pub dependents: bool,
}

/// A repair that would do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NothingToRepair;

impl fmt::Display for NothingToRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no task of the run failed, and none is named to run again"
        )
    }
}

impl std::error::Error for NothingToRepair {}

impl RepairRequest {
    /// The tasks to run again, in the order of the plan.
    ///
    /// # Errors
    /// When there are none.
    pub fn tasks(&self, plan: &Plan, run: &Run) -> Result<Vec<usize>, NothingToRepair> {
        let mut wanted = self.tasks.clone();
        if self.all_failed {
            let failed = |task: &usize| {
                let verdict = run.tasks[*task].phase.verdict();
                verdict.is_some_and(|verdict| !verdict.is_fine())
            };
            wanted.extend((0..plan.tasks.len()).filter(failed));
        }
        if self.dependents {
            let reached = plan.with_dependents(&wanted);
            wanted = (0..plan.tasks.len())
                .filter(|task| reached[*task])
                .collect();
        }
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Err(NothingToRepair);
        }
        Ok(wanted)
    }
}

impl Run {
    /// A finished attempt never reopens: each task gets a new one, and with it a new retry budget.
    pub(super) fn reopen(&mut self, tasks: &[usize], effects: &mut Vec<Effect>) {
        let known = tasks.iter().filter(|task| **task < self.tasks.len());
        let known: Vec<usize> = known.copied().collect();
        if known.is_empty() {
            return;
        }
        self.phase = Phase::Running;
        self.stopping = None;
        for task in known {
            let attempt = self.tasks[task].attempt + 1;
            self.tasks[task] = Task {
                phase: Phase::Blocked,
                attempt,
                first: attempt,
                outcome: None,
            };
            effects.push(Effect::Reopen { task, attempt });
        }
    }
}
