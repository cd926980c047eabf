//! Git, through the `git` program: addresses that were checked, cached mirrors, work trees whose
//! Git folder lies elsewhere, and plain exports for runs.
//!
//! Layer 1, above `types` and `runtime`; it knows no users and no API. Work trees belong to user
//! code, so nothing in them may make the server execute anything: the Git folder is kept outside,
//! hooks, filters and submodules are off, and `git` sees no configuration but ours.

mod checkout;
mod error;
mod head;
mod log;
mod mirror;
mod program;
mod refs;
mod remote;

pub use checkout::{Checkout, Revision};
pub use error::GitError;
pub use head::Head;
pub use log::{Change, Commit, History};
pub use program::{Credential, Git, GitSetup};
pub use remote::Remote;
