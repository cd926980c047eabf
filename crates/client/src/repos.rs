use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;

/// A clone of a Git repository in the workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Repo {
    pub id: i64,
    pub path: String,
    pub url: String,
    /// Absent when a tag or a commit is checked out.
    pub branch: Option<String>,
    #[serde(default)]
    pub head_commit_id: String,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    repos: Vec<Repo>,
}

impl Client {
    /// Clones `url` at `path`, which is `/Repos/<folder>/<name>`.
    pub async fn repo_create(&self, url: &str, provider: &str, path: &str) -> Result<Repo> {
        let body = json!({ "url": url, "provider": provider, "path": path });
        self.send(Method::POST, "/api/2.0/repos", &body).await
    }

    /// Moves a clone to the newest commit of a branch.
    pub async fn repo_to_branch(&self, id: i64, branch: &str) -> Result<()> {
        let path = format!("/api/2.0/repos/{id}");
        let body = json!({ "branch": branch });
        let _: Value = self.send(Method::PATCH, &path, &body).await?;
        Ok(())
    }

    pub async fn repo_get(&self, id: i64) -> Result<Repo> {
        self.get(&format!("/api/2.0/repos/{id}"), &[]).await
    }

    /// The clone at exactly this path, if there is one.
    pub async fn repo_at(&self, path: &str) -> Result<Option<Repo>> {
        let list: List = self.get("/api/2.0/repos", &[("path_prefix", path)]).await?;
        Ok(list.repos.into_iter().find(|repo| repo.path == path))
    }
}
