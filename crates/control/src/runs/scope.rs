//! What the texts of a task may refer to, and the task with all of that filled in.

use std::collections::{BTreeMap, BTreeSet};

use forebay_engine::{
    References, TaskOutput, TaskReferences, may_refer, outputs_of, resolve, resolve_all,
};
use forebay_store::{Attempt, Run, RunKind};
use forebay_types::{Error, JobId, Millis, Result, RunId};
use forebay_wire::lenient;
use serde_json::{Map, Value};

use super::{Inner, RunView, TRIGGER_INFO, run_job, table};
use crate::jobs::{JobDocument, TaskSpec};

/// A task as one attempt executes it.
#[derive(Debug, Clone)]
pub(crate) struct Scoped {
    /// Without references in any of its texts.
    pub(crate) task: TaskSpec,
    /// Those of the job: its defaults with what the caller of run-now gave over them.
    pub(crate) job_parameters: BTreeMap<String, String>,
    /// What else the caller of run-now gave, by its field.
    pub(crate) overriding: Map<String, Value>,
    pub(crate) home: HomeRun,
}

/// The run that an attempt belongs to in its user's eyes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HomeRun {
    pub(crate) run: RunId,
    pub(crate) job_id: Option<JobId>,
}

/// That of an iteration is the run that has the for-each.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn home_of(inner: &Inner, run: &Run) -> Result<HomeRun> {
    let parent = run
        .parent_attempt
        .filter(|_| run.kind == RunKind::Iteration);
    let above = match parent {
        Some(parent) => inner
            .store
            .attempt_get(parent)
            .await?
            .map(|(above, _)| above),
        None => None,
    };
    let home = above.as_ref().unwrap_or(run);
    Ok(HomeRun {
        run: home.id,
        job_id: home.job_id,
    })
}

/// The run that an attempt's names belong to. An iteration of a for-each has the names of the run
/// that has the for-each, as seen from there.
struct Home<'a> {
    run: &'a Run,
    document: &'a JobDocument,
    /// The place in `document` whose upstream tasks can be referred to.
    task: usize,
    input: Option<Value>,
}

/// # Errors
/// A reference without a value, with the reason.
pub(crate) async fn scoped(
    inner: &Inner,
    run: &Run,
    attempt: &Attempt,
    document: &JobDocument,
) -> Result<Scoped> {
    let Some(parent) = run
        .parent_attempt
        .filter(|_| run.kind == RunKind::Iteration)
    else {
        let home = Home {
            run,
            document,
            task: attempt.task,
            input: None,
        };
        return fill(inner, &home, run, attempt, document).await;
    };
    let gone = || Error::internal("the run of a for-each is gone", parent.to_string());
    let each = inner.store.attempt_look(parent).await?.ok_or_else(gone)?;
    let above = inner.definition(each.attempt.run_id, each.repair).await?;
    let above = above.map_err(|unreadable| unreadable.error)?;
    let home = Home {
        document: &above.document,
        run: &above.run,
        task: each.attempt.task,
        input: run.parameters.get("input").cloned(),
    };
    fill(inner, &home, run, attempt, document).await
}

async fn fill(
    inner: &Inner,
    home: &Home<'_>,
    run: &Run,
    attempt: &Attempt,
    document: &JobDocument,
) -> Result<Scoped> {
    let unknown = || Error::internal("the run has no such task", attempt.task_key.clone());
    let tasks = run.settings.get("tasks");
    let raw = tasks.and_then(|tasks| tasks.get(attempt.task));
    let raw = raw.and_then(Value::as_object).ok_or_else(unknown)?;
    let given = home.run.parameters.get("job_parameters");
    let mut job_parameters = job_parameters(home, given);
    let mut overriding = home.run.parameters.clone();
    overriding.shift_remove("job_parameters");
    overriding.shift_remove(TRIGGER_INFO);
    // Most tasks refer to nothing, and need not pay for what they could refer to.
    let top = HomeRun {
        run: home.run.id,
        job_id: home.run.job_id,
    };
    let plain = !raw.values().any(may_refer)
        && !overriding.values().any(may_refer)
        && !job_parameters.values().any(|value| value.contains("{{"));
    if plain {
        let task = document.spec.tasks.get(attempt.task);
        return Ok(Scoped {
            task: task.cloned().ok_or_else(unknown)?,
            job_parameters,
            overriding,
            home: top,
        });
    }
    // Tables lie in files, which are read for those who ask.
    let mut wanted = BTreeSet::new();
    let parameters = home.run.parameters.values();
    for value in raw.values().chain(parameters) {
        outputs_of(value, &mut wanted);
    }
    for value in job_parameters.values() {
        outputs_of(&Value::String(value.clone()), &mut wanted);
    }
    let mut references = references(inner, home, attempt, &wanted).await?;
    // What a run-job task gives was resolved there, and what that brought in is not looked at again.
    let is_given = home.run.trigger == run_job::TRIGGER;
    let open = |name: &str| !is_given || given.is_none_or(|given| given.get(name).is_none());
    for (name, value) in job_parameters.iter_mut().filter(|(name, _)| open(name)) {
        *value = resolve(value, &references)
            .map_err(|e| Error::invalid(format!("Job parameter '{name}': {e}")))?;
    }
    for (name, value) in &job_parameters {
        let name = format!("job.parameters.{name}");
        references.values.insert(name, value.clone());
    }
    let key = &attempt.task_key;
    let wrong = |e| Error::invalid(format!("Task '{key}': {e}"));
    for value in overriding.values_mut().filter(|_| !is_given) {
        *value = resolve_all(value, &references).map_err(wrong)?;
    }
    let resolved = resolved(raw, &references).map_err(wrong)?;
    if brings_secret(raw.get("new_cluster"), resolved.get("new_cluster")) {
        return Err(Error::invalid(format!(
            "Task '{key}': a reference to a secret in 'new_cluster' cannot come from a parameter."
        )));
    }
    Ok(Scoped {
        task: lenient::from_map(resolved)?,
        job_parameters,
        overriding,
        home: top,
    })
}

