//! Triggers, on a clock that the test moves.

mod settings;

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use forebay_testkit::{TestServer, wait_until};
use serde_json::{Value, json};

use crate::work::{notebook, run_of};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

async fn start() -> TestServer {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    notebook(&server, "/Shared/ok", &["print done"]).await;
    notebook(&server, "/Shared/bad", &["fail ValueError no"]).await;
    server
}

/// A job of one notebook with more settings; runs that find it busy wait.
fn settings(path: &str, more: Value) -> Value {
    let mut settings = json!({
        "name": "t", "queue": {"enabled": true},
        "tasks": [{"task_key": "a", "notebook_task": {"notebook_path": path}}],
    });
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    settings
}

async fn create(server: &TestServer, more: Value) -> i64 {
    create_of(server, "/Shared/ok", more).await
}

async fn create_of(server: &TestServer, path: &str, more: Value) -> i64 {
    let answer = server
        .post("/api/2.1/jobs/create", settings(path, more))
        .await;
    answer.ok()["job_id"].as_i64().unwrap()
}

async fn update(server: &TestServer, job: i64, new: Value) {
    let body = json!({"job_id": job, "new_settings": new});
    server.post("/api/2.1/jobs/update", body).await.ok();
}

/// The runs of a job, newest first.
async fn runs(server: &TestServer, job: i64) -> Vec<Value> {
    let list = server
        .get(&format!("/api/2.1/jobs/runs/list?job_id={job}&limit=25"))
        .await
        .ok();
    list["runs"].as_array().cloned().unwrap_or_default()
}

async fn trigger(server: &TestServer, job: i64) -> Value {
    let answer = server
        .get(&format!("/api/forebay/v1/jobs/{job}/trigger"))
        .await
        .ok();
    answer["triggers"][0].clone()
}

/// Lets the server do all that is due, and whatever follows from it.
async fn settle(server: &TestServer) {
    let triggers = &server.app.services.triggers;
    triggers.round().await.unwrap();
    let active = || async {
        let active = server
            .get("/api/2.1/jobs/runs/list?active_only=true")
            .await
            .ok();
        triggers.round().await.unwrap();
        active["runs"].as_array().map_or(0, Vec::len)
    };
    wait_until("the end of all runs", active, |active| *active == 0).await;
}

async fn pass(server: &TestServer, time: Duration) {
    server.clock.advance(time);
    settle(server).await;
}

fn daily() -> Value {
    json!({"schedule": {"quartz_cron_expression": "0 0 6 * * ?", "timezone_id": "Europe/Berlin"}})
}

#[tokio::test]
async fn n_days_make_n_runs_also_with_restarts_between_them() {
    let mut server = start().await;
    let job = create(&server, daily()).await;
    settle(&server).await;
    for day in 1..=12 {
        for _ in 0..4 {
            pass(&server, 6 * HOUR).await;
        }
        assert_eq!(runs(&server, job).await.len(), day);
        if day % 4 == 0 {
            server = server.restart(|setup| setup.runtimes = None).await;
            settle(&server).await;
        }
    }
    let newest = &runs(&server, job).await[0];
    assert_eq!(newest["trigger"], "PERIODIC");
    assert_eq!(newest["trigger_info"]["type"], "periodic");
    assert_eq!(newest["state"]["result_state"], "SUCCESS");
    let shown = trigger(&server, job).await;
    assert_eq!(shown["kind"], "schedule");
    assert_eq!(shown["last_run_id"], newest["run_id"]);
    let day_ms = 24 * 3_600_000;
    let firing = newest["trigger_info"]["time"].as_i64().unwrap();
    assert_eq!(shown["next_firing"].as_i64().unwrap() - firing, day_ms);
}

#[tokio::test]
async fn rounds_at_once_fire_once() {
    let server = start().await;
    let job = create(&server, daily()).await;
    settle(&server).await;
    server.clock.advance(24 * HOUR);
    let triggers = &server.app.services.triggers;
    let (a, b, c) = tokio::join!(triggers.round(), triggers.round(), triggers.round());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    settle(&server).await;
    assert_eq!(runs(&server, job).await.len(), 1);
}

