use std::io::Write;
use std::path::Path;
use std::time::Duration;

use forebay_exec::Library;
use forebay_testkit::{PLAIN_USER, TestServer, wait_until};
use serde_json::{Value, json};

async fn cluster(server: &TestServer, more: Value) -> String {
    let mut body = json!({"cluster_name": "c", "spark_version": "15.4.x-scala2.12"});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let made = server.post("/api/2.0/clusters/create", body).await.ok();
    let id = made["cluster_id"].as_str().unwrap().to_owned();
    let path = format!("/api/2.0/clusters/get?cluster_id={id}");
    let look = async || server.get(&path).await.ok();
    wait_until("RUNNING", look, |cluster| cluster["state"] == "RUNNING").await;
    id
}

async fn statuses(server: &TestServer, id: &str) -> Vec<(Value, String)> {
    let path = format!("/api/2.0/libraries/cluster-status?cluster_id={id}");
    let found = server.get(&path).await.ok();
    let list = found["library_statuses"].as_array().unwrap().clone();
    let status = |one: &Value| {
        let status = one["status"].as_str().unwrap().to_owned();
        let said = one["messages"][0].as_str().unwrap_or_default();
        (
            one["library"].clone(),
            format!("{status} {said}").trim().to_owned(),
        )
    };
    list.iter().map(status).collect()
}

/// Once nothing waits any more.
async fn settled(server: &TestServer, id: &str) -> Vec<(Value, String)> {
    let open = |status: &str| status.starts_with("PENDING") || status.starts_with("INSTALLING");
    wait_until(
        "libraries to settle",
        async || statuses(server, id).await,
        |all| !all.iter().any(|(_, status)| open(status)),
    )
    .await
}

async fn install(server: &TestServer, id: &str, libraries: Value) -> forebay_testkit::Answer {
    let body = json!({"cluster_id": id, "libraries": libraries});
    server.post("/api/2.0/libraries/install", body).await
}

async fn uninstall(server: &TestServer, id: &str, libraries: Value) {
    let body = json!({"cluster_id": id, "libraries": libraries});
    let done = server.post("/api/2.0/libraries/uninstall", body).await;
    assert_eq!(done.ok(), json!({}));
}

/// A JAR with one entry of this name.
fn jar(path: &Path, entry: &str) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    zip.start_file(entry, zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(entry.as_bytes()).unwrap();
    zip.finish().unwrap();
}

fn dbfs(server: &TestServer, name: &str) -> std::path::PathBuf {
    server.data().join("dev/dbfs").join(name)
}

async fn submitted(server: &TestServer, id: &str, libraries: Value) -> Value {
    let notebook = json!({"path": "/Shared/n", "language": "PYTHON", "content": "IyBEYXRhYnJpY2tzIG5vdGVib29rIHNvdXJjZQo=", "overwrite": true});
    server
        .post("/api/2.0/workspace/import", notebook)
        .await
        .ok();
    let task = json!({"run_name": "r", "existing_cluster_id": id, "libraries": libraries,
        "notebook_task": {"notebook_path": "/Shared/n"}});
    let run = server.post("/api/2.0/jobs/runs/submit", task).await.ok();
    let path = format!("/api/2.1/jobs/runs/get?run_id={}", run["run_id"]);
    wait_until(
        "the run's end",
        async || server.get(&path).await.ok(),
        |run| run["state"]["result_state"].is_string(),
    )
    .await
}

fn libraries_of_last(server: &TestServer) -> Vec<Library> {
    server.executor.started().last().unwrap().libraries.clone()
}

