//! The behaviour of a workspace, one module per resource, plus the reconcilers.
//!
//! Layer 3: a service authorises, loads, asks the engine, writes in one transaction and nudges a
//! reconciler; it knows no HTTP and never waits for a run.

mod context;
mod rate;
mod services;
mod sessions;
mod slots;
mod turns;
mod vault;

pub mod access;
pub mod clusters;
pub mod contexts;
pub mod cost;
pub mod dbfs;
pub mod files;
pub mod git_credentials;
pub mod identity;
pub mod jobs;
pub mod libraries;
pub mod notifications;
pub mod permissions;
pub mod repos;
pub mod retention;
pub mod runs;
pub mod secrets;
pub mod sign_in;
pub mod tokens;
pub mod triggers;
pub mod users;
pub mod workspace;

pub use context::Ctx;
pub use services::{ExecutorHandle, Services, WorkspaceDirs, WorkspaceSetup};
pub use slots::server_slots;
