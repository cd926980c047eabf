//! Jobs that bring their code from Git: one checkout for each run.

use std::fs;
use std::path::Path;
use std::process::Command;

use forebay_testkit::wait_until;
use serde_json::{Value, json};

use crate::repos::{World, git};

impl World {
    /// Writes a notebook of these cells to the repository, and gives the new commit.
    fn commit(&self, name: &str, cells: &[&str]) -> String {
        let origin = self.roots.path().join("origin");
        let source = cells.join("\n\n# COMMAND ----------\n\n");
        let source = format!("# Databricks notebook source\n{source}\n");
        let file = origin.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, source).unwrap();
        git(&origin, &["add", "."]);
        git(&origin, &["commit", "-q", "-m", "next"]);
        head(&origin)
    }

    fn source(&self) -> Value {
        let url = self.roots.path().join("origin");
        json!({"git_url": url, "git_provider": "gitHub", "git_branch": "main"})
    }

    async fn submit(&self, tasks: Value) -> i64 {
        let body = json!({"git_source": self.source(), "tasks": tasks});
        let answer = self.server.post("/api/2.1/jobs/runs/submit", body).await;
        answer.ok()["run_id"].as_i64().unwrap()
    }

    async fn run(&self, run: i64, wait_ms: u32) -> Value {
        let path = format!("/api/forebay/v1/runs/{run}?wait_ms={wait_ms}");
        self.server.get(&path).await.ok()
    }

    /// The notebooks that were started, by the path the program sees.
    fn started(&self) -> Vec<String> {
        let started = self.server.executor.started().into_iter();
        started.map(|workload| workload.working_dir).collect()
    }
}

fn head(origin: &Path) -> String {
    let mut call = Command::new("git");
    let found = call.args(["rev-parse", "HEAD"]).current_dir(origin);
    let text = String::from_utf8(found.output().unwrap().stdout).unwrap();
    text.trim().to_owned()
}

fn task(key: &str, notebook: &str, after: &[&str]) -> Value {
    let after: Vec<Value> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({"task_key": key, "depends_on": after, "notebook_task": {"notebook_path": notebook}})
}

