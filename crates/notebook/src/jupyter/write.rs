//! Writing nbformat 4: the original text with edits spliced in, or a fresh document.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::document::{CellParts, Parsed, decode, offset_in, parse};
use super::{CELL_KEY, NOTEBOOK_KEY};
use crate::{Cell, Language, Notebook};

/// nbformat's own indentation of a cell in the `cells` array.
const CELL_LEAD: &str = "\n  ";

/// Writes the notebook; `original` is the text it was read from.
pub(crate) fn write(notebook: &Notebook, original: Option<&[u8]>) -> Vec<u8> {
    let Some((bytes, parsed)) = original.and_then(|bytes| Some((bytes, parse(bytes).ok()?))) else {
        return fresh(notebook, None, |_| CellContent::default());
    };
    let same_cells = notebook.cells.len() == parsed.cells.len()
        && notebook
            .cells
            .iter()
            .zip(&parsed.cells)
            .all(|(cell, old)| cell.origin == old.origin && cell.reads_as(old));
    if same_cells && notebook.language == parsed.language {
        return bytes.to_vec();
    }
    spliced(notebook, &parsed)
}

fn spliced(notebook: &Notebook, parsed: &Parsed<'_>) -> Vec<u8> {
    let array = span(parsed.text, parsed.array.get());
    let mut edits = vec![(array, cells_array(notebook, parsed))];
    if notebook.language != parsed.language {
        edits.push(language_edit(notebook.language, parsed));
    }
    replace(parsed.text, edits).into_bytes()
}

fn language_edit(language: Language, parsed: &Parsed<'_>) -> (Range<usize>, String) {
    let Some(old) = parsed.document.metadata else {
        let start = parsed.text.find('{').map_or(0, |at| at + 1);
        let text = format!("\n \"metadata\": {},", pretty(&metadata(language), 1, " "));
        return (start..start, text);
    };
    let mut value = serde_json::from_str(old.get()).unwrap_or(Value::Null);
    set_language(&mut value, language);
    (span(parsed.text, old.get()), pretty(&value, 1, " "))
}

/// The `cells` array: untouched cells as they were, changed ones with their parts replaced.
fn cells_array(notebook: &Notebook, parsed: &Parsed<'_>) -> String {
    if notebook.cells.is_empty() {
        return "[]".to_owned();
    }
    let array = parsed.array.get();
    let (lead, tail) = match (parsed.raw_cells.first(), parsed.raw_cells.last()) {
        (Some(first), Some(last)) => (
            &array[1..offset_in(array, first.get())],
            &array[offset_in(array, last.get()) + last.get().len()..array.len() - 1],
        ),
        _ => (CELL_LEAD, "\n "),
    };
    let indent = Indent::of(lead);
    let mut used = vec![false; parsed.cells.len()];
    let mut new_ids = unused_ids(parsed);
    let texts: Vec<String> = notebook
        .cells
        .iter()
        .map(|cell| {
            // A cell that stands twice keeps its original text, and with it its id, only once.
            let at = cell
                .origin
                .filter(|at| used.get(*at).is_some_and(|used| !used));
            if let Some(at) = at {
                used[at] = true;
                let raw = parsed.raw_cells[at].get();
                if cell.reads_as(&parsed.cells[at]) {
                    return raw.to_owned();
                }
                if let Some(text) = edited_cell(cell, &parsed.cells[at], raw, &indent) {
                    return text;
                }
            }
            let mut value = cell_value(cell, None, CellContent::default());
            if parsed.document.nbformat_minor.unwrap_or(0) >= 5 {
                value.insert("id".to_owned(), json!(new_ids.next()));
            }
            indent.text(&Value::Object(value), 0)
        })
        .collect();
    format!("[{lead}{}{tail}]", texts.join(&format!(",{lead}")))
}

