use forebay_notebook::{
    Cell, Format, Language, Notebook, NotebookError, is_notebook_source, notebook_stem, with_header,
};
use proptest::prelude::*;

use crate::{FIXTURES, fixture, sources};

fn parse(text: &[u8], language: Language) -> Notebook {
    Notebook::parse(text, Format::Source(language)).unwrap()
}

#[test]
fn cells_titles_and_magics_are_read() {
    let notebook = fixture("sales.py");
    assert_eq!(notebook.language, Language::Python);
    assert_eq!(notebook.cells.len(), 8);
    assert_eq!(
        notebook.cells[0].source,
        "%md\n# Sales by region\n\nReads the *orders* file and adds up."
    );
    assert_eq!(notebook.cells[3].title.as_deref(), Some("Load the orders"));
    assert!(notebook.cells[3].source.starts_with("import csv\n\nwith"));
    assert!(notebook.cells[4].title_hidden);
    assert!(notebook.cells[4].source.starts_with("%sql\nselect"));
    assert!(notebook.cells[7].source.contains("\n%time _ = sorted"));
    assert_eq!(
        sources(&fixture("sales_crlf_bom.py")),
        sources(&notebook),
        "CRLF and a BOM do not change what is read"
    );
}

#[test]
fn untidy_separators_are_tolerated_and_lookalikes_are_not_separators() {
    let notebook = fixture("untidy.py");
    assert_eq!(
        sources(&notebook),
        [
            "x = 1",
            "y = 2   ",
            "\n%md\n  indented\n",
            "",
            "%sql select 1\n # COMMAND ---------- is not one when indented\n#COMMAND ----------\n\
             # COMMAND ----------extra",
            "z = \"no final newline\"",
        ]
    );
    assert_eq!(
        fixture("model.r").cells[2].title.as_deref(),
        Some("Coefficients, with a comma")
    );
    assert!(fixture("header_only.py").cells.is_empty());
}

#[test]
fn an_edit_changes_the_bytes_of_its_cell_only() {
    for (name, bytes) in FIXTURES.iter().filter(|(name, _)| !name.ends_with("ipynb")) {
        let mut notebook = fixture(name);
        let Some(cell) = notebook.cells.last_mut() else {
            continue;
        };
        cell.source = "edited = True".to_owned();
        cell.title = None;
        let written = notebook.to_source();
        let comment = notebook.language.comment();
        let separator = format!("{comment} COMMAND ----------");
        let text = String::from_utf8_lossy(bytes);
        let kept = text.rfind(&separator).unwrap() + separator.len();
        // Counted from lossy text, so only where the text is UTF-8.
        if std::str::from_utf8(bytes).is_ok() {
            assert_eq!(written[..kept], bytes[..kept], "{name}");
        }
        assert_eq!(
            sources(&parse(&written, notebook.language)),
            sources(&notebook)
        );
        let crlf = bytes.windows(2).any(|pair| pair == b"e\r");
        assert_eq!(written.ends_with(b"True\r\n"), crlf, "{name}");
    }
}

#[test]
fn text_from_a_browser_form_counts_as_unchanged() {
    for (name, bytes) in FIXTURES {
        let mut notebook = fixture(name);
        for cell in &mut notebook.cells {
            cell.source = cell.source.replace('\n', "\r\n");
        }
        assert_eq!(notebook.to_bytes(), *bytes, "{name}");
    }
}

#[test]
fn bytes_that_are_not_utf8_survive_an_edit_of_another_cell() {
    let mut notebook = fixture("latin1.r");
    assert!(notebook.cells[0].source.contains("caf\u{fffd}"));
    notebook.cells[1].source = "y <- 3".to_owned();
    let written = notebook.to_source();
    assert!(written.windows(4).any(|bytes| bytes == b"caf\xe9"));
    assert!(written.ends_with(b"y <- 3\n"));
}