#[tokio::test]
async fn what_was_missed_while_the_server_was_down_goes_by_the_jobs_policy() {
    let server = start().await;
    let mut jobs = Vec::new();
    for missed in ["skip", "last", "all"] {
        let mut more = daily();
        more["forebay"] = json!({"missed": missed});
        jobs.push(create(&server, more).await);
    }
    settle(&server).await;
    server.clock.advance(5 * 24 * HOUR + HOUR);
    let server = server.restart(|setup| setup.runtimes = None).await;
    settle(&server).await;
    let mut counts = Vec::new();
    for job in jobs {
        counts.push(runs(&server, job).await.len());
    }
    assert_eq!(counts, [0, 1, 5]);
}

#[tokio::test]
async fn a_paused_schedule_fires_not_and_goes_on_without_what_passed() {
    let server = start().await;
    let job = create(&server, daily()).await;
    settle(&server).await;
    let mut paused = daily();
    paused["schedule"]["pause_status"] = json!("PAUSED");
    update(&server, job, paused).await;
    for _ in 0..3 {
        pass(&server, 24 * HOUR).await;
    }
    assert_eq!(runs(&server, job).await.len(), 0);
    assert_eq!(trigger(&server, job).await["paused"], true);
    update(&server, job, daily()).await;
    settle(&server).await;
    assert_eq!(runs(&server, job).await.len(), 0);
    pass(&server, 24 * HOUR).await;
    assert_eq!(runs(&server, job).await.len(), 1);
    let shown = server
        .get(&format!("/api/2.1/jobs/get?job_id={job}"))
        .await
        .ok();
    assert_eq!(
        shown["settings"]["schedule"]["timezone_id"],
        "Europe/Berlin"
    );
    let delete = json!({"job_id": job});
    server.post("/api/2.1/jobs/delete", delete).await.ok();
    pass(&server, 48 * HOUR).await;
}

#[tokio::test]
async fn a_periodic_trigger_keeps_its_rhythm_over_a_pause() {
    let server = start().await;
    let periodic = |status: &str| json!({"trigger": {"pause_status": status, "periodic": {"interval": 2, "unit": "HOURS"}}});
    let job = create(&server, periodic("UNPAUSED")).await;
    settle(&server).await;
    pass(&server, 2 * HOUR).await;
    assert_eq!(runs(&server, job).await.len(), 1);
    update(&server, job, periodic("PAUSED")).await;
    pass(&server, 3 * HOUR).await;
    update(&server, job, periodic("UNPAUSED")).await;
    settle(&server).await;
    pass(&server, HOUR).await;
    assert_eq!(runs(&server, job).await.len(), 2);
}

fn put(server: &TestServer, path: &str, content: &str) {
    let file = server.data().join("dev/dbfs/in").join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, content).unwrap();
}

fn arrival() -> Value {
    json!({
        "trigger": {"file_arrival": {"url": "dbfs:/in/"}},
        "forebay": {"file_arrival": {"parameter": "files"}},
        "parameters": [{"name": "files", "default": "[]"}],
    })
}

#[tokio::test]
async fn new_files_make_one_run_for_each_batch_also_after_a_restart() {
    let server = start().await;
    put(&server, "old.csv", "1");
    let job = create(&server, arrival()).await;
    settle(&server).await;
    put(&server, "empty.csv", "");
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, job).await.len(), 0);

    put(&server, "r_input_file1.csv", "a,b");
    put(&server, "deep/er/r_input_file2.csv", "a,b");
    pass(&server, MINUTE).await;
    let made = runs(&server, job).await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["trigger"], "FILE_ARRIVAL");
    let info = &made[0]["trigger_info"]["file_arrival"];
    assert_eq!(info["location"], "dbfs:/in/");
    let files = json!([
        "dbfs:/in/deep/er/r_input_file2.csv",
        "dbfs:/in/r_input_file1.csv"
    ]);
    assert_eq!(info["files"], files);
    assert_eq!(made[0]["job_parameters"][0]["value"], files.to_string());

    // Written again: not new. A file that was empty until now: new.
    put(&server, "r_input_file1.csv", "a,b,c");
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, job).await.len(), 1);
    put(&server, "empty.csv", "x");
    let server = server.restart(|setup| setup.runtimes = None).await;
    settle(&server).await;
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, job).await.len(), 2);
    let shown = server
        .get(&format!("/api/2.1/jobs/get?job_id={job}"))
        .await
        .ok();
    assert_eq!(
        shown["trigger_state"]["file_arrival"]["using_file_events"],
        false
    );
    let shown = trigger(&server, job).await;
    assert_eq!(
        (&shown["files_known"], &shown["files_waiting"]),
        (&json!(4), &json!(0))
    );
}

