use clap::{Args, Subcommand};
use forebay_client::{Run, RunFilter};

use crate::args::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{duration, time};

/// Arguments of `forebay runs`; without a subcommand it lists.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RunsArgs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

/// Subcommands of `forebay runs`.
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the newest first
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Keep a run from retention
    Pin(PinArgs),
    /// Give a run back to retention
    Unpin(PinArgs),
}

/// Arguments of `forebay runs pin` and `unpin`.
#[derive(Debug, Args)]
pub(crate) struct PinArgs {
    /// The run's id
    #[arg(value_name = "RUN")]
    run_id: i64,
    #[command(flatten)]
    connection: Connection,
}

/// Arguments of `forebay runs list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only runs that have not ended
    #[arg(long)]
    active: bool,
    /// Only runs of this job
    #[arg(long, value_name = "ID")]
    job: Option<i64>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &RunsArgs) -> Outcome {
    match &args.command {
        Some(RunsCommand::List(args)) => list(args).await?,
        Some(RunsCommand::Pin(args)) => pin(args, true).await?,
        Some(RunsCommand::Unpin(args)) => pin(args, false).await?,
        None => list(&args.list).await?,
    }
    Ok(Exit::Ok)
}

async fn list(args: &ListArgs) -> Result<(), Failure> {
    let out = args.connection.out();
    let filter = RunFilter {
        limit: args.limit,
        active_only: args.active,
        job_id: args.job,
    };
    let runs = args.connection.client()?.run_list(filter).await?;
    if out.is_json() {
        return out.json(&runs);
    }
    if runs.is_empty() {
        out.note(if args.active {
            "Nothing is running"
        } else {
            "No runs yet; `forebay run NOTEBOOK` starts one"
        });
        return Ok(());
    }
    let rows: Vec<_> = runs.iter().map(row).collect();
    out.table(["RUN", "STATE", "STARTED", "TOOK", "NAME"], &rows)
}

async fn pin(args: &PinArgs, pinned: bool) -> Result<(), Failure> {
    let out = args.connection.out();
    let answer = args
        .connection
        .client()?
        .run_pin(args.run_id, pinned)
        .await?;
    if out.is_json() {
        return out.json(&answer);
    }
    let verb = if pinned { "is pinned" } else { "is not pinned" };
    out.line(format_args!("Run {} {verb}", answer["run_id"]))
}

fn row(run: &Run) -> [String; 5] {
    [
        run.run_id.to_string(),
        run.state.word().to_owned(),
        time(run.start_time),
        run.duration_ms().map_or_else(|| "-".to_owned(), duration),
        run.run_name.clone(),
    ]
}
