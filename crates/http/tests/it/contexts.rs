//! Execution contexts with an executor that does as its commands say.

use std::time::Duration;

use forebay_testkit::{TestServer, wait_until};
use serde_json::{Value, json};

use crate::work::{ended, notebook};

const CLUSTER: &str = "c1";

async fn start() -> TestServer {
    let server = TestServer::start_with(|setup| {
        setup.runtimes = None;
        setup.server.limits.running_attempts_max = 1;
        setup.server.contexts.cluster_max = 2;
        setup.server.contexts.idle_minutes = 30;
    })
    .await;
    let new = json!({"cluster_id": CLUSTER, "spark_version": "16.4.x-scala2.12", "num_workers": 0});
    server.post("/api/2.1/clusters/create", new).await.ok();
    let path = format!("/api/2.1/clusters/get?cluster_id={CLUSTER}");
    let is_running = |shown: &Value| shown["state"] == "RUNNING";
    wait_until(
        "the cluster",
        async || server.get(&path).await.ok(),
        is_running,
    )
    .await;
    server
}

/// A call that may wait for something: its short wait ends, because the clock goes on.
async fn get(server: &TestServer, path: &str) -> Value {
    let call = server.get(path);
    tokio::pin!(call);
    loop {
        match tokio::time::timeout(Duration::from_millis(5), &mut call).await {
            Ok(answer) => return answer.ok(),
            Err(_) => server.clock.advance(Duration::from_millis(100)),
        }
    }
}

async fn create(server: &TestServer) -> String {
    let new = json!({"clusterId": CLUSTER, "language": "python"});
    let made = server.post("/api/1.2/contexts/create", new).await.ok();
    let id = made["id"].as_str().unwrap().to_owned();
    until(server, &status_path(&id), "Running").await;
    id
}

fn status_path(context: &str) -> String {
    format!("/api/1.2/contexts/status?clusterId={CLUSTER}&contextId={context}")
}

async fn until(server: &TestServer, path: &str, status: &str) -> Value {
    let look = async || get(server, path).await;
    wait_until(status, look, |shown| shown["status"] == status).await
}

