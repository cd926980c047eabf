use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const ALL: &[&str] = &["2.0", "2.1", "2.2"];
const TEST: &str = "acceptance/test_jobs.py";

/// What a job may not ask for yet; each answers 501 by its name.
const SETTINGS: &str = "trigger.table_update, trigger.model, git_source.job_source, git_source.sparse_checkout, task types other than notebook, \
    Python script, wheel, JAR, spark-submit, SQL file, condition, for-each and run-job answer 501; \
    so do sql_task without a file, warehouse_id, spark_jar_task.jar_uri, triggers, environment_variables, compute, \
    and dbt and pipeline parameters of run_job_task; Maven coordinates are of one exact version; \
    of environments the dependencies count, of run_as a user or service principal; budget_policy_id, usage_policy_id, \
    performance_target, duration_target, parent_path, continuous.maintenance_window and who is to be told of a streaming \
    backlog are kept and have no effect";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, ALL, "/jobs/create", TEST).partial(SETTINGS),
    works(Get, ALL, "/jobs/get", TEST),
    works(Get, ALL, "/jobs/list", TEST),
    works(Post, ALL, "/jobs/reset", TEST).partial(SETTINGS),
    works(Post, ALL, "/jobs/update", TEST).partial(SETTINGS),
    works(Post, ALL, "/jobs/delete", TEST),
    works(Post, ALL, "/jobs/run-now", TEST)
        .partial("dbt and pipeline parameters, performance_target and duration_target answer 501"),
    works(
        Get,
        &[],
        "/api/forebay/v1/jobs/{job_id}/warnings",
        "acceptance/test_spark.py",
    ),
];

#[derive(Debug, Deserialize)]
pub struct JobRef {
    pub job_id: i64,
}

#[derive(Debug, Deserialize)]
pub struct GetJob {
    pub job_id: i64,
    pub page_token: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct ListJobs {
    pub name: Option<String>,
    pub limit: Option<usize>,
    pub offset: Option<usize>,
    pub page_token: Option<String>,
    #[serde(default)]
    pub expand_tasks: bool,
}

#[derive(Debug, Deserialize)]
pub struct ResetJob {
    pub job_id: i64,
    pub new_settings: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct UpdateJob {
    pub job_id: i64,
    #[serde(default)]
    pub new_settings: Map<String, Value>,
    #[serde(default)]
    pub fields_to_remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub struct RunNow {
    pub job_id: i64,
    #[serde(default)]
    pub job_parameters: Map<String, Value>,
    /// A map, or a list of `{key, value}` as some clients send it.
    pub notebook_params: Option<Value>,
    pub python_params: Option<Vec<Value>>,
    #[serde(default)]
    pub python_named_params: Map<String, Value>,
    pub jar_params: Option<Vec<Value>>,
    pub spark_submit_params: Option<Vec<Value>>,
    #[serde(default)]
    pub sql_params: Map<String, Value>,
    /// The tasks to run; all unless it names some.
    pub only: Option<Vec<String>>,
    pub idempotency_token: Option<String>,
    pub queue: Option<Queue>,
    /// What is refused by name when it is given.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct Queue {
    pub enabled: bool,
}
