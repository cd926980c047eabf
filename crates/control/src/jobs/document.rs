//! The settings of a job as clients write them, checked and brought into one form.
//!
//! The document itself is kept whole, unknown fields included, so that a newer client reads back
//! what it wrote; [`Spec`] is the typed view of the fields that have an effect.

use forebay_engine::Plan;
use forebay_store::{JobSettings, NewTrigger};
use forebay_types::{Error, Result};
use forebay_wire::lenient;
use serde_json::{Map, Value, json};

use super::check::{check, check_references, compile};
use super::own::OWN_FIELD;
use super::spec::Spec;

/// The key of the one task of a job that was written in the flat form of API 2.0.
pub const FLAT_TASK_KEY: &str = "main";

/// Task types by their field name, and whether this server runs them.
const TASK_TYPES: [(&str, bool); 20] = [
    ("notebook_task", true),
    ("spark_python_task", true),
    ("python_wheel_task", true),
    ("spark_jar_task", true),
    ("spark_submit_task", true),
    ("sql_task", true),
    ("dbt_task", false),
    ("pipeline_task", false),
    ("run_job_task", true),
    ("condition_task", true),
    ("for_each_task", true),
    ("dashboard_task", false),
    ("alert_task", false),
    ("power_bi_task", false),
    ("gen_ai_compute_task", false),
    ("clean_rooms_notebook_task", false),
    ("dbt_cloud_task", false),
    ("dbt_platform_task", false),
    ("python_operator_task", false),
    ("ai_runtime_task", false),
];

/// Fields whose effect would be missed: a job and a task that has one is refused.
const MISSED_IN_JOB: [&str; 2] = ["triggers", "environment_variables"];
const MISSED_IN_TASK: [&str; 3] = ["environment_variables_key", "compute", "context_task"];
const MISSED_IN_TYPE: [(&str, &[&str]); 4] = [
    ("spark_jar_task", &["jar_uri"]),
    ("sql_task", &["query", "dashboard", "alert", "warehouse_id"]),
    ("notebook_task", &["warehouse_id"]),
    ("run_job_task", &["dbt_commands", "pipeline_params"]),
];

/// What of a flat document belongs to its one task.
const FLAT_TASK_FIELDS: [&str; 7] = [
    "existing_cluster_id",
    "new_cluster",
    "libraries",
    "max_retries",
    "min_retry_interval_millis",
    "retry_on_timeout",
    "environment_key",
];

/// Fields that clients send as null when they mean nothing.
const NULL_IS_NONE: [&str; 4] = ["schedule", "trigger", "continuous", OWN_FIELD];

/// A document that was checked: it has at least one task, all of a kind that runs here.
#[derive(Debug, Clone)]
pub struct JobDocument {
    pub settings: Map<String, Value>,
    pub spec: Spec,
    pub plan: Plan,
}

impl JobDocument {
    /// Checks a document and brings it into the many-task form.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` with the field's name; `NOT_IMPLEMENTED` for what would have an
    /// effect that this server cannot give it.
    pub fn parse(fields: Map<String, Value>) -> Result<Self> {
        let settings = normalise(fields)?;
        let document = Self::of_normal(settings)?;
        check_references(&document.spec)?;
        Ok(document)
    }

