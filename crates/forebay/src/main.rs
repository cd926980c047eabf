//! `forebay`: one binary, server and command line.

mod endpoints;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use forebay::Server;
use forebay_config::{Config, env_var};
use forebay_runtime::{Clock, init_telemetry};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    about = "Takes data-science code from a Git commit to production, on a machine you own"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server: workspaces dev, staging and prod
    Up(UpArgs),
    /// List every API call this server knows, and how far it goes
    Endpoints(endpoints::EndpointsArgs),
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Data folder [default: .forebay]
    #[arg(long)]
    data: Option<PathBuf>,
    /// First port; the workspaces use it and the next ones [default: 7071]
    #[arg(long)]
    port: Option<u16>,
    /// Configuration file [default: forebay.toml, if it exists]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Allow local Git addresses below this folder (repeatable)
    #[arg(long = "repo-root", value_name = "DIR")]
    repo_roots: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_telemetry(&env_var("FOREBAY_LOG").unwrap_or_else(|| "info".to_owned()));
    let result = match cli.command {
        Command::Up(args) => runtime().and_then(|runtime| runtime.block_on(up(args))),
        Command::Endpoints(args) => endpoints::endpoints(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "errors of a command go to standard error"
)]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}

/// How long requests under way may take after a signal.
const STOP_GRACE: Duration = Duration::from_secs(10);

#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn up(args: UpArgs) -> Result<()> {
    let mut config = Config::load(args.config.as_deref())?;
    config.data = args.data.unwrap_or(config.data);
    config.port = args.port.unwrap_or(config.port);
    config.repo_roots.extend(args.repo_roots);
    let profiles = config.data.join("databrickscfg");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(config, Clock::system()).await?;
    println!("Forebay is ready.");
    for address in &server.addresses {
        println!("  {:<8} {}", address.name, address.url);
    }
    println!("  profiles {}", profiles.display());
    let stopping = server.stopping();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stopping.cancelled() => anyhow::bail!("a part of the server failed; see the log above"),
    }
    println!("Stopping; a second Ctrl-C ends at once.");
    tokio::select! {
        _ = server.stop(STOP_GRACE) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
