//! The source format: a header line, then cells with a separator line between them.
//!
//! ```text
//! # Databricks notebook source
//! # DBTITLE 1,A title
//! x = 1
//!
//! # COMMAND ----------
//!
//! # MAGIC %md
//! # MAGIC Text
//! ```
//!
//! One blank line on each side of a separator belongs to the format; any further ones belong to
//! the cell. A line of a cell that would read as part of the format is written with the magic
//! prefix, which every reader takes off again.

use std::borrow::Cow;

use crate::format::{header_length, header_line, newline_of};
use crate::{Cell, Language, Notebook};

/// The bytes of one cell, and of the separator line before it unless it is the first.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    separator: Option<&'a [u8]>,
    body: &'a [u8],
}

struct Layout<'a> {
    header: &'a [u8],
    segments: Vec<Segment<'a>>,
}

impl<'a> Layout<'a> {
    fn of(bytes: &'a [u8], language: Language) -> Self {
        let (header, mut rest) = bytes.split_at(header_length(bytes, language).unwrap_or(0));
        let mut segments = Vec::new();
        let mut separator = None;
        // The header alone is a notebook without cells, which is not one with an empty cell.
        let mut open = !rest.is_empty();
        while open {
            let (body, line, after) = split_at_separator(rest, language);
            segments.push(Segment { separator, body });
            separator = line;
            rest = after;
            open = line.is_some();
        }
        Self { header, segments }
    }
}

/// What is before the next separator line, that line, and what is after it.
fn split_at_separator(bytes: &[u8], language: Language) -> (&[u8], Option<&[u8]>, &[u8]) {
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        if is_separator(&String::from_utf8_lossy(line), language) {
            return (&bytes[..start], Some(line), &bytes[end..]);
        }
        start = end;
    }
    (bytes, None, &[])
}

pub(crate) fn read(bytes: &[u8], language: Language) -> Vec<Cell> {
    let layout = Layout::of(bytes, language);
    let cells = layout.segments.iter().enumerate();
    cells
        .map(|(index, segment)| Cell {
            origin: Some(index),
            ..read_body(segment.body, language)
        })
        .collect()
}

fn read_body(body: &[u8], language: Language) -> Cell {
    let text = String::from_utf8_lossy(body);
    let mut lines: Vec<&str> = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .collect();
    if text.is_empty() || text.ends_with('\n') {
        lines.pop();
    }
    let mut lines = &lines[..];
    if let [first, rest @ ..] = lines
        && is_blank(first)
    {
        lines = rest;
    }
    if let [rest @ .., last] = lines
        && is_blank(last)
    {
        lines = rest;
    }
    let mut cell = Cell::new("");
    let blanks = lines.iter().take_while(|line| is_blank(line)).count();
    if let Some(title) = lines.get(blanks).and_then(|line| title(line, language)) {
        lines = &lines[blanks + 1..];
        cell.title = (!title.1.is_empty()).then(|| title.1.to_owned());
        cell.title_hidden = title.0 && cell.title.is_some();
    }
    let shown: Vec<&str> = lines
        .iter()
        .map(|line| magic(line, language).unwrap_or(line))
        .collect();
    cell.source = shown.join("\n");
    cell
}

/// Writes the notebook; `original` are the bytes it was read from in the same language.
pub(crate) fn write(notebook: &Notebook, original: Option<&[u8]>) -> Vec<u8> {
    let language = notebook.language;
    let layout = original.map_or_else(
        || Layout {
            header: &[],
            segments: Vec::new(),
        },
        |bytes| Layout::of(bytes, language),
    );
    let mut writer = Writer {
        out: layout.header.to_vec(),
        language,
        newline: newline_of(Some(layout.header)),
    };
    if writer.out.is_empty() {
        writer.line(&header_line(language));
    }
    let mut previous = None;
    for (index, cell) in notebook.cells.iter().enumerate() {
        let segment = cell.origin.and_then(|at| layout.segments.get(at));
        let follows = cell
            .origin
            .is_some_and(|at| at > 0 && previous == Some(at - 1));
        let kept_separator = segment
            .and_then(|segment| segment.separator)
            .filter(|_| follows);
        if index > 0 {
            writer.separator(kept_separator);
        }
        match segment.filter(|segment| read_body(segment.body, language).reads_as(cell)) {
            Some(segment) => {
                writer.kept(segment.body, index > 0 && kept_separator.is_none());
            }
            None => writer.cell(cell, index == 0, index + 1 == notebook.cells.len()),
        }
        previous = cell.origin;
    }
    // An empty only cell needs a line, or the result would have no cell.
    if notebook.cells.len() == 1 && header_length(&writer.out, language) == Some(writer.out.len()) {
        writer.line("");
    }
    writer.out
}

