//! Runs from submission to verdict, on an executor that does what its cells say.

use std::time::Duration;

use serde_json::{Value, json};

use crate::work::{ended, flat, get, job, notebook, run_now, start, state, states, submit, task};

#[tokio::test]
async fn a_notebook_runs_and_its_result_and_output_are_there() {
    let server = start(15).await;
    notebook(&server, "/Shared/a", &["print hello", "exit done"]).await;
    let run = submit(&server, flat("/Shared/a")).await;
    assert_eq!(
        state(&ended(&server, run).await),
        states("TERMINATED", "SUCCESS")
    );
    let path = format!("/api/2.0/jobs/runs/get-output?run_id={run}");
    let output = server
        .call(&server.admin, "GET", &path, Value::Null)
        .await
        .ok();
    assert_eq!(
        output["notebook_output"],
        json!({"result": "done", "truncated": false})
    );
    assert_eq!(
        output["metadata"]["task"]["notebook_task"]["notebook_path"],
        "/Shared/a"
    );
    let path = format!("/api/forebay/v1/runs/{run}/notebook");
    let document = server
        .call(&server.admin, "GET", &path, Value::Null)
        .await
        .ok();
    assert_eq!(document["cells"][0]["outputs"][0]["text"], "hello\n");
    let path = format!("/api/2.0/jobs/runs/export?run_id={run}");
    let views = server
        .call(&server.admin, "GET", &path, Value::Null)
        .await
        .ok();
    assert!(
        views["views"][0]["content"]
            .as_str()
            .unwrap()
            .contains("hello")
    );
}

#[tokio::test]
async fn a_failure_is_terminated_in_the_flat_form_and_an_internal_error_in_the_other() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail ValueError too small"]).await;
    let run = submit(&server, flat("/Shared/bad")).await;
    assert_eq!(
        state(&ended(&server, run).await),
        states("TERMINATED", "FAILED")
    );
    let many = submit(&server, json!({"tasks": [task("a", "/Shared/bad", &[])]})).await;
    let many = ended(&server, many).await;
    assert_eq!(state(&many), states("INTERNAL_ERROR", "FAILED"));
    let message = many["state"]["state_message"].as_str().unwrap();
    assert_eq!(
        message,
        "Task a failed with message: Workload failed, see run output for details."
    );
    let task_run = many["tasks"][0]["run_id"].as_i64().unwrap();
    let path = format!("/api/2.1/jobs/runs/get-output?run_id={task_run}");
    let output = server
        .call(&server.admin, "GET", &path, Value::Null)
        .await
        .ok();
    assert_eq!(output["error"], "ValueError: too small");
    assert_eq!(
        output["metadata"]["state"]["life_cycle_state"],
        "TERMINATED"
    );
}

#[tokio::test]
async fn a_missing_notebook_fails_the_run_with_its_name() {
    let server = start(15).await;
    let run = submit(&server, flat("/Shared/nowhere")).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("INTERNAL_ERROR", "FAILED"));
    assert!(
        run["state"]["state_message"]
            .as_str()
            .unwrap()
            .contains("/Shared/nowhere")
    );
    assert_eq!(
        run["status"]["termination_details"]["code"],
        "RESOURCE_NOT_FOUND"
    );
}

