//! For-each tasks: their iterations, what they say and how they end.

use std::time::Duration;

use forebay_testkit::wait_until;
use serde_json::json;

use crate::work::{
    condition, ended, for_each, get, iterations_of, notebook, parameters, start, state, states,
    submit, task,
};

#[tokio::test]
async fn a_for_each_runs_its_task_once_for_each_element() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let set =
        r#"call jobs.taskValues.set {"key":"countries","value":[{"code":"nl"},{"code":"be"}]}"#;
    notebook(&server, "/Shared/load", &[set]).await;
    let mut inner = task("one", "/Shared/ok", &[]);
    inner["notebook_task"]["base_parameters"] = json!({"code": "{{input.code}}", "all": "{{input}}", "job": "{{job.run_id}}", "me": "{{task.name}}"});
    let mut each = for_each("each", "{{tasks.load.values.countries}}", 2, inner);
    each["depends_on"] = json!([{"task_key": "load"}]);
    let settings = json!({"tasks": [task("load", "/Shared/load", &[]), each]});
    let run = submit(&server, settings).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"), "{run}");
    let run = iterations_of(&server, &run, "").await;
    let stats = &run["tasks"][1]["for_each_task"]["stats"]["task_run_stats"];
    assert_eq!(
        (&stats["total_iterations"], &stats["succeeded_iterations"]),
        (&json!(2), &json!(2))
    );
    let mut got = parameters(&server)[1..].to_vec();
    got.sort_by_key(|one| one["code"].to_string());
    let expected = |code: &str| {
        let all = json!({"code": code}).to_string();
        json!({"code": code, "all": all, "job": run["run_id"].to_string(), "me": "one"})
    };
    assert_eq!(got, [expected("be"), expected("nl")]);
    let each = iterations_of(&server, &run["tasks"][1], "").await;
    let iterations = each["iterations"].as_array().unwrap();
    assert_eq!(iterations.len(), 2);
    assert_eq!(
        iterations[0]["forebay"]["iteration"]["input"],
        json!({"code": "nl"})
    );
    assert_eq!(iterations[0]["state"]["result_state"], "SUCCESS");
    let list = server.get("/api/2.1/jobs/runs/list").await.ok();
    assert_eq!(
        list["runs"].as_array().unwrap().len(),
        1,
        "iterations are not listed"
    );
}

#[tokio::test]
async fn a_for_each_keeps_to_its_concurrency_and_fails_with_any_iteration() {
    let server = start(15).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    let inner = task("one", "/Shared/{{input}}", &[]);
    let inputs = r#"["wait","wait","missing","wait"]"#;
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", inputs, 2, inner)]}),
    )
    .await;
    wait_until(
        "two are started",
        || async { server.executor.started().len() },
        |count| *count == 2,
    )
    .await;
    server.executor.release();
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("INTERNAL_ERROR", "FAILED"));
    let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
    assert!(
        message.starts_with("1 of 4 iterations failed: "),
        "{message}"
    );
    assert!(message.contains("/Shared/missing"), "{message}");
    assert_eq!(server.executor.started().len(), 3);
}

