use std::sync::Arc;
use std::time::Duration;

use forebay_control::Ctx;
use forebay_control::clusters::ClusterChoice;
use forebay_exec::Executor;
use forebay_store::ClusterOwner;
use forebay_testkit::{PLAIN_USER, TestRuntimes, TestServer, wait_until};
use forebay_types::{ClusterId, RunId};
use serde_json::{Value, json};

/// An owner that has ended long ago.
fn nobody() -> ClusterOwner {
    ClusterOwner {
        id: RunId(1),
        key: String::new(),
    }
}

fn definition() -> Value {
    json!({"cluster_name": "c", "spark_version": "15.4.x-scala2.12", "num_workers": 0})
}

async fn create(server: &TestServer, body: Value) -> String {
    let made = server.post("/api/2.1/clusters/create", body).await.ok();
    made["cluster_id"].as_str().unwrap().to_owned()
}

async fn get(server: &TestServer, id: &str) -> Value {
    let path = format!("/api/2.1/clusters/get?cluster_id={id}");
    server.get(&path).await.ok()
}

async fn until(server: &TestServer, id: &str, state: &str) -> Value {
    let look = || get(server, id);
    wait_until(state, look, |cluster| cluster["state"] == state).await
}

/// Minutes pass meanwhile.
async fn until_later(server: &TestServer, id: &str, state: &str) -> Value {
    let look = || {
        server.clock.advance(Duration::from_secs(60));
        get(server, id)
    };
    wait_until(state, look, |cluster| cluster["state"] == state).await
}

async fn call(server: &TestServer, name: &str, body: Value) -> forebay_testkit::Answer {
    server
        .post(&format!("/api/2.0/clusters/{name}"), body)
        .await
}

#[tokio::test]
async fn cluster_is_pending_until_its_environment_is_ready_and_then_lives_its_life() {
    let runtimes = Arc::new(TestRuntimes::gated());
    let theirs = Arc::clone(&runtimes);
    let server = TestServer::start_with(|setup| setup.runtimes = Some(theirs)).await;
    let id = create(&server, definition()).await;
    let just_id = json!({"cluster_id": id});
    assert_eq!(get(&server, &id).await["state"], "PENDING");
    runtimes.let_through();
    let running = until(&server, &id, "RUNNING").await;
    assert_eq!(running["forebay"]["runtime"], "python-3.11");
    assert!(
        running["state_message"]
            .as_str()
            .unwrap()
            .contains("python-3.11")
    );
    assert_eq!(running["creator_user_name"], "admin");
    assert!(running["cluster_memory_mb"].as_u64().unwrap() > 0);

    let twice = call(&server, "start", just_id.clone()).await;
    let message = twice.refused(400, "INVALID_STATE");
    assert!(
        message.contains(&id) && message.contains("unexpected state Running"),
        "{message}"
    );

    call(&server, "restart", just_id.clone()).await.ok();
    assert_eq!(get(&server, &id).await["state"], "RESTARTING");
    runtimes.let_through();
    until(&server, &id, "RUNNING").await;

    call(&server, "delete", just_id.clone()).await.ok();
    let ended = get(&server, &id).await;
    assert_eq!(ended["state"], "TERMINATED");
    assert_eq!(ended["termination_reason"]["code"], "USER_REQUEST");
    call(&server, "delete", just_id.clone()).await.ok();
    call(
        &server,
        "resize",
        json!({"cluster_id": id, "num_workers": 2}),
    )
    .await
    .refused(400, "INVALID_STATE");

    let events = call(&server, "events", json!({"cluster_id": id, "order": "ASC"}))
        .await
        .ok();
    let kinds: Vec<_> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["type"])
        .collect();
    assert_eq!(
        kinds,
        [
            "CREATING",
            "RUNNING",
            "RESTARTING",
            "RUNNING",
            "TERMINATING"
        ]
    );

    call(&server, "permanent-delete", just_id).await.ok();
    let gone = server
        .get(&format!("/api/2.0/clusters/get?cluster_id={id}"))
        .await;
    let message = gone.refused(400, "INVALID_PARAMETER_VALUE");
    assert_eq!(message, format!("Cluster {id} does not exist"));
}

