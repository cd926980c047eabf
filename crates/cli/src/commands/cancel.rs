use clap::Args;

use crate::args::Connection;
use crate::failure::{Exit, Outcome};

/// Arguments of `forebay cancel`.
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Number of the run
    #[arg(value_name = "RUN")]
    run_id: i64,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) async fn run(args: &CancelArgs) -> Outcome {
    let out = args.connection.out();
    let client = args.connection.client()?;
    client.run_cancel(args.run_id).await?;
    let run = client.run_get(args.run_id).await?;
    if out.is_json() {
        out.json(&run)?;
    } else if run.state.has_ended() {
        out.note(format_args!(
            "Run {} has ended: {}",
            run.run_id,
            run.state.word()
        ));
    } else {
        out.note(format_args!("Run {} is asked to stop", run.run_id));
    }
    Ok(Exit::Ok)
}
