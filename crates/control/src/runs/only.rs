//! A run of some of a job's tasks.

use std::collections::HashMap;

use forebay_engine::Plan;
use forebay_types::{Error, Result};
use serde_json::{Map, Value};

use crate::jobs::JobDocument;

/// Names for each task: by itself, with all before it, with all behind it.
const FORMS: usize = 3;

/// The settings with the tasks that `only` names: `KEY`, `+KEY` with all before it, `KEY+` with all
/// behind it. Nobody waits for a task that is left out, and who then waits for nobody runs
/// whatever its `run_if` says.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for a key that is no task, and for more names than there can be.
pub(super) fn only(document: JobDocument, only: &[String]) -> Result<JobDocument> {
    if only.is_empty() {
        return Ok(document);
    }
    let chosen = chosen(&document.plan, only)?;
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

/// By the index of the task. Each task is walked over twice at most, however many names there are.
fn chosen(plan: &Plan, only: &[String]) -> Result<Vec<bool>> {
    let max = FORMS * plan.tasks.len();
    if only.len() > max {
        return Err(Error::invalid(format!(
            "Field 'only' has {} names, at most {max} for the tasks of this job.",
            only.len()
        )));
    }
    let tasks = plan.tasks.iter().enumerate();
    let by_key: HashMap<&str, usize> = tasks.map(|(at, task)| (task.key.as_str(), at)).collect();
    let mut chosen = vec![false; plan.tasks.len()];
    let (mut with_before, mut with_behind) = (Vec::new(), Vec::new());
    for name in only {
        let key = name.strip_prefix('+').unwrap_or(name);
        let key = key.strip_suffix('+').unwrap_or(key);
        let task = *by_key.get(key).ok_or_else(|| {
            Error::invalid(format!(
                "Field 'only' names '{name}', and the job has no task '{key}'."
            ))
        })?;
        chosen[task] = true;
        if name.starts_with('+') {
            with_before.push(task);
        }
        if name.ends_with('+') {
            with_behind.push(task);
        }
    }
    let before = plan.with_upstream(&with_before);
    let behind = plan.with_dependents(&with_behind);
    for (is_chosen, (before, behind)) in chosen.iter_mut().zip(before.into_iter().zip(behind)) {
        *is_chosen |= before || behind;
    }
    Ok(chosen)
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

    #[test]
    fn no_more_names_are_looked_at_than_there_can_be() {
        let names = |count: usize| vec!["+e+".to_owned(); count];
        assert_eq!(only(job(), &names(15)).unwrap().plan.tasks.len(), 5);
        let error = only(job(), &names(16)).unwrap_err();
        assert!(error.message.contains("'only' has 16 names, at most 15"));
    }
}
