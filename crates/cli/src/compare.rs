//! Two runs side by side: where what came out of them differs first.

use serde::Serialize;
use serde_json::{Map, Value};

/// What came out of one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TaskResult {
    /// With the tasks above it, such as `each[2]/load`.
    pub(crate) task_key: String,
    /// Of an iteration.
    pub(crate) element: Option<String>,
    pub(crate) result_state: Option<String>,
    pub(crate) exit_value: Option<String>,
    pub(crate) error: Option<String>,
    /// The Spark engine that worked for it.
    pub(crate) engine: Option<String>,
    /// Outputs by cell, in the form of notebooks.
    pub(crate) cells: Vec<Vec<Value>>,
    /// What a script or wheel printed.
    pub(crate) logs: Option<String>,
}

/// The first difference of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    pub(crate) task_key: String,
    /// From 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cell: Option<usize>,
    /// Such as `output` or `exit value`.
    pub(crate) what: String,
    /// The first line that differs, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
    pub(crate) was: String,
    pub(crate) is: String,
}

/// One difference at most of each task, in the order of the first run's tasks.
pub(crate) fn differences(before: &[TaskResult], after: &[TaskResult]) -> Vec<Difference> {
    let of = |key: &str| after.iter().find(|task| task.task_key == key);
    let mut found: Vec<Difference> = before
        .iter()
        .filter_map(|task| match of(&task.task_key) {
            Some(other) => first(task, other),
            None => Some(difference(task, "task", "there", "not there")),
        })
        .collect();
    let is_new = |task: &&TaskResult| before.iter().all(|one| one.task_key != task.task_key);
    let new = after.iter().filter(is_new);
    found.extend(new.map(|task| difference(task, "task", "not there", "there")));
    found
}

fn difference(task: &TaskResult, what: &str, was: &str, is: &str) -> Difference {
    Difference {
        task_key: task.task_key.clone(),
        cell: None,
        what: what.to_owned(),
        line: None,
        was: was.to_owned(),
        is: is.to_owned(),
    }
}

/// What it was given first and then cells, because the rest follows from them.
fn first(before: &TaskResult, after: &TaskResult) -> Option<Difference> {
    if before.element != after.element {
        let text = |task: &TaskResult| task.element.clone().unwrap_or_default();
        return Some(difference(before, "element", &text(before), &text(after)));
    }
    let empty = Vec::new();
    let count = before.cells.len().max(after.cells.len());
    for cell in 0..count {
        let was = before.cells.get(cell).unwrap_or(&empty);
        let is = after.cells.get(cell).unwrap_or(&empty);
        let (was, is) = (pieces(was), pieces(is));
        for (name, was) in &was {
            let is = is.iter().find(|(other, _)| other == name);
            let is = is.map_or("", |(_, text)| text.as_str());
            if let Some(found) = texts(before, name, was, is) {
                return Some(Difference {
                    cell: Some(cell + 1),
                    ..found
                });
            }
        }
        let more = is
            .iter()
            .find(|(name, _)| was.iter().all(|(other, _)| other != name));
        if let Some((name, is)) = more {
            let found = texts(before, name, "", is)?;
            return Some(Difference {
                cell: Some(cell + 1),
                ..found
            });
        }
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let pairs = [
        ("output", &before.logs, &after.logs),
        ("exit value", &before.exit_value, &after.exit_value),
        ("error", &before.error, &after.error),
        ("result", &before.result_state, &after.result_state),
        ("engine", &before.engine, &after.engine),
    ];
    pairs.into_iter().find_map(|(name, was, is)| {
        if was == is {
            return None;
        }
        texts(before, name, &text(was), &text(is))
            .or_else(|| Some(difference(before, name, &text(was), &text(is))))
    })
}

/// What a cell put out, by stream or by place and media type. Counts of executions and traces say
/// nothing of the result.
fn pieces(outputs: &[Value]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (index, output) in outputs.iter().enumerate() {
        let text = |field: &str| joined(output.get(field).unwrap_or(&Value::Null));
        match output["output_type"].as_str() {
            Some("stream") => {
                let name = text("name");
                match found.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, all)) => all.push_str(&text("text")),
                    None => found.push((name, text("text"))),
                }
            }
            Some("error") => {
                let error = format!("{}: {}", text("ename"), text("evalue"));
                found.push(("error".to_owned(), error));
            }
            _ => {
                let nothing = Map::new();
                let data = output["data"].as_object().unwrap_or(&nothing);
                for (kind, value) in data {
                    found.push((format!("output {} as {kind}", index + 1), joined(value)));
                }
            }
        }
    }
    found
}