#[tokio::test]
async fn a_for_each_says_what_its_programs_said() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail ValueError too few rows"]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let inner = task("one", "/Shared/{{input}}", &[]);
    let run = json!({"tasks": [for_each("each", r#"["bad","ok","bad"]"#, 3, inner)]});
    let run = ended(&server, submit(&server, run).await).await;
    let message = &run["tasks"][0]["state"]["state_message"];
    assert_eq!(
        message,
        "2 of 3 iterations failed: ValueError: too few rows."
    );
}

#[tokio::test]
async fn inputs_that_are_no_array_are_refused_with_the_reason() {
    let server = start(15).await;
    for (inputs, reason) in [("{}", "it is an object"), ("[1", "not a JSON array")] {
        let each = for_each("each", inputs, 1, task("one", "/Shared/ok", &[]));
        let answer = server
            .post("/api/2.1/jobs/create", json!({"tasks": [each]}))
            .await;
        assert_eq!(answer.status, 400);
        let text = answer.text();
        assert!(
            text.contains("Task 'each': for_each_task.inputs") && text.contains(reason),
            "{text}"
        );
        // What a reference stands for is known only when the task's turn comes.
        let all = "{{job.parameters.all}}";
        let each = for_each("each", all, 1, task("one", "/Shared/ok", &[]));
        let parameter = json!({"name": "all", "default": inputs});
        let settings = json!({"tasks": [each], "parameters": [parameter]});
        let job = server.post("/api/2.1/jobs/create", settings).await.ok();
        let run = json!({"job_id": job["job_id"]});
        let run = server.post("/api/2.1/jobs/run-now", run).await.ok();
        let run = ended(&server, run["run_id"].as_i64().unwrap()).await;
        let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
    let each = for_each("each", "[]", 1, task("one", "/Shared/ok", &[]));
    let run = submit(&server, json!({"tasks": [each]})).await;
    assert_eq!(state(&ended(&server, run).await).1, "SUCCESS");
}

#[tokio::test]
async fn iterations_come_in_pages_of_a_hundred() {
    let server = start(15).await;
    let inner = condition("c", "EQUAL_TO", "{{input}}", "7", &[]);
    let inputs = json!((0..150).collect::<Vec<_>>()).to_string();
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", &inputs, 100, inner)]}),
    )
    .await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run).1, "SUCCESS", "{run}");
    let first = iterations_of(&server, &run["tasks"][0], "").await;
    assert_eq!(first["iterations"].as_array().unwrap().len(), 100);
    assert_eq!(first["iterations"][7]["condition_task"]["outcome"], "true");
    let token = first["next_page_token"].as_str().unwrap();
    let second = iterations_of(&server, &run["tasks"][0], &format!("&page_token={token}")).await;
    assert_eq!(second["iterations"].as_array().unwrap().len(), 50);
    assert!(second.get("next_page_token").is_none());
}

#[tokio::test]
async fn a_cancel_and_a_time_out_reach_the_children() {
    let server = start(15).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    let inner = || task("one", "/Shared/silent", &[]);
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", "[1,2,3]", 2, inner())]}),
    )
    .await;
    let two = |expected: usize| {
        let server = &server;
        wait_until(
            "the iterations are started",
            move || async move { server.executor.started().len() },
            move |count| *count == expected,
        )
    };
    two(2).await;
    server
        .post("/api/2.1/jobs/runs/cancel", json!({"run_id": run}))
        .await
        .ok();
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("TERMINATED", "CANCELED"));
    assert_eq!(server.executor.started().len(), 2);
    let each = iterations_of(&server, &run["tasks"][0], "").await;
    assert_eq!(each["iterations"][0]["state"]["result_state"], "CANCELED");

    let mut each = for_each("each", "[1,2,3]", 2, inner());
    each["timeout_seconds"] = json!(60);
    let run = submit(&server, json!({"tasks": [each]})).await;
    two(4).await;
    wait_until(
        "the clock passes the limit",
        || async {
            server.clock.advance(Duration::from_secs(61));
            state(&get(&server, run).await).1
        },
        |result| result == "FAILED",
    )
    .await;
    let run = ended(&server, run).await;
    assert_eq!(run["tasks"][0]["state"]["result_state"], "TIMEDOUT");
}

/// The rows say what is left to do: a server that starts anew goes on where the last one stopped.
#[tokio::test]
async fn a_for_each_goes_on_after_a_restart() {
    let server = start(1).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    let mut inner = task("one", "/Shared/{{input}}", &[]);
    inner["max_retries"] = json!(0);
    let inputs = r#"["silent","ok","ok"]"#;
    let run = submit(
        &server,
        json!({"tasks": [for_each("each", inputs, 1, inner)]}),
    )
    .await;
    wait_until(
        "the first is started",
        || async { server.executor.started().len() },
        |count| *count == 1,
    )
    .await;
    let server = server.restart(|setup| setup.runtimes = None).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run).1, "FAILED");
    let each = iterations_of(&server, &run["tasks"][0], "").await;
    let results: Vec<&str> = each["iterations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"]["result_state"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["FAILED", "SUCCESS", "SUCCESS"]);
}
