use forebay_notebook::{Cell, CellKind, ExecCell, Language, Notebook, NotebookError};
use forebay_types::WorkspacePath;

use crate::fixture;

fn exec(language: Language, source: &str) -> ExecCell {
    let notebook = Notebook::new(language, vec![Cell::new(source)]);
    notebook.exec_cells().unwrap().remove(0)
}

fn python(source: &str) -> (CellKind, String, usize) {
    let cell = exec(Language::Python, source);
    (cell.kind, cell.source, cell.lines_before)
}

#[test]
fn a_driver_gets_plain_text_and_kinds() {
    let cells = fixture("sales.py").exec_cells().unwrap();
    let kinds: Vec<&str> = cells.iter().map(|cell| cell.kind.name()).collect();
    assert_eq!(
        kinds,
        ["md", "pip", "run", "python", "sql", "sh", "fs", "python"]
    );
    let sources: Vec<&str> = cells.iter().map(|cell| cell.source.as_str()).collect();
    assert_eq!(sources[1], "install \"tabulate>=0.9\" tenacity");
    assert_eq!(
        sources[2],
        "./../shared/paths $stage=\"dev\" $note='two words'"
    );
    assert_eq!(
        sources[4],
        "select region, sum(amount) as total\nfrom orders group by region"
    );
    assert_eq!(sources[5], "ls -l \\\n  /dbfs");
    assert_eq!(sources[6], "ls \"/FileStore/two words\"");
    assert!(sources[7].contains("\n%time _ = sorted") && sources[7].contains("\n!echo done\n"));
}

#[test]
fn the_json_form_is_the_documented_one() {
    let cell = exec(Language::Python, "x = 1");
    assert_eq!(
        serde_json::to_string(&cell).unwrap(),
        r#"{"index":0,"title":null,"kind":"python","source":"x = 1","language":"PYTHON"}"#
    );
    let cell = exec(Language::R, "%sql\nselect 1");
    let json = serde_json::to_string(&cell).unwrap();
    assert_eq!(
        json,
        r#"{"index":0,"title":null,"kind":"sql","source":"select 1","language":"SQL","lines_before":1}"#
    );
    assert_eq!(serde_json::from_str::<ExecCell>(&json).unwrap(), cell);
}

#[test]
fn the_first_line_decides_and_is_taken_off() {
    use CellKind::{Md, Python, R, Sh, Skip, Sql};
    let cases = [
        ("x = 1", (Python, "x = 1", 0)),
        ("", (Python, "", 0)),
        ("\n\n%sql\nselect 1", (Sql, "select 1", 3)),
        ("%sql select 1\nfrom t", (Sql, "select 1\nfrom t", 0)),
        ("%r\nx <- 1", (R, "x <- 1", 1)),
        ("%md-sandbox\n<b>", (Md, "<b>", 1)),
        ("%md # T", (Md, "# T", 0)),
        ("%sh -e\nls", (Sh, "ls", 1)),
        ("%sh ls -l\npwd", (Sh, "ls -l\npwd", 0)),
        ("%skip\nx", (Skip, "x", 1)),
        ("%python\n%time f()", (Python, "%time f()", 1)),
        ("%sqlx\nx", (Python, "%sqlx\nx", 0)),
    ];
    for (source, (kind, text, before)) in cases {
        assert_eq!(
            python(source),
            (kind, text.to_owned(), before),
            "{source:?}"
        );
    }
    assert_eq!(exec(Language::R, "x %in% y").kind, CellKind::R);
    assert_eq!(
        exec(Language::Scala, "%python\nx").language,
        Language::Python
    );
}

#[test]
fn options_of_sh_are_flags() {
    let cell = exec(Language::Python, "%sh -e -x\nls");
    assert_eq!((cell.flags.len(), cell.source.as_str()), (2, "ls"));
    let json = serde_json::to_value(&cell).unwrap();
    assert_eq!(json["flags"], serde_json::json!(["-e", "-x"]));
    assert!(exec(Language::Python, "%sh\nls").flags.is_empty());
}

#[test]
fn run_targets_are_resolved_from_the_notebook() {
    let own = WorkspacePath::parse("/Repos/me/project/jobs/sales").unwrap();
    let targets = fixture("sales.py").run_targets(&own).unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!(
        (targets[0].0, targets[0].1.as_str()),
        (2, "/Repos/me/project/shared/paths")
    );
    let error = |source: &str| {
        let notebook = Notebook::new(Language::Python, vec![Cell::new(source)]);
        notebook.run_targets(&own).unwrap_err().to_string()
    };
    assert_eq!(
        error("%run"),
        "cell 1 cannot be run: %run has no notebook path; write it as %run ./folder/notebook"
    );
    assert!(error("%run ../../../../../x").contains("must not contain '..'"));
}

#[test]
fn ipython_magics_stay_in_python_code() {
    for source in [
        "%time f()",
        "%%bash\nls",
        "%matplotlib inline\nimport x",
        "%env A=1",
        "!ls",
        "%restart_python",
        "import x\n%pip install y\n",
        "%pip install y\nimport y",
    ] {
        assert_eq!(python(source), (CellKind::Python, source.to_owned(), 0));
    }
}

#[test]
fn cells_of_pip_lines_only_are_pip() {
    let (kind, source, _) = python("# tools\n%pip install a \\\n  b\n\n%pip uninstall -y c");
    assert_eq!(
        (kind, source.as_str()),
        (CellKind::Pip, "install a b\nuninstall -y c")
    );
    assert_eq!(exec(Language::R, "%pip install a").kind, CellKind::Pip);
    assert_eq!(
        exec(Language::R, "%pip install a\nimport a").kind,
        CellKind::Python
    );
}

#[test]
fn run_must_be_alone_apart_from_comments() {
    assert_eq!(python("# first\n%run ./a\n# last\n").0, CellKind::Run);
    assert_eq!(
        python("  %run   ./a  \n"),
        (CellKind::Run, "./a".to_owned(), 0)
    );
    for (source, expected) in [
        ("%run ./a\nx = 1", 1),
        ("x = 1\n\n%run ./a", 3),
        ("%python\nx = 1\n%run ./a", 3),
    ] {
        let cells = vec![Cell::new("fine"), Cell::new(source)];
        let error = Notebook::new(Language::Python, cells)
            .exec_cells()
            .unwrap_err();
        assert!(
            matches!(error, NotebookError::RunNotAlone { cell: 2, line } if line == expected),
            "{source:?}: {error}"
        );
    }
    assert_eq!(
        NotebookError::RunNotAlone { cell: 2, line: 3 }.to_string(),
        "cell 2, line 3: %run must be alone in its cell, so move it to a cell of its own"
    );
}

#[test]
fn run_inside_strings_and_cell_magics_is_text() {
    for source in [
        "help = \"\"\"\n%run ./a\n\"\"\"",
        "help = 'it''s' # '''\nx = '''\n%run ./a\n'''",
        "x = \"\\\"\"\"\"\"\n%run y\n\"\"\"",
        "%%writefile x\n%run ./a",
        "x = f(\n    '%run')",
    ] {
        assert_eq!(python(source).0, CellKind::Python, "{source:?}");
    }
    assert!(
        Notebook::new(Language::Python, vec![Cell::new("x = '''a'''\n%run ./a")])
            .exec_cells()
            .is_err()
    );
}