#[tokio::test]
async fn tasks_run_in_order_and_what_depends_on_a_failure_does_not() {
    let server = start(15).await;
    notebook(&server, "/Shared/ok", &["print x"]).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let tasks = [
        task("first", "/Shared/ok", &[]),
        task("bad", "/Shared/bad", &["first"]),
        task("after_bad", "/Shared/ok", &["bad"]),
        task("beside", "/Shared/ok", &["first"]),
    ];
    let run = submit(&server, json!({"tasks": tasks})).await;
    let run = ended(&server, run).await;
    let results: Vec<&str> = run["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["state"]["result_state"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["SUCCESS", "FAILED", "UPSTREAM_FAILED", "SUCCESS"]);
    let several = format!("/api/2.1/jobs/runs/get-output?run_id={}", run["run_id"]);
    let refused = server
        .call(&server.admin, "GET", &several, Value::Null)
        .await;
    assert!(
        refused
            .refused(400, "INVALID_PARAMETER_VALUE")
            .contains("several tasks")
    );
}

#[tokio::test]
async fn never_more_attempts_at_once_than_the_cap_and_none_is_lost() {
    let server = start(3).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    let mut runs = Vec::new();
    for _ in 0..20 {
        runs.push(submit(&server, flat("/Shared/wait")).await);
    }
    forebay_testkit::wait_until(
        "three are started",
        || async { server.executor.started().len() == 3 },
        |done| *done,
    )
    .await;
    let live = server.app.services.store.attempt_list_live().await.unwrap();
    assert_eq!(live.len(), 3);
    server.executor.release();
    for run in runs {
        assert_eq!(
            state(&ended(&server, run).await),
            states("TERMINATED", "SUCCESS")
        );
    }
    assert_eq!(server.executor.started().len(), 20);
}

#[tokio::test]
async fn a_cancel_ends_what_runs_and_what_waits() {
    let server = start(1).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    let running = submit(&server, flat("/Shared/silent")).await;
    forebay_testkit::wait_until(
        "the first is started",
        || async { server.executor.started().len() == 1 },
        |done| *done,
    )
    .await;
    let waiting = submit(&server, flat("/Shared/silent")).await;
    for run in [waiting, running] {
        let body = json!({"run_id": run});
        server
            .call(&server.admin, "POST", "/api/2.0/jobs/runs/cancel", body)
            .await
            .ok();
        assert_eq!(
            state(&ended(&server, run).await),
            states("TERMINATED", "CANCELED")
        );
    }
    assert_eq!(
        server.executor.started().len(),
        1,
        "the waiting one never started"
    );
}

#[tokio::test]
async fn a_failed_task_is_tried_again_as_often_as_it_may() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let mut settings = flat("/Shared/bad");
    settings["max_retries"] = json!(2);
    let run = submit(&server, settings).await;
    let run = ended(&server, run).await;
    assert_eq!(run["attempt_number"], 2);
    assert_eq!(server.executor.started().len(), 3);
}

#[tokio::test]
async fn a_task_that_waits_for_its_next_try_says_until_when() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    let mut settings = flat("/Shared/bad");
    settings["max_retries"] = json!(1);
    settings["min_retry_interval_millis"] = json!(90_000);
    let run = submit(&server, settings).await;
    let waits = async || get(&server, run).await["tasks"][0]["state"].clone();
    forebay_testkit::wait_until("the first try to have failed", &waits, |state| {
        state["life_cycle_state"] == "WAITING_FOR_RETRY"
    })
    .await;
    let due = server.clock.now().plus_ms(90_000);
    let due = jiff::Timestamp::from_millisecond(due.0).unwrap();
    let due = due.strftime("%Y-%m-%d %H:%M:%S UTC");
    let told = format!("Attempt 1 did not succeed; the next one starts not before {due}.");
    assert_eq!(waits().await["state_message"], told);
    server.clock.advance(Duration::from_secs(90));
    assert_eq!(ended(&server, run).await["attempt_number"], 1);
}

/// Nothing waits for the time by which a clock was wrong.
#[tokio::test]
async fn a_clock_that_is_put_back_holds_up_no_run() {
    let server = start(15).await;
    notebook(&server, "/Shared/bad", &["fail E m"]).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    let under_way = submit(&server, flat("/Shared/wait")).await;
    let mut limited = task("t", "/Shared/silent", &[]);
    limited["timeout_seconds"] = json!(120);
    let limited = submit(&server, json!({"tasks": [limited]})).await;
    let other = json!({"name": "other", "tasks": [task("t", "/Shared/bad", &[])]});
    let other = job(&server, other).await;
    let calls = json!({"task_key": "t", "run_job_task": {"job_id": other}});
    let mut retried = Vec::new();
    for mut task in [calls, task("t", "/Shared/bad", &[])] {
        task["max_retries"] = json!(1);
        task["min_retry_interval_millis"] = json!(90_000);
        retried.push(submit(&server, json!({"tasks": [task]})).await);
    }
    let until = async |run: i64, wanted: &str| {
        let look = || async {
            // A standing clock gives back no requests.
            server.clock.advance(Duration::from_millis(50));
            get(&server, run).await["tasks"][0].clone()
        };
        let is_there = |task: &Value| task["state"]["life_cycle_state"] == wanted;
        forebay_testkit::wait_until(wanted, look, is_there).await
    };
    for run in &retried {
        until(*run, "WAITING_FOR_RETRY").await;
    }
    server.clock.put_back(Duration::from_secs(86_400));
    for run in retried {
        let task = until(run, "TERMINATED").await;
        assert_eq!(task["attempt_number"], 1, "{task}");
    }
    server.executor.release();
    let run = ended(&server, under_way).await;
    assert_eq!(state(&run), states("TERMINATED", "SUCCESS"));
    assert!(run["run_duration"].as_i64().unwrap() >= 0, "{run}");
    server.clock.advance(Duration::from_secs(120));
    let run = ended(&server, limited).await;
    assert_eq!(run["tasks"][0]["state"]["result_state"], "TIMEDOUT");
}

