//! `forebay`: one binary, server and command line.

mod commands;

use std::process::ExitCode;

use clap::Parser;
use commands::{backup, demo, doctor, runner, up};
use forebay_cli::{Cli, Command, Exit, Failure, Format, Out, Outcome, run_client};
use forebay_config::env_var;
use forebay_runtime::init_telemetry;

/// Many threads make and drop small things at a high rate, which the C library's allocator answers
/// with a system call for every few of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A server tells what it does; beside a command's answer only what went wrong is of interest.
    let usual = match cli.command {
        Command::Up(_) | Command::Runner(_) => "info",
        _ => "warn",
    };
    init_telemetry(&env_var("FOREBAY_LOG").unwrap_or_else(|| usual.to_owned()));
    match run(&cli.command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            Out::new(Format::Text).failure(&failure);
            failure.exit.into()
        }
    }
}

fn run(command: &Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot start the async runtime: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Up(args) => up::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Doctor(args) => doctor::run(args).await,
            Command::Backup(args) => backup::make(args),
            Command::Restore(args) => backup::restore(args),
            Command::Runner(args) => runner::run(args).await,
            other => match run_client(other).await {
                Some(outcome) => outcome,
                None => Err(Failure::new(Exit::Failed, "this command is not wired")),
            },
        }
    })
}