    /// Reads back what [`JobDocument::parse`] made.
    ///
    /// # Errors
    /// When the stored document is not one of ours.
    pub fn of_normal(settings: Map<String, Value>) -> Result<Self> {
        let spec: Spec = lenient::from_map(settings.clone())?;
        check(&spec)?;
        let plan = compile(&spec)?;
        Ok(Self {
            settings,
            spec,
            plan,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        self.spec.name.as_deref().unwrap_or("Untitled")
    }

    #[must_use]
    pub fn is_flat(&self) -> bool {
        is_flat(&self.settings)
    }

    /// What is stored of a job, with the triggers that follow from it.
    pub(super) fn into_stored(self, triggers: Vec<NewTrigger>) -> JobSettings {
        JobSettings {
            name: self.name().to_owned(),
            document: self.settings,
            triggers,
        }
    }
}

/// Whether the document was written in the flat form of API 2.0.
#[must_use]
pub fn is_flat(settings: &Map<String, Value>) -> bool {
    settings.get("format").and_then(Value::as_str) == Some("SINGLE_TASK")
}

/// The flat form of a one-task document, as API 2.0 shows it.
#[must_use]
pub fn to_flat(mut settings: Map<String, Value>) -> Map<String, Value> {
    if !is_flat(&settings) {
        return settings;
    }
    if let Some(Value::Array(tasks)) = settings.shift_remove("tasks")
        && let Some(Value::Object(task)) = tasks.into_iter().next()
    {
        let own = |key: &str| matches!(key, "task_key" | "depends_on");
        settings.extend(task.into_iter().filter(|(key, _)| !own(key)));
    }
    settings
}

fn normalise(mut fields: Map<String, Value>) -> Result<Map<String, Value>> {
    if fields
        .shift_remove("access_control_list")
        .is_some_and(|list| !list.is_null())
    {
        return Err(Error::invalid(
            "Field 'access_control_list' can be given when a job is made; change permissions with \
             PATCH /api/2.0/permissions/jobs/{job_id}.",
        ));
    }
    for field in NULL_IS_NONE {
        if fields.get(field).is_some_and(Value::is_null) {
            fields.shift_remove(field);
        }
    }
    fields.shift_remove("format");
    if let Some(Value::Object(own)) = fields.get(OWN_FIELD) {
        refuse_missed(own, &["repeat"], " of 'forebay'")?;
    }
    refuse_missed(&fields, &MISSED_IN_JOB, " of a job")?;
    if fields
        .get("tasks")
        .is_some_and(|tasks| !tasks.is_array() && !tasks.is_null())
    {
        return Err(Error::invalid("Field 'tasks' must be a list."));
    }
    let flat = !fields.get("tasks").is_some_and(Value::is_array);
    if flat {
        let mut task = Map::new();
        task.insert("task_key".to_owned(), json!(FLAT_TASK_KEY));
        let types = TASK_TYPES.iter().map(|(name, _)| *name);
        for field in FLAT_TASK_FIELDS.into_iter().chain(types) {
            if let Some(value) = fields.shift_remove(field) {
                task.insert(field.to_owned(), value);
            }
        }
        fields.insert("tasks".to_owned(), json!([task]));
    }
    let format = if flat { "SINGLE_TASK" } else { "MULTI_TASK" };
    fields.insert("format".to_owned(), json!(format));
    if let Some(Value::Array(tasks)) = fields.get_mut("tasks") {
        for (index, task) in tasks.iter_mut().enumerate() {
            let Value::Object(task) = task else {
                return Err(Error::invalid(format!(
                    "Field 'tasks[{index}]' must be an object."
                )));
            };
            normalise_task(task, flat)?;
        }
    }
    Ok(fields)
}

fn refuse_missed(fields: &Map<String, Value>, missed: &[&str], place: &str) -> Result<()> {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let given = |field: &&&str| fields.get(**field).is_some_and(|value| !empty(value));
    match missed.iter().find(given) {
        None => Ok(()),
        Some(field) => Err(Error::not_implemented(format!("Field '{field}'{place}"))),
    }
}

fn normalise_task(task: &mut Map<String, Value>, flat: bool) -> Result<()> {
    let key = task
        .get("task_key")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let place = if flat {
        String::new()
    } else {
        format!(" of task '{key}'")
    };
    refuse_missed(task, &MISSED_IN_TASK, &place)?;
    for (name, missed) in MISSED_IN_TYPE {
        if let Some(Value::Object(fields)) = task.get(name) {
            refuse_missed(fields, missed, &format!(" of {name}{place}"))?;
        }
    }
    let named: Vec<(&str, bool)> = TASK_TYPES
        .into_iter()
        .filter(|(name, _)| task.get(*name).is_some_and(|value| !value.is_null()))
        .collect();
    match named[..] {
        [(name, false)] => {
            return Err(Error::not_implemented(format!("Task type '{name}'{place}")));
        }
        [(_, true)] => {}
        [] => {
            return Err(Error::invalid(format!(
                "No task type is given{place}: one of {} is needed.",
                TASK_TYPES
                    .iter()
                    .filter(|(_, runs)| *runs)
                    .map(|(name, _)| *name)
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        _ => {
            let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
            return Err(Error::invalid(format!(
                "More than one task type is given{place}: {}.",
                names.join(", ")
            )));
        }
    }
    for library in task
        .get("libraries")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        check_library(library, &place)?;
    }
    if let Some(Value::Object(each)) = task.get_mut("for_each_task") {
        match each.get_mut("task") {
            Some(Value::Object(nested)) => normalise_task(nested, false)?,
            _ => {
                return Err(Error::invalid(format!(
                    "Field 'for_each_task.task'{place} must be an object."
                )));
            }
        }
    }
    // Some clients send the parameters as a list of pairs.
    if let Some(Value::Object(notebook)) = task.get_mut("notebook_task")
        && let Some(Value::Array(pairs)) = notebook.get("base_parameters")
    {
        let text = |pair: &Value, name: &str| pair.get(name).cloned().unwrap_or(Value::Null);
        let map: Map<String, Value> = pairs
            .iter()
            .filter_map(|pair| Some((pair.get("key")?.as_str()?.to_owned(), text(pair, "value"))))
            .collect();
        notebook.insert("base_parameters".to_owned(), Value::Object(map));
    }
    Ok(())
}

/// One entry of a list of libraries; `place` completes "the libraries".
pub(crate) fn check_library(library: &Value, place: &str) -> Result<()> {
    let kinds: Vec<&String> = library
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .collect();
    match kinds[..] {
        [kind]
            if matches!(
                kind.as_str(),
                "pypi" | "whl" | "requirements" | "jar" | "egg"
            ) =>
        {
            Ok(())
        }
        [kind] if kind == "cran" => check_cran(&library["cran"], place),
        [kind] if kind == "maven" => check_maven(&library["maven"], place),
        _ => Err(Error::invalid(format!(
            "Each entry of 'libraries'{place} has exactly one of pypi, whl, requirements, jar, \
             egg, maven, cran."
        ))),
    }
}

/// One exact version: what it was resolved to is kept, and must stay right.
fn check_maven(maven: &Value, place: &str) -> Result<()> {
    let plain = |part: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && part.chars().all(good)
    };
    let coordinates = maven
        .get("coordinates")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let parts: Vec<&str> = coordinates.split(':').collect();
    let moving = |version: &str| version.starts_with("latest") || version.ends_with("-SNAPSHOT");
    match parts[..] {
        [group, artifact, version]
            if [group, artifact, version].into_iter().all(plain) && !moving(version) => {}
        _ => {
            return Err(Error::invalid(format!(
                "Field 'libraries.maven.coordinates'{place}: '{coordinates}' is not \
                 group:artifact:version with one exact version, such as \
                 org.apache.commons:commons-csv:1.11.0."
            )));
        }
    }
    let wild = |part: &str| part == "*" || plain(part);
    for excluded in maven
        .get("exclusions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let pair = excluded.as_str().and_then(|text| text.split_once(':'));
        if !pair.is_some_and(|(group, artifact)| wild(group) && wild(artifact)) {
            return Err(Error::invalid(format!(
                "Field 'libraries.maven.exclusions'{place}: {excluded} is not group:artifact; \
                 either may be '*'."
            )));
        }
    }
    Ok(())
}

/// The names that R allows; so none passes for an option or an address.
fn check_cran(cran: &Value, place: &str) -> Result<()> {
    let name = cran
        .get("package")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let good = name.len() >= 2
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && !name.ends_with('.')
        && name.chars().all(plain);
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Field 'libraries.cran.package'{place}: '{name}' is no name of an R package; it is letters, \
         digits and dots, begins with a letter and does not end with a dot."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: Value) -> Result<JobDocument> {
        let Value::Object(fields) = document else {
            panic!("an object")
        };
        JobDocument::parse(fields)
    }

    #[test]
    fn the_flat_form_becomes_one_task_and_comes_back_whole() {
        let flat = json!({
            "name": "n", "existing_cluster_id": "c", "timeout_seconds": "60", "mine": {"a": 1},
            "notebook_task": {"notebook_path": "/x", "base_parameters": [{"key": "k", "value": 1}]},
        });
        let document = parse(flat).unwrap();
        assert!(document.is_flat());
        assert_eq!(document.spec.timeout_seconds, 60);
        let notebook = document.spec.tasks[0].notebook_task.clone().unwrap();
        assert_eq!(notebook.base_parameters["k"], "1");
        let shown = Value::Object(to_flat(document.settings));
        assert_eq!(shown["existing_cluster_id"], "c");
        assert_eq!(shown["mine"]["a"], 1);
        assert!(shown.get("tasks").is_none() && shown.get("task_key").is_none());
    }

    #[test]
    fn errors_name_the_task_and_the_field() {
        let task = |more: Value| {
            let mut task = json!({"task_key": "a", "notebook_task": {"notebook_path": "/x"}});
            task.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            json!({"tasks": [task]})
        };
        let check = |document: Value, expected: &str| {
            let error = parse(document).unwrap_err();
            assert!(error.message.contains(expected), "{expected} in {error}");
        };
        check(
            json!({"tasks": [{"task_key": "a"}]}),
            "No task type is given of task 'a'",
        );
        check(json!({"tasks": []}), "at least one task");
        check(
            json!({"tasks": [{"task_key": "a", "dbt_task": {}}]}),
            "'dbt_task'",
        );
        check(task(json!({"run_if": "SOMETIMES"})), "run_if 'SOMETIMES'");
        check(task(json!({"job_cluster_key": "c"})), "job_cluster_key 'c'");
        check(
            task(json!({"libraries": [{"maven": {"coordinates": "x"}}]})),
            "'libraries.maven.coordinates' of task 'a'",
        );
        for package in ["x", "--clean", "a/b", "ab."] {
            check(
                task(json!({"libraries": [{"cran": {"package": package}}]})),
                "'libraries.cran.package' of task 'a'",
            );
        }
        check(
            task(json!({"timeout_seconds": "soon"})),
            "tasks[0].timeout_seconds",
        );
        check(
            json!({"schedule": {}, "tasks": []}),
            "quartz_cron_expression",
        );
        check(
            json!({"tasks": [], "forebay": {"colour": 1}}),
            "unknown field `colour`",
        );
        check(
            json!({"tasks": [], "forebay": {"missed": "most"}}),
            "'forebay.missed'",
        );
        check(
            json!({"tasks": [], "forebay": {"brake": {"runs": 0, "minutes": 1}}}),
            "'forebay.brake.runs'",
        );
        check(
            json!({"tasks": [], "forebay": {"debounce": {"delay_ms": 1}}}),
            "'forebay.on_event'",
        );
    }

    #[test]
    fn a_field_whose_effect_would_be_missed_is_refused_and_an_empty_one_is_not() {
        let task = |more: Value| json!({"tasks": [more]});
        for (document, named) in [
            (
                json!({"triggers": [{"periodic": {}}]}),
                "'triggers' of a job",
            ),
            (
                task(json!({"task_key": "a", "compute": {"hardware_accelerator": "GPU_1xA10"}})),
                "'compute' of task 'a'",
            ),
            (
                task(
                    json!({"task_key": "a", "notebook_task": {"notebook_path": "/x", "warehouse_id": "w"}}),
                ),
                "'warehouse_id' of notebook_task of task 'a'",
            ),
            (
                task(
                    json!({"task_key": "a", "run_job_task": {"job_id": 1, "dbt_commands": ["x"]}}),
                ),
                "'dbt_commands' of run_job_task of task 'a'",
            ),
        ] {
            let error = parse(document).unwrap_err();
            assert_eq!(error.code, forebay_types::ErrorCode::NotImplemented);
            assert!(error.message.contains(named), "{named} in {error}");
        }
        let run_job = json!({"job_id": 1, "jar_params": [], "pipeline_params": null});
        let fine = json!({"triggers": [], "tasks": [{"task_key": "a", "run_job_task": run_job}]});
        assert!(parse(fine).is_ok());
    }
}
