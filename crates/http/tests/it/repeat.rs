//! Runs that are done again, seen through the API.

use forebay_testkit::{PLAIN_USER, TestServer};
use serde_json::{Value, json};

use crate::work::{
    ended, for_each, get, job, notebook, parameters, repair, run_of, start, state, states, task,
};

async fn repeat(server: &TestServer, run: i64) -> Value {
    let path = format!("/api/forebay/v1/runs/{run}/repeat");
    let repeated = server.post(&path, json!({})).await.ok();
    ended(server, repeated["run_id"].as_i64().unwrap()).await
}

async fn facts(server: &TestServer, run: &Value) -> Value {
    let path = format!("/api/forebay/v1/runs/{}/facts", run["run_id"]);
    server.get(&path).await.ok()
}

/// The parameters of the notebooks that were started, by the value of `n`.
fn parameters_by_n(server: &TestServer) -> Vec<Value> {
    let mut all = parameters(server);
    all.sort_by_key(|one| one["n"].to_string());
    all
}

#[tokio::test]
async fn an_iteration_from_before_a_repair_is_repeated_as_it_was() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let with = |word: &str, path: &str| {
        let mut inner = task("one", path, &[]);
        inner["notebook_task"]["base_parameters"] = json!({"n": "{{input}}", "word": word});
        json!({"name": "j", "tasks": [for_each("each", r#"["ok", "later"]"#, 1, inner)]})
    };
    let job = job(&server, with("old", "/Shared/{{input}}")).await;
    let run = run_of(&server, job).await;
    assert_eq!(state(&ended(&server, run).await).1, "FAILED");
    notebook(&server, "/Shared/later", &["print y"]).await;
    let changed = json!({"job_id": job, "new_settings": with("new", "/Shared/{{input}}")});
    server.post("/api/2.2/jobs/reset", changed).await.ok();
    let again = json!({"run_id": run, "rerun_all_failed_tasks": true});
    repair(&server, again).await;
    let first = ended(&server, run).await;
    assert_eq!(state(&first), states("TERMINATED", "SUCCESS"), "{first}");
    let was = [
        json!({"n": "later", "word": "new"}),
        json!({"n": "ok", "word": "old"}),
    ];
    assert_eq!(parameters_by_n(&server), was);

    let known = facts(&server, &first).await;
    assert_eq!(known["not_repeatable"], json!([]));
    let started = known["tasks"][0]["started"].as_array().unwrap();
    let numbers = started.iter().map(|one| (&one["number"], &one["input"]));
    let expected = [(&json!(0), &json!("ok")), (&json!(1), &json!("later"))];
    assert_eq!(numbers.collect::<Vec<_>>(), expected);
    assert!(started.iter().all(|one| one["run_id"].is_i64()), "{known}");

    let repeated = repeat(&server, run).await;
    assert_eq!(
        state(&repeated),
        states("TERMINATED", "SUCCESS"),
        "{repeated}"
    );
    let [later, ok] = was;
    assert_eq!(
        parameters_by_n(&server),
        [later.clone(), later, ok.clone(), ok]
    );
}

/// Not for the user that the run acts for.
#[tokio::test]
async fn what_an_iteration_calls_is_repeated_for_who_asks() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let called = json!({"name": "called", "tasks": [task("a", "/Shared/ok", &[])],
        "access_control_list": [{"user_name": PLAIN_USER, "permission_level": "CAN_MANAGE_RUN"}]});
    let called = job(&server, called).await;
    let inner = json!({"task_key": "call", "run_job_task": {"job_id": called}});
    let each = json!({"name": "each", "tasks": [for_each("each", "[1]", 1, inner)],
        "run_as": {"user_name": PLAIN_USER}});
    let each = job(&server, each).await;
    let first = run_of(&server, each).await;
    let first = ended(&server, first).await;
    assert_eq!(state(&first), states("TERMINATED", "SUCCESS"), "{first}");
    let run = first["run_id"].as_i64().unwrap();
    let again = repeat(&server, run).await;
    assert_eq!(state(&again), states("TERMINATED", "SUCCESS"), "{again}");
    let mut creators = Vec::new();
    for run in [&first, &again] {
        let known = facts(&server, run).await;
        let iteration = &known["tasks"][0]["started"][0];
        let known = facts(&server, iteration).await;
        let called = known["tasks"][0]["started"][0]["run_id"].as_i64().unwrap();
        creators.push(get(&server, called).await["creator_user_name"].clone());
    }
    assert_eq!(
        creators,
        [json!(PLAIN_USER), first["creator_user_name"].clone()]
    );
}
