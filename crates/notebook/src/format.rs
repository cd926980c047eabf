//! Telling notebooks from plain files by their name and first bytes.

use std::borrow::Cow;

use crate::Language;

/// The largest notebook that is read, in bytes; the API's own limit.
pub const NOTEBOOK_BYTES_MAX: usize = 10 * 1024 * 1024;

/// How many of a file's first bytes are enough to recognise a notebook.
pub const SNIFF_BYTES: usize = 256;

pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// The format of a notebook's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Text with cells separated by comment lines; the language is the notebook's.
    Source(Language),
    /// nbformat 4 JSON, which names its language itself.
    Jupyter,
}

impl Format {
    /// What a file of this name is as a notebook, or `None` when it is a plain file. Only the
    /// first [`SNIFF_BYTES`] bytes are looked at, and an `.ipynb` is believed by its name.
    #[must_use]
    pub fn detect(file_name: &str, first_bytes: &[u8]) -> Option<Self> {
        if has_jupyter_extension(file_name) {
            return Some(Self::Jupyter);
        }
        is_notebook_source(file_name, first_bytes).map(Self::Source)
    }
}

/// The language of a source-format notebook: the name has one of the four extensions and the
/// first line is that language's header. Tolerates a BOM, CRLF and trailing blanks.
#[must_use]
pub fn is_notebook_source(file_name: &str, first_bytes: &[u8]) -> Option<Language> {
    let language = Language::of_file(file_name)?;
    header_length(first_bytes, language).map(|_| language)
}

/// The name a notebook file gets in the workspace: without its extension, except that
/// `x.designer.ipynb` keeps its whole name. `None` when the extension is not a notebook's.
#[must_use]
pub fn notebook_stem(file_name: &str) -> Option<&str> {
    if file_name.to_ascii_lowercase().ends_with(".designer.ipynb") {
        return Some(file_name);
    }
    if !has_jupyter_extension(file_name) {
        Language::of_file(file_name)?;
    }
    file_name
        .rsplit_once('.')
        .map(|(stem, _)| stem)
        .filter(|stem| !stem.is_empty())
}

/// Puts the header line before source text that lacks it, as an import in SOURCE format does. A
/// BOM stays first, and the header's line end is that of the text.
#[must_use]
pub fn with_header(source: &[u8], language: Language) -> Cow<'_, [u8]> {
    if header_length(source, language).is_some() {
        return Cow::Borrowed(source);
    }
    let (bom, text) = match source.strip_prefix(BOM) {
        Some(text) => (BOM, text),
        None => (&[][..], source),
    };
    let header = header_line(language);
    let newline = newline_of(text.split_inclusive(|byte| *byte == b'\n').next());
    Cow::Owned([bom, header.as_bytes(), newline.as_bytes(), text].concat())
}

/// `# Databricks notebook source`, in the language's comment.
pub(crate) fn header_line(language: Language) -> String {
    format!("{} Databricks notebook source", language.comment())
}

/// How many bytes the header line takes, with a BOM before it and its line end.
pub(crate) fn header_length(bytes: &[u8], language: Language) -> Option<usize> {
    let start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
    let text = &bytes[start..];
    let rest = text
        .strip_prefix(language.comment().as_bytes())?
        .strip_prefix(b" Databricks notebook source")?;
    let blanks = rest.iter().position(|byte| *byte == b'\n');
    let (tail, end) = match blanks {
        Some(at) => (&rest[..at], at + 1),
        None => (rest, rest.len()),
    };
    let header = text.len() - rest.len();
    tail.iter()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
        .then_some(start + header + end)
}

/// The line end a line uses; LF when it has none.
pub(crate) fn newline_of(line: Option<&[u8]>) -> &'static str {
    if line.is_some_and(|line| line.ends_with(b"\r\n")) {
        "\r\n"
    } else {
        "\n"
    }
}

fn has_jupyter_extension(file_name: &str) -> bool {
    file_name
        .rsplit_once('.')
        .is_some_and(|(_, extension)| extension.eq_ignore_ascii_case("ipynb"))
}
