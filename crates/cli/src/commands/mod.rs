//! One file per command: its arguments, whose doc comments are its help, and what it does.

pub(crate) mod backup;
pub(crate) mod cancel;
pub(crate) mod clusters;
pub(crate) mod completions;
pub(crate) mod cost;
pub mod demo;
pub(crate) mod doctor;
pub(crate) mod endpoints;
pub(crate) mod jobs;
pub(crate) mod libraries;
pub(crate) mod logs;
pub(crate) mod queue;
pub(crate) mod reference;
pub(crate) mod repeat;
pub(crate) mod repos;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedule;
pub(crate) mod secrets;
pub(crate) mod sign_in;
pub(crate) mod token;
pub(crate) mod workspace;

use crate::args::Command;
use crate::failure::{Exit, Outcome};

/// Runs a command that needs nothing but an API, or nothing at all. `None` for those that need the
/// server's own parts.
pub async fn run_client(command: &Command) -> Option<Outcome> {
    Some(match command {
        Command::Up(_)
        | Command::Demo(_)
        | Command::Doctor(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Runner(_) => return None,
        Command::Run(args) => run::run(args).await,
        Command::Runs(args) => runs::run(args).await,
        Command::Retention(args) => retention::run(args).await,
        Command::Cost(args) => cost::run(args).await,
        Command::Queue(args) => queue::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Cancel(args) => cancel::run(args).await,
        Command::Repeat(args) => repeat::run(args).await,
        Command::Schedule(args) => schedule::run(args).await,
        Command::Workspace(command) => workspace::run(command).await,
        Command::Jobs(command) => jobs::run(command).await,
        Command::Clusters(command) => clusters::run(command).await,
        Command::Libraries(command) => libraries::run(command).await,
        Command::Repos(command) => repos::run(command).await,
        Command::Secrets(command) => secrets::run(command).await,
        Command::Token(command) => token::run(command).await,
        Command::SignIn(args) => sign_in::run(args).await,
        Command::Endpoints(args) => endpoints::run(args).map(|()| Exit::Ok),
        Command::Completions(args) => completions::run(args).map(|()| Exit::Ok),
        Command::Reference(args) => reference::run(args).map(|()| Exit::Ok),
    })
}
