//! Reading nbformat 4. Only the parts the model needs are decoded; the rest is skipped without
//! recursion, so that deep nesting in outputs or metadata cannot exhaust the stack.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::NotebookError;
use crate::outputs::{Output, Text};
use crate::{Cell, Language};

#[derive(Debug, Deserialize)]
pub(super) struct Document<'a> {
    #[serde(borrow)]
    pub(super) cells: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) metadata: Option<&'a RawValue>,
    nbformat: Option<i64>,
    #[serde(default)]
    pub(super) nbformat_minor: Option<i64>,
}

/// The parts of a cell, where they stand in the text.
#[derive(Debug, Deserialize)]
pub(super) struct CellParts<'a> {
    #[serde(borrow)]
    pub(super) cell_type: &'a RawValue,
    #[serde(borrow)]
    pub(super) source: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    outputs: Option<&'a RawValue>,
    pub(super) id: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct CellMetadata {
    #[serde(default, rename = "application/vnd.databricks.v1+cell")]
    workspace: Option<CellFacts>,
}

#[derive(Debug, Default, Deserialize)]
struct CellFacts {
    #[serde(default)]
    title: Option<Value>,
    #[serde(default, rename = "showTitle")]
    show_title: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct NotebookMetadata {
    #[serde(default, rename = "application/vnd.databricks.v1+notebook")]
    workspace: Option<LanguageFacts>,
    #[serde(default)]
    language_info: Option<LanguageFacts>,
    #[serde(default)]
    kernelspec: Option<LanguageFacts>,
}

#[derive(Debug, Default, Deserialize)]
struct LanguageFacts {
    #[serde(default)]
    language: Option<Value>,
    #[serde(default)]
    name: Option<Value>,
}

/// A document's text with what was found in it.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    pub(super) text: &'a str,
    pub(super) document: Document<'a>,
    /// The text of the `cells` array.
    pub(super) array: &'a RawValue,
    pub(super) raw_cells: Vec<&'a RawValue>,
    pub(super) language: Language,
    pub(super) cells: Vec<Cell>,
}

pub(crate) fn read(bytes: &[u8]) -> Result<(Language, Vec<Cell>), NotebookError> {
    parse(bytes).map(|parsed| (parsed.language, parsed.cells))
}

/// The outputs a document holds, by cell of the document. Ones of an unknown form are left out:
/// they are for looking at, and the document keeps them.
pub(crate) fn read_outputs(bytes: &[u8]) -> Vec<Vec<Output>> {
    let Ok(parsed) = parse(bytes) else {
        return Vec::new();
    };
    let outputs = |raw: &&RawValue| -> Option<Vec<Output>> {
        let parts: CellParts<'_> = serde_json::from_str(raw.get()).ok()?;
        let list: Vec<&RawValue> = serde_json::from_str(parts.outputs?.get()).ok()?;
        let known = list.iter();
        Some(
            known
                .filter_map(|output| serde_json::from_str(output.get()).ok())
                .collect(),
        )
    };
    let cells = parsed.raw_cells.iter();
    cells.map(|raw| outputs(raw).unwrap_or_default()).collect()
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<'_>, NotebookError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(&bytes[..error.valid_up_to()]);
        NotebookError::NotUtf8 { line, column }
    })?;
    // Some editors put a BOM first, which JSON does not know.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document: Document<'_> = decode(text, text)?;
    if let Some(version) = document.nbformat.filter(|version| *version != 4) {
        return Err(NotebookError::OldJupyter(version));
    }
    let array = document.cells.ok_or(NotebookError::NoCells)?;
    let raw_cells: Vec<&RawValue> = decode(text, array.get())?;
    let language = language_of(text, document.metadata)?;
    let mut cells = Vec::with_capacity(raw_cells.len());
    for (index, raw) in raw_cells.iter().enumerate() {
        let mut cell = read_cell(text, raw.get())?;
        cell.origin = Some(index);
        cells.push(cell);
    }
    Ok(Parsed {
        text,
        document,
        array,
        raw_cells,
        language,
        cells,
    })
}

fn read_cell(text: &str, raw: &str) -> Result<Cell, NotebookError> {
    let parts: CellParts<'_> = decode(text, raw)?;
    let cell_type: String = decode(text, parts.cell_type.get())?;
    let source = match parts.source {
        Some(source) => decode::<Text>(text, source.get())?.0,
        None => String::new(),
    };
    let facts = match parts.metadata {
        Some(metadata) => decode::<Option<CellMetadata>>(text, metadata.get())?
            .unwrap_or_default()
            .workspace
            .unwrap_or_default(),
        None => CellFacts::default(),
    };
    let mut cell = Cell::new(match cell_type.as_str() {
        "markdown" => format!("%md\n{source}"),
        "raw" => format!("%skip\n{source}"),
        _ => source,
    });
    cell.title = facts
        .title
        .as_ref()
        .and_then(Value::as_str)
        .filter(|title| !title.is_empty())
        .map(str::to_owned);
    cell.title_hidden = cell.title.is_some() && facts.show_title == Some(Value::Bool(false));
    Ok(cell)
}

/// The workspace's own note first, then what the kernel said of itself, then the kernel's name.
/// Without any of them the notebook is Python.
fn language_of(text: &str, metadata: Option<&RawValue>) -> Result<Language, NotebookError> {
    let Some(metadata) = metadata else {
        return Ok(Language::Python);
    };
    let metadata: NotebookMetadata = decode::<Option<_>>(text, metadata.get())?.unwrap_or_default();
    let workspace = metadata.workspace.unwrap_or_default();
    let info = metadata.language_info.unwrap_or_default();
    let kernel = metadata.kernelspec.unwrap_or_default();
    let named = [workspace.language, info.name, kernel.language, kernel.name];
    let Some(name) = named
        .iter()
        .flatten()
        .filter_map(Value::as_str)
        .find(|name| !name.is_empty())
    else {
        return Ok(Language::Python);
    };
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "ir" => Ok(Language::R),
        _ if lower.starts_with("python") || lower.starts_with("ipython") => Ok(Language::Python),
        _ if lower.contains("scala") => Ok(Language::Scala),
        _ => lower
            .parse()
            .map_err(|_| NotebookError::Language(name.to_owned())),
    }
}

/// Decodes `part`, a stretch of `text`; an error's place is counted in `text`.
pub(super) fn decode<'a, T: Deserialize<'a>>(
    text: &str,
    part: &'a str,
) -> Result<T, NotebookError> {
    serde_json::from_str(part).map_err(|error| {
        let before = offset_in(text, part);
        let (line, column) = position(&text.as_bytes()[..before]);
        let message = error.to_string();
        // serde_json appends its own place, which counts from the start of the part.
        let problem = message.split(" at line ").next().unwrap_or(&message);
        NotebookError::Json {
            line: line + error.line().saturating_sub(1),
            column: if error.line() <= 1 {
                column + error.column().saturating_sub(1)
            } else {
                error.column()
            },
            problem: problem.to_owned(),
        }
    })
}

/// Where `part`, which was borrowed from `text`, begins in it.
pub(super) fn offset_in(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// Line and column, from 1, of the byte after these.
fn position(before: &[u8]) -> (usize, usize) {
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, before.len() - line_start + 1)
}
