//! What one attempt may use, by everybody who has a word in it.

use forebay_config::{Budget, Limits as ServerLimits};
use forebay_engine::AttemptBudget;
use forebay_exec::Limits;

use crate::clusters::ResolvedCluster;
use crate::jobs::{Spec, TaskSpec, of_config};

/// The limits of one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) budget: AttemptBudget,
    /// The task's own time limit; 0 is none.
    pub(crate) timeout_seconds: i64,
}

impl Bounds {
    pub(crate) fn of(config: &Budget, spec: &Spec, task: &TaskSpec) -> Self {
        let own = spec.own.budget.as_ref();
        let own = own.map(|own| own.of_task(&task.task_key));
        let budget = own.unwrap_or_default().or(of_config(&config.attempt));
        Self {
            budget: budget.within(of_config(&config.attempt_max)),
            timeout_seconds: task.timeout_seconds,
        }
    }

    /// When to end it for the time it takes, and whether that is its budget's word.
    pub(crate) fn time(&self) -> Option<(i64, bool)> {
        let own = Some(self.timeout_seconds).filter(|seconds| *seconds > 0);
        let budget = self.budget.wall_seconds.map(i64::from);
        match (own, budget) {
            (Some(own), Some(budget)) if budget < own => Some((budget, true)),
            (Some(own), _) => Some((own, false)),
            (None, budget) => budget.map(|budget| (budget, true)),
        }
    }

    pub(crate) fn limits(&self, server: &ServerLimits, compute: &ResolvedCluster) -> Limits {
        let own = self.budget.memory_mib.map(|mib| u64::from(mib) << 20);
        let memory = own.into_iter().chain(compute.memory_bytes);
        Limits {
            memory_bytes: memory.chain([server.run_memory_bytes]).min(),
            cpu_ms: self.budget.cpu_seconds.map(|s| u64::from(s) * 1000),
            pids_max: u32::try_from(server.run_processes_max).ok(),
            output_cell_bytes: server.cell_output_bytes_max,
            output_run_bytes: server.run_output_bytes_max,
            ..Limits::default()
        }
    }
}
