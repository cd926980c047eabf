//! The crate graph against the table in ARCHITECTURE.md, and rules every crate keeps.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A row of the table.
struct Row {
    layer: u8,
    /// Crates of the same layer that this one may use.
    beside: Vec<String>,
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn metadata(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(args)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Rows look like `| 2 | exec-local | ... | exec |`; only those of the code map begin with a digit.
fn table() -> BTreeMap<String, Row> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if let ["", layer, name, _, beside, ""] = cells[..]
            && let Ok(layer) = layer.parse()
        {
            let beside = beside.split([',', ' ']).filter(|word| !word.is_empty());
            let beside = beside
                .map(|word| word.trim_matches('`').to_owned())
                .collect();
            rows.insert(name.trim_matches('`').to_owned(), Row { layer, beside });
        }
    }
    rows
}

fn short(name: &str) -> &str {
    name.strip_prefix("forebay-").unwrap_or(name)
}

#[test]
fn crates_use_lower_layers_only() {
    let metadata = metadata(&["--no-deps"]);
    let mut table = table();
    let mut problems = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    let rows: BTreeMap<_, _> = packages
        .iter()
        .map(|package| short(package["name"].as_str().unwrap()))
        .filter_map(|name| Some((name, table.remove(name)?)))
        .collect();
    for package in packages {
        let name = short(package["name"].as_str().unwrap());
        let Some(row) = rows.get(name) else {
            problems.push(format!("{name} has no row in ARCHITECTURE.md"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            // What only tests use may come from anywhere.
            if !used.starts_with("forebay-") || dependency["kind"] == "dev" {
                continue;
            }
            let used = short(used);
            let allowed = rows.get(used).is_some_and(|other| other.layer < row.layer)
                || row.beside.iter().any(|beside| beside == used);
            if !allowed {
                problems.push(format!("{name} may not use {used}"));
            }
        }
    }
    problems.extend(
        table
            .into_keys()
            .map(|name| format!("{name} is in the table only")),
    );
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_crate_inherits_the_lints() {
    let members = std::fs::read_dir(root().join("crates")).unwrap();
    let mut seen = 0;
    for member in members {
        let manifest = member.unwrap().path().join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&manifest) else {
            continue;
        };
        seen += 1;
        let inherits = text.contains("[lints]\nworkspace = true");
        assert!(
            inherits,
            "{} forgets `[lints] workspace = true`",
            manifest.display()
        );
    }
    assert!(seen > 5, "only {seen} crates found");
}
