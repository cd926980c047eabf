//! The pure deciders: what a plan is, how a run of it advances, and when a task may start.
//!
//! Layer 0: no I/O, no clock, no randomness. State, an event and the time come in as arguments;
//! the new state and a list of effects come out, and somebody else performs them.

pub mod admission;
mod alerts;
mod budget;
mod civil;
mod condition;
mod container;
mod cron;
mod for_each;
mod history;
mod libraries;
mod plan;
mod references;
mod retention;
mod run;
mod run_if;
mod sail;
mod task_output;
mod triggers;
mod verdict;

pub use alerts::{Alerts, Moment, Recipient, next_try};
pub use budget::{AttemptBudget, DayBudget, Gate, OverBudget, gate};
pub use condition::{Comparison, NotANumber, compare};
pub use container::{CONCURRENCY_MAX, Children, ITERATIONS_MAX, Step, next_step};
pub use cron::{Cron, CronError, Zone, ZoneError};
pub use for_each::{InputsError, elements};
pub use history::{AttemptFacts, Record, RecordError, RunFacts, rebuild};
pub use libraries::{Named, Version};
pub use plan::{Dependency, Plan, PlanError, TASKS_MAX, TaskPlan};
pub use references::{
    ReferenceError, References, TIME_ARGUMENTS, TaskReferences, may_refer, outputs_of, resolve,
    resolve_all,
};
pub use retention::{Fate, KeepRules, KeptRun, Why, fate};
pub use run::{Effect, Event, NothingToRepair, Phase, RepairRequest, Run, StopReason, Task};
pub use run_if::{Readiness, RunIf, readiness};
pub use sail::{Lack, lacks_of_python, lacks_of_sql};
pub use task_output::{Table, TaskOutput};
pub use triggers::{
    ArrivalPolicy, DebouncePolicy, Missed, Next, Timer, TimerStep, arrival, debounce,
    restart_delay_ms,
};
pub use verdict::{Verdict, run_verdict};
