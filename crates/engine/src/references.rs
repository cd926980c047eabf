//! Dynamic value references: `{{job.run_id}}` and its kin, replaced in any text of a task.
//!
//! There are no expressions, and what a reference brings in is not looked at again. The parameters of
//! a job are texts like others, resolved before those that refer to them; what a run-job task gives as
//! parameters was resolved there, and stays as it is. Text between braces that is no name of ours
//! stays too, because notebooks and templates have braces of their own; a wrong name in a namespace of
//! ours is an error, because it is a slip.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use forebay_types::Millis;
use serde_json::{Map, Value};

use crate::civil::Civil;
use crate::task_output::TaskOutput;

/// The values a task may refer to.
#[derive(Debug, Clone, Default)]
pub struct References {
    /// By full name, such as `job.run_id`, `job.parameters.day` or the legacy `run_id`.
    pub values: BTreeMap<String, String>,
    /// By prefix, such as `job.start_time`; read with one of [`TIME_ARGUMENTS`].
    pub times: BTreeMap<String, Millis>,
    /// The tasks before this one, by key.
    pub tasks: BTreeMap<String, TaskReferences>,
    /// The element of the for-each that this is an iteration of.
    pub input: Option<Value>,
}

/// What `tasks.KEY` has.
#[derive(Debug, Clone, Default)]
pub struct TaskReferences {
    /// `run_id`, `result_state` and the like.
    pub facts: BTreeMap<&'static str, String>,
    /// What the task set with `dbutils.jobs.taskValues.set`.
    pub values: BTreeMap<String, Value>,
    pub output: TaskOutput,
}

/// What can be asked of a time; all in UTC.
pub const TIME_ARGUMENTS: [&str; 11] = [
    "iso_date",
    "iso_datetime",
    "iso_weekday",
    "is_weekday",
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "timestamp_ms",
];

/// A reference into a namespace we know, to a name we do not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    pub name: String,
    pub reason: String,
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the reference {{{{{}}}}} has no value in this run: {}",
            self.name, self.reason
        )
    }
}

impl std::error::Error for ReferenceError {}

/// The first parts of names that are ours.
const NAMESPACES: [&str; 6] = ["job", "task", "tasks", "workspace", "input", "backfill"];

/// Replaces every reference in `text`.
///
/// # Errors
/// When a name in a known namespace has no value.
pub fn resolve(text: &str, references: &References) -> Result<String, ReferenceError> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, whole, after)) = split(rest) {
        resolved.push_str(before);
        let value = match named(whole) {
            Some(parts) => references.value(&parts)?,
            None => None,
        };
        resolved.push_str(value.as_deref().unwrap_or(whole));
        rest = after;
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// The first pair of braces with all between them, and what is before and after.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let start = text.find("{{")?;
    let length = text[start..].find("}}")? + 2;
    let (before, from) = text.split_at(start);
    let (whole, after) = from.split_at(length);
    Some((before, whole, after))
}

/// The name that stands in a pair of braces, if it is one.
fn named(whole: &str) -> Option<Vec<String>> {
    parts(whole.strip_prefix("{{")?.strip_suffix("}}")?.trim())
}

/// Replaces every reference in every text of `value`; names of fields stay.
///
/// # Errors
/// As for [`resolve`].
pub fn resolve_all(value: &Value, references: &References) -> Result<Value, ReferenceError> {
    Ok(match value {
        Value::String(text) => Value::String(resolve(text, references)?),
        Value::Array(items) => {
            let items = items.iter().map(|item| resolve_all(item, references));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), resolve_all(value, references)?)));
            Value::Object(fields.collect::<Result<Map<_, _>, _>>()?)
        }
        other => other.clone(),
    })
}

/// Whether any text of `value` may hold a reference.
#[must_use]
pub fn may_refer(value: &Value) -> bool {
    any_text(value, &mut |text| text.contains("{{"))
}

/// Adds the keys of the tasks whose output any text of `value` refers to.
pub fn outputs_of(value: &Value, keys: &mut BTreeSet<String>) {
    any_text(value, &mut |text| {
        let mut rest = text;
        while let Some((_, whole, after)) = split(rest) {
            if let Some([tasks, key, field, ..]) = named(whole).as_deref()
                && tasks == "tasks"
                && field == "output"
            {
                keys.insert(key.clone());
            }
            rest = after;
        }
        false
    });
}

