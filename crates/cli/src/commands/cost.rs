use clap::{Args, ValueEnum};
use forebay_client::Cost;

use crate::args::Connection;
use crate::failure::{Exit, Outcome};
use crate::output::bytes;

/// Arguments of `forebay cost`.
#[derive(Debug, Args)]
pub struct CostArgs {
    /// One line for each of these
    #[arg(long, value_enum, value_name = "WHAT", default_value = "day")]
    by: By,
    /// First day, such as 2026-11-21, in UTC [default: 29 days before the last]
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Last day [default: today]
    #[arg(long, value_name = "DATE")]
    to: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Day,
    Job,
    User,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Job => "job",
            Self::User => "user",
        }
    }
}

pub(crate) async fn run(args: &CostArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let (from, to) = (args.from.as_deref(), args.to.as_deref());
    let report = client.cost(args.by.word(), from, to).await?;
    if out.is_json() {
        out.json(&report)?;
        return Ok(Exit::Ok);
    }
    let mut rows: Vec<_> = report
        .rows
        .iter()
        .map(|cost| row(what(cost), cost))
        .collect();
    rows.push(row("total".to_owned(), &report.total));
    let heads = [
        "",
        "ATTEMPTS",
        "CPU-SECONDS",
        "SECONDS",
        "PEAK MEMORY",
        "READ",
        "WRITTEN",
    ];
    out.table(heads, &rows)?;
    let unknown = report.total.cpu_unknown.max(report.total.bytes_unknown);
    if unknown > 0 {
        out.note(format_args!(
            "note: of {unknown} attempts the system did not count everything"
        ));
    }
    Ok(Exit::Ok)
}

fn what(cost: &Cost) -> String {
    if let Some(name) = cost.day.as_ref().or(cost.user_name.as_ref()) {
        return name.clone();
    }
    match (cost.job_id, &cost.job_name) {
        (Some(id), Some(name)) => format!("{id} {name}"),
        (Some(id), None) => id.to_string(),
        (None, _) => "no job".to_owned(),
    }
}

fn row(what: String, cost: &Cost) -> [String; 7] {
    [
        what,
        cost.attempts.to_string(),
        format!("{:.1}", cost.cpu_seconds),
        format!("{:.1}", cost.wall_seconds),
        bytes(cost.memory_peak_bytes),
        bytes(cost.read_bytes),
        bytes(cost.write_bytes),
    ]
}
