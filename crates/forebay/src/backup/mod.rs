//! A backup: one tar file of everything in a data folder that cannot be made again.
//!
//! Its first entry says what it is ([`About`]), its last one has a digest of every file in the form
//! of `sha256sum`; a file without that last entry was cut off. Both commands work on files alone, so
//! a backup needs no server and does not disturb one.
//!
//! Consistent means: what a database in the backup points at is in the backup. Each database is
//! copied first, at one moment; then the folders, which may be newer by then; and at last the copy
//! of the database forgets the runs and repos that were deleted while the folders were copied.

mod digest;
mod read;
mod write;

pub use read::restore;
pub use write::backup;

use serde::{Deserialize, Serialize};

/// The form of the tar file; raised when an older program could not restore it.
const FORMAT: u32 = 1;
const ABOUT: &str = "forebay-backup.json";
const DIGESTS: &str = "SHA256SUMS";
const DATABASE: &str = "forebay.db";

/// What a backup is and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    /// The program that made it.
    pub forebay: String,
    /// In milliseconds since the Unix epoch.
    pub made_at: i64,
    pub workspaces: Vec<WorkspaceAbout>,
}

/// One workspace of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceAbout {
    pub name: String,
    /// The form of its database.
    pub schema: usize,
}

/// What a backup or its restoration did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub about: About,
    pub files: u64,
    pub bytes: u64,
    /// Things that are not as they should be, in words.
    pub notes: Vec<String>,
}
