//! Chores of the project that are not part of the program: `cargo run -p forebay-xtask -- CHORE`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a tool for the people who work on the project"
)]

mod simulate;

use clap::Parser;

/// Chores of the project
#[derive(Debug, Parser)]
#[command(name = "xtask", disable_help_subcommand = true)]
enum Chore {
    /// Play random histories with faults to whole servers, and check each of them
    Simulate(simulate::SimulateArgs),
}

fn main() {
    match Chore::parse() {
        Chore::Simulate(args) => simulate::run(&args),
    }
}
