//! The server put together: configuration in, listening workspaces out. Layer 4, above everything.

pub mod backup;
mod data;
mod profiles;
mod runner;
mod server;

pub use data::data_in_use;
pub use runner::{runner_folder, serve_runner};
pub use server::{Server, WorkspaceAddress};
