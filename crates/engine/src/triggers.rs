//! When a trigger fires: pure deciders, one per kind. They see what happened and the time, and say
//! whether a run is due or when to look again.

mod arrival;
mod debounce;
mod restart;
mod timer;

pub use arrival::{ArrivalPolicy, arrival};
pub use debounce::{DebouncePolicy, debounce};
pub use restart::restart_delay_ms;
pub use timer::{Missed, Timer, TimerStep};

use forebay_types::Millis;

/// What a decider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<T> {
    Fire(T),
    /// Nothing is due before this.
    Wait(Millis),
}
