//! The pages in process: every request goes through the whole service of a workspace, as from a
//! browser that keeps its cookies.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod browser;
mod content;
mod jobs;
mod live;
mod queue;
mod repair;
mod schedule;
mod signing_in;
mod timeline;
