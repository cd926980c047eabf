//! Runs of many tasks and iterations: what one costs does not depend on how many others there are,
//! or these would not come to their end in the time that a test has.

use forebay_testkit::TestServer;
use serde_json::{Value, json};

use crate::work::{for_each, notebook, start, state, task};

const MANY: usize = 300;

/// Submits a run and waits for its end.
async fn run(server: &TestServer, tasks: Value) -> Value {
    let settings = json!({"run_name": "many", "tasks": tasks});
    let answer = server.post("/api/2.2/jobs/runs/submit", settings).await;
    let path = format!(
        "/api/forebay/v1/runs/{}?wait_ms=30000",
        answer.ok()["run_id"]
    );
    loop {
        let shown = server.get(&path).await.ok();
        if shown["state"]["result_state"].is_string() {
            return shown;
        }
    }
}

#[tokio::test]
async fn many_tasks_and_one_behind_all_of_them_come_to_their_end() {
    let server = start(100).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let keys: Vec<String> = (1..MANY).map(|number| format!("t{number}")).collect();
    let alone = |key: &String| task(key, "/Shared/ok", &[]);
    let mut tasks: Vec<Value> = keys.iter().map(alone).collect();
    let all: Vec<&str> = keys.iter().map(String::as_str).collect();
    tasks.push(task("join", "/Shared/ok", &all));
    let shown = run(&server, json!(tasks)).await;
    assert_eq!(state(&shown).1, "SUCCESS");
    assert_eq!(server.executor.started().len(), MANY);
}

#[tokio::test]
async fn many_iterations_one_after_the_other_come_to_their_end() {
    let server = start(100).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let inputs = json!((0..MANY).collect::<Vec<_>>()).to_string();
    let inner = task("one", "/Shared/ok", &[]);
    let tasks = json!([for_each("each", &inputs, 1, inner)]);
    let shown = run(&server, tasks).await;
    assert_eq!(state(&shown).1, "SUCCESS");
    assert_eq!(server.executor.started().len(), MANY);
}
