//! How names of the API and names on disk follow from each other.

use std::fs;
use std::path::PathBuf;

use forebay_blob::{Root, Staging};
use forebay_notebook::{Format, Language};
use forebay_types::{ErrorCode, WorkspacePath};

use super::tree::{Form, Located, Tree, disk_name};

const PY: Form = Form::Notebook(Format::Source(Language::Python));
const R: Form = Form::Notebook(Format::Source(Language::R));
const SQL: Form = Form::Notebook(Format::Source(Language::Sql));
const JUPYTER: Form = Form::Notebook(Format::Jupyter);

const PY_HEADER: &str = "# Databricks notebook source\n";
const SQL_HEADER: &str = "-- Databricks notebook source\n";

struct Fixture {
    dir: tempfile::TempDir,
    tree: Tree,
    staging: Staging,
}

fn path(text: &str) -> WorkspacePath {
    WorkspacePath::parse(text).unwrap()
}

/// A tree with these files on disk.
fn tree(files: &[(&str, &str)]) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["root", "staging"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    for (name, text) in files {
        let file = dir.path().join("root").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let staging = Staging::open(&dir.path().join("staging")).unwrap();
    let tree = Tree::new(Root::open(&dir.path().join("root"), &staging).unwrap());
    Fixture { dir, tree, staging }
}

impl Fixture {
    fn disk(&self, name: &str) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    fn locate(&self, name: &str) -> Option<(String, String, Form)> {
        let found = self.tree.locate(&path(name)).unwrap()?;
        Some((found.path.to_string(), found.disk, found.form))
    }

    fn names(&self, folder: &str) -> Vec<(String, Form)> {
        let folder = self.tree.locate(&path(folder)).unwrap().unwrap();
        let children = self.tree.children(&folder).unwrap();
        children
            .into_iter()
            .map(|child| (child.path.name().to_owned(), child.form))
            .collect()
    }

    fn publish(&self, name: &str, form: Form, overwrite: bool) -> Result<(), Located> {
        let mut staged = self.staging.create().unwrap();
        let header = match form {
            Form::Notebook(Format::Source(Language::Sql)) => SQL_HEADER,
            Form::Notebook(Format::Source(_)) => PY_HEADER,
            _ => "{}",
        };
        staged.write(header.as_bytes()).unwrap();
        self.tree
            .publish(staged.seal().unwrap(), &path(name), form, overwrite)
            .unwrap()
    }
}

fn found(name: &str, disk: &str, form: Form) -> Option<(String, String, Form)> {
    Some((name.to_owned(), disk.to_owned(), form))
}

#[test]
fn a_checkout_is_a_folder_as_it_stands() {
    let f = tree(&[
        ("p/nb.py", PY_HEADER),
        ("p/module.py", "x = 1\n"),
        ("p/query.SQL", SQL_HEADER),
        ("p/book.ipynb", "{}"),
        ("p/data.csv", "a,b\n"),
        ("p/page.designer.ipynb", "{}"),
        ("p/Odd.Py", PY_HEADER),
        ("p/sub/deep.py", PY_HEADER),
    ]);
    let expected = [
        ("Odd.Py", PY),
        ("book", JUPYTER),
        ("data.csv", Form::File),
        ("module.py", Form::File),
        ("nb", PY),
        ("page.designer.ipynb", JUPYTER),
        ("query", SQL),
        ("sub", Form::Directory),
    ];
    let names = f.names("/p");
    assert_eq!(names, expected.map(|(name, form)| (name.to_owned(), form)));
    for (name, form) in names {
        let (api, disk, located) = f.locate(&format!("/p/{name}")).unwrap();
        assert_eq!(
            (api, located),
            (format!("/p/{name}"), form),
            "listed names are found"
        );
        let full = f.locate(&format!("/{disk}")).unwrap();
        assert_eq!(
            (full.0, full.2),
            (format!("/p/{name}"), form),
            "and full names lead to them"
        );
    }
    assert_eq!(f.locate("/p/module"), None);
    assert_eq!(f.locate("/p/nothing"), None);
    assert_eq!(f.locate("/"), found("/", "", Form::Directory));
}

#[test]
fn of_files_that_claim_one_name_each_keeps_one_of_its_own() {
    let f = tree(&[
        ("x.py", PY_HEADER),
        ("x.sql", SQL_HEADER),
        ("x.ipynb", "{}"),
        ("d/inside", ""),
        ("d.py", PY_HEADER),
        ("file.py", PY_HEADER),
        ("file", "plain"),
    ]);
    let expected = [
        ("d", Form::Directory),
        ("d.py", PY),
        ("file", Form::File),
        ("file.py", PY),
        ("x", PY),
        ("x.ipynb", JUPYTER),
        ("x.sql", SQL),
    ];
    assert_eq!(
        f.names("/"),
        expected.map(|(name, form)| (name.to_owned(), form))
    );
    for (name, form) in expected {
        let (api, _, located) = f.locate(&format!("/{name}")).unwrap();
        assert_eq!((api, located), (format!("/{name}"), form));
    }
}

#[test]
fn source_imports_keep_extensions_in_the_name() {
    let f = tree(&[]);
    f.publish("/test-master.r", R, false).unwrap();
    assert!(f.disk("test-master.r.r").is_file());
    // The header of the fixture is Python's and R's alike.
    assert_eq!(
        f.locate("/test-master.r"),
        found("/test-master.r", "test-master.r.r", R)
    );
    assert_eq!(
        disk_name(&path("/a/x.designer.ipynb"), JUPYTER),
        "a/x.designer.ipynb"
    );
    assert_eq!(disk_name(&path("/a/x.ipynb"), JUPYTER), "a/x.ipynb.ipynb");
}

#[test]
fn overwriting_in_another_language_leaves_one_notebook() {
    let f = tree(&[]);
    f.publish("/x", PY, false).unwrap();
    assert_eq!(f.publish("/x", SQL, false).unwrap_err().disk, "x.py");
    f.publish("/x", SQL, true).unwrap();
    assert_eq!(f.locate("/x"), found("/x", "x.sql", SQL));
    assert!(!f.disk("x.py").exists());
    f.publish("/x", JUPYTER, true).unwrap();
    assert_eq!(f.names("/"), [("x".to_owned(), JUPYTER)]);
}

#[test]
fn a_name_of_another_kind_is_in_the_way_even_with_overwrite() {
    let f = tree(&[
        ("dir/inside", ""),
        ("file", "plain"),
        ("nb.py", PY_HEADER),
        ("m.py", "x = 1\n"),
    ]);
    for (name, form) in [
        ("/dir", PY),
        ("/dir", Form::File),
        ("/file", PY),
        ("/nb", Form::File),
    ] {
        let existing = f.publish(name, form, true).unwrap_err();
        assert_eq!(existing.path.as_str(), name, "{form:?}");
    }
    // The plain file m.py would become the notebook m: not without being told to overwrite.
    assert_eq!(
        f.publish("/m", PY, false).unwrap_err().path.as_str(),
        "/m.py"
    );
    f.publish("/m", PY, true).unwrap();
    assert_eq!(f.locate("/m"), found("/m", "m.py", PY));
}

#[test]
fn folders_are_not_made_in_notebooks() {
    let f = tree(&[("nb.py", PY_HEADER), ("file", "")]);
    for name in ["/nb", "/nb/below", "/file", "/file/below"] {
        let error = f.tree.mkdirs(&path(name)).unwrap_err();
        assert_eq!(
            error.code,
            ErrorCode::ResourceAlreadyExists,
            "{name}: {error}"
        );
    }
    assert!(!f.disk("nb").exists());
    f.tree.mkdirs(&path("/a/b")).unwrap();
    f.tree.mkdirs(&path("/a/b")).unwrap();
}

#[test]
fn languages_of_jupyter_notebooks_are_read_again_when_the_file_changed() {
    let notebook = |language: &str| {
        format!(
            r#"{{"cells":[],"metadata":{{"language_info":{{"name":"{language}"}}}},"nbformat":4,"nbformat_minor":5}}"#
        )
    };
    let f = tree(&[("x.ipynb", &notebook("scala")), ("broken.ipynb", "{")]);
    let language = |name: &str| {
        let located = f.tree.locate(&path(name)).unwrap().unwrap();
        f.tree.language(&located, Format::Jupyter)
    };
    assert_eq!(language("/x"), Language::Scala);
    fs::write(f.disk("x.ipynb"), notebook("sql")).unwrap();
    assert_eq!(language("/x"), Language::Sql);
    assert_eq!(language("/broken"), Language::Python);
}
