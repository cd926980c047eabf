//! What cells put out, as nbformat has it, and how that looks in HTML.
//!
//! Everything in an output comes from strangers: text is escaped, Markdown is sanitised, HTML is
//! shown in a sandboxed frame, and images are inert data URIs. No function here emits a script.

mod ansi;
mod html;
mod markdown;
mod page;
mod table;

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

pub use ansi::ansi_to_html;
pub use html::{Frames, escape, output_to_html, source_to_html};
pub use markdown::markdown_to_html;
pub use page::{PAGE_STYLE, cell_to_html, render_html};

use crate::jupyter::{self, CellContent};
use crate::{Format, Notebook};

/// One output, in nbformat's own JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "output_type", rename_all = "snake_case")]
pub enum Output {
    Stream {
        /// `stdout` or `stderr`.
        name: String,
        text: Text,
    },
    DisplayData {
        /// By MIME type: text for `text/*`, base64 for images, any JSON for JSON types.
        data: Map<String, Value>,
        #[serde(default)]
        metadata: Map<String, Value>,
    },
    ExecuteResult {
        #[serde(default)]
        execution_count: Option<u64>,
        data: Map<String, Value>,
        #[serde(default)]
        metadata: Map<String, Value>,
    },
    Error {
        #[serde(default)]
        ename: String,
        #[serde(default)]
        evalue: String,
        /// Lines with ANSI colours.
        #[serde(default)]
        traceback: Vec<String>,
    },
}

impl Output {
    pub fn stdout(text: impl Into<String>) -> Self {
        Self::Stream {
            name: "stdout".to_owned(),
            text: Text(text.into()),
        }
    }
}

/// Text that nbformat may hold as one string or as a list of lines. Written as one string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(pub String);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_unit<E: de::Error>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut lines: A) -> Result<String, A::Error> {
        let mut text = String::new();
        while let Some(line) = lines.next_element::<String>()? {
            text.push_str(&line);
        }
        Ok(text)
    }
}

/// The notebook as nbformat 4 JSON with what its cells put out; `outputs` are by cell index, and
/// cells beyond their end have none. Metadata of the `.ipynb` it was read from is kept.
#[must_use]
pub fn to_ipynb_with_outputs(notebook: &Notebook, outputs: &[Vec<Output>]) -> Vec<u8> {
    let original = notebook.original(Format::Jupyter);
    jupyter::write_with(notebook, original, |index| {
        let outputs = outputs.get(index).map_or(&[][..], Vec::as_slice);
        CellContent {
            execution_count: outputs.iter().find_map(|output| match output {
                Output::ExecuteResult {
                    execution_count, ..
                } => *execution_count,
                _ => None,
            }),
            outputs: outputs.iter().filter_map(to_value).collect(),
        }
    })
}

/// An output always has a JSON form: its keys are strings and its numbers come from JSON.
fn to_value(output: &Output) -> Option<Value> {
    serde_json::to_value(output).ok()
}
