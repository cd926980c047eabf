use std::io::Write;

use forebay::serve_runner;
use forebay_cli::{Exit, Failure, Outcome, RunnerArgs};

use super::up::Signals;

/// A process of its own session, so that what a terminal sends to the server does not reach it.
pub(crate) async fn run(args: &RunnerArgs) -> Outcome {
    let failed = |e: &dyn std::fmt::Display| Failure::new(Exit::Failed, e.to_string());
    // It fails where a person has started this by hand, and then there is a terminal to obey.
    rustix::process::setsid().ok();
    let mut signals = Signals::listen()?;
    let ready = || {
        let mut out = std::io::stdout();
        // Whoever started this may be gone already; the next server finds the socket.
        drop(writeln!(out, "ready").and_then(|()| out.flush()));
    };
    let served = serve_runner(args, ready, async || signals.next().await).await;
    served.map_err(|e| failed(&format_args!("{e:#}")))?;
    Ok(Exit::Ok)
}
