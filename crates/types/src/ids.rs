//! One newtype per kind of id. Numeric ids are positive and stay below 2^53, because clients read
//! them with jq and JavaScript; they have at least eight digits.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

macro_rules! text_id {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

numeric_id!(
    /// A job definition.
    JobId,
    /// A run of a job, or of one task of it: both share one number space on the wire.
    RunId,
    /// An object of the workspace tree: directory, notebook, file, repo or library.
    ObjectId,
    /// A Git folder; equal to the [`ObjectId`] of its root directory.
    RepoId,
    /// A stored credential for a Git provider.
    CredentialId,
    /// A user of one workspace.
    UserId,
);

text_id!(
    /// `MMDD-HHMMSS-xxxxxxxx`, or an id chosen by the caller.
    ClusterId,
    /// The public handle of a personal access token (never the token itself).
    TokenId,
);

/// Counts the attempts of one task, from 0. Every write of an attempt is fenced by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptNumber(pub u32);
