use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::Result;

/// What runs used in some days.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CostReport {
    pub by: String,
    pub from: String,
    pub to: String,
    pub rows: Vec<Cost>,
    pub total: Cost,
}

/// One sum; only what it is told apart by is set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cost {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    pub attempts: u64,
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub memory_peak_bytes: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    /// Attempts for which the host did not tell.
    pub cpu_unknown: u64,
    pub bytes_unknown: u64,
}

impl Client {
    /// Sums by `day`, `job` or `user`; dates such as `2026-11-21`, in UTC.
    pub async fn cost(&self, by: &str, from: Option<&str>, to: Option<&str>) -> Result<CostReport> {
        let mut query = vec![("by", by)];
        query.extend(from.map(|from| ("from", from)));
        query.extend(to.map(|to| ("to", to)));
        self.get("/api/forebay/v1/cost", &query).await
    }
}
