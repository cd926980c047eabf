use clap::Args;

use crate::args::Connection;
use crate::failure::{Exit, Outcome};
use crate::live::Live;

/// Arguments of `forebay logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Number of the run
    #[arg(value_name = "RUN")]
    run_id: i64,
    /// Keep printing until the run has ended, and exit with its verdict
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &LogsArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    let live = Live::new(&client, out);
    if args.follow {
        let followed = live.follow(args.run_id).await?;
        return live.verdict(&followed).await;
    }
    live.print(args.run_id).await?;
    Ok(Exit::Ok)
}
