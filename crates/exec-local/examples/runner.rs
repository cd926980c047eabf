//! A runner that executes for real, for the tests of this crate.
//!
//!     runner FOLDER DATA

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for tests; a panic is how it fails, and it has no configuration to ask"
)]

use std::path::Path;
use std::sync::Arc;

use forebay_exec_local::{LocalConfig, LocalExecutor};
use forebay_runner::{Home, Runner};
use forebay_runtime::{Clock, Tasks};

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (folder, data) = (args.next().unwrap(), args.next().unwrap());
    let home = Home::take(Path::new(&folder)).unwrap();
    let config = LocalConfig::new(data, std::env::var("PATH").unwrap());
    let executor = Arc::new(LocalExecutor::open(config).await.unwrap());
    let runner = Runner::new(executor, Clock::system(), Tasks::default(), "test", "none");
    let ready = || println!("ready");
    runner
        .serve(home, ready, async || std::future::pending().await)
        .await
        .unwrap();
}
