//! Clusters that jobs define: who has the same one, and for how long.

use std::time::Duration;

use forebay_testkit::{TestServer, wait_until};
use serde_json::{Value, json};

use crate::work::{ended, for_each, get, notebook, repair, start, state, states, submit, task};

fn definition() -> Value {
    json!({"spark_version": "15.4.x-scala2.12", "num_workers": 0})
}

/// A notebook task on the cluster that the job has under the name "shared".
fn on_shared(key: &str, path: &str, after: &[&str]) -> Value {
    let mut task = task(key, path, after);
    task["job_cluster_key"] = json!("shared");
    task
}

fn of_shared(tasks: Value) -> Value {
    let clusters = json!([{"job_cluster_key": "shared", "new_cluster": definition()}]);
    json!({"run_name": "t", "job_clusters": clusters, "tasks": tasks})
}

/// Of the run of one task; noted beside it, so it may come after its end.
async fn cluster_of(server: &TestServer, task: &Value) -> String {
    let run = task["run_id"].as_i64().unwrap();
    let look = async || get(server, run).await["cluster_instance"]["cluster_id"].clone();
    let id = wait_until("the cluster", look, Value::is_string).await;
    id.as_str().unwrap().to_owned()
}

async fn clusters_of(server: &TestServer, run: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for task in run["tasks"].as_array().unwrap() {
        if task.get("for_each_task").is_none() {
            found.push(cluster_of(server, task).await);
        }
    }
    found
}

async fn cluster(server: &TestServer, id: &str) -> Value {
    let path = format!("/api/2.1/clusters/get?cluster_id={id}");
    server.get(&path).await.ok()
}

async fn until_ended(server: &TestServer, id: &str) -> Value {
    let look = || cluster(server, id);
    wait_until("its end", look, |cluster| cluster["state"] == "TERMINATED").await
}

/// Waits until try `number` of the first task has failed and the next one waits for its time.
async fn first_task(server: &TestServer, run: i64, number: i64) {
    let look = async || get(server, run).await["tasks"][0].clone();
    wait_until("a try to have failed", look, |task| {
        let waits = task["state"]["life_cycle_state"] == "WAITING_FOR_RETRY";
        waits && task["attempt_number"] == number + 1
    })
    .await;
}

/// A run on the shared cluster whose first try has failed; the next one comes after 90 seconds.
async fn fails(server: &TestServer, retries: u32) -> i64 {
    notebook(server, "/Shared/bad", &["fail E m"]).await;
    let mut bad = on_shared("a", "/Shared/bad", &[]);
    bad["max_retries"] = json!(retries);
    bad["min_retry_interval_millis"] = json!(90_000);
    let run = submit(server, of_shared(json!([bad]))).await;
    first_task(server, run, 0).await;
    run
}

/// Ends a cluster as somebody would by hand.
async fn end(server: &TestServer, id: &str) {
    let end = json!({"cluster_id": id});
    server.post("/api/2.0/clusters/delete", end).await.ok();
}

async fn only_cluster(server: &TestServer) -> String {
    let list = server.get("/api/2.1/clusters/list").await.ok();
    let [only] = &list["clusters"].as_array().unwrap()[..] else {
        panic!("{list}")
    };
    only["cluster_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_tasks_of_a_run_share_a_cluster_that_ends_with_it() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let own = json!({"task_key": "own", "new_cluster": definition(),
        "notebook_task": {"notebook_path": "/Shared/ok"}});
    let mut each = for_each("each", "[1, 2]", 2, on_shared("i", "/Shared/ok", &[]));
    each["depends_on"] = json!([{"task_key": "c"}]);
    let tasks = json!([
        on_shared("a", "/Shared/ok", &[]),
        on_shared("b", "/Shared/ok", &[]),
        on_shared("c", "/Shared/ok", &["a", "b"]),
        own,
        each,
    ]);
    let run = submit(&server, of_shared(tasks.clone())).await;
    let shown = ended(&server, run).await;
    assert_eq!(state(&shown), states("TERMINATED", "SUCCESS"), "{shown}");
    let of_tasks = clusters_of(&server, &shown).await;
    let shared = of_tasks[0].clone();
    assert_eq!(
        of_tasks[..3],
        [shared.clone(), shared.clone(), shared.clone()]
    );
    assert_ne!(of_tasks[3], shared);
    let each = shown["tasks"][4]["run_id"].as_i64().unwrap();
    let each = get(&server, each).await;
    let iterations = each["iterations"].as_array().unwrap();
    assert_eq!(iterations.len(), 2);
    for iteration in iterations {
        assert_eq!(cluster_of(&server, iteration).await, shared);
    }
    for id in [&shared, &of_tasks[3]] {
        let last = until_ended(&server, id).await;
        assert_eq!(last["termination_reason"]["code"], "JOB_FINISHED");
    }
    let other = submit(&server, of_shared(tasks)).await;
    assert_ne!(
        clusters_of(&server, &ended(&server, other).await).await[0],
        shared
    );
}

