//! A runner whose attempts do as their cells say, for the tests of this crate.
//!
//!     dummy FOLDER

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for tests; a panic is how it fails"
)]

use std::path::Path;
use std::sync::Arc;

use forebay_exec::dummy::DummyExecutor;
use forebay_runner::{Home, Runner};
use forebay_runtime::{Clock, Tasks};

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let home = Home::take(Path::new(&folder)).unwrap();
    let executor = Arc::new(DummyExecutor::default());
    let runner = Runner::new(executor, Clock::system(), Tasks::default(), "test", "none");
    let ready = || println!("ready");
    runner
        .serve(home, ready, async || std::future::pending().await)
        .await
        .unwrap();
}
