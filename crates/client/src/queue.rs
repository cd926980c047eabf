use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Result;

/// What runs and what waits in a workspace, and the caps it does so under: one page of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Queue {
    pub caps: Caps,
    pub running: Vec<RunningPiece>,
    pub running_total: usize,
    pub waiting: Vec<WaitingPiece>,
    pub waiting_total: usize,
    /// What no cap keeps back but its time.
    #[serde(default)]
    pub later: Vec<LaterPiece>,
    /// Entries that the caller may not see.
    pub hidden: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Caps {
    pub server: CapUse,
    pub workspace: CapUse,
    #[serde(default)]
    pub jobs: Vec<CapUse>,
    #[serde(default)]
    pub keys: Vec<CapUse>,
}

/// How full a cap is, and whose it is when that is a job or a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CapUse {
    pub live: usize,
    pub max: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// An attempt that has a slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunningPiece {
    pub run_id: i64,
    #[serde(default)]
    pub task_key: String,
    pub run_name: String,
    pub creator_user_name: String,
    pub running_ms: i64,
}

/// An attempt that waits for a slot, or a run that waits for its job or key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WaitingPiece {
    pub run_id: i64,
    #[serde(default)]
    pub task_key: String,
    pub run_name: String,
    pub creator_user_name: String,
    pub waiting_ms: i64,
    /// From 1.
    pub place: usize,
    /// Absent when it is about to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
}

/// An attempt that waits for its time: of its next try, or until a budget has room again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaterPiece {
    pub run_id: i64,
    #[serde(default)]
    pub task_key: String,
    pub run_name: String,
    pub creator_user_name: String,
    /// Milliseconds since the epoch.
    pub due_at: i64,
    pub message: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HeldBy {
    /// `server`, `workspace`, `job` or `key`.
    pub cap: String,
    pub message: String,
}

impl Client {
    /// The first `limit` of what runs and of what waits.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub async fn queue(&self, limit: u32) -> Result<Queue> {
        let limit = limit.to_string();
        self.get("/api/forebay/v1/queue", &[("limit", limit.as_str())])
            .await
    }
}
