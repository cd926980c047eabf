//! A small typed client of one workspace, with what the command line needs. Layer 4, beside the
//! edges of the server: it knows the API's words and nothing of how a server keeps them.
//!
//! Answers are read into types of this crate that name only the fields in use and ignore the rest,
//! so that an older or newer server, or another vendor's, can be read as well.

mod client;
mod cost;
mod error;
mod events;
mod libraries;
mod profile;
mod queue;
mod repos;
mod retention;
mod runs;
mod tokens;
mod triggers;
mod users;
mod workspace;

pub use client::Client;
pub use cost::{Cost, CostReport};
pub use error::{Error, Result};
pub use events::{Bundle, CellStatus, EventLine, Events, RunEvent, StreamName};
pub use libraries::{
    Library, LibraryCluster, LibraryJob, LibraryMoved, LibraryVersion, MovedCluster, MovedJob,
};
pub use profile::{Profile, ProfileChoice, ProfileError};
pub use queue::{CapUse, Caps, HeldBy, LaterPiece, Queue, RunningPiece, WaitingPiece};
pub use repos::{Repo, Revision};
pub use reqwest::Method;
pub use retention::{RetentionDone, RetentionPreview, RetentionRun};
pub use runs::{OwnFacts, Run, RunFilter, RunOutput, RunState, Submit, TaskRun, Usage, Work};
pub use tokens::{NewToken, Token};
pub use triggers::ScheduleFiring;
pub use users::User;
pub use workspace::{ExportFormat, ImportFormat, Object, ObjectType};
