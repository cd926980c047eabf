//! nbformat 4 JSON, and how the cells of the source format look in it.
//!
//! A Markdown cell is a `%md` cell and a raw cell a `%skip` cell of the model; other magics are
//! code cells that begin with the plain magic. Writing splices edits into the original text, so
//! outputs, unknown metadata, numbers and indentation elsewhere stay as they were.

mod document;
mod write;

pub(crate) use document::{read, read_outputs};
pub(crate) use write::{CellContent, write, write_with};

/// Where the workspace keeps its own facts in a cell's and in the notebook's metadata.
pub(crate) const CELL_KEY: &str = "application/vnd.databricks.v1+cell";
pub(crate) const NOTEBOOK_KEY: &str = "application/vnd.databricks.v1+notebook";
