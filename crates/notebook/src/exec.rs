//! What a driver is given to run.

use forebay_types::WorkspacePath;
use serde::{Deserialize, Serialize};

use crate::error::NotebookError;
use crate::magic::Body;
use crate::{Cell, CellKind, Language, Notebook, RunCommand};

/// One cell as a driver runs it:
/// `{"index":0,"title":null,"kind":"python","source":"x = 1","language":"PYTHON"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCell {
    /// The cell's place in the notebook, from 0.
    pub index: usize,
    pub title: Option<String>,
    pub kind: CellKind,
    /// The text without the magic that names the kind: code, a script, or a magic's arguments.
    /// IPython's own magics stay in Python code.
    pub source: String,
    /// The language of a code cell, else that of the notebook.
    pub language: Language,
    /// The options on a `%sh` line: with `-e` a failing command fails the cell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// How many lines of the cell are before the first line of `source`, so that a traceback can
    /// name the line an editor shows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lines_before: usize,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes the field by reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Notebook {
    /// All cells in order, empty and skipped ones included.
    ///
    /// # Errors
    /// When a `%run` has other code in its cell: what it would have to do to that code is not
    /// defined, so nothing of the notebook should run.
    pub fn exec_cells(&self) -> Result<Vec<ExecCell>, NotebookError> {
        let cells = self.cells.iter().enumerate();
        cells
            .map(|(index, cell)| cell.exec(index, self.language))
            .collect()
    }

    /// The notebooks that `%run` cells name, by cell index, with paths resolved from `own`, the
    /// path of this notebook. Whether they exist, or run each other in circles, is for the caller.
    ///
    /// # Errors
    /// When a `%run` is not alone in its cell, cannot be read, or climbs above the root.
    pub fn run_targets(
        &self,
        own: &WorkspacePath,
    ) -> Result<Vec<(usize, WorkspacePath)>, NotebookError> {
        let cells = self.exec_cells()?.into_iter();
        cells
            .filter(|cell| cell.kind == CellKind::Run)
            .map(|cell| {
                let number = cell.index + 1;
                let command =
                    RunCommand::parse(&cell.source).map_err(|problem| NotebookError::Run {
                        cell: number,
                        problem,
                    })?;
                let path = own.resolve_sibling(&command.path);
                let path = path.map_err(|problem| NotebookError::RunPath {
                    cell: number,
                    problem,
                })?;
                Ok((cell.index, path))
            })
            .collect()
    }
}

impl Cell {
    fn exec(&self, index: usize, language: Language) -> Result<ExecCell, NotebookError> {
        let body = Body::of(&self.source, language);
        if let Some(line) = body.crowded_run {
            return Err(NotebookError::RunNotAlone {
                cell: index + 1,
                line: line + 1,
            });
        }
        Ok(ExecCell {
            index,
            title: self.shown_title(),
            kind: body.kind,
            language: body.kind.language().unwrap_or(language),
            source: body.source,
            flags: body.flags,
            lines_before: body.lines_before,
        })
    }
}