/// A text, which notebooks may hold as a list of lines.
fn joined(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) if lines.iter().all(Value::is_string) => {
            lines.iter().filter_map(Value::as_str).collect()
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A line without the time that the installer of packages took, which says nothing of the result.
fn timeless(line: &str) -> &str {
    const STEPS: [&str; 5] = [
        "Resolved ",
        "Prepared ",
        "Installed ",
        "Uninstalled ",
        "Audited ",
    ];
    let is_time = |text: &str| {
        let number = text.trim_end_matches(char::is_alphabetic);
        number.len() < text.len() && number.parse::<f64>().is_ok()
    };
    match line.rsplit_once(" in ") {
        Some((step, time)) if STEPS.iter().any(|one| line.starts_with(one)) && is_time(time) => {
            step
        }
        _ => line,
    }
}

fn texts(task: &TaskResult, what: &str, was: &str, is: &str) -> Option<Difference> {
    if was == is {
        return None;
    }
    let (mut before, mut after) = (was.lines(), is.lines());
    let mut line = 1;
    loop {
        let pair = (before.next(), after.next());
        match pair {
            (Some(was), Some(is)) if timeless(was) == timeless(is) => line += 1,
            // Only the end of the last line differs, or times.
            (None, None) if was.ends_with('\n') == is.ends_with('\n') => return None,
            (None, None) => return Some(difference(task, what, was, is)),
            (was, is) => {
                return Some(Difference {
                    line: Some(line),
                    ..difference(task, what, was.unwrap_or(""), is.unwrap_or(""))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(cells: Value) -> TaskResult {
        TaskResult {
            task_key: "main".to_owned(),
            result_state: Some("SUCCESS".to_owned()),
            cells: serde_json::from_value(cells).unwrap(),
            ..TaskResult::default()
        }
    }

    fn print(text: &str) -> Value {
        json!({"output_type": "stream", "name": "stdout", "text": text})
    }

    #[test]
    fn the_first_difference_is_found_and_named() {
        let value = |text: &str, count: u32| {
            json!({
                "output_type": "execute_result", "execution_count": count,
                "data": {"text/plain": text},
            })
        };
        let failed = |line: u32| {
            json!({
                "output_type": "error", "ename": "E", "evalue": "no",
                "traceback": [format!("line {line}")],
            })
        };
        let cases = [
            (
                json!([[print("a\nb\n")]]),
                json!([[print("a\n"), print("b\n")]]),
                None,
            ),
            (json!([[value("1", 1)]]), json!([[value("1", 9)]]), None),
            (json!([[failed(1)]]), json!([[failed(2)]]), None),
            (
                json!([[print("Installed 1 package in 3ms\n + a==1\n")]]),
                json!([[print("Installed 1 package in 1.2s\n + a==1\n")]]),
                None,
            ),
            (
                json!([[print("Installed 1 package in 3ms\n + a==1\n")]]),
                json!([[print("Installed 2 packages in 3ms\n + a==1\n")]]),
                Some((
                    1,
                    "stdout",
                    Some(1),
                    "Installed 1 package in 3ms",
                    "Installed 2 packages in 3ms",
                )),
            ),
            (
                json!([[print("x")], [print("a\nb\nc")]]),
                json!([[print("x")], [print("a\nB\nc")]]),
                Some((2, "stdout", Some(2), "b", "B")),
            ),
            (
                json!([[value("1", 1)]]),
                json!([[]]),
                Some((1, "output 1 as text/plain", Some(1), "1", "")),
            ),
            (
                json!([[]]),
                json!([[print("new")]]),
                Some((1, "stdout", Some(1), "", "new")),
            ),
        ];
        for (before, after, expected) in cases {
            let found = differences(&[task(before)], &[task(after)]);
            let found = found.first().map(|one| {
                (
                    one.cell.unwrap(),
                    one.what.as_str(),
                    one.line,
                    one.was.as_str(),
                    one.is.as_str(),
                )
            });
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn exit_values_results_and_tasks_count() {
        let before = task(json!([]));
        let exit = TaskResult {
            exit_value: Some("1".to_owned()),
            ..before.clone()
        };
        let found = differences(std::slice::from_ref(&before), &[exit]);
        assert_eq!(
            (found[0].what.as_str(), found[0].is.as_str()),
            ("exit value", "1")
        );
        let failed = TaskResult {
            result_state: Some("FAILED".to_owned()),
            ..before.clone()
        };
        let found = differences(std::slice::from_ref(&before), &[failed]);
        assert_eq!(
            (found[0].was.as_str(), found[0].is.as_str()),
            ("SUCCESS", "FAILED")
        );
        let found = differences(std::slice::from_ref(&before), &[]);
        assert_eq!(
            (found[0].what.as_str(), found[0].is.as_str()),
            ("task", "not there")
        );
        assert!(
            differences(std::slice::from_ref(&before), std::slice::from_ref(&before)).is_empty()
        );
    }
}
