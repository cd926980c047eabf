//! The typed view of a job's settings: the fields that have an effect, as clients write them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::git_source::GitSourceSpec;
use super::own::Own;
use super::when::{ContinuousSpec, ScheduleSpec, TriggerSpec};

/// The fields with an effect.
#[derive(Debug, Clone, Deserialize)]
pub struct Spec {
    #[serde(alias = "run_name")]
    pub name: Option<String>,
    #[serde(default)]
    pub tasks: Vec<TaskSpec>,
    #[serde(default)]
    pub job_clusters: Vec<JobCluster>,
    #[serde(default)]
    pub parameters: Vec<JobParameter>,
    pub description: Option<String>,
    pub tags: Option<Map<String, Value>>,
    pub max_concurrent_runs: Option<i64>,
    pub queue: Option<Queue>,
    #[serde(default)]
    pub timeout_seconds: i64,
    pub git_source: Option<GitSourceSpec>,
    pub schedule: Option<ScheduleSpec>,
    pub trigger: Option<TriggerSpec>,
    pub continuous: Option<ContinuousSpec>,
    #[serde(default)]
    pub environments: Vec<Environment>,
    pub run_as: Option<RunAs>,
    #[serde(default, rename = "forebay", deserialize_with = "null_is_default")]
    pub own: Own,
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Own, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Debug, Clone, Deserialize)]
pub struct Queue {
    pub enabled: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub struct JobCluster {
    pub job_cluster_key: String,
    pub new_cluster: Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct JobParameter {
    pub name: String,
    pub default: String,
}

/// A session that takes cells of this language.
#[derive(Debug, Clone, Deserialize)]
pub struct ContextTask {
    pub language: forebay_exec::Language,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TaskSpec {
    pub task_key: String,
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    pub run_if: Option<String>,
    #[serde(default)]
    pub disabled: bool,
    pub notebook_task: Option<NotebookTask>,
    pub spark_python_task: Option<ScriptTask>,
    pub python_wheel_task: Option<WheelTask>,
    pub spark_jar_task: Option<JarTask>,
    pub spark_submit_task: Option<SubmitTask>,
    pub sql_task: Option<SqlTask>,
    pub condition_task: Option<ConditionTask>,
    pub for_each_task: Option<ForEachTask>,
    pub run_job_task: Option<RunJobTask>,
    /// Of the server's own making: the session of an execution context.
    pub context_task: Option<ContextTask>,
    pub existing_cluster_id: Option<String>,
    pub new_cluster: Option<Map<String, Value>>,
    pub job_cluster_key: Option<String>,
    pub environment_key: Option<String>,
    #[serde(default)]
    pub libraries: Vec<LibrarySpec>,
    #[serde(default)]
    pub timeout_seconds: i64,
    #[serde(default)]
    pub max_retries: i64,
    #[serde(default)]
    pub min_retry_interval_millis: i64,
    #[serde(default)]
    pub retry_on_timeout: bool,
}

impl TaskSpec {
    /// Whether an attempt of it executes something; what only compares or waits for runs of their
    /// own needs no slot.
    #[must_use]
    pub fn takes_slot(&self) -> bool {
        self.condition_task.is_none() && self.for_each_task.is_none() && self.run_job_task.is_none()
    }

    /// The path of the code in the run's Git source, for a task that takes it from there: a notebook
    /// by default, a script by default when its path is relative.
    #[must_use]
    pub fn path_in_git(&self, spec: &Spec) -> Option<&str> {
        let (path, source) = self.code()?;
        let is_script = self.spark_python_task.is_some();
        let from_git = match source {
            Some(source) => source.eq_ignore_ascii_case("GIT"),
            None if is_script && (path.starts_with('/') || path.contains(':')) => false,
            None => spec.git_source.is_some(),
        };
        from_git.then_some(path)
    }

    /// The path of a notebook or script, and where its task says that it lies.
    pub(super) fn code(&self) -> Option<(&str, Option<&str>)> {
        let notebook = self.notebook_task.as_ref();
        let notebook = notebook.map(|task| (task.notebook_path.as_str(), task.source.as_deref()));
        let script = self.spark_python_task.as_ref();
        let script = script.map(|task| (task.python_file.as_str(), task.source.as_deref()));
        let sql = self.sql_task.as_ref().and_then(|task| task.file.as_ref());
        let sql = sql.map(|file| (file.path.as_str(), file.source.as_deref()));
        notebook.or(script).or(sql)
    }

    #[must_use]
    pub fn notebook_path(&self) -> Option<&str> {
        self.notebook_task
            .as_ref()
            .map(|notebook| notebook.notebook_path.as_str())
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct Dependency {
    pub task_key: String,
    pub outcome: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct NotebookTask {
    pub notebook_path: String,
    #[serde(default)]
    pub base_parameters: BTreeMap<String, String>,
    pub source: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ScriptTask {
    pub python_file: String,
    #[serde(default)]
    pub parameters: Vec<String>,
    pub source: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct WheelTask {
    pub package_name: String,
    pub entry_point: String,
    #[serde(default)]
    pub parameters: Vec<String>,
    #[serde(default)]
    pub named_parameters: BTreeMap<String, String>,
}

/// A class of a JAR that is among the task's libraries.
#[derive(Debug, Clone, Deserialize)]
pub struct JarTask {
    pub main_class_name: String,
    #[serde(default)]
    pub parameters: Vec<String>,
}

/// What follows `spark-submit` on a command line.
#[derive(Debug, Clone, Deserialize)]
pub struct SubmitTask {
    #[serde(default)]
    pub parameters: Vec<String>,
}

/// Statements of a file; the other forms are refused when a job is saved.
#[derive(Debug, Clone, Deserialize)]
pub struct SqlTask {
    pub file: Option<SqlFile>,
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct SqlFile {
    pub path: String,
    pub source: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct LibrarySpec {
    pub pypi: Option<Pypi>,
    pub whl: Option<String>,
    pub requirements: Option<String>,
    pub cran: Option<Cran>,
    pub jar: Option<String>,
    pub egg: Option<String>,
    pub maven: Option<Maven>,
}

/// `group:artifact:version`; `repo` is an address or a folder that programs see, and `exclusions`
/// are `group:artifact`.
#[derive(Debug, Clone, Deserialize)]
pub struct Maven {
    pub coordinates: String,
    pub repo: Option<String>,
    #[serde(default)]
    pub exclusions: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Pypi {
    pub package: String,
    pub repo: Option<String>,
}

/// An R package; `repo` is an address or a folder that programs see.
#[derive(Debug, Clone, Deserialize)]
pub struct Cran {
    pub package: String,
    pub repo: Option<String>,
}

/// Compares two texts or numbers; its dependants ask for the outcome they need.
#[derive(Debug, Clone, Deserialize)]
pub struct ConditionTask {
    pub op: String,
    pub left: String,
    pub right: String,
}

/// Runs `task` once for each element of `inputs`, a JSON array or a reference to one.
#[derive(Debug, Clone, Deserialize)]
pub struct ForEachTask {
    pub inputs: String,
    #[serde(default = "one")]
    pub concurrency: i64,
    pub task: Box<TaskSpec>,
}

fn one() -> i64 {
    1
}

/// Starts another job and ends as its run does.
#[derive(Debug, Clone, Deserialize)]
pub struct RunJobTask {
    pub job_id: i64,
    #[serde(default)]
    pub job_parameters: Map<String, Value>,
    #[serde(default)]
    pub notebook_params: Map<String, Value>,
    pub python_params: Option<Vec<Value>>,
    #[serde(default)]
    pub python_named_params: Map<String, Value>,
    pub jar_params: Option<Vec<Value>>,
    pub spark_submit_params: Option<Vec<Value>>,
    #[serde(default)]
    pub sql_params: Map<String, Value>,
}

/// Packages that tasks share by naming the key.
#[derive(Debug, Clone, Deserialize)]
pub struct Environment {
    pub environment_key: String,
    pub spec: Option<EnvironmentSpec>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct EnvironmentSpec {
    /// Lines as in a requirements file.
    #[serde(default)]
    pub dependencies: Vec<String>,
}

/// Whose rights the runs of a job have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunAs {
    pub user_name: Option<String>,
    pub service_principal_name: Option<String>,
    pub group_name: Option<String>,
}
