use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Auth, Endpoint,
    Method::{Delete, Get, Head, Post, Put},
    refused, works,
};

const TEST: &str = "acceptance/test_files.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, &["2.0"], "/fs/files/{*path}", TEST),
    works(Head, &["2.0"], "/fs/files/{*path}", TEST),
    works(Put, &["2.0"], "/fs/files/{*path}", TEST),
    works(Delete, &["2.0"], "/fs/files/{*path}", TEST),
    works(Post, &["2.0"], "/fs/files/{*path}", TEST)
        .partial("actions initiate-upload and complete-upload; parts have one size and the first comes first"),
    works(Get, &["2.0"], "/fs/directories/{*path}", TEST),
    works(Head, &["2.0"], "/fs/directories/{*path}", TEST),
    works(Put, &["2.0"], "/fs/directories/{*path}", TEST),
    works(Delete, &["2.0"], "/fs/directories/{*path}", TEST),
    works(Post, &["2.0"], "/fs/create-upload-part-urls", TEST),
    works(Post, &["2.0"], "/fs/create-abort-upload-url", "crates/http/tests/it/files.rs"),
    // The addresses that the two calls above give out. The token in them is the permission.
    works(Put, &["2.0"], "/fs/uploads/{token}/{part}", TEST).auth(Auth::Public),
    works(Delete, &["2.0"], "/fs/uploads/{token}", "crates/http/tests/it/files.rs").auth(Auth::Public),
    refused(Post, &["2.0"], "/fs/create-resumable-upload-url", "Uploads in parts and in one PUT work."),
    refused(Post, &["2.0"], "/fs/create-download-url", "GET /api/2.0/fs/files works."),
];

#[derive(Debug, Deserialize)]
pub struct PutQuery {
    #[serde(default)]
    pub overwrite: bool,
}

/// The query of a POST on a file.
#[derive(Debug, Deserialize)]
pub struct ActionQuery {
    pub action: Option<String>,
    #[serde(default)]
    pub overwrite: bool,
    pub session_token: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct InitiatedUpload {
    pub multipart_upload: MultipartUpload,
}

#[derive(Debug, Serialize)]
pub struct MultipartUpload {
    pub session_token: String,
}

#[derive(Debug, Deserialize)]
pub struct CompleteUpload {
    #[serde(default)]
    pub parts: Vec<UploadedPart>,
}

#[derive(Debug, Deserialize)]
pub struct UploadedPart {
    pub part_number: u32,
    pub etag: String,
}

#[derive(Debug, Deserialize)]
pub struct PartUrlsRequest {
    pub session_token: String,
    pub start_part_number: u32,
    pub count: u32,
}

#[derive(Debug, Serialize)]
pub struct PartUrls {
    pub upload_part_urls: Vec<PartUrl>,
}

#[derive(Debug, Serialize)]
pub struct PartUrl {
    pub part_number: u32,
    pub url: String,
    pub headers: Vec<UrlHeader>,
}

#[derive(Debug, Deserialize)]
pub struct AbortUrlRequest {
    pub session_token: String,
}

#[derive(Debug, Serialize)]
pub struct AbortUrl {
    pub abort_upload_url: SignedUrl,
}

#[derive(Debug, Serialize)]
pub struct SignedUrl {
    pub url: String,
    pub headers: Vec<UrlHeader>,
}

#[derive(Debug, Serialize)]
pub struct UrlHeader {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Deserialize)]
pub struct ListQuery {
    pub page_size: Option<usize>,
    pub page_token: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct DirectoryContents {
    pub contents: Vec<DirectoryEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct DirectoryEntry {
    pub path: String,
    pub name: String,
    pub is_directory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// Milliseconds since the epoch.
    pub last_modified: i64,
}
