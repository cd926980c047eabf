use std::time::Duration;

use forebay_testkit::{TestServer, wait_until};
use forebay_types::RunId;
use serde_json::{Value, json};

use crate::work::{ended, job_of, notebook, ran, run_of, start_with};

const DAY: Duration = Duration::from_secs(86_400);

async fn is_there(server: &TestServer, run: i64) -> bool {
    let path = format!("/api/2.1/jobs/runs/get?run_id={run}");
    server.get(&path).await.status == 200
}

async fn preview(server: &TestServer) -> Value {
    server.get("/api/forebay/v1/retention/preview").await.ok()
}

async fn apply(server: &TestServer) -> Value {
    let path = "/api/forebay/v1/retention/apply";
    server.post(path, json!({})).await.ok()
}

/// The ids that a preview lists, with their reasons.
fn listed(preview: &Value) -> Vec<(i64, &str)> {
    let list = preview["list"].as_array().unwrap().iter();
    let pairs = list.map(|run| {
        (
            run["run_id"].as_i64().unwrap(),
            run["why"].as_str().unwrap(),
        )
    });
    pairs.collect()
}

/// The folder of the output of a run of one task.
async fn folder(server: &TestServer, run: i64) -> std::path::PathBuf {
    let (_, attempts) = server.app.services.store.run_get(RunId(run)).await.unwrap();
    let runs = server.data().join("dev/runs");
    runs.join(attempts[0].id.to_string())
}

#[tokio::test]
async fn old_runs_go_by_themselves_and_pinned_ones_stay() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["print hello"]).await;
    let job = job_of(&server, "/Shared/n", json!({})).await;
    let (old, pinned) = (ran(&server, job).await, ran(&server, job).await);
    let files = folder(&server, old).await;
    assert!(files.join("output.jsonl").is_file());
    let pin = format!("/api/forebay/v1/runs/{pinned}/pin");
    server.post(&pin, json!({})).await.ok();
    assert_eq!(ended(&server, pinned).await["forebay"]["pinned"], true);

    server.clock.advance(DAY * 61);
    wait_until("retention", || is_there(&server, old), |there| !there).await;
    // The row goes before the files, so that no row names files that are gone.
    wait_until("files", || async { files.exists() }, |there| !there).await;
    assert!(is_there(&server, pinned).await);
    let young = ran(&server, job).await;
    assert!(listed(&preview(&server).await).is_empty());

    let unpin = format!("/api/forebay/v1/runs/{pinned}/unpin");
    server.post(&unpin, json!({})).await.ok();
    let due = preview(&server).await;
    assert_eq!(listed(&due), [(pinned, "age")]);
    assert!(due["bytes"].as_u64().unwrap() > 0);
    assert_eq!(apply(&server).await["runs"], 1);
    assert!(!is_there(&server, pinned).await && is_there(&server, young).await);
}

#[tokio::test]
async fn a_job_has_its_own_rules_and_an_active_run_stays() {
    let server = start_with(|config| config.retention.days = 5).await;
    notebook(&server, "/Shared/n", &["print x"]).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    let few = json!({"forebay": {"retention": {"runs": 1, "days": 0}}});
    let few = job_of(&server, "/Shared/n", few).await;
    let usual = job_of(&server, "/Shared/n", json!({})).await;
    let waiting = job_of(&server, "/Shared/wait", json!({})).await;
    let active = run_of(&server, waiting).await;
    let runs = [
        ran(&server, few).await,
        ran(&server, few).await,
        ran(&server, few).await,
    ];
    let old = ran(&server, usual).await;
    let mut due = preview(&server).await;
    due["list"]
        .as_array_mut()
        .unwrap()
        .sort_by_key(|run| run["run_id"].as_i64());
    assert_eq!(listed(&due), [(runs[0], "count"), (runs[1], "count")]);
    assert_eq!(apply(&server).await["runs"], 2);

    server.clock.advance(DAY * 6);
    apply(&server).await;
    assert!(is_there(&server, runs[2]).await, "for ever");
    assert!(!is_there(&server, old).await);
    assert!(is_there(&server, active).await);
    server.executor.release();
    ended(&server, active).await;
}

#[tokio::test]
async fn output_can_go_before_its_run_which_says_so() {
    let server = start_with(|config| config.retention.output_days = 1).await;
    notebook(&server, "/Shared/n", &["print x", "exit value"]).await;
    let job = job_of(&server, "/Shared/n", json!({})).await;
    let run = ran(&server, job).await;
    let files = folder(&server, run).await;
    server.clock.advance(DAY * 2);
    apply(&server).await;
    assert!(!files.exists());
    let shown = ended(&server, run).await;
    assert_eq!(shown["forebay"]["output_removed"], true);
    let path = format!(
        "/api/2.1/jobs/runs/get-output?run_id={}",
        shown["tasks"][0]["run_id"]
    );
    let output = server.get(&path).await.ok();
    assert_eq!(output["notebook_output"]["result"], "value");
    assert!(output["info"].as_str().unwrap().contains("retention"));
    let export = format!(
        "/api/2.1/jobs/runs/export?run_id={}",
        shown["tasks"][0]["run_id"]
    );
    assert_eq!(server.get(&export).await.status, 404);
    assert!(listed(&preview(&server).await).is_empty(), "once is enough");
}