#[tokio::test]
async fn libraries_are_tried_out_and_runs_get_them_before_their_own() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let id = cluster(&server, json!({})).await;
    let wanted =
        json!([{"pypi": {"package": "six", "repo": null}}, {"cran": {"package": "testthat"}}]);
    assert_eq!(install(&server, &id, wanted).await.ok(), json!({}));
    let all = settled(&server, &id).await;
    assert_eq!(
        all,
        [
            (json!({"pypi": {"package": "six"}}), "INSTALLED".to_owned()),
            (
                json!({"cran": {"package": "testthat"}}),
                "INSTALLED".to_owned()
            ),
        ]
    );
    // Each was tried out with those before it, without a token.
    let trials = server.executor.started();
    assert_eq!(trials.last().unwrap().libraries.len(), 2);
    assert!(trials.iter().all(|trial| trial.context.api_token.is_none()));

    let own = json!([{"pypi": {"package": "six"}}, {"pypi": {"package": "toml"}}]);
    submitted(&server, &id, own).await;
    let names: Vec<String> = libraries_of_last(&server)
        .iter()
        .map(|library| match library {
            Library::Pypi { package, .. } | Library::Cran { package, .. } => package.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(names, ["six", "testthat", "toml"]);
}

#[tokio::test]
async fn what_is_uninstalled_stays_until_the_cluster_starts_again() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let id = cluster(&server, json!({})).await;
    let (six, toml) = (
        json!({"pypi": {"package": "six"}}),
        json!({"pypi": {"package": "toml"}}),
    );
    install(&server, &id, json!([six, toml])).await.ok();
    settled(&server, &id).await;
    uninstall(&server, &id, json!([six, {"pypi": {"package": "never"}}])).await;
    let all = statuses(&server, &id).await;
    assert_eq!(all[0], (six.clone(), "UNINSTALL_ON_RESTART".to_owned()));
    assert_eq!(all.len(), 2);
    submitted(&server, &id, json!([])).await;
    assert_eq!(libraries_of_last(&server).len(), 2);

    let just_id = json!({"cluster_id": id});
    server
        .post("/api/2.0/clusters/restart", just_id.clone())
        .await
        .ok();
    assert_eq!(
        settled(&server, &id).await,
        [(toml.clone(), "INSTALLED".to_owned())]
    );

    // On a cluster that is not up, nothing is installed and what goes is gone.
    server.post("/api/2.0/clusters/delete", just_id).await.ok();
    install(&server, &id, json!([six])).await.ok();
    let pending = |library: &Value| (library.clone(), "PENDING".to_owned());
    assert_eq!(
        statuses(&server, &id).await,
        [pending(&toml), pending(&six)]
    );
    uninstall(&server, &id, json!([toml])).await;
    assert_eq!(statuses(&server, &id).await, [pending(&six)]);
}

#[tokio::test]
async fn files_are_looked_into_and_say_what_is_wrong() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let id = cluster(&server, json!({})).await;
    std::fs::write(dbfs(&server, "tmp/text.jar"), "text").unwrap();
    jar(&dbfs(&server, "tmp/good.jar"), "A.class");
    jar(&dbfs(&server, "tmp/a-1-py3-none-any.whl"), "a.py");
    let jars = ["good", "text", "none"].map(|name| json!({"jar": format!("dbfs:/tmp/{name}.jar")}));
    install(&server, &id, json!(jars)).await.ok();
    install(
        &server,
        &id,
        json!([{"whl": "dbfs:/tmp/a-1-py3-none-any.whl"}]),
    )
    .await
    .ok();
    let said: Vec<String> = settled(&server, &id)
        .await
        .into_iter()
        .map(|(_, status)| status)
        .collect();
    // The engine of the test's runtime is not Java.
    assert!(
        said[0].starts_with("SKIPPED") && said[0].contains("runs no Java"),
        "{said:?}"
    );
    assert!(
        said[1].contains("dbfs:/tmp/text.jar is not a JAR"),
        "{said:?}"
    );
    assert!(
        said[2].starts_with("FAILED Library dbfs:/tmp/none.jar"),
        "{said:?}"
    );
    assert!(said[3].contains("no *.dist-info/METADATA"), "{said:?}");

    // The same words end a run, before anything of it runs.
    let before = server.executor.started().len();
    let run = submitted(&server, &id, json!([jars[1]])).await;
    assert_eq!(run["state"]["result_state"], "FAILED");
    assert_eq!(run["state"]["life_cycle_state"], "INTERNAL_ERROR");
    let details = &run["status"]["termination_details"];
    assert_eq!(details["code"], "LIBRARY_INSTALLATION_ERROR");
    assert_eq!(server.executor.started().len(), before);
}

