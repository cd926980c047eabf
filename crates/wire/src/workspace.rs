use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const TEST: &str = "acceptance/test_workspace.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["2.0"], "/workspace/mkdirs", TEST),
    works(Get, &["2.0"], "/workspace/list", TEST),
    works(Get, &["2.0"], "/workspace/get-status", TEST),
    works(Post, &["2.0"], "/workspace/import", TEST).partial(
        "format R_MARKDOWN is refused; what a DBC or HTML export showed as results is not kept",
    ),
    works(Get, &["2.0"], "/workspace/export", TEST)
        .partial("format R_MARKDOWN is refused; a DBC archive has notebooks only, no plain files"),
    works(Post, &["2.0"], "/workspace/delete", TEST),
    works(Post, &["2.0"], "/workspace-files/import-file/{*path}", TEST),
    works(Get, &["2.0"], "/workspace-files/{*path}", TEST),
];

#[derive(Debug, Deserialize)]
pub struct PathRequest {
    pub path: String,
}

#[derive(Debug, Deserialize)]
pub struct ListRequest {
    pub path: String,
    /// Milliseconds since the epoch.
    pub notebooks_modified_after: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub struct StatusRequest {
    pub path: String,
    #[serde(default)]
    pub return_git_info: bool,
    #[serde(default)]
    pub return_export_info: bool,
}

/// Without its content, which comes as the field `content` or as a part of a form.
#[derive(Debug, Deserialize)]
pub struct ImportRequest {
    pub path: String,
    pub format: Option<String>,
    pub language: Option<String>,
    #[serde(default)]
    pub overwrite: bool,
}

#[derive(Debug, Deserialize)]
pub struct ImportFileQuery {
    #[serde(default)]
    pub overwrite: bool,
}

#[derive(Debug, Deserialize)]
pub struct ExportRequest {
    pub path: String,
    pub format: Option<String>,
    #[serde(default)]
    pub direct_download: bool,
}

#[derive(Debug, Deserialize)]
pub struct DeleteRequest {
    pub path: String,
    #[serde(default)]
    pub recursive: bool,
}

#[derive(Debug, Serialize)]
pub struct ObjectList {
    pub objects: Vec<ObjectInfo>,
}

#[derive(Debug, Serialize)]
pub struct ObjectInfo {
    /// `DIRECTORY`, `REPO`, `FILE` or `NOTEBOOK`.
    pub object_type: &'static str,
    pub path: String,
    /// The legacy CLI insists on it.
    pub object_id: i64,
    pub resource_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<&'static str>,
    pub created_at: i64,
    pub modified_at: i64,
    /// Of files only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repos_export_format: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_info: Option<GitInfo>,
}

#[derive(Debug, Serialize)]
pub struct GitInfo {
    pub id: i64,
    /// Never with the `/Workspace` prefix.
    pub path: String,
    pub url: String,
    pub provider: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_commit_id: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct ExportResponse {
    /// Base64.
    pub content: String,
    pub file_type: String,
}