#[tokio::test]
async fn a_clock_that_is_put_back_holds_up_no_files_and_no_continuous_job() {
    let server = start().await;
    put(&server, "old.csv", "1");
    let mut patient = arrival();
    patient["trigger"]["file_arrival"]["wait_after_last_change_seconds"] = json!(60);
    let files = create(&server, patient).await;
    let always = create_of(&server, "/Shared/bad", json!({"continuous": {}})).await;
    settle(&server).await;
    let ran = runs(&server, always).await.len();
    put(&server, "in_time.csv", "a");
    pass(&server, Duration::from_secs(1)).await;
    server.clock.put_back(24 * HOUR);
    settle(&server).await;
    assert!(runs(&server, always).await.len() > ran);
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, files).await.len(), 1);
    put(&server, "later.csv", "a");
    pass(&server, MINUTE).await;
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, files).await.len(), 2);
}

#[tokio::test]
async fn files_that_come_while_the_trigger_is_stopped_get_their_run_after() {
    let server = start().await;
    put(&server, "old.csv", "1");
    let job = create(&server, arrival()).await;
    settle(&server).await;
    let mut stopped = arrival();
    stopped["trigger"]["pause_status"] = json!("PAUSED");
    update(&server, job, stopped).await;
    put(&server, "during.csv", "1");
    pass(&server, MINUTE).await;
    let server = server.restart(|setup| setup.runtimes = None).await;
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, job).await.len(), 0);
    update(&server, job, arrival()).await;
    settle(&server).await;
    let made = runs(&server, job).await;
    assert_eq!(made.len(), 1);
    assert_eq!(
        made[0]["trigger_info"]["file_arrival"]["files"],
        json!(["dbfs:/in/during.csv"])
    );
}

#[tokio::test]
async fn waits_hold_a_run_back_and_a_folder_that_is_gone_is_an_error_of_the_trigger() {
    let server = start().await;
    put(&server, "old.csv", "1");
    let job = create(
        &server,
        json!({"trigger": {"file_arrival": {
            "url": "dbfs:/in",
            "min_time_between_triggers_seconds": 600,
            "wait_after_last_change_seconds": 60,
        }}}),
    )
    .await;
    settle(&server).await;
    let counts = async || runs(&server, job).await.len();
    put(&server, "a.csv", "1");
    pass(&server, 10 * Duration::from_secs(1)).await;
    assert_eq!(counts().await, 0);
    pass(&server, MINUTE).await;
    assert_eq!(counts().await, 1);
    put(&server, "b.csv", "1");
    pass(&server, 2 * MINUTE).await;
    assert_eq!(counts().await, 1);
    assert_eq!(trigger(&server, job).await["files_waiting"], 1);
    pass(&server, 9 * MINUTE).await;
    assert_eq!(counts().await, 2);

    let folder = server.data().join("dev/dbfs/in");
    std::fs::rename(&folder, folder.with_file_name("away")).unwrap();
    pass(&server, MINUTE).await;
    let shown = trigger(&server, job).await;
    assert!(
        shown["error"].is_string() && shown["paused"] == false,
        "{shown}"
    );
    std::fs::rename(folder.with_file_name("away"), &folder).unwrap();
    put(&server, "c.csv", "1");
    pass(&server, 12 * MINUTE).await;
    pass(&server, 2 * MINUTE).await;
    assert_eq!(counts().await, 3);
    assert_eq!(trigger(&server, job).await["error"], Value::Null);
}

#[tokio::test]
async fn a_job_runs_after_another_as_that_ended() {
    let server = start().await;
    let good = create(&server, json!({})).await;
    let bad = create_of(&server, "/Shared/bad", json!({})).await;
    let after = |job: i64, on: &str| json!({"forebay": {"after_job": {"job_id": job, "on": on}}});
    let mut jobs = Vec::new();
    for (job, on) in [
        (good, "success"),
        (good, "failure"),
        (bad, "failure"),
        (bad, "any"),
    ] {
        jobs.push(create(&server, after(job, on)).await);
    }
    for job in [good, bad] {
        server
            .post("/api/2.1/jobs/run-now", json!({"job_id": job}))
            .await
            .ok();
    }
    settle(&server).await;
    let mut counts = Vec::new();
    for job in &jobs {
        counts.push(runs(&server, *job).await.len());
    }
    assert_eq!(counts, [1, 0, 1, 1]);
    let made = runs(&server, jobs[0]).await;
    assert_eq!(made[0]["trigger"], "AFTER_JOB");
    assert_eq!(made[0]["trigger_info"]["job_id"], good);
    assert_eq!(
        made[0]["trigger_info"]["run_id"],
        runs(&server, good).await[0]["run_id"]
    );

    let circle = json!({"job_id": good, "new_settings": after(jobs[0], "any")});
    let answer = server.post("/api/2.1/jobs/update", circle).await;
    let message = answer.refused(400, "INVALID_PARAMETER_VALUE");
    let chain = format!("{good} -> {} -> {good}", jobs[0]);
    assert!(message.contains(&chain), "{chain} in {message}");
    let oneself = json!({"job_id": good, "new_settings": after(good, "any")});
    let answer = server.post("/api/2.1/jobs/update", oneself).await;
    answer.refused(400, "INVALID_PARAMETER_VALUE");
}

