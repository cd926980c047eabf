use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::Result;

/// A run of a job, or one that was submitted by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    pub run_id: i64,
    #[serde(default)]
    pub run_name: String,
    pub state: RunState,
    /// Milliseconds since the epoch.
    #[serde(default)]
    pub start_time: i64,
    /// Milliseconds since the epoch; 0 until the run has ended.
    #[serde(default)]
    pub end_time: i64,
    #[serde(default)]
    pub run_page_url: String,
    #[serde(default)]
    pub creator_user_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskRun>,
}

/// A task of a run; its `run_id` is its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskRun {
    pub run_id: i64,
    pub task_key: String,
    pub state: RunState,
    #[serde(default)]
    pub start_time: i64,
    #[serde(default)]
    pub end_time: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notebook_task: Option<Value>,
    /// What only a server of ours tells.
    #[serde(
        default,
        rename = "forebay",
        skip_serializing_if = "OwnFacts::is_empty"
    )]
    pub own: OwnFacts,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnFacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl OwnFacts {
    fn is_empty(&self) -> bool {
        self.usage.is_none()
    }
}

/// What an attempt has used; while it runs, as it was some seconds ago.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// At that moment; only while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunState {
    pub life_cycle_state: String,
    /// Absent until the run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_state: Option<String>,
    #[serde(default)]
    pub state_message: String,
}

impl RunState {
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(
            self.life_cycle_state.as_str(),
            "TERMINATED" | "SKIPPED" | "INTERNAL_ERROR"
        )
    }

    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(
            self.result_state.as_deref(),
            Some("SUCCESS" | "SUCCESS_WITH_FAILURES")
        )
    }

    /// The verdict of a run that has ended, else where it stands.
    #[must_use]
    pub fn word(&self) -> &str {
        self.result_state
            .as_deref()
            .unwrap_or(&self.life_cycle_state)
    }
}

impl Run {
    /// From start to end; nothing until the run has ended.
    #[must_use]
    pub fn duration_ms(&self) -> Option<i64> {
        (self.end_time > 0).then(|| self.end_time.saturating_sub(self.start_time))
    }

    /// The ids whose output can be asked for: those of the tasks, or the run's own.
    #[must_use]
    pub fn output_ids(&self) -> Vec<i64> {
        match self.tasks.as_slice() {
            [] => vec![self.run_id],
            tasks => tasks.iter().map(|task| task.run_id).collect(),
        }
    }
}

/// What a task left behind.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOutput {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notebook_output: Option<NotebookOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NotebookOutput {
    /// What the notebook handed to `dbutils.notebook.exit`.
    pub result: Option<String>,
    pub truncated: bool,
}

/// One piece of work to run now, as a task of its own.
#[derive(Debug, Clone)]
pub struct Submit {
    pub name: String,
    pub work: Work,
    /// Where it runs; the server's default when absent.
    pub cluster_id: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Work {
    Notebook {
        path: String,
        parameters: BTreeMap<String, String>,
    },
    /// A Python file by its workspace path.
    Script {
        path: String,
        arguments: Vec<String>,
    },
}

impl Submit {
    fn body(&self) -> Value {
        let mut task = match &self.work {
            Work::Notebook { path, parameters } => json!({
                "notebook_task": { "notebook_path": path, "base_parameters": parameters },
            }),
            Work::Script { path, arguments } => json!({
                "spark_python_task": { "python_file": path, "parameters": arguments },
            }),
        };
        task["task_key"] = json!("main");
        if let Some(id) = &self.cluster_id {
            task["existing_cluster_id"] = json!(id);
        }
        json!({ "run_name": self.name, "tasks": [task] })
    }
}

/// Which runs to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunFilter {
    pub limit: u32,
    pub active_only: bool,
    pub job_id: Option<i64>,
}

#[derive(Deserialize)]
struct Submitted {
    run_id: i64,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    runs: Vec<Run>,
    #[serde(default)]
    next_page_token: Option<String>,
}

/// The API's own bound of a page.
const PAGE_MAX: u32 = 25;