/// Whether one of the texts of `value` is what is looked for; those after it are not looked at.
fn any_text(value: &Value, is_it: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => is_it(text),
        Value::Array(items) => items.iter().any(|item| any_text(item, is_it)),
        Value::Object(fields) => fields.values().any(|item| any_text(item, is_it)),
        _ => false,
    }
}

/// The dotted parts of a name; odd ones stand between back-ticks. `None` for what is no name.
fn parts(name: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = name;
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('`') {
            (part, rest) = quoted.split_once('`')?;
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            (part, rest) = rest.split_at(end);
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
            if !part.chars().all(plain) {
                return None;
            }
        }
        if part.is_empty() {
            return None;
        }
        parts.push(part.to_owned());
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

impl References {
    /// `None` for a name that is not ours.
    fn value(&self, parts: &[String]) -> Result<Option<String>, ReferenceError> {
        let name = parts.join(".");
        if let Some(value) = self.values.get(&name) {
            return Ok(Some(value.clone()));
        }
        if !NAMESPACES.contains(&parts[0].as_str()) {
            return Ok(None);
        }
        let found = match parts[0].as_str() {
            "tasks" => self.of_task(&parts[1..]),
            "input" => self.of_input(&parts[1..]),
            "backfill" => Err("there are no backfills here".to_owned()),
            _ => self.of_time(parts),
        };
        found
            .map(Some)
            .map_err(|reason| ReferenceError { name, reason })
    }

    fn of_task(&self, parts: &[String]) -> Result<String, String> {
        let [key, field, rest @ ..] = parts else {
            return Err("it is written tasks.KEY.FIELD".to_owned());
        };
        let task = self
            .tasks
            .get(key)
            .ok_or_else(|| format!("no task '{key}' comes before this one"))?;
        match (field.as_str(), rest) {
            ("values", [_, ..]) => {
                let name = rest.join(".");
                let value = task.values.get(&name);
                let missing = || format!("task '{key}' has set no value '{name}'");
                value.map(shown).ok_or_else(missing)
            }
            ("output", _) => task.output.value(key, rest),
            (field, []) if task.facts.contains_key(field) => Ok(task.facts[field].clone()),
            _ => {
                let known: Vec<&str> = task.facts.keys().copied().collect();
                let known = known.join(", ");
                Err(format!("a task has {known}, values.NAME and output"))
            }
        }
    }

    fn of_input(&self, parts: &[String]) -> Result<String, String> {
        let input = self
            .input
            .as_ref()
            .ok_or("only the task of a for-each has an input")?;
        let mut at = input;
        for part in parts {
            at = at
                .get(part)
                .ok_or_else(|| format!("this input has no '{part}'"))?;
        }
        Ok(shown(at))
    }

    fn of_time(&self, parts: &[String]) -> Result<String, String> {
        let unknown = || format!("'{}' has no such name", parts[0]);
        let (argument, prefix) = parts.split_last().ok_or_else(unknown)?;
        let at = self.times.get(&prefix.join(".")).ok_or_else(unknown)?;
        time(*at, argument).ok_or_else(|| format!("a time has {}", TIME_ARGUMENTS.join(", ")))
    }
}

/// Text as it is, anything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn time(at: Millis, argument: &str) -> Option<String> {
    let civil = Civil::of(at);
    Some(match argument {
        "iso_date" => civil.date(),
        "iso_datetime" => civil.date_time(),
        "iso_weekday" => civil.weekday.to_string(),
        "is_weekday" => (civil.weekday <= 5).to_string(),
        "year" => civil.year.to_string(),
        "month" => civil.month.to_string(),
        "day" => civil.day.to_string(),
        "hour" => civil.hour.to_string(),
        "minute" => civil.minute.to_string(),
        "second" => civil.second.to_string(),
        "timestamp_ms" => at.0.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::task_output::Table;

    fn references() -> References {
        let texts = [
            ("job.run_id", "7"),
            ("job.parameters.day of", "mon"),
            ("job.parameters.a.b", "{{job.run_id}}"),
            ("run_id", "8"),
        ];
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let task = TaskReferences {
            facts: BTreeMap::from([("result_state", "success".to_owned())]),
            values: BTreeMap::from([
                ("n".to_owned(), json!([1, 2])),
                ("text".to_owned(), json!("plain")),
            ]),
            output: TaskOutput::Table(Arc::new(Table {
                columns: vec!["land".to_owned(), "the sum".to_owned()],
                rows: vec![vec![json!("nl"), json!(3)]],
                more: false,
            })),
        };
        References {
            values: texts.into_iter().map(own).collect(),
            times: BTreeMap::from([("job.start_time".to_owned(), Millis(1_700_000_000_123))]),
            tasks: BTreeMap::from([("load-it".to_owned(), task)]),
            input: Some(json!({"country": "nl", "rows": 3, "deep": {"x": null}})),
        }
    }

    #[test]
    fn known_names_are_replaced_and_strangers_stay() {
        let references = references();
        for (text, expected) in [
            ("r={{job.run_id}} {{ run_id }}", "r=7 8"),
            ("{{job.parameters.`day of`}}", "mon"),
            ("{{job.parameters.a.b}}", "{{job.run_id}}"),
            ("{{ user.name }} {{", "{{ user.name }} {{"),
            (
                "{{ job.run_id | upper }}{{}}{{job..id}}",
                "{{ job.run_id | upper }}{{}}{{job..id}}",
            ),
            ("ü{{run_id}}ü", "ü8ü"),
            ("{{tasks.load-it.values.n}}", "[1,2]"),
            ("{{tasks.`load-it`.values.text}}", "plain"),
            ("{{tasks.load-it.result_state}}", "success"),
            (
                "{{tasks.load-it.output.rows}}",
                "[{\"land\":\"nl\",\"the sum\":3}]",
            ),
            (
                "{{tasks.load-it.output.first_row.land}}{{ tasks.load-it.output.first_row.`the sum` }}",
                "nl3",
            ),
            (
                "{{input.country}}/{{input.rows}}/{{input.deep}}",
                "nl/3/{\"x\":null}",
            ),
            (
                "{{input}}",
                "{\"country\":\"nl\",\"rows\":3,\"deep\":{\"x\":null}}",
            ),
            ("{{job.start_time.iso_date}}", "2023-11-14"),
            ("{{job.start_time.iso_datetime}}", "2023-11-14T22:13:20Z"),
            (
                "{{job.start_time.iso_weekday}} {{job.start_time.is_weekday}}",
                "2 true",
            ),
            (
                "{{job.start_time.hour}}:{{job.start_time.timestamp_ms}}",
                "22:1700000000123",
            ),
        ] {
            assert_eq!(
                resolve(text, &references).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_slip_in_a_known_namespace_is_an_error_that_says_why() {
        let references = references();
        for (text, reason) in [
            ("{{tasks.x.values.y}}", "no task 'x' comes before this one"),
            ("{{tasks.load-it.values.y}}", "has set no value 'y'"),
            (
                "{{tasks.load-it.colour}}",
                "a task has result_state, values.NAME and output",
            ),
            ("{{job.parameters.none}}", "'job' has no such name"),
            ("{{job.start_time.week}}", "a time has iso_date"),
            (
                "{{tasks.load-it.output.first_row.city}}",
                "no column 'city'",
            ),
            ("{{tasks.load-it.output.alert_state}}", "no alerts here"),
            ("{{backfill.iso_date}}", "there are no backfills here"),
            ("{{input.city}}", "this input has no 'city'"),
        ] {
            let error = resolve(text, &references).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        let outside = resolve("{{input}}", &References::default()).unwrap_err();
        assert!(outside.reason.contains("for-each"), "{outside}");
    }

    #[test]
    fn every_text_of_a_task_is_resolved() {
        let task =
            json!({"op": "EQUAL_TO", "n": 1, "args": ["{{run_id}}", {"k": "{{job.run_id}}"}]});
        assert!(may_refer(&task));
        let resolved = resolve_all(&task, &references()).unwrap();
        assert_eq!(
            resolved,
            json!({"op": "EQUAL_TO", "n": 1, "args": ["8", {"k": "7"}]})
        );
        assert!(!may_refer(&resolved));
    }

    #[test]
    fn outputs_are_found_by_the_tasks_that_are_named() {
        let mut keys = BTreeSet::new();
        let task = json!({"output": "the output of {{tasks.no.values.output}}", "a": [
            "{{tasks.one.output.rows}} {{ tasks.`the two`.output.first_row.n }}", "{{output}}",
            "{{x {{tasks.three.output}}", 7]});
        outputs_of(&task, &mut keys);
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["one", "the two"]);
    }
}
