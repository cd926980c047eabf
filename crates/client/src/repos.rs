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

/// What a clone is to stand at.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Revision {
    Branch(String),
    Tag(String),
    Commit(String),
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    repos: Vec<Repo>,
    next_page_token: Option<String>,
}

impl Client {
    /// Clones `url` at `path`, which is `/Repos/<folder>/<name>`.
    pub async fn repo_create(&self, url: &str, provider: &str, path: &str) -> Result<Repo> {
        let body = json!({ "url": url, "provider": provider, "path": path });
        self.send(Method::POST, "/api/2.0/repos", &body).await
    }

    /// Moves a clone to the newest commit of a branch.
    pub async fn repo_to_branch(&self, id: i64, branch: &str) -> Result<()> {
        let revision = Revision::Branch(branch.to_owned());
        self.repo_update(id, &revision).await.map(drop)
    }

    /// Fetches, and moves a clone to a revision.
    pub async fn repo_update(&self, id: i64, revision: &Revision) -> Result<Repo> {
        let path = format!("/api/2.0/repos/{id}");
        self.send(Method::PATCH, &path, revision).await
    }

    /// Deletes a clone with everything in it.
    pub async fn repo_delete(&self, id: i64) -> Result<()> {
        let path = format!("/api/2.0/repos/{id}");
        let _: Value = self.send(Method::DELETE, &path, &json!({})).await?;
        Ok(())
    }

    /// The clones whose path begins with `prefix`.
    pub async fn repo_list(&self, prefix: &str) -> Result<Vec<Repo>> {
        let mut repos = Vec::new();
        let mut token = String::new();
        loop {
            let query = [("path_prefix", prefix), ("next_page_token", &*token)];
            let list: List = self.get("/api/2.0/repos", &query).await?;
            repos.extend(list.repos);
            match list.next_page_token {
                Some(next) => token = next,
                None => return Ok(repos),
            }
        }
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