/// Whether filling in made a reference to a secret: who may give parameters may not choose whose
/// secrets the run reads.
fn brings_secret(before: Option<&Value>, after: Option<&Value>) -> bool {
    match (before, after) {
        (_, Some(Value::String(after))) => {
            let was = before.and_then(Value::as_str);
            after.contains("{{secrets/") && was != Some(after)
        }
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut fields = after.iter();
            fields.any(|(name, value)| brings_secret(before.get(name), Some(value)))
        }
        _ => false,
    }
}

/// Everything but what names the task, and the inner task of a for-each: its texts are resolved by
/// each iteration.
fn resolved(
    raw: &Map<String, Value>,
    references: &References,
) -> Result<Map<String, Value>, forebay_engine::ReferenceError> {
    let mut task = raw.clone();
    for (field, value) in &mut task {
        match (field.as_str(), value) {
            ("task_key" | "depends_on" | "description", _) => {}
            ("for_each_task", Value::Object(each)) => {
                if let Some(inputs) = each.get_mut("inputs") {
                    *inputs = resolve_all(inputs, references)?;
                }
            }
            (_, value) => *value = resolve_all(value, references)?,
        }
    }
    Ok(task)
}

fn job_parameters(home: &Home<'_>, given: Option<&Value>) -> BTreeMap<String, String> {
    let declared = home.document.spec.parameters.iter();
    let mut parameters: BTreeMap<String, String> = declared
        .map(|p| (p.name.clone(), p.default.clone()))
        .collect();
    parameters.extend(texts(given));
    parameters
}

/// A map of anything as texts.
pub(crate) fn texts(value: Option<&Value>) -> impl Iterator<Item = (String, String)> {
    let map = value
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    map.into_iter().map(|(key, value)| (key, text(value)))
}

pub(crate) fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