async fn send(
    server: &TestServer,
    token: &str,
    path: &str,
    body: Value,
    key: Option<&str>,
) -> Value {
    let mut request = Request::post(format!("/api/forebay/v1/events/{path}"))
        .header(AUTHORIZATION, format!("Bearer {token}"));
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let answer = server.send(request).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
    answer.json()["event_id"].clone()
}

#[tokio::test]
async fn each_event_makes_one_run_with_its_body_also_when_it_is_sent_twice() {
    let server = start().await;
    let on_event = json!({"topic": "orders", "key_parameter": "customer"});
    let job = create(&server, json!({"forebay": {"on_event": on_event}})).await;
    let admin = &server.admin;
    let first = send(&server, admin, "orders?key=k1", json!({"n": 1}), Some("a")).await;
    let again = send(&server, admin, "orders?key=k1", json!({"n": 1}), Some("a")).await;
    assert_eq!(first, again);
    send(&server, admin, "orders", json!([2]), None).await;
    send(&server, admin, "others", json!(3), None).await;
    // Who may not run the job cannot have it run by an event either.
    send(&server, &server.plain, "orders", json!(4), None).await;
    settle(&server).await;
    let made = runs(&server, job).await;
    assert_eq!(made.len(), 2);
    assert_eq!(made[1]["trigger"], "EVENT");
    assert_eq!(made[1]["trigger_info"]["event"]["ids"], json!([first]));
    let value = |run: &Value, name: &str| {
        let parameters = run["job_parameters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        parameters
            .iter()
            .find(|p| p["name"] == name)
            .map(|p| p["value"].clone())
    };
    assert_eq!(value(&made[1], "event"), Some(json!("{\"n\":1}")));
    assert_eq!(value(&made[1], "customer"), Some(json!("k1")));
    assert_eq!(value(&made[0], "event"), Some(json!("[2]")));

    let bad = server
        .call(admin, "POST", "/api/forebay/v1/events/a%20b", json!(1))
        .await;
    let message = bad.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("'topic'"), "{message}");
}

#[tokio::test]
async fn events_of_a_key_are_gathered_and_wait_out_a_pause() {
    let server = start().await;
    let own = |status: &str| {
        json!({"forebay": {
            "on_event": {"topic": "t", "pause_status": status},
            "debounce": {"delay_ms": 10_000, "max_events": 3},
        }})
    };
    let job = create(&server, own("UNPAUSED")).await;
    let admin = &server.admin;
    for n in 1..=2 {
        send(&server, admin, "t?key=a", json!(n), None).await;
        settle(&server).await;
        server.clock.advance(Duration::from_secs(6));
    }
    send(&server, admin, "t?key=b", json!(9), None).await;
    settle(&server).await;
    assert_eq!(runs(&server, job).await.len(), 0);
    pass(&server, Duration::from_secs(4)).await;
    let made = runs(&server, job).await;
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["job_parameters"][0]["value"], "[1,2]");
    update(&server, job, own("PAUSED")).await;
    for n in 1..=3 {
        send(&server, admin, "t?key=a", json!(n), None).await;
    }
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, job).await.len(), 1);
    assert_eq!(trigger(&server, job).await["events_waiting"], 4);
    update(&server, job, own("UNPAUSED")).await;
    settle(&server).await;
    assert_eq!(runs(&server, job).await.len(), 3);
    assert_eq!(trigger(&server, job).await["events_waiting"], 0);
}

