//! The commands that need the server's own parts; all others speak REST and live in `forebay-cli`.

pub(crate) mod backup;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod runner;
pub(crate) mod up;

use forebay_cli::{Exit, Failure};
use forebay_config::ConfigError;

/// The words of a server that could not start.
fn failure(error: &anyhow::Error) -> Failure {
    let exit = if error.is::<ConfigError>() {
        Exit::Usage
    } else {
        Exit::Failed
    };
    Failure::new(exit, format!("{error:#}"))
}