async fn references(
    inner: &Inner,
    home: &Home<'_>,
    attempt: &Attempt,
    wanted: &BTreeSet<String>,
) -> Result<References> {
    let run = home.run;
    let job_id = run.job_id.map(|id| id.to_string()).unwrap_or_default();
    let execution_count = (attempt.attempt + 1).to_string();
    let repairs = inner.store.run_repairs(run.id).await?.len();
    let mut times = BTreeMap::from([("job.start_time".to_owned(), run.created_at)]);
    let info = run.parameters.get(TRIGGER_INFO).unwrap_or(&Value::Null);
    let due = info["time"].as_i64().map_or(run.created_at, Millis);
    times.insert("job.trigger.time".to_owned(), due);
    let started = References {
        times: times.clone(),
        ..References::default()
    };
    let start_date = resolve("{{job.start_time.iso_date}}", &started).unwrap_or_default();
    let mut values: BTreeMap<String, String> = [
        ("job.id", job_id.clone()),
        ("job.name", run.name.clone()),
        ("job.run_id", run.id.to_string()),
        ("job.repair_count", repairs.to_string()),
        ("job.trigger.type", run.trigger.to_ascii_lowercase()),
        ("task.name", attempt.task_key.clone()),
        ("task.run_id", attempt.id.to_string()),
        ("task.execution_count", execution_count),
        ("workspace.id", inner.workspace_id.to_string()),
        ("workspace.url", inner.setup.public_url.clone()),
        ("job_id", job_id),
        ("run_id", attempt.id.to_string()),
        ("parent_run_id", run.id.to_string()),
        ("task_key", attempt.task_key.clone()),
        ("task_retry_count", attempt.attempt.to_string()),
        ("start_time", run.created_at.0.to_string()),
        ("start_date", start_date),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let setting = |path: &str| run.settings.get("trigger")?.pointer(path)?.as_str();
    if let Some(url) = setting("/file_arrival/url") {
        values.insert(
            "job.trigger.file_arrival.location".to_owned(),
            url.to_owned(),
        );
        let files = info["file_arrival"].get("files");
        let files = files.map_or_else(|| "[]".to_owned(), Value::to_string);
        values.insert("job.trigger.file_arrival.files".to_owned(), files);
    }
    let own = home.document.spec.tasks.get(home.task);
    if let Some(path) = own.and_then(|task| task.notebook_path()) {
        values.insert("task.notebook_path".to_owned(), path.to_owned());
    }
    Ok(References {
        values,
        times,
        tasks: tasks(inner, home, wanted).await?,
        input: home.input.clone(),
    })
}

/// What the tasks before this one came to, with the tables of those that are `wanted`.
async fn tasks(
    inner: &Inner,
    home: &Home<'_>,
    wanted: &BTreeSet<String>,
) -> Result<BTreeMap<String, TaskReferences>> {
    let upstream = home.document.plan.upstream(home.task);
    let mut tasks = BTreeMap::new();
    if !upstream.contains(&true) {
        return Ok(tasks);
    }
    let (_, attempts) = inner.store.run_get(home.run.id).await?;
    for attempt in RunView::newest_of(&attempts) {
        if upstream.get(attempt.task) != Some(&true) {
            continue;
        }
        let verdict = attempt.phase.verdict();
        let mut facts = BTreeMap::from([
            ("run_id", attempt.id.to_string()),
            ("result_state", verdict.map_or("", result_state).to_owned()),
            ("error_code", error_code(attempt)),
            ("execution_count", (attempt.attempt + 1).to_string()),
        ]);
        let spec = home.document.spec.tasks.get(attempt.task);
        if let Some(path) = spec.and_then(|task| task.notebook_path()) {
            facts.insert("notebook_path", path.to_owned());
        }
        let is_sql = spec.is_some_and(|task| task.sql_task.is_some());
        let output = if is_sql && wanted.contains(&attempt.task_key) {
            table::of(inner, attempt).await?
        } else {
            TaskOutput::None
        };
        let task = TaskReferences {
            facts,
            values: BTreeMap::new(),
            output,
        };
        tasks.insert(attempt.task_key.clone(), task);
    }
    if !tasks.is_empty() {
        for (key, name, value) in inner.store.task_values(home.run.id).await? {
            if let Some(task) = tasks.get_mut(&key) {
                task.values.insert(name, value);
            }
        }
    }
    Ok(tasks)
}

fn result_state(verdict: forebay_engine::Verdict) -> &'static str {
    use forebay_engine::Verdict as V;
    match verdict {
        V::Succeeded | V::SucceededWithFailures => "success",
        V::Failed | V::InternalError | V::Skipped => "failed",
        V::TimedOut => "timedout",
        V::Canceled => "canceled",
        V::UpstreamFailed => "upstream_failed",
        V::UpstreamCanceled => "upstream_canceled",
        V::Excluded | V::Disabled => "excluded",
    }
}

/// `RunExecutionError` for the termination code `RUN_EXECUTION_ERROR`; empty for a success.
fn error_code(attempt: &Attempt) -> String {
    let fine = attempt
        .phase
        .verdict()
        .is_some_and(forebay_engine::Verdict::is_fine);
    let code = attempt
        .code
        .as_deref()
        .filter(|_| !fine)
        .unwrap_or_default();
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(String::from).unwrap_or_default();
        first + &letters.as_str().to_ascii_lowercase()
    };
    code.split('_').map(word).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_inner_task_of_a_for_each_is_left_to_its_iterations() {
        let references = References {
            values: BTreeMap::from([("job.id".to_owned(), "7".to_owned())]),
            ..References::default()
        };
        let raw = json!({
            "task_key": "{{job.id}}",
            "for_each_task": {"inputs": "[{{job.id}}]", "task": {"x": "{{input}}"}},
            "libraries": [{"whl": "/x/{{job.id}}.whl"}],
        });
        let expected = json!({
            "task_key": "{{job.id}}",
            "for_each_task": {"inputs": "[7]", "task": {"x": "{{input}}"}},
            "libraries": [{"whl": "/x/7.whl"}],
        });
        let done = resolved(raw.as_object().unwrap(), &references).unwrap();
        assert_eq!(Value::Object(done), expected);
    }
}
