//! Caps, keys and queues, seen through the API.

use std::time::Duration;

use forebay_testkit::{TestServer, wait_until};
use serde_json::{Value, json};

use crate::work::{ended, job, notebook, submit};

async fn start(attempts_max: usize) -> TestServer {
    let server = crate::work::start(attempts_max).await;
    notebook(&server, "/Shared/hold", &["wait"]).await;
    notebook(&server, "/Shared/quick", &["print x"]).await;
    server
}

fn submission(path: &str, own: Value) -> Value {
    json!({"run_name": "t", "notebook_task": {"notebook_path": path}, "forebay": own})
}

async fn state(server: &TestServer, run: i64) -> String {
    let path = format!("/api/2.2/jobs/runs/get?run_id={run}");
    let run = server.get(&path).await.ok();
    run["state"]["life_cycle_state"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A job whose runs queue, as those of API 2.2 do unless they say otherwise.
async fn queuing_job(server: &TestServer, settings: Value) -> i64 {
    let answer = server.post("/api/2.2/jobs/create", settings).await;
    answer.ok()["job_id"].as_i64().unwrap()
}

#[tokio::test]
async fn runs_of_one_key_wait_for_each_other_whatever_their_job() {
    let server = start(15).await;
    let key = json!({"key": "{{job.parameters.customer}}", "key_max": 1});
    let settings = json!({"max_concurrent_runs": 9, "forebay": key,
        "parameters": [{"name": "customer", "default": "a"}],
        "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": "/Shared/hold"}}]});
    let job = queuing_job(&server, settings).await;
    let run_now = async |customer: &str| {
        let body = json!({"job_id": job, "job_parameters": {"customer": customer}});
        let answer = server.post("/api/2.2/jobs/run-now", body).await.ok();
        answer["run_id"].as_i64().unwrap()
    };
    let (first, second, other) = (run_now("a").await, run_now("a").await, run_now("b").await);
    let submitted = json!({"key": "a", "key_max": 1});
    let submitted = submit(&server, submission("/Shared/hold", submitted)).await;
    assert_eq!(state(&server, first).await, "RUNNING");
    assert_eq!(state(&server, second).await, "QUEUED");
    // Somebody of its job queues, so the dispatcher decides.
    let look = || state(&server, other);
    wait_until("the run of another key", look, |state| state == "RUNNING").await;
    assert_eq!(state(&server, submitted).await, "QUEUED");
    server.executor.release();
    for run in [first, second, other, submitted] {
        assert_eq!(
            ended(&server, run).await["state"]["result_state"],
            "SUCCESS"
        );
    }
}

#[tokio::test]
async fn a_run_of_a_key_that_waits_already_is_that_run() {
    let server = start(15).await;
    let own = json!({"key": "nightly", "key_max": 1, "coalesce": true});
    let first = submit(&server, submission("/Shared/hold", own.clone())).await;
    let waiting = submit(&server, submission("/Shared/hold", own.clone())).await;
    let again = submit(&server, submission("/Shared/hold", own.clone())).await;
    assert_ne!(first, waiting);
    assert_eq!(waiting, again);
    // Another user's run is never one with it.
    let theirs = json!({"run_name": "t", "forebay": own,
        "notebook_task": {"notebook_path": "/Shared/quick"}});
    let path = "/api/2.1/jobs/runs/submit";
    let theirs = server.call(&server.plain, "POST", path, theirs).await.ok();
    assert_ne!(theirs["run_id"], waiting);
    server.executor.release();
    ended(&server, waiting).await;
}

#[tokio::test]
async fn a_run_of_some_tasks_is_one_with_no_other() {
    let server = start(15).await;
    let task =
        |key: &str| json!({"task_key": key, "notebook_task": {"notebook_path": "/Shared/hold"}});
    let own = json!({"key": "nightly", "key_max": 1, "coalesce": true});
    let settings = json!({"name": "j", "tasks": [task("a"), task("b")], "max_concurrent_runs": 9,
        "queue": {"enabled": true}, "forebay": own});
    let job = job(&server, settings).await;
    let whole = json!({"job_id": job});
    let part = json!({"job_id": job, "only": ["a"]});
    let mut runs = Vec::new();
    for request in [&whole, &part, &whole, &part, &whole] {
        runs.push(crate::work::run_now(&server, request.clone()).await);
    }
    assert_eq!(runs[2], runs[4]);
    runs.truncate(4);
    let mut all = runs.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 4, "{runs:?}");
    server.executor.release();
    for (run, tasks) in runs.into_iter().zip([2, 1, 2, 1]) {
        let run = ended(&server, run).await;
        assert_eq!(run["tasks"].as_array().unwrap().len(), tasks, "{run}");
    }
}

#[tokio::test]
async fn a_queue_has_an_end_and_says_when_to_come_again() {
    let server = start(15).await;
    let own = json!({"key": "k", "key_max": 1, "queue_max": 2});
    for _ in 0..3 {
        submit(&server, submission("/Shared/hold", own.clone())).await;
    }
    let path = "/api/2.1/jobs/runs/submit";
    let refused = server.post(path, submission("/Shared/hold", own)).await;
    let message = refused.refused(429, "REQUEST_LIMIT_EXCEEDED");
    assert!(message.contains("Key 'k' has 2 runs waiting"), "{message}");
    assert_eq!(refused.headers["retry-after"], "10");
}

