use forebay_notebook::{Cell, Format, Language, Notebook, NotebookError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{fixture, sources};

fn parse(text: &str) -> Result<Notebook, NotebookError> {
    Notebook::parse(text.as_bytes(), Format::Jupyter)
}

fn text(notebook: &Notebook) -> String {
    String::from_utf8(notebook.to_jupyter()).unwrap()
}

#[test]
fn cells_of_all_types_are_read() {
    let notebook = fixture("jupyter.ipynb");
    assert_eq!(notebook.language, Language::Python);
    assert_eq!(
        sources(&notebook),
        [
            "%md\n# Title\nText with ümlaut",
            "%time\n1 + 2",
            "%skip\nkept as it is",
            "%sql\nselect 1"
        ]
    );
    assert_eq!(notebook.cells[1].title.as_deref(), Some("Add"));
    assert_eq!(fixture("compact_r.ipynb").language, Language::R);
    assert_eq!(fixture("four_spaces.ipynb").language, Language::Sql);
}

#[test]
fn an_edit_leaves_every_other_line_alone() {
    let mut notebook = fixture("jupyter.ipynb");
    let before = text(&notebook);
    notebook.cells[1].source = "%time\n1 + 4".to_owned();
    notebook.cells[2].source = "%skip\nnew".to_owned();
    let after = text(&notebook);
    let changed: Vec<(&str, &str)> = before
        .lines()
        .zip(after.lines())
        .filter(|(old, new)| old != new)
        .collect();
    assert_eq!(changed[0], ("    \"1 + 2\"", "    \"1 + 4\""));
    assert_eq!(
        changed[1],
        ("   \"source\": \"kept as it is\"", "   \"source\": [")
    );
    assert!(after.contains("2.50") && after.contains("1e5") && after.contains("☃"));
    assert_eq!(sources(&parse(&after).unwrap()), sources(&notebook));
}

#[test]
fn titles_types_and_order_can_change() {
    let mut notebook = fixture("jupyter.ipynb");
    notebook.cells[1].title = Some("Sum".to_owned());
    notebook.cells[1].title_hidden = true;
    notebook.cells[0].source = "x = 1".to_owned();
    notebook.cells.swap(2, 3);
    notebook.cells.push(Cell::new("last").titled("End"));
    notebook.cells.push(notebook.cells[1].clone());
    let read = parse(&text(&notebook)).unwrap();
    assert_eq!(sources(&read), sources(&notebook));
    assert_eq!(read.cells[1].title.as_deref(), Some("Sum"));
    assert!(read.cells[1].title_hidden);
    let value: Value = serde_json::from_str(&text(&notebook)).unwrap();
    let facts = &value["cells"][1]["metadata"]["application/vnd.databricks.v1+cell"];
    assert_eq!(
        *facts,
        json!({"title": "Sum", "showTitle": false, "nuid": "42-x"})
    );
    assert_eq!(value["cells"][0]["outputs"], json!([]));
    let ids: Vec<&str> = value["cells"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cell| cell["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["cell-0", "b2", "d4", "c3", "cell-1", "cell-2"]);
}

#[test]
fn the_layout_of_the_file_is_kept() {
    let mut compact = fixture("compact_r.ipynb");
    compact.cells[0].source = "x <- 2\n".to_owned();
    assert!(text(&compact).contains(r#""source":["x <- 2\n"]"#));
    assert!(!text(&compact).contains('\n'));
    let mut wide = fixture("four_spaces.ipynb");
    wide.cells[0].source = "select 1".to_owned();
    assert!(
        text(&wide)
            .contains("            \"source\": [\n                \"select 1\"\n            ]")
    );
    wide.cells.clear();
    assert!(text(&wide).contains("\"cells\": []"));
    wide.cells.push(Cell::new("select 2"));
    assert_eq!(sources(&parse(&text(&wide)).unwrap()), ["select 2"]);
}

#[test]
fn a_change_of_language_keeps_other_metadata() {
    let mut notebook = fixture("jupyter.ipynb");
    notebook.language = Language::Scala;
    let read = parse(&text(&notebook)).unwrap();
    assert_eq!(read.language, Language::Scala);
    assert!(text(&notebook).contains("☃"));
    let mut bare = parse(r#"{"cells":[],"nbformat":4}"#).unwrap();
    bare.language = Language::R;
    assert_eq!(parse(&text(&bare)).unwrap().language, Language::R);
}

#[test]
fn source_becomes_what_jupyter_users_expect() {
    let notebook = fixture("etl.scala");
    let value: Value = serde_json::from_slice(&notebook.to_jupyter()).unwrap();
    let cells = value["cells"].as_array().unwrap();
    assert_eq!(
        cells[0]["metadata"]["application/vnd.databricks.v1+cell"]["title"],
        "Numbers"
    );
    assert_eq!(cells[1]["cell_type"], "markdown");
    assert_eq!(
        cells[1]["source"],
        json!(["Text on the magic's line\n", "and below"])
    );
    assert_eq!(cells[2]["cell_type"], "code");
    assert_eq!(value["nbformat"], 4);
    let facts = &value["metadata"]["application/vnd.databricks.v1+notebook"];
    assert_eq!(facts["language"], "scala");
    let sql: Value = serde_json::from_slice(&fixture("sales.py").to_jupyter()).unwrap();
    assert_eq!(sql["cells"][4]["source"][0], "%sql\n");
}

#[test]
fn languages_come_from_whichever_metadata_names_them() {
    let cases = [
        (json!({}), Language::Python),
        (json!({"kernelspec": {"name": "ir"}}), Language::R),
        (json!({"kernelspec": {"name": "python3"}}), Language::Python),
        (
            json!({"kernelspec": {"language": "R", "name": "conda-env-x"}}),
            Language::R,
        ),
        (json!({"language_info": {"name": "scala"}}), Language::Scala),
        (
            json!({"kernelspec": {"name": "spylon-scala"}}),
            Language::Scala,
        ),
        (
            json!({"language_info": {"name": "python"},
                   "application/vnd.databricks.v1+notebook": {"language": "sql"}}),
            Language::Sql,
        ),
    ];
    for (metadata, language) in cases {
        let text = json!({"cells": [], "metadata": metadata, "nbformat": 4}).to_string();
        assert_eq!(parse(&text).unwrap().language, language, "{text}");
    }
    let julia = r#"{"cells":[],"metadata":{"language_info":{"name":"julia"}}}"#;
    assert!(matches!(parse(julia), Err(NotebookError::Language(name)) if name == "julia"));
}

#[test]
fn broken_documents_are_refused_with_their_place() {
    let place = |text: &str| match parse(text) {
        Err(NotebookError::Json {
            line,
            column,
            problem,
        }) => (line, column, problem),
        other => panic!("{other:?}"),
    };
    let (line, column, problem) = place("{\n \"cells\": [\n  {,}\n ]\n}");
    assert_eq!((line, column), (3, 4), "{problem}");
    assert_eq!(place("").0, 1);
    // A fault inside a cell that is valid JSON.
    let text = "{\"nbformat\": 4,\n \"cells\": [\n  {\"cell_type\": \"code\",\n   \"source\": 5}]}";
    let (line, column, problem) = place(text);
    assert_eq!((line, column), (4, 14), "{problem}");
    assert!(
        problem.contains("expected a string or a list of strings"),
        "{problem}"
    );
    assert!(
        place(r#"{"cells":[{"source":"x"}]}"#)
            .2
            .contains("cell_type")
    );
    assert!(matches!(
        parse("{\"nbformat\":4}"),
        Err(NotebookError::NoCells)
    ));
    assert!(matches!(
        parse(r#"{"nbformat":3,"worksheets":[]}"#),
        Err(NotebookError::OldJupyter(3))
    ));
    let error = Notebook::parse(b"{\n\"a\":\"\xff\"", Format::Jupyter).unwrap_err();
    assert!(
        matches!(error, NotebookError::NotUtf8 { line: 2, column: 6 }),
        "{error}"
    );
}

#[test]
fn deep_nesting_is_an_error_or_skipped_but_never_a_crash() {
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let outputs = format!(
        r#"{{"cells":[{{"cell_type":"code","source":"x","metadata":{{"a":{deep}}},"outputs":{deep}}}],"metadata":{{"b":{deep}}},"nbformat":4}}"#
    );
    let mut notebook = parse(&outputs).unwrap();
    assert_eq!(text(&notebook), outputs);
    notebook.cells[0].source = "y".to_owned();
    assert!(text(&notebook).contains(&deep));
    notebook.cells[0].title = Some("t".to_owned());
    assert_eq!(sources(&parse(&text(&notebook)).unwrap()), ["y"]);
    assert!(parse(&deep).is_err());
    let source = format!(r#"{{"cells":[{{"cell_type":"code","source":{deep}}}],"nbformat":4}}"#);
    assert!(parse(&source).is_err());
}

proptest! {
    #[test]
    fn edited_cells_are_read_back(
        edits in proptest::collection::vec((0_usize..5, "(%md\n|%skip\n|%sql\n)?[a-z\"\\\\ü\n]{0,10}"), 1..5)
    ) {
        let mut notebook = fixture("jupyter.ipynb");
        for (at, source) in edits {
            match notebook.cells.get_mut(at) {
                Some(cell) => cell.source = source,
                None => notebook.cells.push(Cell::new(source)),
            }
        }
        let read = parse(&text(&notebook)).unwrap();
        prop_assert_eq!(sources(&read), sources(&notebook));
        // Once written, it is stable.
        prop_assert_eq!(text(&read), text(&notebook));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let outcome = Notebook::parse(&bytes, Format::Jupyter);
        prop_assert!(outcome.is_err());
    }
}