#[tokio::test]
async fn a_run_keeps_the_bytes_it_started_with() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let file = dbfs(&server, "tmp/a.jar");
    jar(&file, "One.class");
    let body = json!({"run_name": "r", "tasks": [{"task_key": "t",
        "spark_jar_task": {"main_class_name": "One"}, "libraries": [{"jar": "dbfs:/tmp/a.jar"}]}]});
    let run = server.post("/api/2.1/jobs/runs/submit", body).await;
    // The dummy has one runtime, and no Java: what matters is what was kept before that.
    let path = format!("/api/2.1/jobs/runs/get?run_id={}", run.ok()["run_id"]);
    wait_until(
        "the run's end",
        async || server.get(&path).await.ok(),
        |run| run["state"]["result_state"].is_string(),
    )
    .await;
    let kept = || std::fs::read_dir(server.data().join("dev/libraries")).unwrap();
    assert_eq!(kept().count(), 1);
    // Nothing points at it once the run has ended.
    let gone = || {
        server.clock.advance(Duration::from_secs(61));
        async { kept().count() }
    };
    wait_until("the content to go", gone, |left| *left == 0).await;
}

#[tokio::test]
async fn rights_and_bad_input() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let id = cluster(&server, json!({})).await;
    let six = json!([{"pypi": {"package": "six"}}]);
    let as_plain = async |path: &str, body: Value| {
        let method = if body.is_null() { "GET" } else { "POST" };
        server.call(&server.plain, method, path, body).await
    };
    let status = format!("/api/2.0/libraries/cluster-status?cluster_id={id}");
    let body = json!({"cluster_id": id, "libraries": six});
    for (path, body) in [
        ("/api/2.0/libraries/install", body.clone()),
        ("/api/2.0/libraries/uninstall", body.clone()),
        (status.as_str(), Value::Null),
    ] {
        as_plain(path, body).await.refused(403, "PERMISSION_DENIED");
    }
    let grant = json!({"access_control_list": [{"user_name": PLAIN_USER, "permission_level": "CAN_RESTART"}]});
    let grants = format!("/api/2.0/permissions/clusters/{id}");
    server
        .call(&server.admin, "PATCH", &grants, grant)
        .await
        .ok();
    as_plain(&status, Value::Null).await.ok();
    as_plain("/api/2.0/libraries/install", body)
        .await
        .refused(403, "PERMISSION_DENIED");
    let all = "/api/2.0/libraries/all-cluster-statuses";
    install(&server, &id, six).await.ok();
    assert_eq!(
        as_plain(all, Value::Null).await.ok()["statuses"][0]["cluster_id"],
        id.as_str()
    );

    for (libraries, word) in [
        (json!([]), "libraries"),
        (
            json!([{"pypi": {"package": "a"}, "jar": "x"}]),
            "exactly one of",
        ),
        (json!([{"gem": "x"}]), "exactly one of"),
        (json!([{"jar": "dbfs:/../../x.jar"}]), ".."),
        (json!([{"pypi": {}}]), "package"),
    ] {
        let refused = install(&server, &id, libraries.clone()).await;
        let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(word), "{libraries}: {message}");
    }
    let unknown = install(&server, "none", json!([{"pypi": {"package": "a"}}])).await;
    let message = unknown.refused(400, "INVALID_PARAMETER_VALUE");
    assert_eq!(message, "Cluster none does not exist");
}

#[tokio::test]
async fn states_survive_a_restart_of_the_server() {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let id = cluster(&server, json!({})).await;
    install(&server, &id, json!([{"pypi": {"package": "six"}}]))
        .await
        .ok();
    let before = settled(&server, &id).await;
    let server = server.restart(|setup| setup.runtimes = None).await;
    assert_eq!(statuses(&server, &id).await, before);
}