impl Client {
    /// Starts the work and gives the id of its run.
    pub async fn run_submit(&self, submit: &Submit) -> Result<i64> {
        let path = "/api/2.1/jobs/runs/submit";
        let submitted: Submitted = self.send(Method::POST, path, &submit.body()).await?;
        Ok(submitted.run_id)
    }

    pub async fn run_get(&self, run_id: i64) -> Result<Run> {
        let id = run_id.to_string();
        self.get("/api/2.1/jobs/runs/get", &[("run_id", &id)]).await
    }

    /// The run once it has ended, or as it is after a while.
    pub async fn run_wait(&self, run_id: i64) -> Result<Run> {
        let path = format!("/api/forebay/v1/runs/{run_id}");
        self.get(&path, &[("wait_ms", "20000")]).await
    }

    /// The newest runs first, at most `filter.limit` of them.
    pub async fn run_list(&self, filter: RunFilter) -> Result<Vec<Run>> {
        let wanted = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        let mut runs = Vec::new();
        let mut page = None;
        loop {
            let limit = filter.limit.clamp(1, PAGE_MAX).to_string();
            let mut query = vec![("limit", limit)];
            if filter.active_only {
                query.push(("active_only", "true".to_owned()));
            }
            if let Some(job_id) = filter.job_id {
                query.push(("job_id", job_id.to_string()));
            }
            if let Some(token) = page {
                query.push(("page_token", token));
            }
            let query: Vec<_> = query.iter().map(|(k, v)| (*k, v.as_str())).collect();
            let list: List = self.get("/api/2.1/jobs/runs/list", &query).await?;
            runs.extend(list.runs);
            page = list.next_page_token.filter(|token| !token.is_empty());
            if runs.len() >= wanted || page.is_none() {
                runs.truncate(wanted);
                return Ok(runs);
            }
        }
    }

    /// `run_id` is a task's, or that of a run with one task.
    pub async fn run_output(&self, run_id: i64) -> Result<RunOutput> {
        let id = run_id.to_string();
        self.get("/api/2.1/jobs/runs/get-output", &[("run_id", &id)])
            .await
    }

    /// Asks a run to stop; it ends a little later.
    pub async fn run_cancel(&self, run_id: i64) -> Result<()> {
        let body = json!({ "run_id": run_id });
        let _: Value = self
            .send(Method::POST, "/api/2.1/jobs/runs/cancel", &body)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_is_submitted_as_one_task() {
        let submit = Submit {
            name: "n".to_owned(),
            work: Work::Notebook {
                path: "/Users/a/n".to_owned(),
                parameters: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            },
            cluster_id: Some("c-1".to_owned()),
        };
        assert_eq!(
            submit.body(),
            json!({"run_name": "n", "tasks": [{
                "task_key": "main",
                "existing_cluster_id": "c-1",
                "notebook_task": {"notebook_path": "/Users/a/n", "base_parameters": {"k": "v"}},
            }]})
        );
    }

    #[test]
    fn a_run_is_read_with_fields_of_a_newer_server() {
        let text = r#"{"run_id": 7, "state": {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS",
            "state_message": ""}, "start_time": 10, "end_time": 35, "something_new": {},
            "tasks": [{"run_id": 8, "task_key": "main", "state": {"life_cycle_state": "TERMINATED"}}]}"#;
        let run: Run = serde_json::from_str(text).unwrap();
        assert!(run.state.has_ended() && run.state.succeeded());
        assert_eq!((run.duration_ms(), run.output_ids()), (Some(25), vec![8]));
    }

    #[test]
    fn a_run_under_way_has_no_verdict_and_no_duration() {
        let text = r#"{"run_id": 7, "state": {"life_cycle_state": "RUNNING"}, "start_time": 10, "end_time": 0}"#;
        let run: Run = serde_json::from_str(text).unwrap();
        assert!(!run.state.has_ended() && !run.state.succeeded());
        assert_eq!((run.state.word(), run.duration_ms()), ("RUNNING", None));
    }
}
