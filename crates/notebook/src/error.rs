//! What can be wrong with a notebook's bytes or its cells.

use forebay_types::{Error as DomainError, ErrorCode, PathError};
use thiserror::Error;

use crate::CommandError;

/// The texts are fragments that read after "failed to ...:"; cells and lines count from 1.
#[derive(Debug, Error)]
pub enum NotebookError {
    #[error("notebook is {size_bytes} bytes, at most {max_bytes} are accepted")]
    TooLarge { size_bytes: usize, max_bytes: usize },
    #[error("notebook is not valid UTF-8 at line {line}, column {column}")]
    NotUtf8 { line: usize, column: usize },
    #[error("notebook is not valid JSON at line {line}, column {column}: {problem}")]
    Json {
        line: usize,
        column: usize,
        problem: String,
    },
    #[error(
        "notebook has nbformat {0}; only nbformat 4 is read, so open and save it with a current Jupyter first"
    )]
    OldJupyter(i64),
    #[error("notebook has no \"cells\" array; nbformat 4 requires one")]
    NoCells,
    #[error("not a notebook that Databricks exported: {0}")]
    Exported(String),
    #[error("notebook language {0:?} is not one of python, r, scala, sql")]
    Language(String),
    #[error(
        "cell {cell}, line {line}: %run must be alone in its cell, so move it to a cell of its own"
    )]
    RunNotAlone { cell: usize, line: usize },
    #[error("cell {cell} cannot be run: {problem}")]
    Run { cell: usize, problem: CommandError },
    #[error("cell {cell} runs a notebook that cannot be named: {problem}")]
    RunPath { cell: usize, problem: PathError },
}

impl From<NotebookError> for DomainError {
    fn from(error: NotebookError) -> Self {
        let code = match error {
            NotebookError::TooLarge { .. } => ErrorCode::MaxNotebookSizeExceeded,
            _ => ErrorCode::InvalidParameterValue,
        };
        Self::new(code, error.to_string())
    }
}
