//! The runner: the process that executes attempts, apart from the server, so that they outlive it.
//!
//! Layer 2, on both sides of a Unix socket. In the runner's process [`Runner`] serves any executor;
//! in the server [`RunnerClient`] is an executor that has its work done there. Events and ends go
//! through a [`spool`] on disk, and only notices through the socket, so a server that starts again
//! reads on where the last one stopped. A data folder has one runner at a time, see [`home`].

mod attempt;
mod client;
mod execution;
mod home;
mod link;
mod protocol;
mod serve;
mod spool;

pub use client::{RunnerClient, RunnerSetup};
pub use home::{Home, inspect};
pub use protocol::Welcome;
pub use serve::Runner;