#[tokio::test]
async fn environment_that_cannot_be_made_ready_is_an_error_that_a_start_can_mend() {
    let runtimes = Arc::new(TestRuntimes::ready());
    runtimes.fail_with(Some("uv was not found"));
    let theirs = Arc::clone(&runtimes);
    let server = TestServer::start_with(|setup| setup.runtimes = Some(theirs)).await;
    let id = create(&server, definition()).await;
    let failed = until(&server, &id, "ERROR").await;
    assert_eq!(failed["state_message"], "uv was not found");
    runtimes.fail_with(None);
    call(&server, "start", json!({"cluster_id": id})).await.ok();
    until(&server, &id, "RUNNING").await;
}

#[tokio::test]
async fn environments_come_from_the_executor_and_its_refusal_is_shown() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let id = create(&server, definition()).await;
    until(&server, &id, "RUNNING").await;
    server.executor.stop().await;
    call(&server, "restart", json!({"cluster_id": id}))
        .await
        .ok();
    let failed = until(&server, &id, "ERROR").await;
    assert_eq!(failed["state_message"], "the executor is stopping");
}

#[tokio::test]
async fn definition_reads_back_as_it_was_written_also_after_a_restart() {
    let server = TestServer::start().await;
    let written = json!({
        "cluster_name": "exact", "spark_version": "7.3.x-scala2.12", "node_type_id": "Standard_DS3_v2",
        "autoscale": {"min_workers": 1, "max_workers": 4}, "spark_conf": {"a.b": "c"},
        "spark_env_vars": {"A": "1"}, "custom_tags": {"team": "risk"}, "some_day": {"deep": [1, {"x": null}]},
    });
    let id = "0924-164345-sofa329";
    let mut body = written.clone();
    body["cluster_id"] = id.into();
    assert_eq!(create(&server, body.clone()).await, id);
    let again = server.post("/api/2.0/clusters/create", body).await;
    assert!(again.refused(400, "RESOURCE_ALREADY_EXISTS").contains(id));
    until(&server, id, "RUNNING").await;
    let server = server.restart(|_| {}).await;
    let read = get(&server, id).await;
    assert_eq!(read["spec"], written);
    for (name, value) in written.as_object().unwrap() {
        assert_eq!(&read[name], value, "{name}");
    }
    assert_eq!(read["state"], "RUNNING");
}

#[tokio::test]
async fn edit_replaces_and_update_changes_what_its_mask_names() {
    let server = TestServer::start().await;
    let id = create(&server, definition()).await;
    until(&server, &id, "RUNNING").await;
    let edit = json!({"cluster_id": id, "cluster_name": "after", "spark_version": "python-3.11",
        "custom_tags": {"a": "1", "b": "2"}, "num_workers": 3});
    call(&server, "edit", edit).await.ok();
    let update = json!({"cluster_id": id, "update_mask": "custom_tags.a,num_workers,autoscale.max_workers",
        "cluster": {"custom_tags": {"a": "9"}, "autoscale": {"max_workers": 7}}});
    call(&server, "update", update).await.ok();
    let read = until(&server, &id, "RUNNING").await;
    let expected = json!({"cluster_name": "after", "spark_version": "python-3.11",
        "custom_tags": {"a": "9", "b": "2"}, "autoscale": {"max_workers": 7}});
    assert_eq!(read["spec"], expected);
    let wrong = json!({"cluster_id": id, "update_mask": "spark_version", "cluster": {}});
    assert!(
        call(&server, "update", wrong)
            .await
            .refused(400, "INVALID_PARAMETER_VALUE")
            .contains("spark_version")
    );
    let resize = json!({"cluster_id": id, "num_workers": 5});
    call(&server, "resize", resize).await.ok();
    let read = get(&server, &id).await;
    assert_eq!(
        (&read["num_workers"], &read["autoscale"]),
        (&json!(5), &Value::Null)
    );
}