/// The cell's original text with source and title replaced; `None` when its type changed or a
/// part to replace is not there, so that it has to be written anew.
fn edited_cell(cell: &Cell, old: &Cell, raw: &str, indent: &Indent) -> Option<String> {
    let parts: CellParts<'_> = decode(raw, raw).ok()?;
    let cell_type: String = decode(raw, parts.cell_type.get()).ok()?;
    let (new_type, source) = typed_source(&cell.source);
    if new_type != cell_type && !(cell_type == "code" && new_type == "raw") {
        return None;
    }
    let source = if cell_type == "code" {
        &cell.source
    } else {
        source
    };
    let mut edits = vec![(
        span(raw, parts.source?.get()),
        indent.text(&lines_of(source), 1),
    )];
    if cell.shown_title() != old.shown_title() || cell.title_hidden != old.title_hidden {
        let metadata = parts.metadata?.get();
        let mut value: Value = serde_json::from_str(metadata).ok()?;
        set_title(&mut value, cell);
        edits.push((span(raw, metadata), indent.text(&value, 1)));
    }
    Some(replace(raw, edits))
}

/// What a run added to a code cell.
#[derive(Debug, Default)]
pub(crate) struct CellContent {
    pub(crate) execution_count: Option<u64>,
    pub(crate) outputs: Vec<Value>,
}

/// Writes a whole document with these outputs; metadata is that of `original`, where it has any.
pub(crate) fn write_with(
    notebook: &Notebook,
    original: Option<&[u8]>,
    content: impl Fn(usize) -> CellContent,
) -> Vec<u8> {
    let parsed = original.and_then(|bytes| parse(bytes).ok());
    fresh(notebook, parsed.as_ref(), content)
}

/// A whole document, as nbformat itself lays it out.
fn fresh(
    notebook: &Notebook,
    parsed: Option<&Parsed<'_>>,
    content: impl Fn(usize) -> CellContent,
) -> Vec<u8> {
    let cells: Vec<Value> = notebook
        .cells
        .iter()
        .enumerate()
        .map(|(index, cell)| {
            let old = parsed.and_then(|parsed| parsed.raw_cells.get(cell.origin?));
            let metadata = old.and_then(|raw| cell_metadata(raw.get()));
            Value::Object(cell_value(cell, metadata, content(index)))
        })
        .collect();
    let mut metadata = parsed
        .and_then(|parsed| serde_json::from_str(parsed.document.metadata?.get()).ok())
        .unwrap_or(Value::Null);
    if metadata.is_null() || parsed.is_none_or(|parsed| parsed.language != notebook.language) {
        set_language(&mut metadata, notebook.language);
    }
    let document = json!({
        "cells": cells,
        "metadata": metadata,
        "nbformat": 4,
        // The last one in which cells need no ids, which would have to be random.
        "nbformat_minor": 4,
    });
    let mut text = pretty(&document, 0, " ");
    text.push('\n');
    text.into_bytes()
}

/// `None` when there is none or it nests too deeply.
fn cell_metadata(raw: &str) -> Option<Value> {
    let parts: CellParts<'_> = serde_json::from_str(raw).ok()?;
    serde_json::from_str(parts.metadata?.get()).ok()
}

fn metadata(language: Language) -> Value {
    let mut value = json!({});
    set_language(&mut value, language);
    value
}

fn set_language(metadata: &mut Value, language: Language) {
    if !metadata.is_object() {
        *metadata = json!({});
    }
    if let Some(entries) = metadata.as_object_mut() {
        let facts = entries.entry(NOTEBOOK_KEY).or_insert_with(|| json!({}));
        match facts.as_object_mut() {
            Some(facts) => {
                facts.insert("language".to_owned(), json!(language.name()));
            }
            None => *facts = json!({"language": language.name()}),
        }
        let (kernel, display) = match language {
            Language::Python => ("python3", "Python 3"),
            Language::R => ("ir", "R"),
            Language::Scala => ("scala", "Scala"),
            Language::Sql => ("sql", "SQL"),
        };
        let name = if language == Language::R {
            "R"
        } else {
            language.name()
        };
        entries.insert(
            "kernelspec".to_owned(),
            json!({"display_name": display, "language": name, "name": kernel}),
        );
        entries.insert("language_info".to_owned(), json!({"name": name}));
    }
}

