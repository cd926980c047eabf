//! A notebook as a list of cells, and beside it the bytes it came from.
//!
//! Losing no byte rests on one rule: a writer looks at the original bytes again and uses a cell's
//! original stretch wherever that stretch still reads as the cell does now. So there is no "dirty"
//! flag that could lie, and an edit changes the bytes of the edited cell only.

use std::sync::Arc;

use crate::error::NotebookError;
use crate::format::{Format, NOTEBOOK_BYTES_MAX, with_header};
use crate::magic::CellKind;
use crate::outputs::Output;
use crate::{Language, jupyter, source};

#[derive(Debug, Clone)]
pub struct Notebook {
    /// The language of cells that do not name one.
    pub language: Language,
    pub cells: Vec<Cell>,
    origin: Option<Origin>,
}

/// One cell, as an editor shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub title: Option<String>,
    /// The title is kept but not shown.
    pub title_hidden: bool,
    /// The text with its magic line, if any, and without `# MAGIC` prefixes. Lines end with LF; a
    /// Markdown cell of an `.ipynb` begins with `%md`, a raw one with `%skip`.
    pub source: String,
    /// Which cell of the original bytes this one was.
    pub(crate) origin: Option<usize>,
}

/// The bytes a notebook was read from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) format: Format,
    pub(crate) bytes: Arc<[u8]>,
}

impl Notebook {
    #[must_use]
    pub fn new(language: Language, cells: Vec<Cell>) -> Self {
        Self {
            language,
            cells,
            origin: None,
        }
    }

    /// Reads a notebook of at most [`NOTEBOOK_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// See [`Self::parse_within`].
    pub fn parse(bytes: &[u8], format: Format) -> Result<Self, NotebookError> {
        Self::parse_within(bytes, format, NOTEBOOK_BYTES_MAX)
    }

    /// Reads a notebook. Source text without a header is read as if it had one, and bytes that
    /// are not UTF-8 show as U+FFFD but are kept until their cell is edited.
    ///
    /// # Errors
    /// When it is larger than `size_bytes_max`; for `.ipynb` also when the JSON is broken, not
    /// nbformat 4, or in another language.
    pub fn parse_within(
        bytes: &[u8],
        format: Format,
        size_bytes_max: usize,
    ) -> Result<Self, NotebookError> {
        if bytes.len() > size_bytes_max {
            return Err(NotebookError::TooLarge {
                size_bytes: bytes.len(),
                max_bytes: size_bytes_max,
            });
        }
        let (language, cells, bytes) = match format {
            Format::Source(language) => {
                let bytes = with_header(bytes, language);
                (language, source::read(&bytes, language), bytes.into())
            }
            Format::Jupyter => {
                let (language, cells) = jupyter::read(bytes)?;
                (language, cells, bytes.into())
            }
        };
        let origin = Some(Origin { format, bytes });
        Ok(Self {
            language,
            cells,
            origin,
        })
    }

    /// The format it was read from; `None` for one made in memory.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        self.origin.as_ref().map(|origin| origin.format)
    }

    /// The bytes in the format it was read from: identical when nothing was changed. A notebook
    /// made in memory is written as source.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.format() {
            Some(Format::Jupyter) => self.to_jupyter(),
            Some(Format::Source(_)) | None => self.to_source(),
        }
    }

    /// The bytes in source format, with the header.
    #[must_use]
    pub fn to_source(&self) -> Vec<u8> {
        source::write(self, self.original(Format::Source(self.language)))
    }

    /// The bytes as nbformat 4 JSON.
    #[must_use]
    pub fn to_jupyter(&self) -> Vec<u8> {
        jupyter::write(self, self.original(Format::Jupyter))
    }

    /// The outputs that the `.ipynb` it was read from holds, by cell. Empty for other notebooks.
    #[must_use]
    pub fn stored_outputs(&self) -> Vec<Vec<Output>> {
        let Some(bytes) = self.original(Format::Jupyter) else {
            return Vec::new();
        };
        let stored = jupyter::read_outputs(bytes);
        let cells = self.cells.iter();
        cells
            .map(|cell| {
                cell.origin
                    .and_then(|at| stored.get(at).cloned())
                    .unwrap_or_default()
            })
            .collect()
    }

    pub(crate) fn original(&self, format: Format) -> Option<&[u8]> {
        let origin = self.origin.as_ref()?;
        (origin.format == format).then_some(&*origin.bytes)
    }
}

impl Cell {
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            title: None,
            title_hidden: false,
            source: source.into(),
            origin: None,
        }
    }

    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// How the cell runs in a notebook of this language.
    #[must_use]
    pub fn kind(&self, language: Language) -> CellKind {
        CellKind::of(&self.source, language)
    }

    /// Whether both say the same to a reader. Titles are one line, an empty one is none, and line
    /// ends do not count.
    pub(crate) fn reads_as(&self, other: &Self) -> bool {
        self.shown_title() == other.shown_title()
            && (self.title_hidden == other.title_hidden || self.shown_title().is_none())
            && self.lines().eq(other.lines())
    }

    /// The title as one line.
    pub(crate) fn shown_title(&self) -> Option<String> {
        let title = self.title.as_deref()?.replace(['\r', '\n'], " ");
        (!title.is_empty()).then_some(title)
    }

    /// The source's lines without their ends.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.source
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
    }
}