#[tokio::test]
async fn repeated_create_with_the_same_token_makes_one_cluster() {
    let server = TestServer::start().await;
    let mut body = definition();
    body["idempotency_token"] = "once".into();
    let first = create(&server, body.clone()).await;
    assert_eq!(create(&server, body).await, first);
    let list = server.get("/api/2.0/clusters/list").await.ok();
    assert_eq!(list["clusters"].as_array().unwrap().len(), 1);
    assert_eq!(list["clusters"][0].get("idempotency_token"), None);
}

#[tokio::test]
async fn unused_cluster_ends_by_the_clock_and_a_used_one_does_not() {
    let server = TestServer::start().await;
    let mut body = definition();
    body["autotermination_minutes"] = 10.into();
    let (idle, busy) = (
        create(&server, body.clone()).await,
        create(&server, body).await,
    );
    until(&server, &idle, "RUNNING").await;
    until(&server, &busy, "RUNNING").await;
    let ctx = Ctx::new(server.app.services.identity.first_admin().await.unwrap());
    let clusters = &server.app.services.clusters;
    let choice = ClusterChoice::Existing(ClusterId(busy.clone()));
    let run = clusters
        .resolve_for_run(&ctx, choice.clone(), nobody())
        .await
        .unwrap();
    let ended = until_later(&server, &idle, "TERMINATED").await;
    assert_eq!(ended["termination_reason"]["code"], "INACTIVITY");
    assert_eq!(get(&server, &busy).await["state"], "RUNNING");
    drop(run);
    until_later(&server, &busy, "TERMINATED").await;
    // A run wakes it up again.
    let run = clusters
        .resolve_for_run(&ctx, choice, nobody())
        .await
        .unwrap();
    assert_eq!(run.runtime, "python-3.11");
    clusters.ready(&ClusterId(busy.clone())).await.unwrap();
    assert_eq!(get(&server, &busy).await["state"], "RUNNING");
}

#[tokio::test]
async fn cluster_of_a_run_ends_with_the_run() {
    let server = TestServer::start().await;
    let ctx = Ctx::new(server.app.services.identity.first_admin().await.unwrap());
    let clusters = &server.app.services.clusters;
    let settings = json!({"spark_version": "15.4.x-scala2.12", "spark_env_vars": {"A": "1"},
        "spark_conf": {"forebay.run.memory": "1g"}});
    let Value::Object(settings) = settings else {
        unreachable!()
    };
    let run = clusters
        .resolve_for_run(&ctx, ClusterChoice::New(settings), nobody())
        .await
        .unwrap();
    let id = run.cluster_id.clone().unwrap();
    assert_eq!(
        (run.memory_bytes, run.env["A"].as_str()),
        (Some(1 << 30), "1")
    );
    clusters.ready(&id).await.unwrap();
    assert_eq!(get(&server, &id.0).await["cluster_source"], "JOB");
    drop(run);
    let ended = until(&server, &id.0, "TERMINATED").await;
    assert_eq!(ended["termination_reason"]["code"], "JOB_FINISHED");
    let missing = clusters.resolve_for_run(
        &ctx,
        ClusterChoice::Existing(ClusterId("none".into())),
        nobody(),
    );
    assert_eq!(
        missing.await.unwrap_err().message,
        "Cluster none does not exist"
    );
}