#[tokio::test]
async fn all_tasks_and_retries_of_a_run_see_one_commit_and_then_it_is_gone() {
    let world = World::start().await;
    let first = world.commit("jobs/a.py", &["wait", "fail ValueError once"]);
    let retried = json!({"task_key": "a", "max_retries": 1, "min_retry_interval_millis": 60_000,
        "notebook_task": {"notebook_path": "jobs/a"}});
    let mut last = task("b", "jobs/a.ipynb", &["a"]);
    last["run_if"] = json!("ALL_DONE");
    last["notebook_task"]["notebook_path"] = json!("n");
    let run = world.submit(json!([retried, last])).await;
    wait_until(
        "the first task to run",
        async || world.started().len(),
        |started| *started == 1,
    )
    .await;
    assert_eq!(world.names("checkouts"), [run.to_string()]);

    // What is pushed meanwhile is for the next run.
    let second = world.commit("jobs/a.py", &["print new"]);
    world.server.executor.release();
    let mut ended = world.run(run, 0).await;
    while ended["state"]["result_state"].is_null() {
        world
            .server
            .clock
            .advance(std::time::Duration::from_secs(61));
        tokio::task::yield_now().await;
        ended = world.run(run, 0).await;
    }
    let folder = format!("/Workspace/Repos/.internal/{first}");
    let jobs = format!("{folder}/jobs");
    assert_eq!(world.started(), [jobs.clone(), jobs, folder]);
    assert_eq!(ended["git_source"]["git_snapshot"]["used_commit"], first);
    assert_eq!(ended["git_source"]["git_branch"], "main");
    assert_eq!(ended["tasks"][1]["state"]["result_state"], "SUCCESS");
    wait_until(
        "the checkout to go",
        async || world.names("checkouts"),
        Vec::is_empty,
    )
    .await;

    let run = world.submit(json!([task("a", "jobs/a", &[])])).await;
    let ended = world.run(run, 30_000).await;
    assert_eq!(ended["state"]["result_state"], "SUCCESS", "{ended}");
    assert_eq!(ended["git_source"]["git_snapshot"]["used_commit"], second);
    assert_eq!(world.names("staging"), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_checked_out_fails_the_run_and_says_why() {
    let world = World::start().await;
    let source = |field: &str, value: &str| {
        let mut source = world.source();
        source["git_branch"] = Value::Null;
        source[field] = json!(value);
        source
    };
    let mut gone = world.source();
    gone["git_url"] = json!(world.roots.path().join("nowhere"));
    for (source, words) in [
        (
            source("git_branch", "nowhere"),
            "Branch 'nowhere' does not exist",
        ),
        (source("git_tag", "v9"), "Tag 'v9' does not exist"),
        (
            source("git_commit", "0123456789abcdef"),
            "Commit '0123456789abcdef' does not exist",
        ),
        (gone, "must be Git repositories"),
    ] {
        let body = json!({"git_source": source, "tasks": [task("a", "n", &[])]});
        let run = world
            .server
            .post("/api/2.2/jobs/runs/submit", body)
            .await
            .ok();
        let ended = world.run(run["run_id"].as_i64().unwrap(), 30_000).await;
        let task = &ended["tasks"][0];
        assert_eq!(
            task["state"]["life_cycle_state"], "INTERNAL_ERROR",
            "{ended}"
        );
        let details = &task["status"]["termination_details"];
        assert_eq!(details["code"], "REPOSITORY_CHECKOUT_FAILED");
        let message = details["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
        assert!(ended["git_source"]["git_snapshot"].is_null());
    }
    let missing = world.submit(json!([task("a", "not/there", &[])])).await;
    let ended = world.run(missing, 30_000).await;
    let message = ended["tasks"][0]["state"]["state_message"]
        .as_str()
        .unwrap();
    assert!(message.contains("/not/there does not exist"), "{message}");
    assert_eq!(world.names("staging"), Vec::<String>::new());
}

#[tokio::test]
async fn wrong_settings_are_refused_by_field() {
    let world = World::start().await;
    let source = |change: Value| {
        let mut source = world.source();
        let change = change.as_object().unwrap().clone();
        source.as_object_mut().unwrap().extend(change);
        source
    };
    let notebook = |fields: Value| json!([{"task_key": "a", "notebook_task": fields}]);
    let plain = || notebook(json!({"notebook_path": "n"}));
    let bad = "INVALID_PARAMETER_VALUE";
    for (source, tasks, status, code, words) in [
        (
            source(json!({"git_tag": "v1"})),
            plain(),
            400,
            bad,
            "exactly one of git_branch",
        ),
        (
            source(json!({"git_branch": ""})),
            plain(),
            400,
            bad,
            "exactly one of git_branch",
        ),
        (
            source(json!({"git_branch": null, "git_commit": "main"})),
            plain(),
            400,
            bad,
            "git_commit",
        ),
        (
            source(json!({"git_provider": "svn"})),
            plain(),
            400,
            bad,
            "git_source.git_provider",
        ),
        (source(json!({"git_url": ""})), plain(), 400, bad, "git_url"),
        (
            source(json!({"sparse_checkout": {"patterns": ["a"]}})),
            plain(),
            501,
            "NOT_IMPLEMENTED",
            "sparse_checkout",
        ),
        (
            source(json!({})),
            notebook(json!({"notebook_path": "/Shared/n"})),
            400,
            bad,
            "relative",
        ),
        (
            source(json!({})),
            notebook(json!({"notebook_path": "../n"})),
            400,
            bad,
            "'..'",
        ),
        (
            source(json!({})),
            notebook(json!({"notebook_path": "n", "source": "SVN"})),
            400,
            bad,
            "WORKSPACE or GIT",
        ),
        (
            Value::Null,
            notebook(json!({"notebook_path": "n", "source": "GIT"})),
            400,
            bad,
            "no 'git_source'",
        ),
    ] {
        let body = json!({"git_source": source, "tasks": tasks});
        let answer = world.server.post("/api/2.1/jobs/create", body).await;
        let message = answer.refused(status, code);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn the_checkout_is_no_part_of_the_tree() {
    let world = World::start().await;
    let run = world.submit(json!([task("a", "n", &[])])).await;
    world.run(run, 30_000).await;
    let path = "/api/2.0/workspace/list?path=/Repos/.internal";
    world
        .server
        .get(path)
        .await
        .refused(403, "PERMISSION_DENIED");
    let body = json!({"path": "/Repos/.internal/x"});
    let answer = world.server.post("/api/2.0/workspace/mkdirs", body).await;
    answer.refused(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_start_removes_checkouts_that_nobody_wants() {
    let world = World::start().await;
    let left = world.server.data().join("dev/checkouts/42/abc");
    fs::create_dir_all(left).unwrap();
    let world = world.restart().await;
    assert_eq!(world.names("checkouts"), Vec::<String>::new());
}

#[tokio::test]
async fn a_cancel_between_two_tries_removes_the_checkout() {
    let world = World::start().await;
    world.commit("jobs/a.py", &["fail ValueError once"]);
    let retried = json!({"task_key": "a", "max_retries": 1, "min_retry_interval_millis": 60_000,
        "notebook_task": {"notebook_path": "jobs/a"}});
    let run = world.submit(json!([retried])).await;
    let attempt = async || {
        let shown = world.run(run, 0).await;
        shown["tasks"][0]["attempt_number"].clone()
    };
    wait_until("the second try", attempt, |number| *number == 1).await;
    assert_eq!(world.names("checkouts"), [run.to_string()]);
    let body = json!({"run_id": run});
    let path = "/api/2.1/jobs/runs/cancel";
    world.server.post(path, body).await.ok();
    assert_eq!(world.names("checkouts"), Vec::<String>::new());
}
