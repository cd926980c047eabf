use clap::Args;
use forebay_client::RetentionRun;

use crate::args::Connection;
use crate::failure::{Exit, Outcome};
use crate::output::{bytes, time};

/// Arguments of `forebay retention`.
#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// Only list what would go
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &RetentionArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    if !args.dry_run {
        let done = client.retention_apply().await?;
        if out.is_json() {
            out.json(&done)?;
        } else {
            out.line(format_args!(
                "Removed {} runs, and the output of {} more",
                done.runs, done.outputs
            ))?;
        }
        return Ok(Exit::Ok);
    }
    let preview = client.retention_preview().await?;
    if out.is_json() {
        out.json(&preview)?;
        return Ok(Exit::Ok);
    }
    if preview.list.is_empty() {
        out.note("Nothing would go now");
        return Ok(Exit::Ok);
    }
    let rows: Vec<_> = preview.list.iter().map(row).collect();
    out.table(["RUN", "ENDED", "GOES FOR", "SIZE", "NAME"], &rows)?;
    out.note(format_args!(
        "{} runs would go, and the output of {} more: {}",
        preview.runs,
        preview.outputs,
        bytes(preview.bytes)
    ));
    Ok(Exit::Ok)
}

fn row(run: &RetentionRun) -> [String; 5] {
    [
        run.run_id.to_string(),
        run.end_time.map_or_else(|| "-".to_owned(), time),
        run.why.clone(),
        bytes(run.bytes),
        run.run_name.clone(),
    ]
}
