//! The pure deciders: what a plan is, how a run of it advances, and when a task may start.
//!
//! Layer 0: no I/O, no clock, no randomness. State, an event and the time come in as arguments;
//! the new state and a list of effects come out, and somebody else performs them.

mod history;
mod plan;
mod references;
mod run;
mod run_if;
mod verdict;

pub use history::{AttemptFacts, Record, RecordError, RunFacts, rebuild};
pub use plan::{Plan, PlanError, TASKS_MAX, TaskPlan};
pub use references::{ReferenceError, References, resolve};
pub use run::{Effect, Event, Phase, Run, StopReason, Task};
pub use run_if::{Readiness, RunIf, readiness};
pub use verdict::{Verdict, run_verdict};