/// Nobody uses it while a task waits for its next try, or before a new server has looked around.
#[tokio::test]
async fn a_shared_cluster_stays_between_tries_and_over_a_restart() {
    let server = start(15).await;
    let run = fails(&server, 2).await;
    let first = only_cluster(&server).await;
    // The clusters are looked at meanwhile.
    server.clock.advance(Duration::from_secs(31));
    let server = server.restart(|setup| setup.runtimes = None).await;
    server.clock.advance(Duration::from_secs(31));
    assert_eq!(cluster(&server, &first).await["state"], "RUNNING");
    server.clock.advance(Duration::from_secs(30));
    first_task(&server, run, 1).await;
    assert_eq!(only_cluster(&server).await, first);
    // Who ends it by hand does not fail the next try: it is started again.
    end(&server, &first).await;
    server.clock.advance(Duration::from_secs(90));
    let shown = ended(&server, run).await;
    assert_eq!(clusters_of(&server, &shown).await, [first.as_str()]);
    let events = server.post("/api/2.0/clusters/events", json!({"cluster_id": first}));
    let events = events.await.ok();
    let started = events["events"].as_array().unwrap().iter();
    assert_eq!(
        started.filter(|event| event["type"] == "STARTING").count(),
        1
    );
    until_ended(&server, &first).await;
}

/// Also when so many others have ended since that those of ended runs are forgotten.
#[tokio::test]
async fn a_shared_cluster_that_somebody_ended_is_there_as_long_as_its_run() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let run = fails(&server, 1).await;
    let shared = only_cluster(&server).await;
    end(&server, &shared).await;
    let mut others = Vec::new();
    for _ in 0..32 {
        server.clock.advance(Duration::from_millis(10));
        let tasks = json!([on_shared("a", "/Shared/ok", &[])]);
        let other = submit(&server, of_shared(tasks)).await;
        others.push(clusters_of(&server, &ended(&server, other).await).await[0].clone());
    }
    let forgotten = async || {
        server.clock.advance(Duration::from_millis(10));
        let path = format!("/api/2.1/clusters/get?cluster_id={}", others[0]);
        server.get(&path).await.status.as_u16()
    };
    wait_until("the oldest of them is forgotten", forgotten, |status| {
        *status == 400
    })
    .await;
    assert_eq!(cluster(&server, &shared).await["state"], "TERMINATED");
    server.clock.advance(Duration::from_secs(90));
    let shown = ended(&server, run).await;
    assert_eq!(clusters_of(&server, &shown).await, [shared.as_str()]);
}

/// It may be defined otherwise by then.
#[tokio::test]
async fn a_repair_has_a_cluster_of_its_own() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let run = submit(
        &server,
        of_shared(json!([on_shared("a", "/Shared/bad", &[])])),
    )
    .await;
    let first = clusters_of(&server, &ended(&server, run).await).await;
    let body = json!({"run_id": run, "rerun_all_failed_tasks": true});
    repair(&server, body).await;
    let second = clusters_of(&server, &ended(&server, run).await).await;
    assert_ne!(first, second);
    for id in first.iter().chain(&second) {
        until_ended(&server, id).await;
    }
}
