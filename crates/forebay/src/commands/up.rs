use std::path::Path;
use std::time::Duration;

use forebay::Server;
use forebay_cli::{Exit, Failure, Format, Out, Outcome, UpArgs};
use forebay_runtime::Clock;
use tokio::signal::unix::{SignalKind, signal};

use super::failure;

/// How long requests under way may take after a signal.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// This program, also when its file has been replaced meanwhile.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

pub(crate) async fn run(args: &UpArgs) -> Outcome {
    let out = Out::new(Format::Text);
    let config = args.config().map_err(|e| failure(&e.into()))?;
    let profiles = config.data.join("databrickscfg");
    let mut signals = Signals::listen()?;
    let keep_runs = config.keep_runs;
    let server = Server::start(config, Clock::system(), Path::new(PROGRAM))
        .await
        .map_err(|e| failure(&e))?;
    out.line("Forebay is ready")?;
    for address in &server.addresses {
        out.line(format_args!("  {:<8} {}", address.name, address.url))?;
    }
    out.line(format_args!("  profiles {}", profiles.display()))?;
    let links = server.sign_in_links().await.map_err(|e| failure(&e))?;
    out.line("Look at it in a browser; these links work once, for 15 minutes:")?;
    for link in links {
        out.line(format_args!("  {link}"))?;
    }
    let stopping = server.stopping();
    tokio::select! {
        () = signals.next() => {}
        () = stopping.cancelled() => {
            let message = "a part of the server failed; the log above says which";
            return Err(Failure::new(Exit::Failed, message));
        }
    }
    if keep_runs {
        out.note("Stopping; running work goes on, and the next start takes it up");
    } else {
        out.note("Stopping; a second Ctrl-C ends at once");
    }
    stop(server, &mut signals, keep_runs).await;
    Ok(Exit::Ok)
}

/// In good order; a second signal ends what is left at once.
pub(crate) async fn stop(server: Server, signals: &mut Signals, keep_runs: bool) {
    let runner = server.runner.clone();
    tokio::select! {
        _ = server.stop(STOP_GRACE) => {}
        () = signals.next() => {
            if !keep_runs {
                runner.kill().await;
            }
        }
    }
}

/// Ctrl-C, and what a service manager sends.
pub(crate) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|e| Failure::new(Exit::Failed, format!("cannot listen to signals: {e}")))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
