//! The crate through its public names, over a corpus of small notebooks.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside of what clippy takes for tests"
)]

mod commands;
mod exec;
mod jupyter;
mod outputs;
mod source;

use forebay_notebook::{Format, Notebook};

macro_rules! fixtures {
    ($($name:literal),+ $(,)?) => {
        pub(crate) const FIXTURES: &[(&str, &[u8])] =
            &[$(($name, include_bytes!(concat!("../fixtures/", $name)))),+];
    };
}

fixtures!(
    "sales.py",
    "sales_crlf_bom.py",
    "untidy.py",
    "header_only.py",
    "model.r",
    "Upper.R",
    "latin1.r",
    "etl.scala",
    "report.sql",
    "jupyter.ipynb",
    "compact_r.ipynb",
    "four_spaces.ipynb",
);

pub(crate) fn fixture(name: &str) -> Notebook {
    let (_, bytes) = FIXTURES.iter().find(|(own, _)| *own == name).unwrap();
    let format = Format::detect(name, bytes).unwrap();
    Notebook::parse(bytes, format).unwrap()
}

pub(crate) fn sources(notebook: &Notebook) -> Vec<&str> {
    let cells = notebook.cells.iter();
    cells.map(|cell| cell.source.as_str()).collect()
}

#[test]
fn every_fixture_is_written_back_byte_for_byte() {
    for (name, bytes) in FIXTURES {
        assert_eq!(fixture(name).to_bytes(), *bytes, "{name}");
    }
}

#[test]
fn conversion_there_and_back_keeps_what_cells_say() {
    for (name, _) in FIXTURES {
        let notebook = fixture(name);
        let converted = match notebook.format() {
            Some(Format::Jupyter) => {
                let format = Format::Source(notebook.language);
                Notebook::parse(&notebook.to_source(), format).unwrap()
            }
            _ => Notebook::parse(&notebook.to_jupyter(), Format::Jupyter).unwrap(),
        };
        assert_eq!(converted.language, notebook.language, "{name}");
        let facts = |notebook: &Notebook| {
            let cells = notebook.cells.iter();
            cells
                .map(|cell| {
                    // Jupyter has no place for text on the line of `%md`.
                    let source = match cell.source.strip_prefix("%md ") {
                        Some(text) => format!("%md\n{text}"),
                        None => cell.source.clone(),
                    };
                    (cell.title.clone(), cell.title_hidden, source)
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(facts(&converted), facts(&notebook), "{name}");
    }
}