struct Writer {
    out: Vec<u8>,
    language: Language,
    newline: &'static str,
}

impl Writer {
    fn line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(self.newline.as_bytes());
    }

    fn end_line(&mut self) {
        match self.out.last() {
            None | Some(b'\n') => {}
            // A file cut inside CRLF: the other half makes a line end of it, not a second CR.
            Some(b'\r') => self.out.push(b'\n'),
            Some(_) => self.out.extend_from_slice(self.newline.as_bytes()),
        }
    }

    /// The original separator line where two cells are still neighbours, else a fresh one after a
    /// blank line. A first blank line at a cell's end is not part of the cell, so adding it to an
    /// original stretch changes nothing of what it says.
    fn separator(&mut self, kept: Option<&[u8]>) {
        self.end_line();
        if let Some(line) = kept {
            self.out.extend_from_slice(line);
            return;
        }
        if !ends_with_blank_line(&self.out) {
            self.line("");
        }
        self.line(&format!("{} COMMAND ----------", self.language.comment()));
    }

    fn kept(&mut self, body: &[u8], wants_blank: bool) {
        let starts_blank = body
            .split(|byte| *byte == b'\n')
            .next()
            .is_none_or(|line| line.trim_ascii().is_empty());
        if wants_blank && !starts_blank {
            self.line("");
        }
        if !body.is_empty() {
            self.end_line();
        }
        self.out.extend_from_slice(body);
    }

    fn cell(&mut self, cell: &Cell, first: bool, last: bool) {
        self.end_line();
        let lines = cell_lines(cell, self.language);
        if !first || lines.first().is_some_and(|line| is_blank(line)) {
            self.line("");
        }
        for line in &lines {
            self.line(line);
        }
        if !last || lines.last().is_some_and(|line| is_blank(line)) {
            self.line("");
        }
    }
}

/// The cell's lines as they stand in the file, without the blank ones around it.
fn cell_lines(cell: &Cell, language: Language) -> Vec<Cow<'_, str>> {
    let comment = language.comment();
    let mut lines = Vec::new();
    if let Some(title) = cell.shown_title() {
        let shown = u8::from(!cell.title_hidden);
        lines.push(Cow::Owned(format!("{comment} DBTITLE {shown},{title}")));
    }
    let is_magic_cell = cell
        .lines()
        .find(|line| !is_blank(line))
        .is_some_and(|line| line.starts_with('%'));
    lines.extend(cell.lines().map(|line| {
        let is_format = is_separator(line, language)
            || title(line, language).is_some()
            || magic(line, language).is_some();
        match (is_magic_cell || is_format, line.is_empty()) {
            (false, _) => Cow::Borrowed(line),
            (true, true) => Cow::Owned(format!("{comment} MAGIC")),
            (true, false) => Cow::Owned(format!("{comment} MAGIC {line}")),
        }
    }));
    lines
}

fn is_blank(line: &str) -> bool {
    line.trim_ascii().is_empty()
}

fn ends_with_blank_line(bytes: &[u8]) -> bool {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    text.rsplit(|byte| *byte == b'\n')
        .next()
        .is_none_or(|line| line.trim_ascii().is_empty())
}

fn is_separator(line: &str, language: Language) -> bool {
    line.strip_prefix(language.comment())
        .is_some_and(|rest| rest.trim_end() == " COMMAND ----------")
}

/// What follows the magic prefix; empty for the bare prefix.
fn magic(line: &str, language: Language) -> Option<&str> {
    let rest = line
        .strip_prefix(language.comment())?
        .strip_prefix(" MAGIC")?;
    if rest.is_empty() {
        return Some(rest);
    }
    rest.strip_prefix(' ')
}

/// Whether the title is hidden, and its text.
fn title(line: &str, language: Language) -> Option<(bool, &str)> {
    let rest = line
        .strip_prefix(language.comment())?
        .strip_prefix(" DBTITLE ")?;
    let (shown, text) = rest.split_once(',')?;
    let is_number = !shown.is_empty() && shown.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some((shown == "0", text))
}
