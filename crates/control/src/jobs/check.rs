//! What a job's settings must keep to, and the plan that they come down to.

use std::str::FromStr;

use forebay_engine::{CONCURRENCY_MAX, Comparison, Plan, RunIf, TaskPlan, elements};
use forebay_types::{Error, Result};
use serde_json::Map;

use super::spec::{Dependency, Spec, TaskSpec};
use super::when;
use crate::clusters;

const NAME_BYTES_MAX: usize = 4096;
const DESCRIPTION_BYTES_MAX: usize = 27_700;
const TAGS_MAX: usize = 25;
/// Of the parameters that a task's definition gives its program, as JSON.
const PARAMETERS_BYTES_MAX: usize = 1 << 20;

/// # Errors
/// The first thing that is wrong, by field and task.
pub(super) fn check(spec: &Spec) -> Result<()> {
    if spec
        .name
        .as_ref()
        .is_some_and(|name| name.len() > NAME_BYTES_MAX)
    {
        return Err(Error::invalid(format!(
            "Field 'name' has more than {NAME_BYTES_MAX} bytes."
        )));
    }
    if spec
        .description
        .as_ref()
        .is_some_and(|text| text.len() > DESCRIPTION_BYTES_MAX)
    {
        return Err(Error::invalid(format!(
            "Field 'description' has more than {DESCRIPTION_BYTES_MAX} bytes."
        )));
    }
    let tags = spec.tags.as_ref().map_or(0, Map::len);
    if tags > TAGS_MAX {
        return Err(Error::invalid(format!(
            "Field 'tags' has {tags} tags, at most {TAGS_MAX}."
        )));
    }
    if let Some(max) = spec.max_concurrent_runs
        && !(0..=1000).contains(&max)
    {
        return Err(Error::invalid(format!(
            "Field 'max_concurrent_runs' is {max}; 0 to 1000."
        )));
    }
    within("timeout_seconds", spec.timeout_seconds, 0)?;
    for parameter in &spec.parameters {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if parameter.name.is_empty() || !parameter.name.chars().all(plain) {
            return Err(Error::invalid(format!(
                "Parameter name '{}' is not valid: letters, digits, '_', '-' and '.'.",
                parameter.name
            )));
        }
    }
    spec.own.check(spec)?;
    if let Some(source) = &spec.git_source {
        source.check()?;
    }
    when::check(spec)?;
    spec.tasks
        .iter()
        .try_for_each(|task| check_task(spec, task))
}

/// References to secrets in the clusters that a job defines. Not in what is stored already: older
/// servers took them as they came.
///
/// # Errors
/// The first that is none, by task and field.
pub(super) fn check_references(spec: &Spec) -> Result<()> {
    let of_tasks = spec.tasks.iter().filter_map(|task| {
        let whose = format!("Task '{}'", task.task_key);
        let task = task.for_each_task.as_ref().map_or(task, |each| &each.task);
        Some((whose, task.new_cluster.as_ref()?))
    });
    let shared = spec.job_clusters.iter().map(|cluster| {
        let whose = format!("Job cluster '{}'", cluster.job_cluster_key);
        (whose, &cluster.new_cluster)
    });
    for (whose, settings) in of_tasks.chain(shared) {
        clusters::check_references(settings)
            .map_err(|e| Error::new(e.code, format!("{whose}: {}", e.message)))?;
    }
    Ok(())
}

/// What a task says about where its code lies.
fn check_code(spec: &Spec, task: &TaskSpec) -> Result<()> {
    let key = &task.task_key;
    if task.sql_task.as_ref().is_some_and(|sql| sql.file.is_none()) {
        return Err(Error::invalid(format!(
            "Field 'sql_task' of task '{key}' has no 'file': give one, such as {{\"path\": \"/Shared/report.sql\"}}."
        )));
    }
    if let Some((_, Some(source))) = task.code()
        && !["GIT", "WORKSPACE"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(source))
    {
        return Err(Error::invalid(format!(
            "Field 'source' of task '{key}' is '{source}'; use WORKSPACE or GIT."
        )));
    }
    let Some(path) = task.path_in_git(spec) else {
        return Ok(());
    };
    if spec.git_source.is_none() {
        return Err(Error::invalid(format!(
            "Task '{key}' has source GIT, and there is no 'git_source'."
        )));
    }
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.is_empty() {
        return Err(Error::invalid(format!(
            "The path of task '{key}' is '{path}'; with source GIT it is relative to the root of \
             the repository, without '..', such as 'notebooks/etl'."
        )));
    }
    Ok(())
}

/// The largest number of a setting: what 32 bits hold, as clients' own types do.
fn within(field: &str, value: i64, min: i64) -> Result<()> {
    if (min..=i64::from(i32::MAX)).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Field '{field}' is {value}; {min} to {} is allowed.",
        i32::MAX
    )))
}

