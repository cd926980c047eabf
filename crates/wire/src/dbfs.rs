use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const TEST: &str = "acceptance/test_dbfs.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, &["2.0"], "/dbfs/get-status", TEST),
    works(Get, &["2.0"], "/dbfs/list", TEST),
    works(Get, &["2.0"], "/dbfs/read", TEST),
    works(Post, &["2.0"], "/dbfs/mkdirs", TEST),
    works(Post, &["2.0"], "/dbfs/delete", TEST),
    works(Post, &["2.0"], "/dbfs/move", TEST),
    works(Post, &["2.0"], "/dbfs/put", TEST),
    works(Post, &["2.0"], "/dbfs/create", TEST),
    works(Post, &["2.0"], "/dbfs/add-block", TEST),
    works(Post, &["2.0"], "/dbfs/close", TEST),
    // Whole files under their own names, as mlflow's artifact client moves them.
    works(Get, &[], "/dbfs/{*path}", "crates/http/tests/it/dbfs.rs"),
    works(Post, &[], "/dbfs/{*path}", "crates/http/tests/it/dbfs.rs"),
];

#[derive(Debug, Deserialize)]
pub struct PathRequest {
    pub path: String,
}

#[derive(Debug, Deserialize)]
pub struct ReadRequest {
    pub path: String,
    pub offset: Option<i64>,
    pub length: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct DeleteRequest {
    pub path: String,
    #[serde(default)]
    pub recursive: bool,
}

#[derive(Debug, Deserialize)]
pub struct MoveRequest {
    pub source_path: String,
    pub destination_path: String,
}

/// Of `create` and, without its content, of `put`.
#[derive(Debug, Deserialize)]
pub struct CreateRequest {
    pub path: String,
    #[serde(default)]
    pub overwrite: bool,
}

#[derive(Debug, Deserialize)]
pub struct AddBlockRequest {
    pub handle: i64,
    /// Base64.
    pub data: String,
}

#[derive(Debug, Deserialize)]
pub struct CloseRequest {
    pub handle: i64,
}

#[derive(Debug, Serialize)]
pub struct FileInfo {
    pub path: String,
    pub is_dir: bool,
    pub file_size: u64,
    /// Milliseconds since the epoch.
    pub modification_time: i64,
}

#[derive(Debug, Serialize)]
pub struct FileList {
    pub files: Vec<FileInfo>,
}

#[derive(Debug, Serialize)]
pub struct ReadResponse {
    pub bytes_read: usize,
    /// Base64.
    pub data: String,
}

#[derive(Debug, Serialize)]
pub struct CreateResponse {
    pub handle: i64,
}