#[tokio::test]
async fn a_user_with_one_run_goes_before_the_many_of_another() {
    let server = start(1).await;
    let hold = submit(&server, submission("/Shared/hold", json!({}))).await;
    let mut many = Vec::new();
    for _ in 0..20 {
        many.push(submit(&server, submission("/Shared/quick", json!({}))).await);
    }
    let path = "/api/2.1/jobs/runs/submit";
    let settings = submission("/Shared/quick", json!({}));
    let one = server
        .call(&server.plain, "POST", path, settings)
        .await
        .ok();
    let urgent = submission("/Shared/quick", json!({"priority": 5}));
    let urgent = submit(&server, urgent).await;
    server.executor.release();
    for run in many.iter().chain([&hold, &urgent]) {
        ended(&server, *run).await;
    }
    let started: Vec<i64> = (server.executor.started().iter())
        .map(|workload| workload.run_id.0)
        .collect();
    let one = one["run_id"].as_i64().unwrap();
    for run in [one, urgent] {
        let attempt = ended(&server, run).await["tasks"][0]["run_id"]
            .as_i64()
            .unwrap();
        let place = started.iter().position(|started| *started == attempt);
        assert!(place.is_some_and(|place| place <= 2), "{run} {place:?}");
    }
}

#[tokio::test]
async fn a_run_that_queues_for_too_long_is_skipped_with_the_reason() {
    let server = start(15).await;
    let own = json!({"key": "k", "key_max": 1});
    let first = submit(&server, submission("/Shared/hold", own.clone())).await;
    let second = submit(&server, submission("/Shared/hold", own)).await;
    server.clock.advance(Duration::from_secs(48 * 3600));
    let look = || {
        // Each time, because the dispatcher may be in the middle of a round.
        server.clock.advance(Duration::from_secs(1));
        state(&server, second)
    };
    wait_until("the second run is skipped", look, |state| {
        state == "SKIPPED"
    })
    .await;
    let second = ended(&server, second).await;
    assert_eq!(second["state"]["life_cycle_state"], "SKIPPED");
    let message = second["state"]["state_message"].as_str().unwrap();
    assert!(message.contains("48 hours"), "{message}");
    assert_eq!(state(&server, first).await, "RUNNING");
}

#[tokio::test]
async fn a_workspace_creates_only_so_many_runs_in_an_hour() {
    let server = TestServer::start_with(|setup| setup.server.limits.runs_per_hour_max = 2).await;
    let path = "/api/2.1/jobs/runs/submit";
    for _ in 0..2 {
        server
            .post(path, submission("/Shared/none", json!({})))
            .await
            .ok();
    }
    let refused = server
        .post(path, submission("/Shared/none", json!({})))
        .await;
    refused.refused(429, "REQUEST_LIMIT_EXCEEDED");
    assert_eq!(refused.headers["retry-after"], "1800");
    server.clock.advance(Duration::from_secs(1800));
    server
        .post(path, submission("/Shared/none", json!({})))
        .await
        .ok();
}