fn check_task(spec: &Spec, task: &TaskSpec) -> Result<()> {
    let key = &task.task_key;
    check_code(spec, task)?;
    if let Some(cluster) = &task.job_cluster_key
        && !spec
            .job_clusters
            .iter()
            .any(|known| known.job_cluster_key == *cluster)
    {
        return Err(Error::invalid(format!(
            "Task '{key}' names job_cluster_key '{cluster}', which is not in 'job_clusters'."
        )));
    }
    let places = [
        task.existing_cluster_id.is_some(),
        task.new_cluster.is_some(),
        task.job_cluster_key.is_some(),
    ];
    if places.into_iter().filter(|given| *given).count() > 1 {
        return Err(Error::invalid(format!(
            "Task '{key}' has more than one of existing_cluster_id, new_cluster, job_cluster_key."
        )));
    }
    for (field, value, min) in [
        ("timeout_seconds", task.timeout_seconds, 0),
        (
            "min_retry_interval_millis",
            task.min_retry_interval_millis,
            0,
        ),
        ("max_retries", task.max_retries, -1),
    ] {
        within(&format!("{field}' of task '{key}"), value, min)?;
    }
    spec.environment_libraries(task)?;
    if let Some(notebook) = &task.notebook_task {
        let given = &notebook.base_parameters;
        let bytes = serde_json::to_string(given).map_or(0, |text| text.len());
        if bytes > PARAMETERS_BYTES_MAX {
            return Err(Error::invalid(format!(
                "Field 'base_parameters' of task '{key}' has {bytes} bytes as JSON, at most \
                 {PARAMETERS_BYTES_MAX}."
            )));
        }
    }
    check_control_flow(spec, task)
}

/// Conditions and for-eaches, by field and task.
fn check_control_flow(spec: &Spec, task: &TaskSpec) -> Result<()> {
    let key = &task.task_key;
    if let Some(condition) = &task.condition_task
        && Comparison::from_str(&condition.op).is_err()
    {
        let known: Vec<&str> = Comparison::ALL.iter().map(|(_, name)| *name).collect();
        return Err(Error::invalid(format!(
            "Task '{key}': condition_task.op '{}' is not one of {}.",
            condition.op,
            known.join(", ")
        )));
    }
    for dependency in task.depends_on.iter().filter(|on| on.outcome.is_some()) {
        let before = &dependency.task_key;
        let mut tasks = spec.tasks.iter();
        let known = tasks.find(|task| task.task_key == *before);
        if known.is_some_and(|task| task.condition_task.is_none()) {
            return Err(Error::invalid(format!(
                "Task '{key}' needs an outcome of task '{before}', which is no condition_task."
            )));
        }
    }
    let Some(each) = &task.for_each_task else {
        return Ok(());
    };
    let max = i64::try_from(CONCURRENCY_MAX).unwrap_or(i64::MAX);
    if !(1..=max).contains(&each.concurrency) {
        return Err(Error::invalid(format!(
            "Task '{key}': for_each_task.concurrency is {}; 1 to {max}.",
            each.concurrency
        )));
    }
    // What a reference stands for shows when the task's turn comes.
    if !each.inputs.contains("{{") {
        elements(&each.inputs).map_err(|e| Error::invalid(format!("Task '{key}': {e}.")))?;
    }
    if each.task.for_each_task.is_some() {
        return Err(Error::invalid(format!(
            "Task '{key}': the task of a for_each_task cannot be a for_each_task."
        )));
    }
    if !each.task.depends_on.is_empty() {
        return Err(Error::invalid(format!(
            "Task '{key}': the task of a for_each_task cannot have depends_on."
        )));
    }
    check_task(spec, &each.task)
}

/// # Errors
/// Keys and dependencies that are no plan, by task.
pub(super) fn compile(spec: &Spec) -> Result<Plan> {
    let mut tasks = Vec::with_capacity(spec.tasks.len());
    for task in &spec.tasks {
        let run_if = match task.run_if.as_deref() {
            None => RunIf::AllSuccess,
            Some(text) => RunIf::from_str(text).map_err(|()| {
                let known: Vec<&str> = RunIf::ALL.iter().map(|(_, name)| *name).collect();
                Error::invalid(format!(
                    "Task '{}': run_if '{text}' is not one of {}.",
                    task.task_key,
                    known.join(", ")
                ))
            })?,
        };
        tasks.push(TaskPlan {
            run_if,
            disabled: task.disabled,
            takes_slot: task.takes_slot(),
            retries_max: u32::try_from(task.max_retries).ok(),
            retry_interval_ms: task.min_retry_interval_millis,
            retry_on_timeout: task.retry_on_timeout,
            ..TaskPlan::new(task.task_key.clone())
        });
    }
    let depends_on = spec.tasks.iter().map(|task| {
        let edges = task.depends_on.iter();
        edges
            .map(|on| Ok((on.task_key.clone(), outcome(task, on)?)))
            .collect()
    });
    let depends_on: Vec<_> = depends_on.collect::<Result<_>>()?;
    Plan::new(tasks, &depends_on).map_err(|e| Error::invalid(e.to_string()))
}

fn outcome(task: &TaskSpec, on: &Dependency) -> Result<Option<bool>> {
    let Some(text) = on.outcome.as_deref() else {
        return Ok(None);
    };
    let parsed = text.to_ascii_lowercase().parse().ok();
    parsed.map(Some).ok_or_else(|| {
        Error::invalid(format!(
            "Task '{}': depends_on.outcome '{text}' of task '{}' is neither 'true' nor 'false'.",
            task.task_key, on.task_key
        ))
    })
}