/// A cell as nbformat has it, with the keys in nbformat's order.
fn cell_value(cell: &Cell, metadata: Option<Value>, content: CellContent) -> Map<String, Value> {
    let (cell_type, source) = typed_source(&cell.source);
    // A raw cell is kept from `.ipynb` only; a `%skip` of the source format stays code.
    let is_code = cell_type != "markdown";
    let mut metadata = metadata.unwrap_or_else(|| json!({}));
    if cell.shown_title().is_some() {
        set_title(&mut metadata, cell);
    }
    let mut value = Map::new();
    value.insert(
        "cell_type".to_owned(),
        json!(if is_code { "code" } else { cell_type }),
    );
    if is_code {
        value.insert("execution_count".to_owned(), json!(content.execution_count));
    }
    value.insert("metadata".to_owned(), metadata);
    if is_code {
        value.insert("outputs".to_owned(), Value::Array(content.outputs));
    }
    let source = if is_code { &cell.source } else { source };
    value.insert("source".to_owned(), lines_of(source));
    value
}

/// The nbformat type a cell with this text has, and its text there.
fn typed_source(source: &str) -> (&'static str, &str) {
    let (first, rest) = source.split_once('\n').unwrap_or((source, ""));
    let first = first.trim_end();
    match first {
        "%md" => ("markdown", rest),
        "%skip" => ("raw", rest),
        _ => match first.strip_prefix("%md ") {
            // The text on the magic's own line is the first line of the Markdown.
            Some(_) => ("markdown", source[3..].trim_start_matches(' ')),
            None => ("code", source),
        },
    }
}

fn set_title(metadata: &mut Value, cell: &Cell) {
    if !metadata.is_object() {
        *metadata = json!({});
    }
    if let Some(entries) = metadata.as_object_mut() {
        let facts = entries.entry(CELL_KEY).or_insert_with(|| json!({}));
        if !facts.is_object() {
            *facts = json!({});
        }
        if let Some(facts) = facts.as_object_mut() {
            let title = cell.shown_title();
            let is_shown = title.is_some() && !cell.title_hidden;
            facts.insert("showTitle".to_owned(), json!(is_shown));
            facts.insert("title".to_owned(), json!(title.unwrap_or_default()));
        }
    }
}

fn lines_of(source: &str) -> Value {
    source.split_inclusive('\n').collect()
}

/// Ids that no cell of the document has.
fn unused_ids(parsed: &Parsed<'_>) -> impl Iterator<Item = String> {
    let taken: HashSet<String> = parsed
        .raw_cells
        .iter()
        .filter_map(|raw| serde_json::from_str::<CellParts<'_>>(raw.get()).ok()?.id)
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect();
    (0_u64..)
        .map(|number| format!("cell-{number}"))
        .filter(move |id| !taken.contains(id))
}

/// How the array of cells is laid out.
struct Indent<'a> {
    /// The blanks before a cell; `None` when cells are not on lines of their own.
    cell: Option<&'a str>,
}

impl<'a> Indent<'a> {
    fn of(lead: &'a str) -> Self {
        Self {
            cell: lead.rsplit_once('\n').map(|(_, blanks)| blanks),
        }
    }

    /// A value that begins `depth` levels inside a cell.
    fn text(&self, value: &Value, depth: usize) -> String {
        match self.cell {
            // A cell is two levels inside the document.
            Some(blanks) => pretty(value, depth + 2, &blanks[..blanks.len() / 2]),
            None => value.to_string(),
        }
    }
}

/// Indented JSON whose first line is already in place, `depth` levels deep.
fn pretty(value: &Value, depth: usize, unit: &str) -> String {
    let mut out = String::new();
    push_pretty(&mut out, value, depth, unit);
    out
}

fn push_pretty(out: &mut String, value: &Value, depth: usize, unit: &str) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(unit, depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                out.push(if index == 0 { '[' } else { ',' });
                line(out, depth + 1);
                push_pretty(out, item, depth + 1, unit);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(entries) if !entries.is_empty() => {
            for (index, (key, item)) in entries.iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                line(out, depth + 1);
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push_str(": ");
                push_pretty(out, item, depth + 1, unit);
            }
            line(out, depth);
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn span(text: &str, part: &str) -> Range<usize> {
    let start = offset_in(text, part);
    start..start + part.len()
}

/// Replaces stretches that do not overlap.
fn replace(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(&text[at..range.start]);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(&text[at..]);
    out
}
