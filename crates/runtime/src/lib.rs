//! Supervised tasks, cancellation, the clock, telemetry, and folders that programs have written
//! to. The one place that may call `tokio::spawn` and read the system's time; layer 1, above
//! `types`.

mod clock;
mod folder;
mod tasks;
mod telemetry;

pub use clock::{Clock, Reading};
pub use folder::remove_tree;
pub use tasks::{OnError, TaskKind, Tasks, blocking};
pub use telemetry::init_telemetry;
pub use tokio_util::sync::CancellationToken;
