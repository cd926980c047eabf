//! The API in process: every call goes through the whole service, nothing through a socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod admission;
mod bounds;
mod budgets;
mod clusters;
mod condition;
mod contexts;
mod cost;
mod dbfs;
mod endpoints;
mod files;
mod for_each;
mod git_source;
mod job_clusters;
mod libraries;
mod notifications;
mod only;
mod permissions;
mod references;
mod repair;
mod repeat;
mod repos;
mod retention;
mod run_job;
mod run_lists;
mod runs;
mod scale;
mod tokens;
mod tree_permissions;
mod triggers;
mod users;
mod work;
mod workspace;
