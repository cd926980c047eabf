//! Who names a library: tasks of jobs, and clusters.

use forebay_store::{ClusterLibrary, Job, LibraryRow};
use serde_json::{Map, Value};

/// The path by which jobs and clusters name the file of a library.
pub(crate) fn path_of(library: &LibraryRow) -> String {
    format!("dbfs:/FileStore/jars/{}", library.file)
}

/// Calls `with` for each task of a job, also those that a for-each has inside.
pub(crate) fn each_task<'a>(settings: &'a Map<String, Value>, mut with: impl FnMut(&'a Value)) {
    for task in list(settings, "tasks") {
        with(task);
        if let Some(inner) = task.pointer("/for_each_task/task") {
            with(inner);
        }
    }
}

fn list<'a>(of: &'a Map<String, Value>, field: &str) -> impl Iterator<Item = &'a Value> {
    of.get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Whether a list of libraries, or a single one, names the file.
pub(crate) fn names(library: &Value, path: &str) -> bool {
    let texts = library.as_object().into_iter().flat_map(Map::values);
    texts.filter_map(Value::as_str).any(|text| same(text, path))
}

/// `/dbfs/x` is `dbfs:/x`.
fn same(text: &str, path: &str) -> bool {
    let below = |text: &str| {
        let text = text.strip_prefix("dbfs:").or(text.strip_prefix("/dbfs"));
        text.map(|text| text.trim_start_matches('/').to_owned())
    };
    text == path || (below(text).is_some() && below(text) == below(path))
}

/// The keys of the tasks of a job that name the file.
pub(crate) fn tasks_of(job: &Job, path: &str) -> Vec<String> {
    let mut keys = Vec::new();
    each_task(&job.settings, |task| {
        let libraries = task.get("libraries").and_then(Value::as_array);
        let used = libraries.is_some_and(|all| all.iter().any(|one| names(one, path)));
        if let (true, Some(key)) = (used, task.get("task_key").and_then(Value::as_str)) {
            keys.push(key.to_owned());
        }
    });
    keys
}

/// Whether a library of a cluster is this file.
pub(crate) fn is_on(row: &ClusterLibrary, path: &str) -> bool {
    serde_json::from_str(&row.library).is_ok_and(|library: Value| names(&library, path))
}

/// The name of a job, for people to see.
pub(crate) fn name_of(job: &Job) -> String {
    let name = job.settings.get("name").and_then(Value::as_str);
    name.unwrap_or("Untitled").to_owned()
}
