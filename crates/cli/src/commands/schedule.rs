use clap::Args;

use crate::args::Connection;
use crate::failure::{Exit, Outcome};

/// Arguments of `forebay schedule`.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// Quartz cron: seconds minutes hours day-of-month month day-of-week [year]
    expression: String,
    /// Time zone, such as Europe/Berlin
    #[arg(long, value_name = "ID", default_value = "UTC")]
    timezone: String,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &ScheduleArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let preview = client.schedule_preview(&args.expression, &args.timezone);
    let firings = preview.await?;
    if out.is_json() {
        out.json(&firings)?;
        return Ok(Exit::Ok);
    }
    if firings.is_empty() {
        out.note("This schedule fires never again.");
    }
    for firing in firings {
        out.line(firing.local)?;
    }
    Ok(Exit::Ok)
}
