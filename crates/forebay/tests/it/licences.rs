//! Every crate we build with has a licence that `deny.toml` allows, and comes from the registry.
//! The same rules as `cargo deny check licenses sources`, for machines without that program.

use std::collections::BTreeSet;
use std::process::Command;

use crate::architecture::metadata;

fn allowed() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deny.toml");
    let rules: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let allow = rules["licenses"]["allow"].as_array().unwrap();
    allow
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Whether an SPDX expression is met: `OR` is our choice, `AND` binds tighter.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let met = either(&mut rest, allowed);
    met && rest.is_empty()
}

fn either(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = both(rest, allowed);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        met |= both(rest, allowed);
    }
    met
}

fn both(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let [first, ..] = *rest else {
        return false;
    };
    *rest = &rest[1..];
    if *first == "(" {
        let met = either(rest, allowed);
        assert_eq!(rest.first(), Some(&")"), "unbalanced licence expression");
        *rest = &rest[1..];
        return met;
    }
    let mut name = (*first).to_owned();
    if let ["WITH", exception, ..] = *rest {
        name = format!("{name} WITH {exception}");
        *rest = &rest[2..];
    }
    allowed.contains(&name)
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT", "Zlib"].map(str::to_owned));
    for met in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(GPL-3.0 OR MIT) AND Zlib",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in ["GPL-3.0", "MIT AND GPL-3.0", "MIT WITH X", ""] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let about = String::from_utf8(rustc.stdout).unwrap();
    let host = about
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = metadata(&["--filter-platform", host]);
    let used: BTreeSet<_> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["id"].as_str().unwrap())
        .collect();
    let allowed = allowed();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        if !used.contains(package["id"].as_str().unwrap()) {
            continue;
        }
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_met(licence, &allowed) {
            problems.push(format!("{name}: '{licence}'"));
        }
        // Our own crates have no source; everything else comes from the registry.
        let source = package["source"].as_str().unwrap_or_default();
        let ours = name == "forebay" || name.starts_with("forebay-");
        if !source.starts_with("registry+") && !ours {
            problems.push(format!("{name}: comes from '{source}'"));
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
}
