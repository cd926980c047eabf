use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const ALL: &[&str] = &["2.0", "2.1", "2.2"];
const TEST: &str = "acceptance/test_runs.py";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Post, ALL, "/jobs/runs/submit", TEST).partial(
        "what jobs/create refuses answers 501 here too; of environments the dependencies count, \
         of run_as a user or service principal",
    ),
    works(Get, ALL, "/jobs/runs/get", TEST),
    works(Get, ALL, "/jobs/runs/list", TEST),
    works(Get, ALL, "/jobs/runs/get-output", TEST),
    works(Get, ALL, "/jobs/runs/export", TEST),
    works(Post, ALL, "/jobs/runs/cancel", TEST),
    works(Post, ALL, "/jobs/runs/cancel-all", TEST),
    works(Post, ALL, "/jobs/runs/delete", TEST),
    works(
        Post,
        ALL,
        "/jobs/runs/repair",
        "acceptance/test_control_flow.py",
    )
    .partial("dbt and pipeline parameters answer 501"),
    works(Get, &[], "/api/forebay/v1/runs/{run_id}", TEST),
    works(Get, &[], "/api/forebay/v1/runs/{run_id}/events", TEST),
    works(Get, &[], "/api/forebay/v1/runs/{run_id}/notebook", TEST),
    works(
        Get,
        &[],
        "/api/forebay/v1/runs/{run_id}/facts",
        "acceptance/test_repeat.py",
    ),
    works(
        Post,
        &[],
        "/api/forebay/v1/runs/{run_id}/repeat",
        "acceptance/test_repeat.py",
    ),
];

#[derive(Debug, Deserialize)]
pub struct RunRef {
    pub run_id: i64,
}

#[derive(Debug, Deserialize)]
pub struct CancelAll {
    pub job_id: Option<i64>,
    #[serde(default)]
    pub all_queued_runs: bool,
}

#[derive(Debug, Deserialize)]
pub struct GetRun {
    pub run_id: i64,
    pub page_token: Option<String>,
    #[serde(default)]
    pub include_history: bool,
    #[serde(default)]
    pub include_resolved_values: bool,
}

#[derive(Debug, Deserialize)]
pub struct Repair {
    pub run_id: i64,
    #[serde(default)]
    pub rerun_tasks: Vec<String>,
    #[serde(default)]
    pub rerun_all_failed_tasks: bool,
    #[serde(default)]
    pub rerun_dependent_tasks: bool,
    pub latest_repair_id: Option<i64>,
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
    /// What is refused by name when it is given.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub struct ListRuns {
    pub job_id: Option<i64>,
    #[serde(default)]
    pub active_only: bool,
    #[serde(default)]
    pub completed_only: bool,
    pub limit: Option<usize>,
    pub offset: Option<usize>,
    pub page_token: Option<String>,
    pub run_type: Option<String>,
    pub start_time_from: Option<i64>,
    pub start_time_to: Option<i64>,
    #[serde(default)]
    pub expand_tasks: bool,
}

#[derive(Debug, Default, Deserialize)]
pub struct Follow {
    /// How many events the caller has already.
    #[serde(default)]
    pub from: u64,
    /// The `next` of the answer before, empty at first. It is cheaper than `from`, because nothing
    /// is read twice, and each answer ends with a line that says `next`.
    pub cursor: Option<String>,
    /// How long to wait for one more, in milliseconds; at most 30 s.
    #[serde(default)]
    pub wait_ms: u64,
}
