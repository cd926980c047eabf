use std::path::Path;

use forebay::Server;
use forebay_cli::demo::{DemoServer, play};
use forebay_cli::{DemoArgs, Exit, Failure, Format, Out, Outcome};
use forebay_config::Config;
use forebay_runtime::Clock;

use super::failure;
use super::up::{PROGRAM, Signals, stop};

/// Between the first ports of two attempts.
const PORT_STEP: u16 = 10;
const PORT_ATTEMPTS: u16 = 50;

pub(crate) async fn run(args: &DemoArgs) -> Outcome {
    let out = Out::new(Format::Text);
    let mut signals = Signals::listen()?;
    let clock = Clock::system();
    let began = clock.now();
    let server = Server::start(config(args)?, clock.clone(), Path::new(PROGRAM))
        .await
        .map_err(|e| failure(&e))?;
    let demo = DemoServer {
        workspaces: server
            .addresses
            .iter()
            .map(|address| (address.name.clone(), address.url.clone()))
            .collect(),
        ready_ms: clock.now().since(began),
        data: args.data.clone(),
    };
    let outcome = tokio::select! {
        outcome = play(args, &demo) => outcome,
        () = signals.next() => Ok(Exit::Interrupted),
    };
    if args.keeps() && matches!(outcome, Ok(Exit::Ok | Exit::Failed)) {
        out.note("");
        out.note("The server keeps running; Ctrl-C ends it");
        let stopping = server.stopping();
        tokio::select! {
            () = signals.next() => {}
            () = stopping.cancelled() => {}
        }
    }
    stop(server, &mut signals, false).await;
    outcome
}

/// The demo has its own folder and a machine's defaults; the configuration file of whoever tries
/// it out is not for the demo.
fn config(args: &DemoArgs) -> Result<Config, Failure> {
    let mut config = Config::load(None).map_err(|e| failure(&e.into()))?;
    config.data.clone_from(&args.data);
    let source = args.source();
    std::fs::create_dir_all(&source)
        .map_err(|e| Failure::usage(format!("cannot create {}: {e}", source.display())))?;
    config.repo_roots.push(source);
    match args.port {
        Some(port) => config.port = port,
        None => config.port = free_port(&config),
    }
    Ok(config)
}

/// The default port, or the next one whose neighbours are free as well. Somebody else may take it
/// before the server does; then the server says so.
fn free_port(config: &Config) -> u16 {
    let candidates = (0..PORT_ATTEMPTS).map(|i| config.port.saturating_add(i * PORT_STEP));
    let free = |port: &u16| {
        let mut wanted = config.clone();
        wanted.port = *port;
        (0..config.workspaces.len())
            .all(|index| std::net::TcpListener::bind(wanted.listener(index)).is_ok())
    };
    candidates.clone().find(free).unwrap_or(config.port)
}
