//! The command line: arguments, commands, and what they print. Layer 4; it speaks REST like any
//! other client and has no private road to the store. What needs the server itself (`up`, `doctor`,
//! the server of `demo`) is wired in the `forebay` crate.

mod args;
mod commands;
mod compare;
mod failure;
mod live;
mod local;
mod output;
mod pages;

pub use args::{Cli, Command, RunnerArgs, ServerArgs, UpArgs};
pub use commands::backup::{BackupArgs, CopyProgress, RestoreArgs};
pub use commands::demo::{self, DemoArgs};
pub use commands::doctor::{Check, Checks, DoctorArgs};
pub use commands::run_client;
pub use failure::{Exit, Failure, Outcome};
pub use output::{Format, Out};