/// The limits of a whole run and of a task that only waits count on, whichever way the clock goes.
#[tokio::test]
async fn a_clock_that_is_turned_makes_no_run_longer_or_shorter() {
    let server = start(15).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    let silent = json!({"name": "silent", "tasks": [task("a", "/Shared/silent", &[])]});
    let silent = job(&server, silent).await;
    let calls =
        json!({"task_key": "t", "run_job_task": {"job_id": silent}, "timeout_seconds": 7200});
    let whole = json!({"timeout_seconds": 7200, "tasks": [task("a", "/Shared/silent", &[])]});
    for limited in [whole, json!({"tasks": [calls]})] {
        for is_back in [true, false] {
            let run = submit(&server, limited.clone()).await;
            let stands =
                async || get(&server, run).await["tasks"][0]["state"]["life_cycle_state"].clone();
            forebay_testkit::wait_until("its start", stands, |state| state == "RUNNING").await;
            server.clock.advance(Duration::from_secs(3600));
            forebay_testkit::wait_until("a look", stands, |state| state == "RUNNING").await;
            match is_back {
                true => server.clock.put_back(Duration::from_secs(86_400)),
                false => server.clock.put_ahead(Duration::from_secs(86_400)),
            }
            // What it has left, and the time until somebody notices.
            let before = server.clock.now();
            let step = async || {
                server.clock.advance(Duration::from_secs(60));
                stands().await
            };
            forebay_testkit::wait_until("its limit", step, |state| state == "TERMINATED").await;
            let passed = server.clock.now().since(before) / 1000;
            assert!((3500..20_000).contains(&passed), "{passed} s: {limited}");
            let run = ended(&server, run).await;
            assert_eq!(
                run["tasks"][0]["state"]["result_state"], "TIMEDOUT",
                "{run}"
            );
        }
    }
}

#[tokio::test]
async fn a_task_over_its_time_is_stopped_and_says_so() {
    let server = start(15).await;
    notebook(&server, "/Shared/silent", &["silence"]).await;
    let mut one = task("a", "/Shared/silent", &[]);
    one["timeout_seconds"] = json!(60);
    let run = submit(&server, json!({"tasks": [one]})).await;
    forebay_testkit::wait_until(
        "it is started",
        || async { server.executor.started().len() == 1 },
        |done| *done,
    )
    .await;
    forebay_testkit::wait_until(
        "the clock has its waiter and passes it",
        || async {
            server.clock.advance(std::time::Duration::from_secs(61));
            state(&get(&server, run).await).1 == "FAILED"
        },
        |done| *done,
    )
    .await;
    let run = ended(&server, run).await;
    assert_eq!(run["tasks"][0]["state"]["result_state"], "TIMEDOUT");
    let message = run["tasks"][0]["state"]["state_message"].as_str().unwrap();
    assert!(message.contains("60 seconds"), "{message}");
}

#[tokio::test]
async fn the_same_idempotency_token_gives_the_same_run() {
    let server = start(15).await;
    notebook(&server, "/Shared/a", &["print x"]).await;
    let mut settings = flat("/Shared/a");
    settings["idempotency_token"] = json!("once");
    let first = submit(&server, settings.clone()).await;
    assert_eq!(submit(&server, settings.clone()).await, first);

    ended(&server, first).await;
    let gone = json!({"run_id": first});
    server.post("/api/2.1/jobs/runs/delete", gone).await.ok();
    let path = "/api/2.1/jobs/runs/submit";
    let again = server.post(path, settings.clone()).await;
    let message = again.refused(400, "INVALID_PARAMETER_VALUE");
    let told = format!("Field 'idempotency_token': its run, {first}, was deleted");
    assert!(message.contains(&told), "{message}");
    // Long after, a token is a new one.
    server.clock.advance(Duration::from_secs(31 * 86_400));
    let path = "/api/forebay/v1/retention/apply";
    server.post(path, json!({})).await.ok();
    assert_ne!(submit(&server, settings).await, first);
}

#[tokio::test]
async fn a_run_too_many_is_skipped_or_waits_as_the_job_says() {
    let server = start(15).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    let settings = json!({"name": "j", "tasks": [task("a", "/Shared/wait", &[])]});
    let id = job(&server, settings).await;
    let first = run_now(&server, json!({"job_id": id})).await;
    let skipped = run_now(&server, json!({"job_id": id})).await;
    let expected = states("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED");
    assert_eq!(state(&ended(&server, skipped).await), expected);
    let queued = run_now(&server, json!({"job_id": id, "queue": {"enabled": true}})).await;
    assert_eq!(
        get(&server, queued).await["state"]["life_cycle_state"],
        "QUEUED"
    );
    server.executor.release();
    for run in [first, queued] {
        assert_eq!(
            state(&ended(&server, run).await),
            states("TERMINATED", "SUCCESS")
        );
    }
}

