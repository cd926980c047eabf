//! A run of some of a job's tasks.

use forebay_types::{Error, Result};
use serde_json::{Map, Value};

use crate::jobs::JobDocument;

/// The settings with the tasks that `only` names: `KEY`, `+KEY` with all before it, `KEY+` with all
/// behind it. Nobody waits for a task that is left out, and who then waits for nobody runs
/// whatever its `run_if` says.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for a key that is no task.
pub(super) fn only(document: JobDocument, only: &[String]) -> Result<JobDocument> {
    if only.is_empty() {
        return Ok(document);
    }
    let plan = &document.plan;
    let mut chosen = vec![false; plan.tasks.len()];
    for name in only {
        let (before, key) = match name.strip_prefix('+') {
            Some(key) => (true, key),
            None => (false, name.as_str()),
        };
        let (behind, key) = match key.strip_suffix('+') {
            Some(key) => (true, key),
            None => (false, key),
        };
        let task = plan.tasks.iter().position(|task| task.key == key);
        let task = task.ok_or_else(|| {
            Error::invalid(format!(
                "Field 'only' names '{name}', and the job has no task '{key}'."
            ))
        })?;
        chosen[task] = true;
        if before {
            for (index, is_before) in plan.upstream(task).into_iter().enumerate() {
                chosen[index] |= is_before;
            }
        }
        if behind {
            for (index, is_chosen) in chosen.iter_mut().enumerate() {
                *is_chosen |= plan.upstream(index)[task];
            }
        }
    }
    let mut settings = document.settings;
    if let Some(Value::Array(tasks)) = settings.get_mut("tasks") {
        let mut is_chosen = chosen.iter();
        tasks.retain(|_| is_chosen.next().copied().unwrap_or(false));
        let keys: Vec<Value> = tasks.iter().map(|task| task["task_key"].clone()).collect();
        for task in tasks.iter_mut().filter_map(Value::as_object_mut) {
            forget_others(task, &keys);
        }
    }
    JobDocument::of_normal(settings)
}

fn forget_others(task: &mut Map<String, Value>, keys: &[Value]) {
    let Some(Value::Array(edges)) = task.get_mut("depends_on") else {
        return;
    };
    let waited = !edges.is_empty();
    edges.retain(|edge| keys.contains(&edge["task_key"]));
    if waited && edges.is_empty() {
        task.shift_remove("run_if");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// a -> b -> d, a -> c -> d, and e when all of d failed.
    fn job() -> JobDocument {
        let task = |key: &str, after: &[&str]| {
            let edges: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
            json!({"task_key": key, "depends_on": edges, "notebook_task": {"notebook_path": "/x"}})
        };
        let mut last = task("e", &["d"]);
        last["run_if"] = json!("ALL_FAILED");
        let tasks = [
            task("a", &[]),
            task("b", &["a"]),
            task("c", &["a"]),
            task("d", &["b", "c"]),
            last,
        ];
        let Value::Object(settings) = json!({"tasks": tasks}) else {
            unreachable!()
        };
        JobDocument::parse(settings).unwrap()
    }

    #[test]
    fn tasks_are_chosen_with_what_is_before_and_behind_them() {
        for (given, expected) in [
            (vec![], "a b(a) c(a) d(b c) e(d)"),
            (vec!["b"], "b"),
            (vec!["+b"], "a b(a)"),
            (vec!["b+"], "b d(b) e(d)"),
            (vec!["+c+", "b"], "a b(a) c(a) d(b c) e(d)"),
            (vec!["a", "d"], "a d"),
        ] {
            let given: Vec<String> = given.into_iter().map(str::to_owned).collect();
            let found = only(job(), &given).unwrap();
            let shown = found.plan.tasks.iter().map(|task| {
                let edges = task.depends_on.iter();
                let keys: Vec<&str> = edges
                    .map(|edge| found.plan.tasks[edge.task].key.as_str())
                    .collect();
                match keys.is_empty() {
                    true => task.key.clone(),
                    false => format!("{}({})", task.key, keys.join(" ")),
                }
            });
            assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{given:?}");
        }
    }

    #[test]
    fn who_waits_for_nobody_has_no_condition_and_unknown_keys_are_named() {
        let found = only(job(), &["e".to_owned()]).unwrap();
        assert!(found.settings["tasks"][0].get("run_if").is_none());
        let error = only(job(), &["+f".to_owned()]).unwrap_err();
        assert!(error.message.contains("'only'") && error.message.contains("'f'"));
    }
}