#[test]
fn new_notebooks_look_as_the_service_exports_them() {
    let notebook = Notebook::new(
        Language::Sql,
        vec![
            Cell::new("select 1").titled("One"),
            Cell::new("%md\n# Two\n\ntext"),
            Cell::new("-- COMMAND ----------\nselect 3"),
        ],
    );
    insta::assert_snapshot!(String::from_utf8(notebook.to_source()).unwrap(), @r"
    -- Databricks notebook source
    -- DBTITLE 1,One
    select 1

    -- COMMAND ----------

    -- MAGIC %md
    -- MAGIC # Two
    -- MAGIC
    -- MAGIC text

    -- COMMAND ----------

    -- MAGIC -- COMMAND ----------
    select 3
    ");
}

#[test]
fn cells_can_be_moved_inserted_and_removed() {
    let mut notebook = fixture("untidy.py");
    let last = notebook.cells.pop().unwrap();
    notebook.cells.insert(0, last);
    notebook.cells.insert(2, Cell::new("new"));
    notebook.cells.remove(3);
    let read = parse(&notebook.to_source(), Language::Python);
    assert_eq!(sources(&read), sources(&notebook));
}

#[test]
fn a_change_of_language_rewrites_the_comments() {
    let mut notebook = fixture("report.sql");
    notebook.language = Language::Scala;
    let written = notebook.to_source();
    assert!(written.starts_with(b"// Databricks notebook source\nselect 1"));
    let read = parse(&written, Language::Scala);
    assert_eq!(sources(&read), sources(&notebook));
}

#[test]
fn text_without_a_header_is_one_cell_and_gets_a_header() {
    let notebook = parse(b"import this\n", Language::Python);
    assert_eq!(sources(&notebook), ["import this"]);
    assert_eq!(
        notebook.to_source(),
        b"# Databricks notebook source\nimport this\n"
    );
    let header = |text: &'static [u8], language| with_header(text, language).into_owned();
    assert_eq!(
        header(b"\xef\xbb\xbfselect 1\r\n", Language::Sql),
        b"\xef\xbb\xbf-- Databricks notebook source\r\nselect 1\r\n"
    );
    let present = b"# Databricks notebook source \r\nx";
    assert_eq!(header(present, Language::R), present);
}

#[test]
fn only_files_with_extension_and_header_are_notebooks() {
    let header = b"# Databricks notebook source\n".as_slice();
    assert_eq!(is_notebook_source("a.py", header), Some(Language::Python));
    assert_eq!(is_notebook_source("a.R", header), Some(Language::R));
    assert_eq!(is_notebook_source("a.sql", header), None);
    assert_eq!(is_notebook_source("a.txt", header), None);
    assert_eq!(is_notebook_source("py", header), None);
    assert_eq!(
        is_notebook_source("a.py", b"# Databricks notebook sourcery\n"),
        None
    );
    assert_eq!(
        is_notebook_source("a.py", b"\n# Databricks notebook source\n"),
        None
    );
    assert_eq!(
        is_notebook_source(
            "a.SQL",
            b"\xef\xbb\xbf-- Databricks notebook source\t \r\nselect"
        ),
        Some(Language::Sql)
    );
    assert_eq!(Format::detect("a.IPYNB", b""), Some(Format::Jupyter));
    let stems = [
        ("train.py", Some("train")),
        ("test.v2.R", Some("test.v2")),
        ("a.ipynb", Some("a")),
        ("a.designer.ipynb", Some("a.designer.ipynb")),
        ("README.md", None),
        (".py", None),
    ];
    for (name, stem) in stems {
        assert_eq!(notebook_stem(name), stem, "{name}");
    }
}

#[test]
fn languages_are_read_in_any_case_and_written_as_the_api_does() {
    assert_eq!("python".parse(), Ok(Language::Python));
    assert_eq!("SCALA".parse(), Ok(Language::Scala));
    assert!("julia".parse::<Language>().is_err());
    assert_eq!(serde_json::to_string(&Language::R).unwrap(), "\"R\"");
}

#[test]
fn a_notebook_above_the_limit_is_refused() {
    let error = Notebook::parse_within(b"12345", Format::Source(Language::R), 4).unwrap_err();
    assert!(matches!(
        error,
        NotebookError::TooLarge {
            size_bytes: 5,
            max_bytes: 4
        }
    ));
}

/// Lines that are likely to confuse: parts of the format, blanks, and bytes that are not text.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"",
        b" ",
        b"\t",
        b"x = 1",
        b"# COMMAND ----------",
        b"# COMMAND ---------- ",
        b"# COMMAND ---------",
        b"# MAGIC",
        b"# MAGIC ",
        b"# MAGIC %md",
        b"# MAGIC %sql select 1",
        b"# MAGIC # COMMAND ----------",
        b"# MAGICAL",
        b"# DBTITLE 1,a",
        b"# DBTITLE 0,b",
        b"# DBTITLE 1,",
        b"# DBTITLE x,c",
        b"# Databricks notebook source",
        b"%pip install a",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc2\xa0",
        b"\r",
    ];
    prop_oneof![
        4 => proptest::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

fn file() -> impl Strategy<Value = Vec<u8>> {
    let newline = || proptest::sample::select(vec!["\n", "\r\n", "\n"]);
    let lines = proptest::collection::vec((line(), newline()), 0..24);
    (any::<bool>(), newline(), lines, any::<bool>()).prop_map(|(bom, first, lines, cut)| {
        let mut bytes = if bom { vec![0xef, 0xbb, 0xbf] } else { vec![] };
        bytes.extend_from_slice(b"# Databricks notebook source");
        bytes.extend_from_slice(first.as_bytes());
        for (line, end) in lines {
            bytes.extend(line);
            bytes.extend_from_slice(end.as_bytes());
        }
        if cut {
            bytes.pop();
        }
        bytes
    })
}

fn cell() -> impl Strategy<Value = Cell> {
    let text = proptest::sample::select(vec![
        "",
        "\n",
        "\n\n",
        " ",
        "x",
        "x\n",
        "\nx",
        "%md\n\nx\n",
        "%md",
        "# MAGIC %md",
        "# COMMAND ----------",
        "# DBTITLE 1,no",
        "\n# DBTITLE 1,no",
        "# MAGIC",
        "\u{a0}",
        "%",
        "a\n# COMMAND ---------- \nb",
        "# Databricks notebook source",
        " \n%sql\n \n",
    ]);
    let any_text = "[a%# \n]{0,8}";
    let source = prop_oneof![3 => text.prop_map(str::to_owned), 1 => any_text];
    let title = proptest::option::of("[a-z ,]{1,6}");
    (source, title, any::<bool>()).prop_map(|(source, title, hidden)| {
        let mut cell = Cell::new(source);
        cell.title_hidden = hidden && title.is_some();
        cell.title = title;
        cell
    })
}

fn views(notebook: &Notebook) -> Vec<(Option<String>, bool, String)> {
    let cells = notebook.cells.iter();
    cells
        .map(|cell| (cell.title.clone(), cell.title_hidden, cell.source.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_source_is_written_back_byte_for_byte(
        bytes in file(),
        language in proptest::sample::select(Language::ALL.to_vec()),
    ) {
        let comment = language.comment().as_bytes();
        let bytes = bytes.split(|byte| *byte == b'#').collect::<Vec<_>>().join(comment);
        let notebook = parse(&bytes, language);
        prop_assert!(bytes.starts_with(b"\xef\xbb\xbf") || bytes.starts_with(comment));
        prop_assert_eq!(notebook.to_source(), bytes);
    }

    #[test]
    fn any_cells_are_read_back_as_written(cells in proptest::collection::vec(cell(), 0..6)) {
        let notebook = Notebook::new(Language::Python, cells);
        let read = parse(&notebook.to_source(), Language::Python);
        prop_assert_eq!(views(&read), views(&notebook));
    }

    #[test]
    fn any_edit_is_read_back_as_written(
        bytes in file(),
        edits in proptest::collection::vec((0_usize..8, 0_u8..4, cell()), 1..5),
    ) {
        let mut notebook = parse(&bytes, Language::Python);
        for (at, what, cell) in edits {
            let at = at.min(notebook.cells.len());
            match what {
                0 => notebook.cells.insert(at, cell),
                _ if at == notebook.cells.len() => notebook.cells.push(cell),
                1 => notebook.cells[at].source = cell.source,
                2 => { notebook.cells.remove(at); }
                _ => { let moved = notebook.cells.remove(at); notebook.cells.insert(0, moved); }
            }
        }
        let read = parse(&notebook.to_source(), Language::Python);
        prop_assert_eq!(views(&read), views(&notebook));
    }
}
