//! The executor port: what a workload is, what an executor promises, and what it reports back.
//!
//! Layer 1: the services know `dyn Executor` and nothing of processes; adapters (`exec-local` and
//! others) implement it and pass the suite in [`conformance`]. [`dummy`] is an executor for tests
//! that runs nothing and does as its parameters say.

pub mod conformance;
pub mod dummy;
mod event;
mod executor;
mod meter;
mod redact;
mod workload;

pub use event::{
    CellStatus, Ended, Event, MimeBundle, Outcome, StreamName, TABLE, TRUNCATED, Usage,
};
pub use executor::{
    Adoption, CallId, CancelReason, Canceler, Execution, Executor, Host, HostError, Isolation,
    IsolationLevel, Prepared, RuntimeInfo, StartError, method,
};
pub use forebay_notebook::{CellKind, ExecCell, Language};
pub use meter::Meter;
pub use redact::{REDACTED, Redactor, SECRET_LENGTH_MIN, StreamRedactor};
pub use workload::{Context, LOCAL_DIR, Library, Limits, Mount, Mounts, Place, Program, Workload};
