//! A workspace in one process for tests: real folders, real SQLite, a clock that the test moves,
//! and requests that never touch a socket. A development dependency only.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot be set up should end at once, where it stands"
)]

mod answer;
mod runtimes;
mod server;
mod simulation;
mod wait;

pub use answer::Answer;
pub use runtimes::TestRuntimes;
pub use server::{PLAIN_USER, TestServer};
pub use simulation::{Simulated, simulate};
pub use wait::wait_until;
