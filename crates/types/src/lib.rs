//! The words of Forebay: ids, paths, closed state enums and the domain error.
//!
//! Layer 0: no I/O, no clock, no randomness, no environment, no async runtime. Everything here is
//! a value that any other crate may name.

mod cluster;
mod error;
mod grant;
mod hex;
mod ids;
mod path;
mod permission;
mod time;

pub use cluster::{ClusterSource, ClusterState};
pub use error::{Error, ErrorCode, Result};
pub use grant::{Grant, ObjectKind, ObjectRef, PermissionLevel, Principal};
pub use hex::hex;
pub use ids::{
    AttemptNumber, ClusterId, CredentialId, JobId, ObjectId, RepoId, RunId, TokenId, UserId,
};
pub use path::{DbfsPath, PathError, VolumePath, WorkspacePath};
pub use permission::SecretPermission;

pub use time::Millis;