#[tokio::test]
async fn a_continuous_job_has_always_one_run_and_backs_off_when_it_fails() {
    let server = start().await;
    let job = create_of(&server, "/Shared/bad", json!({"continuous": {}})).await;
    settle(&server).await;
    let counts = async || runs(&server, job).await.len();
    assert_eq!(counts().await, 1);
    // 10 s after the first failure, 20 s after the second, 40 s after the third.
    let mut seen = Vec::new();
    for _ in 0..8 {
        pass(&server, Duration::from_secs(10)).await;
        seen.push(counts().await);
    }
    assert_eq!(seen, [2, 2, 3, 3, 3, 3, 4, 4]);
    assert_eq!(runs(&server, job).await[0]["trigger"], "CONTINUOUS");
    let paused = json!({"continuous": {"pause_status": "PAUSED"}});
    update(&server, job, paused).await;
    pass(&server, HOUR).await;
    assert_eq!(counts().await, 4);
}

#[tokio::test]
async fn run_now_on_a_continuous_job_begins_it_anew() {
    let server = start().await;
    notebook(&server, "/Shared/long", &["wait"]).await;
    let job = create_of(&server, "/Shared/long", json!({"continuous": {}})).await;
    let triggers = &server.app.services.triggers;
    triggers.round().await.unwrap();
    let first = runs(&server, job).await[0].clone();
    server
        .post("/api/2.1/jobs/run-now", json!({"job_id": job}))
        .await
        .ok();
    let path = format!("/api/2.1/jobs/runs/get?run_id={}", first["run_id"]);
    let look = || async { server.get(&path).await.ok()["state"]["result_state"].clone() };
    wait_until("the end of the first run", look, |state| {
        state == "CANCELED"
    })
    .await;
    triggers.round().await.unwrap();
    let made = runs(&server, job).await;
    assert_eq!(made.len(), 2);
    assert_eq!(made[0]["trigger"], "CONTINUOUS_RESTART");
    update(
        &server,
        job,
        json!({"continuous": {"pause_status": "PAUSED"}}),
    )
    .await;
    server
        .post("/api/2.1/jobs/runs/cancel-all", json!({"job_id": job}))
        .await
        .ok();
    settle(&server).await;
    pass(&server, MINUTE).await;
    assert_eq!(runs(&server, job).await.len(), 2);
}

#[tokio::test]
async fn a_trigger_that_is_taken_away_and_given_back_begins_anew() {
    let server = start().await;
    let job = create(&server, json!({"continuous": {}})).await;
    settle(&server).await;
    for made in 1..=3 {
        assert_eq!(runs(&server, job).await.len(), made);
        let without = json!({"job_id": job, "fields_to_remove": ["continuous"]});
        server.post("/api/2.1/jobs/update", without).await.ok();
        update(&server, job, json!({"continuous": {}})).await;
        pass(&server, MINUTE).await;
    }
}

#[tokio::test]
async fn a_storm_pauses_the_trigger_and_an_update_lets_it_go_on() {
    let server = start().await;
    let own = json!({"forebay": {
        "on_event": {"topic": "t"}, "brake": {"runs": 3, "minutes": 10},
    }});
    let job = create(&server, own.clone()).await;
    for n in 0..5 {
        send(&server, &server.admin, "t", json!(n), None).await;
    }
    settle(&server).await;
    assert_eq!(runs(&server, job).await.len(), 3);
    let shown = trigger(&server, job).await;
    assert_eq!(shown["paused"], true);
    let why = shown["paused_by_brake"].as_str().unwrap();
    assert!(
        why.contains("3 of 3 allowed runs within 10 minutes"),
        "{why}"
    );
    let settings = server
        .get(&format!("/api/2.1/jobs/get?job_id={job}"))
        .await
        .ok();
    let status = &settings["settings"]["forebay"]["on_event"]["pause_status"];
    assert_eq!(status, "PAUSED");
    // A typed client does not know our settings: it must not lose them either.
    let reset = json!({"job_id": job, "new_settings": settings_without_own()});
    server.post("/api/2.1/jobs/reset", reset).await.ok();
    assert_eq!(trigger(&server, job).await["paused"], true);
    update(&server, job, own).await;
    settle(&server).await;
    assert_eq!(runs(&server, job).await.len(), 5);
    assert_eq!(trigger(&server, job).await["paused_by_brake"], Value::Null);
}

fn settings_without_own() -> Value {
    settings("/Shared/ok", json!({}))
}

