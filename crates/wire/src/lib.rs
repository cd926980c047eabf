//! What goes over the wire: the endpoint table, the error body, and the request and response
//! types of the Databricks REST API, one module per resource. Layer 0: no I/O.

pub mod endpoints;
pub mod error;
pub mod lenient;
pub mod sdk;

pub mod around;
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
pub mod queue;
pub mod repos;
pub mod retention;
pub mod runs;
pub mod secrets;
pub mod tokens;
pub mod triggers;
pub mod users;
pub mod workspace;

pub use endpoints::{Auth, Endpoint, Method, Status};
pub use error::ErrorBody;
