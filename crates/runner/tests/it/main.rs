//! A server's side against a runner in a process of its own, whose executor does as it is told.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests, and their helpers are shared by their modules"
)]

mod conformance;
mod death;
mod heartbeat;
mod restart;
mod support;
