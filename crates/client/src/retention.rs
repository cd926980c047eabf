use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;

/// What retention would remove now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetentionPreview {
    pub runs: u64,
    /// Runs that stay without what they put out.
    pub outputs: u64,
    pub bytes: u64,
    /// The first 1000 of them.
    pub list: Vec<RetentionRun>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetentionRun {
    pub run_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i64>,
    pub run_name: String,
    #[serde(default)]
    pub end_time: Option<i64>,
    /// `age`, `count` or `output`.
    pub why: String,
    pub bytes: u64,
}

/// What retention removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RetentionDone {
    pub runs: u64,
    pub outputs: u64,
    pub tokens: u64,
}

impl Client {
    /// What retention would remove now.
    pub async fn retention_preview(&self) -> Result<RetentionPreview> {
        self.get("/api/forebay/v1/retention/preview", &[]).await
    }

    /// Removes it.
    pub async fn retention_apply(&self) -> Result<RetentionDone> {
        let path = "/api/forebay/v1/retention/apply";
        self.send(Method::POST, path, &json!({})).await
    }

    /// Keeps a run from retention, or gives it back to it.
    pub async fn run_pin(&self, run: i64, pinned: bool) -> Result<Value> {
        let verb = if pinned { "pin" } else { "unpin" };
        let path = format!("/api/forebay/v1/runs/{run}/{verb}");
        self.send(Method::POST, &path, &json!({})).await
    }
}
