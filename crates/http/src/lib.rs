//! The REST edge: routes, extractors, handlers and the error body. Handlers convert and make one
//! service call; they never touch the store. Layer 4.

mod auth;
mod error;
mod extract;
mod leftover;
mod routes;
mod server;

mod around;
mod clusters;
mod contexts;
mod cost;
mod dbfs;
mod files;
mod git_credentials;
mod identity;
mod jobs;
mod libraries;
mod notifications;
mod page;
mod permissions;
mod queue;
mod repos;
mod retention;
mod runs;
mod secrets;
mod tokens;
mod transfer;
mod triggers;
mod users;
mod workspace;

pub use error::ApiError;
pub use routes::router;
pub use server::{App, serve, service};
