//! The only SQL of Forebay: one concrete [`Store`] per workspace, on SQLite.
//!
//! One writer thread commits what many callers hand in as one transaction (group commit, at full
//! durability); readers take a connection of their own from a pool. Layer 1: rows stay in here,
//! what leaves are domain values.

mod connection;
mod integrity;
mod meta;
mod migrations;
mod slots;
mod store;

mod cluster_libraries;
mod clusters;
mod contexts;
mod copy;
mod cost;
mod git_credentials;
mod history;
mod jobs;
mod libraries;
mod notifications;
mod objects;
mod permissions;
mod queue;
mod repos;
mod retention;
mod run_checkouts;
mod runs;
mod secrets;
mod tokens;
mod tree_permissions;
mod triggers;
mod users;

pub use cluster_libraries::{ClusterLibrary, LibraryState};
pub use clusters::{Cluster, ClusterEvent, ClusterOwner};
pub use contexts::{CommandRow, ContextRow, NewContext};
pub use copy::{SCHEMA_VERSION, copy_database, forget_deleted, schema_version};
pub use cost::{Cost, CostBy, Used, day_of};
pub use git_credentials::GitCredentialRow;
pub use history::{HistoryReport, history_check};
pub use integrity::integrity_problems;
pub use jobs::{Job, JobFilter, JobSettings};
pub use libraries::{LibraryMove, LibraryRow, LibraryUse, NewLibrary, library_text};
pub use notifications::{DestinationRow, Notification};
pub use objects::ObjectRow;
pub use queue::{DueEntry, Queue, QueueEntry, RoomUse, RunPlace, Viewer};
pub use repos::{NewRepo, RepoRow};
pub use retention::{Candidate, RetentionRules};
pub use runs::{
    Attempt, AttemptEnd, AttemptStart, ChildPlace, ChildRun, Created, LiveAttempt, NewRepair,
    NewRun, Repair, Run, RunBrief, RunCursor, RunFilter, RunKind, RunLimit, Standing, TaskBrief,
};
pub use secrets::{SealedSecret, SecretAcl, SecretEntry, SecretScope};
pub use slots::{ServerSlots, SlotLimits, Slots};
pub use store::Store;
pub use tokens::{NewToken, TokenRow};
pub use tree_permissions::TreeGrant;
pub use triggers::{
    Braked, Consumed, EndedRun, FileChanges, Firing, KnownFile, LastRuns, NewEvent, NewTrigger,
    PendingEvent, Trigger, TriggerKind, TriggerNote,
};
pub use users::{NewUser, User, UserChange};