fn command(context: &str, more: Value) -> Value {
    let mut all = json!({"clusterId": CLUSTER, "contextId": context, "language": "python"});
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// The address of a new command's status.
async fn execute(server: &TestServer, context: &str, source: &str) -> (String, String) {
    let body = command(context, json!({"command": source}));
    let made = server.post("/api/1.2/commands/execute", body).await.ok();
    let id = made["id"].as_str().unwrap();
    let path =
        format!("/api/1.2/commands/status?clusterId={CLUSTER}&contextId={context}&commandId={id}");
    (id.to_owned(), path)
}

async fn destroy(server: &TestServer, context: &str) {
    let body = command(context, json!({}));
    server.post("/api/1.2/contexts/destroy", body).await.ok();
}

#[tokio::test]
async fn commands_run_in_order_and_one_that_is_canceled_does_not_end_the_context() {
    let server = start().await;
    let context = create(&server).await;
    let (first, held) = execute(&server, &context, "interrupt").await;
    let (second, behind) = execute(&server, &context, "print second").await;
    let (_, last) = execute(&server, &context, "print last").await;
    until(&server, &held, "Running").await;
    assert_eq!(get(&server, &behind).await["status"], "Queued");
    let cancel = async |id: &str| {
        let body = command(&context, json!({"commandId": id}));
        server.post("/api/1.2/commands/cancel", body).await
    };
    cancel(&second).await.ok();
    assert_eq!(get(&server, &behind).await["status"], "Cancelled");
    cancel(&first).await.ok();
    let interrupted = until(&server, &held, "Cancelled").await;
    assert_eq!(interrupted["results"]["resultType"], "error");
    let done = until(&server, &last, "Finished").await;
    assert_eq!(
        done["results"],
        json!({"resultType": "text", "data": "last", "truncated": false})
    );
    let path = format!("/api/forebay/v1/runs/{context}/notebook");
    let transcript = server.get(&path).await.ok();
    let sources = transcript["cells"].as_array().unwrap().iter();
    let sources: Vec<String> = sources.map(|cell| cell["source"].to_string()).collect();
    assert!(sources[2].contains("print last"), "{sources:?}");
    assert_eq!(sources.len(), 3);
}

#[tokio::test]
async fn contexts_have_a_ceiling_of_their_own() {
    let server = start().await;
    notebook(&server, "/Shared/hold", &["wait"]).await;
    let submit = json!({"notebook_task": {"notebook_path": "/Shared/hold"}});
    let busy = server.post("/api/2.1/jobs/runs/submit", submit).await.ok();
    let (one, two) = (create(&server).await, create(&server).await);
    let new = json!({"clusterId": CLUSTER, "language": "python"});
    let refused = server.post("/api/1.2/contexts/create", new).await;
    let message = refused.refused(400, "RESOURCE_LIMIT_EXCEEDED");
    assert!(
        message.contains("Cluster c1 has 2 execution contexts"),
        "{message}"
    );
    destroy(&server, &one).await;
    ended(&server, one.parse().unwrap()).await;
    let three = create(&server).await;
    assert!(three != two);
    // What holds the one slot is the run, and a context takes none from it.
    let queue = server.get("/api/forebay/v1/queue").await.ok();
    assert_eq!(queue["caps"]["server"]["live"], 1);
    let path = format!("/api/2.1/jobs/runs/get?run_id={}", busy["run_id"]);
    let run = server.get(&path).await.ok();
    assert_eq!(run["state"]["life_cycle_state"], "RUNNING");
    server.executor.release();
}

#[tokio::test]
async fn an_idle_context_ends_and_says_why() {
    let server = start().await;
    let context = create(&server).await;
    let (_, path) = execute(&server, &context, "print x").await;
    until(&server, &path, "Finished").await;
    let run = context.parse().unwrap();
    let look = async || {
        server.clock.advance(Duration::from_secs(60));
        get(&server, &status_path(&context)).await
    };
    let shown = wait_until("the end", look, |shown| shown["status"] == "Error").await;
    assert_eq!(
        shown["message"],
        "The context ended after 30 minutes without a command."
    );
    assert_eq!(
        ended(&server, run).await["state"]["result_state"],
        "SUCCESS"
    );
    let body = command(&context, json!({"command": "print y"}));
    let refused = server.post("/api/1.2/commands/execute", body).await;
    let message = refused.refused(400, "INVALID_STATE");
    assert!(message.contains("30 minutes"), "{message}");
}

#[tokio::test]
async fn a_context_ends_when_its_cluster_does() {
    let server = start().await;
    let context = create(&server).await;
    let (_, held) = execute(&server, &context, "interrupt").await;
    let (_, behind) = execute(&server, &context, "print x").await;
    until(&server, &held, "Running").await;
    let restart = json!({"cluster_id": CLUSTER});
    server.clock.advance(Duration::from_secs(1));
    server.post("/api/2.1/clusters/restart", restart).await.ok();
    // Only a program that asks for interrupts, as every real one does, has its cluster watched.
    let shown = until(&server, &held, "Error").await;
    let cause = shown["results"]["cause"].as_str().unwrap();
    assert!(cause.contains("ended with its cluster c1"), "{cause}");
    until(&server, &behind, "Error").await;
    until(&server, &status_path(&context), "Error").await;
}

#[tokio::test]
async fn clients_cannot_write_the_task_of_a_context() {
    let server = start().await;
    let task = json!({
        "task_key": "t", "notebook_task": {"notebook_path": "/x"},
        "context_task": {"language": "PYTHON"},
    });
    let refused = server
        .post("/api/2.1/jobs/runs/submit", json!({"tasks": [task]}))
        .await;
    let message = refused.refused(501, "NOT_IMPLEMENTED");
    assert!(message.contains("context_task"), "{message}");
}