#[tokio::test]
async fn a_continuous_job_goes_on_when_its_queued_run_expires() {
    let server = start().await;
    notebook(&server, "/Shared/long", &["silence"]).await;
    let own = json!({"key": "k", "key_max": 1});
    let holder = json!({"run_name": "h", "notebook_task": {"notebook_path": "/Shared/long"},
        "forebay": own});
    let path = "/api/2.1/jobs/runs/submit";
    server.post(path, holder).await.ok();
    let job = create(&server, json!({"continuous": {}, "forebay": own})).await;
    let triggers = &server.app.services.triggers;
    triggers.round().await.unwrap();
    // It is looked at once more, and finds that a run is there already.
    server.clock.advance(MINUTE);
    triggers.round().await.unwrap();
    assert_eq!(runs(&server, job).await.len(), 1);
    server.clock.advance(HOUR * 49);
    let look = || {
        server.clock.advance(Duration::from_secs(1));
        runs(&server, job)
    };
    let made = wait_until("another run", look, |runs| runs.len() == 2).await;
    assert_eq!(made[1]["state"]["life_cycle_state"], "SKIPPED");
    assert_eq!(made[0]["state"]["life_cycle_state"], "QUEUED");
}

#[tokio::test]
async fn run_now_on_a_continuous_job_retries_its_tasks_as_its_trigger_does() {
    let server = start().await;
    let task =
        |key: &str, path: &str| json!({"task_key": key, "notebook_task": {"notebook_path": path}});
    let continuous = json!({"task_retry_mode": "ON_FAILURE", "pause_status": "PAUSED"});
    let tasks = json!([task("a", "/Shared/bad"), task("b", "/Shared/ok")]);
    let job = create(&server, json!({"continuous": continuous, "tasks": tasks})).await;
    let run = run_of(&server, job).await;
    let path = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    let ended = server.get(&path).await.ok();
    assert_eq!(ended["tasks"][0]["attempt_number"], 3, "{ended}");
}

#[tokio::test]
async fn a_restart_that_a_budget_refuses_or_holds_leaves_the_run_of_a_continuous_job_alone() {
    for (action, state) in [("stop", "SKIPPED"), ("queue", "QUEUED")] {
        let server = TestServer::start_with(|setup| {
            setup.runtimes = None;
            setup.config.budget.cpu_seconds_per_day = 1;
            setup.config.budget.action = action.to_owned();
        })
        .await;
        notebook(&server, "/Shared/long", &["silence"]).await;
        notebook(&server, "/Shared/dear", &["use 1500"]).await;
        let job = create_of(&server, "/Shared/long", json!({"continuous": {}})).await;
        server.app.services.triggers.round().await.unwrap();
        let dear = create_of(&server, "/Shared/dear", json!({})).await;
        let dear = run_of(&server, dear).await;
        let path = format!("/api/forebay/v1/runs/{dear}?wait_ms=30000");
        server.get(&path).await.ok();
        let restart = run_of(&server, job).await;
        let made = runs(&server, job).await;
        assert_eq!(made[0]["run_id"], restart);
        assert_eq!(made[0]["state"]["life_cycle_state"], state);
        assert_eq!(made[1]["state"]["life_cycle_state"], "RUNNING");
    }
}

#[tokio::test]
async fn a_run_that_is_repaired_and_fails_again_is_told_again() {
    let server = start().await;
    let watched = create_of(&server, "/Shared/bad", json!({})).await;
    let own = json!({"after_job": {"job_id": watched, "on": "failure"}});
    let after = create(&server, json!({"forebay": own})).await;
    let run = run_of(&server, watched).await;
    let count = |expected: usize| {
        let server = &server;
        wait_until(
            "the runs after it",
            move || runs(server, after),
            move |made| made.len() == expected,
        )
    };
    count(1).await;
    let mut body = json!({"run_id": run, "rerun_all_failed_tasks": true});
    for told in 2..=3 {
        let answer = server.post("/api/2.2/jobs/runs/repair", body.clone()).await;
        body["latest_repair_id"] = answer.ok()["repair_id"].clone();
        count(told).await;
    }
}

#[tokio::test]
async fn a_deleted_job_leaves_no_firings() {
    let server = start().await;
    let job = create(&server, json!({"continuous": {}})).await;
    settle(&server).await;
    let store = &server.app.services.store;
    let firings = async || {
        let since = forebay_types::Millis(0);
        let job = forebay_types::JobId(job);
        store.trigger_firings_since(job, since).await.unwrap()
    };
    assert!(firings().await > 0);
    let body = json!({"job_id": job});
    server.post("/api/2.1/jobs/delete", body).await.ok();
    assert_eq!(firings().await, 0);
}