#[tokio::test]
async fn settings_of_a_place_in_line_are_checked_by_name() {
    let server = start(1).await;
    let path = "/api/2.1/jobs/runs/submit";
    for (own, expected) in [
        (
            json!({"key_max": 1}),
            "'forebay.key_max' needs 'forebay.key'",
        ),
        (json!({"key": "k", "key_max": 0}), "'forebay.key_max' is 0"),
        (json!({"priority": 1001}), "'forebay.priority' is 1001"),
        (json!({"weight": 0}), "'forebay.weight' is 0"),
        (json!({"key": " "}), "'forebay.key' is empty"),
        (
            json!({"key": "{{job.parameters.x}}"}),
            "'forebay.key': the reference",
        ),
    ] {
        let refused = server.post(path, submission("/Shared/quick", own)).await;
        let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn the_queue_shows_who_waits_for_what_and_only_to_whom_it_concerns() {
    let server = start(1).await;
    let running = submit(&server, submission("/Shared/hold", json!({}))).await;
    let second = submit(&server, submission("/Shared/quick", json!({}))).await;
    let third = submit(&server, submission("/Shared/quick", json!({}))).await;
    let own = json!({"key": "k", "key_max": 1});
    let first_of_key = submit(&server, submission("/Shared/quick", own.clone())).await;
    let queued = submit(&server, submission("/Shared/quick", own)).await;

    let queue = server.get("/api/forebay/v1/queue").await.ok();
    assert_eq!(queue["caps"]["server"], json!({"live": 1, "max": 1}));
    assert_eq!(
        queue["caps"]["keys"][0],
        json!({"live": 1, "max": 1, "queued": 1, "key": "k"})
    );
    assert_eq!(queue["running"][0]["run_id"], running);
    let waiting: Vec<i64> = (queue["waiting"].as_array().unwrap().iter())
        .map(|entry| entry["run_id"].as_i64().unwrap())
        .collect();
    // The key has nothing yet, so it goes before the user who has the slot.
    assert_eq!(waiting, [first_of_key, second, third, queued]);
    assert_eq!(queue["waiting"][3]["held_by"]["cap"], "key");
    assert_eq!(queue["waiting"][3]["place"], 4);

    let shown = server
        .get(&format!("/api/2.2/jobs/runs/get?run_id={third}"))
        .await
        .ok();
    assert_eq!(shown["state"]["life_cycle_state"], "PENDING");
    assert_eq!(
        shown["status"]["queue_details"]["code"],
        "ACTIVE_RUNS_LIMIT_REACHED"
    );
    assert_eq!(shown["forebay"]["queue"]["before"], 2);
    assert_eq!(
        shown["forebay"]["queue"]["held_by"]["run_ids"],
        json!([running])
    );
    let shown = server
        .get(&format!("/api/forebay/v1/runs/{queued}"))
        .await
        .ok();
    assert_eq!(
        shown["status"]["queue_details"]["code"],
        "MAX_CONCURRENT_RUNS_REACHED"
    );
    assert_eq!(
        shown["forebay"]["queue"]["held_by"]["run_ids"],
        json!([first_of_key])
    );

    // In pages it is the same line, without gaps.
    let path = "/api/forebay/v1/queue?limit=2";
    let mut next = path.to_owned();
    let mut seen = Vec::new();
    loop {
        let page = server.get(&next).await.ok();
        for entry in page["waiting"].as_array().unwrap() {
            seen.push((entry["place"].clone(), entry["run_id"].clone()));
        }
        let Some(token) = page["next_page_token"].as_str() else {
            break;
        };
        next = format!("{path}&page_token={token}");
    }
    let line = [first_of_key, second, third, queued].into_iter().zip(1..);
    let line: Vec<_> = line
        .map(|(run, place)| (json!(place), json!(run)))
        .collect();
    assert_eq!(seen, line);

    let path = "/api/forebay/v1/queue";
    let theirs = server
        .call(&server.plain, "GET", path, Value::Null)
        .await
        .ok();
    assert_eq!(
        (theirs["hidden"].as_i64(), theirs["waiting_total"].as_i64()),
        (Some(5), Some(4))
    );
    assert_eq!(theirs["running"], json!([]));
    server.executor.release();
    ended(&server, queued).await;
    let queue = server.get(path).await.ok();
    assert!(queue.get("next_page_token").is_none(), "{queue}");
}

#[tokio::test]
async fn a_child_of_the_same_key_does_not_wait_for_the_run_that_waits_for_it() {
    let server = start(15).await;
    let own = json!({"key": "k", "key_max": 1});
    let inner = json!({"name": "child", "forebay": own,
        "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": "/Shared/quick"}}]});
    let inner = queuing_job(&server, inner).await;
    let call = |to: i64| json!([{"task_key": "t", "run_job_task": {"job_id": to}}]);
    let middle = queuing_job(&server, json!({"name": "middle", "tasks": call(inner)})).await;
    let settings = json!({"tasks": call(middle), "forebay": own});
    let run = submit(&server, settings).await;
    let run = ended(&server, run).await;
    assert_eq!(run["state"]["result_state"], "SUCCESS", "{run}");
}

#[tokio::test]
async fn a_repair_needs_room_as_a_new_run_does() {
    let server = start(15).await;
    let hold = json!([{"task_key": "t", "notebook_task": {"notebook_path": "/Shared/hold"}}]);
    let bad = json!([{"task_key": "t", "notebook_task": {"notebook_path": "/Shared/nowhere"}}]);
    let of_job = queuing_job(&server, json!({"name": "j", "tasks": bad})).await;
    let own = json!({"key": "k", "key_max": 1});
    let run_now = async || {
        let answer = server.post("/api/2.2/jobs/run-now", json!({"job_id": of_job}));
        answer.await.ok()["run_id"].as_i64().unwrap()
    };
    let failed = run_now().await;
    ended(&server, failed).await;
    let body = json!({"job_id": of_job, "new_settings": {"tasks": hold}});
    server.post("/api/2.2/jobs/update", body).await.ok();
    let holder = run_now().await;
    let keyed = submit(&server, json!({"tasks": bad, "forebay": own})).await;
    ended(&server, keyed).await;
    let key_holder = submit(&server, submission("/Shared/hold", own)).await;
    let repair = |run: i64| json!({"run_id": run, "rerun_all_failed_tasks": true});
    let path = "/api/2.2/jobs/runs/repair";
    for (run, full) in [
        (failed, "its job has 1 of 1 active"),
        (keyed, "its key has 1"),
    ] {
        let message = server.post(path, repair(run)).await;
        let message = message.refused(409, "RESOURCE_CONFLICT");
        assert!(message.contains(full), "{message}");
    }
    server.executor.release();
    ended(&server, holder).await;
    ended(&server, key_holder).await;
    server.post(path, repair(failed)).await.ok();
    let run = ended(&server, failed).await;
    assert_eq!(run["state"]["result_state"], "SUCCESS", "{run}");
}
