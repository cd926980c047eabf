//! Command execution, API 1.2: contexts on clusters, and the commands they execute.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const TEST: &str = "acceptance/test_contexts.py";
const LANGUAGES: &str = "python, r and sql; scala is refused";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, &["1.2"], "/contexts/create", TEST).partial(LANGUAGES),
    works(Get, &["1.2"], "/contexts/status", TEST),
    works(Post, &["1.2"], "/contexts/destroy", TEST),
    works(Post, &["1.2"], "/commands/execute", TEST).partial(LANGUAGES),
    works(Get, &["1.2"], "/commands/status", TEST),
    works(Post, &["1.2"], "/commands/cancel", TEST),
];

/// A new context, the state of one, or its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfContext {
    pub cluster_id: Option<String>,
    pub context_id: Option<String>,
    pub language: Option<String>,
}

/// A new command, the state of one, or its cancel.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfCommand {
    pub cluster_id: Option<String>,
    pub context_id: Option<String>,
    pub command_id: Option<String>,
    pub language: Option<String>,
    pub command: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Id {
    pub id: String,
}

#[derive(Debug, Serialize)]
pub struct ContextStatus {
    pub id: String,
    /// `Pending`, `Running` or `Error`.
    pub status: &'static str,
    /// Why it is in error; no field of Databricks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct CommandStatus {
    pub id: String,
    /// `Queued`, `Running`, `Cancelling`, `Finished`, `Cancelled` or `Error`.
    pub status: &'static str,
    /// `null` until it has ended.
    pub results: Option<Results>,
}

/// What a command gave. A failure of its own is a result of a command that finished.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "resultType", rename_all = "lowercase")]
pub enum Results {
    #[serde(rename_all = "camelCase")]
    Text { data: String, truncated: bool },
    #[serde(rename_all = "camelCase")]
    Table {
        /// Rows of values.
        data: Value,
        schema: Vec<Column>,
        truncated: bool,
        /// Types are written in JSON.
        is_json_schema: bool,
    },
    #[serde(rename_all = "camelCase")]
    Image {
        /// A `data:` address.
        file_name: String,
        data: String,
        truncated: bool,
    },
    #[serde(rename_all = "camelCase")]
    Images {
        file_names: Vec<String>,
        data: String,
        truncated: bool,
    },
    #[serde(rename_all = "camelCase")]
    Error {
        /// One line, in HTML.
        summary: String,
        /// The whole trace, with the colours of a terminal.
        cause: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: String,
    /// Such as `"long"`, with the quotes.
    #[serde(rename = "type")]
    pub kind: String,
    pub metadata: &'static str,
}