#[tokio::test]
async fn strangers_see_nothing_and_levels_are_enforced() {
    let server = TestServer::start().await;
    let id = create(&server, definition()).await;
    until(&server, &id, "RUNNING").await;
    let as_plain = async |method: &str, name: &str, body: Value| {
        server
            .call(
                &server.plain,
                method,
                &format!("/api/2.0/clusters/{name}"),
                body,
            )
            .await
    };
    let get = format!("get?cluster_id={id}");
    let just_id = json!({"cluster_id": id});
    as_plain("GET", &get, json!(null))
        .await
        .refused(403, "PERMISSION_DENIED");
    assert_eq!(
        as_plain("GET", "list", json!(null)).await.ok()["clusters"],
        json!([])
    );
    let grant = async |level: &str| {
        let path = format!("/api/2.0/permissions/clusters/{id}");
        let body =
            json!({"access_control_list": [{"user_name": PLAIN_USER, "permission_level": level}]});
        server.call(&server.admin, "PATCH", &path, body).await.ok()
    };
    grant("CAN_ATTACH_TO").await;
    as_plain("GET", &get, json!(null)).await.ok();
    as_plain("POST", "restart", just_id.clone())
        .await
        .refused(403, "PERMISSION_DENIED");
    grant("CAN_RESTART").await;
    as_plain("POST", "restart", just_id.clone()).await.ok();
    as_plain("POST", "permanent-delete", just_id.clone())
        .await
        .refused(403, "PERMISSION_DENIED");
    as_plain("POST", "pin", just_id.clone())
        .await
        .refused(403, "PERMISSION_DENIED");
    grant("CAN_MANAGE").await;
    as_plain("POST", "permanent-delete", just_id).await.ok();
}

#[tokio::test]
async fn lists_are_paged_filtered_and_sorted() {
    let server = TestServer::start().await;
    let mut ids = Vec::new();
    for name in ["b", "a", "c"] {
        let mut body = definition();
        body["cluster_name"] = name.into();
        ids.push(create(&server, body).await);
        server.clock.advance(Duration::from_secs(1));
    }
    for id in &ids {
        // An event that came between two pages would move the second one.
        until(&server, id, "RUNNING").await;
    }
    call(&server, "pin", json!({"cluster_id": ids[0]}))
        .await
        .ok();
    let names = async |query: &str| {
        let path = format!("/api/2.1/clusters/list?{query}");
        let list = server.get(&path).await.ok();
        let names = list["clusters"].as_array().unwrap().iter();
        let names: String = names.map(|c| c["cluster_name"].as_str().unwrap()).collect();
        (names, list["next_page_token"].as_str().map(str::to_owned))
    };
    let (first, token) = names("page_size=2").await;
    assert_eq!(first, "bc", "pinned first, then the newest");
    let rest = names(&format!("page_size=2&page_token={}", token.unwrap())).await;
    assert_eq!(rest, ("a".to_owned(), None));
    assert_eq!(
        names("sort_by.field=CLUSTER_NAME&sort_by.direction=DESC")
            .await
            .0,
        "cba"
    );
    assert_eq!(names("filter_by.is_pinned=true").await.0, "b");
    assert_eq!(
        names("filter_by.cluster_states=TERMINATED&filter_by.cluster_states=ERROR")
            .await
            .0,
        ""
    );
    let events = call(&server, "events", json!({"cluster_id": ids[0], "limit": 1}))
        .await
        .ok();
    let next = call(&server, "events", events["next_page"].clone())
        .await
        .ok();
    assert_ne!(events["events"][0], next["events"][0]);
}

#[tokio::test]
async fn owner_changes_by_an_administrators_hand() {
    let server = TestServer::start().await;
    let id = create(&server, definition()).await;
    let missing = json!({"cluster_id": id, "owner_username": "nobody"});
    call(&server, "change-owner", missing)
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    let body = json!({"cluster_id": id, "owner_username": PLAIN_USER});
    call(&server, "change-owner", body).await.ok();
    assert_eq!(get(&server, &id).await["creator_user_name"], PLAIN_USER);
    let body = json!({"cluster_id": id, "cluster_name": "mine", "spark_version": "python-3.11"});
    server
        .call(&server.plain, "POST", "/api/2.1/clusters/edit", body)
        .await
        .ok();
}

#[tokio::test]
async fn helpers_of_the_sdk_find_what_they_filter_for() {
    let server = TestServer::start().await;
    let versions = server.get("/api/2.0/clusters/spark-versions").await.ok();
    let lts = &versions["versions"][0];
    assert!(lts["name"].as_str().unwrap().contains("LTS"));
    assert!(lts["key"].as_str().unwrap().contains("-scala2.12"));
    let nodes = server.get("/api/2.1/clusters/list-node-types").await.ok();
    assert_eq!(
        nodes["node_types"][0]["node_instance_type"]["local_disks"],
        1
    );
}
