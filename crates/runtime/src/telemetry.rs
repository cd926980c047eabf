use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error, filtered by `filter` (such as `info,forebay_store=debug`).
///
/// A second call has no effect, so tests may call it freely.
pub fn init_telemetry(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // What cannot be logged, for a full disk say, is lost: to complain of it would panic.
        .log_internal_errors(false);
    // A subscriber is already there in tests that share a process; the first one stays.
    drop(subscriber.try_init());
}
