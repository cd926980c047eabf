//! The local executor, for real: a real interpreter, a real sandbox, real processes.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    reason = "these are tests, and their helpers are shared by their modules"
)]

mod support;

mod budget;
mod conformance;
mod context;
mod hostile;
mod notebook;
mod program;
mod r;
mod r_hostile;
mod r_warm;
mod spark;
mod walls;
mod warm;
