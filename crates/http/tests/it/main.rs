//! The API in process: every call goes through the whole service, nothing through a socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod admission;
mod budgets;
mod clusters;
mod contexts;
mod control_flow;
mod cost;
mod dbfs;
mod endpoints;
mod files;
mod git_source;
mod job_clusters;
mod libraries;
mod notifications;
mod permissions;
mod repeat;
mod repos;
mod retention;
mod run_lists;
mod runs;
mod scale;
mod tokens;
mod tree_permissions;
mod triggers;
mod users;
mod work;
mod workspace;
