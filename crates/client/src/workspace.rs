use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;

/// An entry of the workspace tree.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Object {
    pub object_type: ObjectType,
    pub path: String,
    /// Of notebooks only, such as `PYTHON`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default)]
    pub object_id: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ObjectType {
    Notebook,
    Directory,
    File,
    Library,
    Repo,
    Dashboard,
    #[serde(other)]
    Other,
}

impl ObjectType {
    #[must_use]
    pub fn is_folder(self) -> bool {
        matches!(self, Self::Directory | Self::Repo)
    }
}

/// What the content of an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// The server decides by name and content: notebook or plain file.
    Auto,
    Jupyter,
    /// Notebook source in this language, such as `PYTHON`.
    Source(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Notebooks as source text, files as they are.
    Auto,
    Source,
    Jupyter,
    Html,
}

impl ExportFormat {
    fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "AUTO",
            Self::Source => "SOURCE",
            Self::Jupyter => "JUPYTER",
            Self::Html => "HTML",
        }
    }
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Exported {
    content: String,
}

impl Client {
    pub async fn workspace_list(&self, path: &str) -> Result<Vec<Object>> {
        let list: List = self
            .get("/api/2.0/workspace/list", &[("path", path)])
            .await?;
        Ok(list.objects)
    }

    pub async fn workspace_status(&self, path: &str) -> Result<Object> {
        self.get("/api/2.0/workspace/get-status", &[("path", path)])
            .await
    }

    /// Creates a folder with the folders above it; one that exists is left alone.
    pub async fn workspace_mkdirs(&self, path: &str) -> Result<()> {
        let body = json!({ "path": path });
        let _: Value = self
            .send(Method::POST, "/api/2.0/workspace/mkdirs", &body)
            .await?;
        Ok(())
    }

    pub async fn workspace_import(
        &self,
        path: &str,
        content: &[u8],
        format: ImportFormat,
        overwrite: bool,
    ) -> Result<()> {
        let (format, language) = match format {
            ImportFormat::Auto => ("AUTO", None),
            ImportFormat::Jupyter => ("JUPYTER", None),
            ImportFormat::Source(language) => ("SOURCE", Some(language)),
        };
        let mut body = json!({
            "path": path,
            "format": format,
            "overwrite": overwrite,
            "content": STANDARD.encode(content),
        });
        if let Some(language) = language {
            body["language"] = json!(language);
        }
        let _: Value = self
            .send(Method::POST, "/api/2.0/workspace/import", &body)
            .await?;
        Ok(())
    }

    pub async fn workspace_export(&self, path: &str, format: ExportFormat) -> Result<Vec<u8>> {
        let query = [("path", path), ("format", format.as_str())];
        let exported: Exported = self.get("/api/2.0/workspace/export", &query).await?;
        STANDARD
            .decode(exported.content)
            .map_err(|e| self.protocol(format!("the content of {path} is not base64: {e}")))
    }
}
