use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Delete, Get, Patch, Post},
    works,
};

const TEST: &str = "acceptance/test_repos.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["2.0"], "/repos", TEST),
    works(Get, &["2.0"], "/repos", TEST),
    works(Get, &["2.0"], "/repos/{id}", TEST),
    // `commit` in the body is our own.
    works(Patch, &["2.0"], "/repos/{id}", TEST),
    works(Delete, &["2.0"], "/repos/{id}", TEST),
];

#[derive(Debug, Deserialize)]
pub struct CreateRepo {
    pub url: String,
    pub provider: Option<String>,
    pub path: Option<String>,
    pub sparse_checkout: Option<SparseCheckout>,
}

/// Folders of the repository, in Git's cone form.
#[derive(Debug, Serialize, Deserialize)]
pub struct SparseCheckout {
    #[serde(default)]
    pub patterns: Vec<String>,
}

/// At most one of branch, tag and commit.
#[derive(Debug, Deserialize)]
pub struct UpdateRepo {
    pub branch: Option<String>,
    pub tag: Option<String>,
    /// A commit's id, in full or at least seven digits of it; only this server knows the field.
    pub commit: Option<String>,
    pub sparse_checkout: Option<SparseCheckout>,
}

#[derive(Debug, Deserialize)]
pub struct ListRepos {
    pub path_prefix: Option<String>,
    pub next_page_token: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct RepoInfo {
    pub id: i64,
    /// Never with the `/Workspace` prefix.
    pub path: String,
    pub url: String,
    pub provider: String,
    /// Absent on a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_commit_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparse_checkout: Option<SparseCheckout>,
}

#[derive(Debug, Serialize)]
pub struct RepoList {
    pub repos: Vec<RepoInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}
