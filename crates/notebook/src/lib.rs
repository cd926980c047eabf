//! Notebooks in source format, as `.ipynb` and from Databricks' own exports, to and from cells, what a driver runs of them, and how
//! their outputs look as a page.
//!
//! Layer 0: no I/O, no clock, no randomness, no environment, no async runtime. Bytes and values
//! come in as arguments, and reading then writing an untouched notebook gives the same bytes.

mod command;
mod error;
mod exec;
mod exported;
mod format;
mod jupyter;
mod language;
mod magic;
mod model;
pub mod outputs;
mod source;

pub use command::{CommandError, FsCommand, RunCommand, split_words};
pub use error::NotebookError;
pub use exec::ExecCell;
pub use exported::Exported;
pub use format::{
    Format, NOTEBOOK_BYTES_MAX, SNIFF_BYTES, is_notebook_source, notebook_stem, with_header,
};
pub use language::{Language, UnknownLanguage};
pub use magic::CellKind;
pub use model::{Cell, Notebook};
