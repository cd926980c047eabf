//! Notifications against a receiver on a real socket.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use forebay_testkit::{TestServer, wait_until};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::work::{ended, job_of, notebook, ran, run_of};

/// What came, and what is answered.
#[derive(Clone)]
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    status: Arc<Mutex<StatusCode>>,
}

async fn take(State(own): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    own.seen.lock().unwrap().push((headers, body));
    *own.status.lock().unwrap()
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            seen: Arc::default(),
            status: Arc::new(Mutex::new(StatusCode::OK)),
        };
        let router = Router::new()
            .route("/hook", post(take))
            .with_state(receiver.clone());
        forebay_runtime::Tasks::default().spawn(
            forebay_runtime::TaskKind::Listener,
            "receiver",
            async move { axum::serve(listener, router).await },
        );
        receiver
    }

    fn answer(&self, status: StatusCode) {
        *self.status.lock().unwrap() = status;
    }

    fn bodies(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|(_, body)| serde_json::from_slice(body).unwrap())
            .collect()
    }

    /// Waits until so many messages came, while the clock of the server goes on.
    async fn wait_for(&self, server: &TestServer, count: usize) -> Vec<Value> {
        let look = || {
            server.clock.advance(Duration::from_secs(1));
            std::future::ready(self.bodies())
        };
        wait_until("notifications", look, |seen| seen.len() >= count).await
    }
}

async fn start() -> TestServer {
    TestServer::start_with(|setup| {
        setup.runtimes = None;
        setup.server.notifications.allow_addresses = vec!["127.0.0.1".to_owned()];
    })
    .await
}

async fn destination(server: &TestServer, config: Value) -> String {
    let request = json!({"display_name": "hook", "config": config});
    let made = server
        .post("/api/2.0/notification-destinations", request)
        .await
        .ok();
    made["id"].as_str().unwrap().to_owned()
}

async fn deliveries(server: &TestServer, run: i64) -> Vec<Value> {
    let path = format!("/api/forebay/v1/runs/{run}/notifications");
    server.get(&path).await.ok()["notifications"]
        .as_array()
        .unwrap()
        .clone()
}