#[tokio::test]
async fn a_notebook_that_another_started_goes_after_it() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/child", &["print x"]).await;
    let call = r#"call notebook.run {"from":"/Shared/n","path":"/Shared/child","timeout_seconds":0,"arguments":{}}"#;
    notebook(&server, "/Shared/n", &[call]).await;
    let job = job_of(&server, "/Shared/n", json!({})).await;
    let parent = ran(&server, job).await;
    let store = &server.app.services.store;
    let child = store.run_list_children(RunId(parent)).await.unwrap()[0]
        .id
        .0;
    let pin = format!("/api/forebay/v1/runs/{parent}/pin");
    server.post(&pin, json!({})).await.ok();
    server.clock.advance(DAY * 61);
    apply(&server).await;
    assert!(is_there(&server, child).await, "its parent is pinned");
    server
        .post(&pin.replace("/pin", "/unpin"), json!({}))
        .await
        .ok();
    apply(&server).await;
    assert!(!is_there(&server, parent).await);
    apply(&server).await;
    assert!(!is_there(&server, child).await);
}

#[tokio::test]
async fn rules_are_checked_and_old_idempotency_tokens_are_forgotten() {
    let server = start_with(|_| {}).await;
    notebook(&server, "/Shared/n", &["print x"]).await;
    let task = json!({"task_key": "t", "notebook_task": {"notebook_path": "/Shared/n"}});
    let own = json!({"retention": {"weeks": 1}});
    let wrong = json!({"name": "j", "tasks": [task], "forebay": own});
    let refused = server.post("/api/2.1/jobs/create", wrong).await;
    assert!(refused.text().contains("weeks"), "{}", refused.text());
    let submit = json!({"tasks": [task], "idempotency_token": "once"});
    let path = "/api/2.1/jobs/runs/submit";
    let first = server.post(path, submit.clone()).await.ok()["run_id"].clone();
    ended(&server, first.as_i64().unwrap()).await;
    assert_eq!(
        server.post(path, submit.clone()).await.ok()["run_id"],
        first
    );
    server.clock.advance(DAY * 31);
    apply(&server).await;
    assert_ne!(server.post(path, submit).await.ok()["run_id"], first);
    let plain = server.plain.clone();
    let answer = server.call(&plain, "POST", "/api/forebay/v1/retention/apply", json!({}));
    assert_eq!(answer.await.status, 403);
}

/// A run of three iterations, each of which starts a notebook; all runs of it, the first on top.
async fn tree(server: &TestServer, more: Value) -> Vec<i64> {
    notebook(server, "/Shared/child", &["print x"]).await;
    let call = r#"call notebook.run {"from":"/Shared/n","path":"/Shared/child","timeout_seconds":0,"arguments":{}}"#;
    notebook(server, "/Shared/n", &[call]).await;
    let inner = json!({"task_key": "one", "notebook_task": {"notebook_path": "/Shared/n"}});
    let each = json!({"inputs": "[1,2,3]", "concurrency": 3, "task": inner});
    let mut settings = json!({"tasks": [{"task_key": "each", "for_each_task": each}]});
    let own = more.as_object().unwrap().clone();
    settings.as_object_mut().unwrap().extend(own);
    let of = job_of(server, "/Shared/n", settings).await;
    let root = ran(server, of).await;
    let store = &server.app.services.store;
    let mut all = vec![root];
    let mut next = 0;
    while let Some(run) = all.get(next) {
        let below = store.run_list_children(RunId(*run)).await.unwrap();
        all.extend(below.iter().map(|run| run.id.0));
        next += 1;
    }
    assert_eq!(all.len(), 7);
    all
}

#[tokio::test]
async fn a_run_goes_with_all_that_ran_below_it() {
    let server = start_with(|config| config.retention.days = 0).await;
    let deleted = tree(&server, json!({})).await;
    let few = json!({"forebay": {"retention": {"runs": 0, "output_days": 0}}});
    let kept = tree(&server, few).await;
    let leaf = folder(&server, *deleted.last().unwrap()).await;
    assert!(leaf.exists());
    let body = json!({"run_id": deleted[0]});
    server.post("/api/2.1/jobs/runs/delete", body).await.ok();
    for run in &deleted {
        assert!(!is_there(&server, *run).await, "{run}");
    }
    assert!(!leaf.exists());

    let more = json!({"forebay": {"retention": {"runs": 1}}});
    let second = tree(&server, more).await;
    let job = ended(&server, second[0]).await["job_id"].clone();
    let pin = format!("/api/forebay/v1/runs/{}/pin", second[6]);
    server.post(&pin, json!({})).await.ok();
    ran(&server, job.as_i64().unwrap()).await;
    assert!(
        listed(&preview(&server).await).is_empty(),
        "a part is pinned"
    );
    let pin = pin.replace("/pin", "/unpin");
    server.post(&pin, json!({})).await.ok();
    assert_eq!(listed(&preview(&server).await), [(second[0], "count")]);
    assert_eq!(apply(&server).await["runs"], 1);
    for run in &second {
        assert!(!is_there(&server, *run).await, "{run}");
    }
    assert!(is_there(&server, kept[6]).await);
}

#[tokio::test]
async fn output_goes_with_that_of_the_parts_and_comes_back_by_a_repair() {
    let server = start_with(|config| config.retention.output_days = 1).await;
    let runs = tree(&server, json!({})).await;
    let leaf = folder(&server, runs[6]).await;
    assert!(leaf.exists());
    let gone = async |run: i64| ended(&server, run).await["forebay"]["output_removed"].clone();
    server.clock.advance(DAY * 2);
    apply(&server).await;
    assert!(!leaf.exists());
    assert_eq!(
        (gone(runs[0]).await, gone(runs[6]).await),
        (json!(true), json!(true))
    );

    server.clock.advance(Duration::from_secs(1));
    let body = json!({"run_id": runs[0], "rerun_tasks": ["each"]});
    server.post("/api/2.2/jobs/runs/repair", body).await.ok();
    assert_eq!(gone(runs[0]).await, false);
    server.clock.advance(DAY * 2);
    apply(&server).await;
    assert_eq!(gone(runs[0]).await, true);
}
