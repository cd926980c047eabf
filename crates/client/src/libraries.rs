use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::Client;
use crate::error::Result;

/// A library with its versions, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Library {
    pub name: String,
    /// Such as `java-jar`.
    pub kind: String,
    pub versions: Vec<LibraryVersion>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LibraryVersion {
    pub version: String,
    pub path: String,
    /// As jobs name it.
    pub file: String,
    pub sha256: String,
    pub size_bytes: u64,
    pub created_at: i64,
    pub jobs: Vec<LibraryJob>,
    pub clusters: Vec<LibraryCluster>,
    /// Jobs and clusters that one may not see.
    #[serde(default)]
    pub others: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LibraryJob {
    pub job_id: i64,
    pub name: String,
    pub tasks: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LibraryCluster {
    pub cluster_id: String,
    pub status: String,
}

/// What a move did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LibraryMoved {
    pub name: String,
    pub to: String,
    pub file: String,
    pub dry_run: bool,
    pub jobs: Vec<MovedJob>,
    pub clusters: Vec<MovedCluster>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MovedJob {
    pub job_id: i64,
    pub name: String,
    pub from: Vec<String>,
    pub tasks: Vec<String>,
    #[serde(default)]
    pub spark_version_was: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MovedCluster {
    pub cluster_id: String,
    pub from: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spark_version_was: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    libraries: Vec<Library>,
}

impl Client {
    /// Libraries of the workspace with their versions, and who uses which; of one name, or all.
    pub async fn libraries(&self, name: Option<&str>) -> Result<Vec<Library>> {
        let query: Vec<_> = name.map(|name| ("name", name)).into_iter().collect();
        let listed: Listed = self.get("/api/forebay/v1/libraries", &query).await?;
        Ok(listed.libraries)
    }

    /// Moves every user of one version to another; `request` as the API has it.
    pub async fn library_move(&self, request: &Value) -> Result<LibraryMoved> {
        let path = "/api/forebay/v1/libraries/move";
        self.send(Method::POST, path, request).await
    }
}