#[tokio::test]
async fn a_job_and_its_task_tell_a_signed_webhook() {
    let (server, receiver) = (start().await, Receiver::start().await);
    let config =
        json!({"generic_webhook": {"url": receiver.url, "username": "u", "password": "p"}});
    let id = destination(&server, config).await;
    notebook(&server, "/Shared/n", &["fail ValueError no"]).await;
    let hook = json!([{"id": id}]);
    let task = json!({
        "task_key": "t",
        "notebook_task": {"notebook_path": "/Shared/n"},
        "webhook_notifications": {"on_failure": hook},
    });
    let more = json!({"name": "nightly", "tasks": [task], "webhook_notifications": {
        "on_start": hook, "on_failure": hook, "on_success": hook,
    }});
    let job = job_of(&server, "/Shared/n", more).await;
    let run = ran(&server, job).await;
    let mut bodies = receiver.wait_for(&server, 3).await;
    bodies.sort_by_key(|body| (body["event_type"].to_string(), body["task"].is_null()));
    let events: Vec<_> = bodies
        .iter()
        .map(|body| body["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        ["jobs.on_failure", "jobs.on_failure", "jobs.on_start"]
    );
    assert_eq!(bodies[0]["task"], json!({"task_key": "t"}));
    let failed = &bodies[1];
    assert_eq!(failed["run"], json!({"run_id": run.to_string()}));
    assert_eq!(
        failed["job"],
        json!({"job_id": job.to_string(), "name": "nightly"})
    );
    assert!(failed["workspace_id"].is_string());
    assert_eq!(failed["forebay"]["verdict"], "failed");

    let path = format!("/api/forebay/v1/notification-destinations/{id}/signing-key");
    let key = server.get(&path).await.ok()["signing_key"]
        .as_str()
        .unwrap()
        .to_owned();
    let seen = receiver.seen.lock().unwrap().clone();
    for (headers, body) in seen {
        let signature = headers["x-forebay-signature"].to_str().unwrap();
        let (time, hex) = signature.split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{time}.").as_bytes());
        mac.update(&body);
        let expected = mac.finalize().into_bytes();
        let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
        assert_eq!(headers["authorization"], "Basic dTpw");
    }
    // The answer reaches the receiver before it is written down.
    let look = || deliveries(&server, run);
    let all = |told: &Vec<Value>| told.iter().all(|one| one["state"] == "delivered");
    wait_until("what was delivered to be noted", look, all).await;
}

/// A run whose message was turned away once, by a receiver that is busy.
async fn turned_away() -> (TestServer, Receiver, i64) {
    let (server, receiver) = (start().await, Receiver::start().await);
    let id = destination(&server, json!({"slack": {"url": receiver.url}})).await;
    notebook(&server, "/Shared/n", &["print x"]).await;
    let hooks = json!({"webhook_notifications": {"on_success": [{"id": id}]}});
    let job = job_of(&server, "/Shared/n", hooks).await;
    receiver.answer(StatusCode::SERVICE_UNAVAILABLE);
    let run = ran(&server, job).await;
    receiver.wait_for(&server, 1).await;
    (server, receiver, run)
}

#[tokio::test]
async fn a_receiver_that_is_down_is_tried_again_and_given_up_in_sight() {
    let (server, receiver, run) = turned_away().await;
    let first = deliveries(&server, run).await;
    let error = first[0]["error"].as_str();
    assert!(error.is_none_or(|error| error.contains("503")), "{first:?}");

    let look = || async {
        server.clock.advance(Duration::from_secs(3600));
        deliveries(&server, run).await[0].clone()
    };
    let over = wait_until("the last try", look, |one| one["state"] == "given_up").await;
    assert_eq!(over["tries"], 8);
    receiver.answer(StatusCode::OK);
    let again = format!(
        "/api/forebay/v1/notifications/{}/redeliver",
        over["id"].as_str().unwrap()
    );
    server.post(&again, json!({})).await.ok();
    let seen = receiver.wait_for(&server, 9).await;
    assert!(
        seen[8]["text"]
            .as_str()
            .unwrap()
            .contains("The run j succeeded")
    );
    let ids = receiver.seen.lock().unwrap().clone();
    let ids: std::collections::HashSet<_> = ids
        .iter()
        .map(|(headers, _)| headers["x-forebay-delivery"].clone())
        .collect();
    assert_eq!(ids.len(), 1, "a receiver can tell repetitions");
}

#[tokio::test]
async fn a_clock_that_is_put_back_holds_up_no_message() {
    let (server, receiver, run) = turned_away().await;
    let tried = || async { deliveries(&server, run).await[0].clone() };
    wait_until("the first try", tried, |one| one["tries"] == 1).await;
    receiver.answer(StatusCode::OK);
    server.clock.put_back(Duration::from_secs(86_400));
    let look = || async {
        server.clock.advance(Duration::from_secs(1));
        deliveries(&server, run).await[0].clone()
    };
    let before = server.clock.now();
    wait_until("the second try", look, |one| one["state"] == "delivered").await;
    assert!(server.clock.now().since(before) < 3_600_000);
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_told_once() {
    let (server, receiver) = (start().await, Receiver::start().await);
    let id = destination(&server, json!({"generic_webhook": {"url": receiver.url}})).await;
    notebook(&server, "/Shared/wait", &["wait"]).await;
    let slow = json!({
        "webhook_notifications": {"on_duration_warning_threshold_exceeded": [{"id": id}]},
        "health": {"rules": [{"metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": 60}]},
    });
    let job = job_of(&server, "/Shared/wait", slow).await;
    let run = run_of(&server, job).await;
    server.clock.advance(Duration::from_secs(59));
    let seen = receiver.wait_for(&server, 1).await;
    assert_eq!(
        seen[0]["event_type"],
        "jobs.on_duration_warning_threshold_exceeded"
    );
    for _ in 0..20 {
        server.clock.advance(Duration::from_secs(5));
        tokio::task::yield_now().await;
    }
    server.executor.release();
    ended(&server, run).await;
    assert_eq!(deliveries(&server, run).await.len(), 1);
}

#[tokio::test]
async fn who_cannot_be_told_is_refused_and_secrets_are_not_shown() {
    let server = start().await;
    notebook(&server, "/Shared/n", &["print x"]).await;
    let create = async |more: Value| {
        let task = json!({"task_key": "t", "notebook_task": {"notebook_path": "/Shared/n"}});
        let mut settings = json!({"name": "j", "tasks": [task]});
        for (name, value) in more.as_object().unwrap() {
            settings[name] = value.clone();
        }
        server.post("/api/2.1/jobs/create", settings).await
    };
    let unknown = json!({"webhook_notifications": {"on_start": [{"id": "nobody"}]}});
    let message = create(unknown)
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("'nobody'"));
    let mail = json!({"email_notifications": {"on_failure": ["a@b.c"]}});
    let message = create(mail).await.refused(501, "NOT_IMPLEMENTED");
    assert!(message.contains("[smtp]"), "{message}");
    let backlog = json!({"health": {"rules": [
        {"metric": "STREAMING_BACKLOG_BYTES", "op": "GREATER_THAN", "value": 1}]}});
    create(backlog).await.refused(501, "NOT_IMPLEMENTED");
    create(json!({"email_notifications": {}, "webhook_notifications": null}))
        .await
        .ok();

    let all = "/api/2.0/notification-destinations";
    for (config, named) in [
        (
            json!({"generic_webhook": {"url": "http://127.0.0.2/x"}}),
            "allow_addresses",
        ),
        (
            json!({"generic_webhook": {"url": "file:///etc/passwd"}}),
            "http://",
        ),
        (json!({"slack": {}}), "config.slack.url"),
        (
            json!({"slack": {"url": "http://h"}, "email": {"addresses": ["a@b.c"]}}),
            "exactly one",
        ),
        (json!({}), "exactly one"),
    ] {
        let request = json!({"display_name": "d", "config": config});
        let message = server
            .post(all, request)
            .await
            .refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(named), "{message}");
    }
    let id = destination(
        &server,
        json!({"slack": {"url": "https://hooks.example/secret"}}),
    )
    .await;
    let one = format!("{all}/{id}");
    let shown = server.get(&one).await.ok();
    assert_eq!(shown["config"], json!({"slack": {"url_set": true}}));
    assert_eq!(shown["destination_type"], "SLACK");
    let renamed = server.call(&server.admin, "PATCH", &one, json!({"display_name": "new"}));
    assert_eq!(renamed.await.ok()["display_name"], "new");
    let listed = server.get(all).await;
    assert!(!listed.text().contains("secret"));
    assert_eq!(listed.ok()["results"][0]["id"], json!(id));
    let plain = server.plain.clone();
    let refused = server.call(&plain, "DELETE", &one, Value::Null).await;
    assert_eq!(refused.status, 403);
    server
        .call(&server.admin, "DELETE", &one, Value::Null)
        .await
        .ok();
    assert_eq!(server.get(&one).await.status, 404);
}