#[tokio::test]
async fn parameters_arrive_and_those_of_the_job_win() {
    let server = start(15).await;
    notebook(&server, "/Shared/a", &["print x"]).await;
    let mut one = task("a", "/Shared/a", &[]);
    one["notebook_task"]["base_parameters"] =
        json!({"day": "mon", "who": "{{job.parameters.who}}", "run": "{{job.run_id}}", "n": 1});
    let settings = json!({
        "tasks": [one],
        "parameters": [{"name": "who", "default": "nobody"}, {"name": "day", "default": "sun"}],
    });
    let id = job(&server, settings).await;
    let run = run_now(
        &server,
        json!({"job_id": id, "job_parameters": {"who": "me"}}),
    )
    .await;
    ended(&server, run).await;
    let forebay_exec::Program::Notebook { parameters, .. } =
        server.executor.started()[0].program.clone()
    else {
        panic!("a notebook")
    };
    let expected = json!({"day": "sun", "who": "me", "run": run.to_string(), "n": "1"});
    assert_eq!(json!(parameters), expected);
}

#[tokio::test]
async fn a_notebook_runs_another_as_a_run_of_its_own_in_the_same_slot() {
    let server = start(1).await;
    notebook(&server, "/Shared/child", &["exit from-child"]).await;
    let call = r#"call notebook.run {"from":"/Shared/parent","path":"./child","timeout_seconds":0,"arguments":{"k":"v"}}"#;
    notebook(&server, "/Shared/parent", &[call]).await;
    let run = submit(&server, flat("/Shared/parent")).await;
    assert_eq!(
        state(&ended(&server, run).await),
        states("TERMINATED", "SUCCESS")
    );
    let path = "/api/2.1/jobs/runs/list?run_type=WORKFLOW_RUN";
    let children = server
        .call(&server.admin, "GET", path, Value::Null)
        .await
        .ok();
    assert_eq!(state(&children["runs"][0]), states("TERMINATED", "SUCCESS"));
    let all = server
        .call(&server.admin, "GET", "/api/2.1/jobs/runs/list", Value::Null)
        .await
        .ok();
    assert_eq!(
        all["runs"].as_array().unwrap().len(),
        1,
        "children are not listed by default"
    );
}

#[tokio::test]
async fn a_run_under_way_when_the_server_stops_says_so_and_keeps_its_output() {
    let server = start(15).await;
    notebook(&server, "/Shared/a", &["print before", "silence"]).await;
    let run = submit(&server, flat("/Shared/a")).await;
    forebay_testkit::wait_until(
        "it has printed",
        || async {
            let path = format!("/api/forebay/v1/runs/{run}/events");
            let events = server.call(&server.admin, "GET", &path, Value::Null).await;
            events.text().contains("before")
        },
        |done| *done,
    )
    .await;
    let server = server.restart(|setup| setup.runtimes = None).await;
    let run = ended(&server, run).await;
    assert_eq!(state(&run), states("INTERNAL_ERROR", "FAILED"));
    assert!(
        run["state"]["state_message"]
            .as_str()
            .unwrap()
            .contains("server stopped")
    );
    let path = format!("/api/forebay/v1/runs/{}/events", run["run_id"]);
    let events = server.call(&server.admin, "GET", &path, Value::Null).await;
    assert!(events.text().contains("before") && events.text().ends_with("{\"end\":true}\n"));
}

#[tokio::test]
async fn strangers_see_nothing_and_change_nothing() {
    let server = start(15).await;
    notebook(&server, "/Shared/a", &["print x"]).await;
    let run = submit(&server, flat("/Shared/a")).await;
    ended(&server, run).await;
    for (method, path) in [
        ("GET", format!("/api/2.1/jobs/runs/get?run_id={run}")),
        ("GET", format!("/api/2.1/jobs/runs/get-output?run_id={run}")),
        ("GET", format!("/api/forebay/v1/runs/{run}/events")),
        ("POST", format!("/api/2.1/jobs/runs/delete?run_id={run}")),
    ] {
        let answer = server.call(&server.plain, method, &path, Value::Null).await;
        answer.refused(403, "PERMISSION_DENIED");
    }
    let path = "/api/2.1/jobs/runs/list";
    let list = server
        .call(&server.plain, "GET", path, Value::Null)
        .await
        .ok();
    assert_eq!(list["runs"], json!([]));
    let path = "/api/2.1/jobs/runs/get?run_id=1";
    let missing = server.call(&server.admin, "GET", path, Value::Null).await;
    assert_eq!(
        missing.refused(400, "INVALID_PARAMETER_VALUE"),
        "Run 1 does not exist."
    );
}
