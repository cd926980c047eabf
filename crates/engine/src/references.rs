//! Dynamic value references: `{{job.run_id}}` and its kin, replaced in any text of a task.

use std::collections::BTreeMap;
use std::fmt;

/// The values a task may refer to, by their full names such as `job.run_id`.
#[derive(Debug, Clone, Default)]
pub struct References(pub BTreeMap<String, String>);

/// A reference into a namespace we know, to a name we do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError(pub String);

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the reference {{{{{}}}}} has no value in this run",
            self.0
        )
    }
}

impl std::error::Error for ReferenceError {}

/// The first parts of names that are ours; anything else between braces is left as it stands,
/// because notebooks and templates have braces of their own.
const NAMESPACES: [&str; 5] = ["job", "task", "tasks", "workspace", "input"];

/// Replaces every reference in `text`. Blanks inside the braces and back-ticks around parts of a
/// name are allowed.
///
/// # Errors
/// When a name in a known namespace has no value.
pub fn resolve(text: &str, references: &References) -> Result<String, ReferenceError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else {
            break;
        };
        let (before, from) = rest.split_at(start);
        let (whole, after) = from.split_at(length + 2);
        let name = whole[2..length].trim().replace('`', "");
        resolved.push_str(before);
        let namespace = name.split('.').next().unwrap_or_default();
        match references.0.get(&name) {
            Some(value) => resolved.push_str(value),
            None if NAMESPACES.contains(&namespace) => return Err(ReferenceError(name)),
            None => resolved.push_str(whole),
        }
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_replaced_and_strangers_stay() {
        let values = [
            ("job.run_id", "7"),
            ("job.parameters.day of", "mon"),
            ("run_id", "8"),
        ];
        let references = References(
            values
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        );
        let check = |text: &str, expected: &str| {
            assert_eq!(
                resolve(text, &references).as_deref(),
                Ok(expected),
                "{text}"
            );
        };
        check("r={{job.run_id}} {{ run_id }}", "r=7 8");
        check("{{job.parameters.`day of`}}", "mon");
        check("{{ user.name }} {{", "{{ user.name }} {{");
        check("ü{{run_id}}ü", "ü8ü");
        assert_eq!(
            resolve("{{tasks.a.values.x}}", &references),
            Err(ReferenceError("tasks.a.values.x".to_owned()))
        );
    }
}
