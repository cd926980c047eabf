//! Supervised tasks, cancellation, the clock and telemetry. The one place that may call
//! `tokio::spawn` and read the system's time; layer 1, above `types`.

mod clock;
mod tasks;
mod telemetry;

pub use clock::Clock;
pub use tasks::{OnError, TaskKind, Tasks, blocking};
pub use telemetry::init_telemetry;
pub use tokio_util::sync::CancellationToken;
