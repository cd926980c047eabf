//! Grants in the workspace tree, and on jobs and runs from their first moment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_testkit::{Answer, PLAIN_USER, TestServer};
use serde_json::{Value, json};

const LIST: &str = "/api/2.0/workspace/list?path=";
const STATUS: &str = "/api/2.0/workspace/get-status?path=";

/// A server with somebody's project, of which nothing is shared yet.
async fn start() -> TestServer {
    let server = TestServer::start_with(|setup| setup.runtimes = None).await;
    let folder = json!({"path": "/Users/al@x.org/project/sub"});
    server.post("/api/2.0/workspace/mkdirs", folder).await.ok();
    for path in ["project/n", "project/sub/m", "private"] {
        let path = format!("/Users/al@x.org/{path}");
        import(&server, &server.admin, &path).await.ok();
    }
    server
}

async fn import(server: &TestServer, token: &str, path: &str) -> Answer {
    let content = STANDARD.encode("# Databricks notebook source\nexit fine\n");
    let body = json!({"path": path, "language": "PYTHON", "content": content, "overwrite": true});
    server
        .call(token, "POST", "/api/2.0/workspace/import", body)
        .await
}

async fn plain(server: &TestServer, path: &str) -> Answer {
    server.call(&server.plain, "GET", path, Value::Null).await
}

async fn listed(server: &TestServer, folder: &str) -> Vec<String> {
    let list = plain(server, &format!("{LIST}{folder}")).await.ok();
    let objects = list["objects"].as_array().cloned().unwrap_or_default();
    let path = |object: &Value| object["path"].as_str().unwrap().to_owned();
    objects.iter().map(path).collect()
}

/// The address of an object's permissions.
async fn permissions_of(server: &TestServer, kind: &str, path: &str) -> String {
    let object = server.get(&format!("{STATUS}{path}")).await.ok();
    format!("/api/2.0/permissions/{kind}/{}", object["object_id"])
}

async fn share(server: &TestServer, address: &str, level: &str) -> Value {
    let list = json!([{"user_name": PLAIN_USER, "permission_level": level}]);
    let body = json!({"access_control_list": list});
    server.call(&server.admin, "PUT", address, body).await.ok()
}

async fn delete(server: &TestServer, path: &str) -> Answer {
    let body = json!({"path": path, "recursive": true});
    server
        .call(&server.plain, "POST", "/api/2.0/workspace/delete", body)
        .await
}

#[tokio::test]
async fn each_level_of_a_shared_folder_holds_below_it() {
    let server = start().await;
    let folder = "/Users/al@x.org/project";
    let address = permissions_of(&server, "directories", folder).await;
    let denied = "PERMISSION_DENIED";
    plain(&server, &format!("{STATUS}{folder}/n"))
        .await
        .refused(403, denied);
    plain(&server, &address).await.refused(403, denied);

    share(&server, &address, "CAN_READ").await;
    assert_eq!(
        listed(&server, "/Users").await,
        ["/Users/al@x.org", "/Users/plain@example.com"]
    );
    assert_eq!(listed(&server, "/Users/al@x.org").await, [folder]);
    let inside = [format!("{folder}/n"), format!("{folder}/sub")];
    assert_eq!(listed(&server, folder).await, inside);
    plain(&server, &format!("{STATUS}{folder}/sub/m"))
        .await
        .ok();
    plain(&server, &format!("{STATUS}/Users/al@x.org/private"))
        .await
        .refused(403, denied);
    plain(&server, &address).await.ok();
    let change = async |path: &str| import(&server, &server.plain, path).await;
    change(&inside[0]).await.refused(403, denied);

    share(&server, &address, "CAN_EDIT").await;
    change(&inside[0]).await.ok();
    change(&format!("{folder}/sub/new")).await.ok();
    change("/Users/al@x.org/new").await.refused(403, denied);
    delete(&server, &inside[0]).await.refused(403, denied);
    let body = json!({"access_control_list": []});
    let mine = server.call(&server.plain, "PUT", &address, body.clone());
    mine.await.refused(403, denied);

    share(&server, &address, "CAN_MANAGE").await;
    delete(&server, &inside[0]).await.ok();
    server.call(&server.plain, "PUT", &address, body).await.ok();
    plain(&server, &format!("{LIST}{folder}"))
        .await
        .refused(403, denied);
}

#[tokio::test]
async fn what_is_inherited_says_from_where() {
    let server = start().await;
    let folder = permissions_of(&server, "directories", "/Users/al@x.org/project").await;
    let home = permissions_of(&server, "directories", "/Users/al@x.org").await;
    let notebook = permissions_of(&server, "notebooks", "/Users/al@x.org/project/n").await;
    share(&server, &folder, "CAN_READ").await;
    let shown = share(&server, &notebook, "CAN_RUN").await;
    let from = |address: &str| json!([address.trim_start_matches("/api/2.0/permissions")]);
    let expected = json!([
        {"user_name": "al@x.org", "display_name": "al@x.org", "all_permissions": [
            {"permission_level": "CAN_MANAGE", "inherited": true, "inherited_from_object": from(&home)}]},
        {"user_name": PLAIN_USER, "display_name": PLAIN_USER, "all_permissions": [
            {"permission_level": "CAN_READ", "inherited": true, "inherited_from_object": from(&folder)},
            {"permission_level": "CAN_RUN", "inherited": false}]},
        {"group_name": "admins", "all_permissions": [
            {"permission_level": "CAN_MANAGE", "inherited": true, "inherited_from_object": ["/directories/"]}]},
    ]);
    assert_eq!(shown["access_control_list"], expected);
    assert_eq!(shown["object_type"], "notebook");
    let levels = server.get(&format!("{notebook}/permissionLevels")).await;
    let levels = levels.ok()["permission_levels"].as_array().unwrap().len();
    assert_eq!(levels, 4);
    let shared = permissions_of(&server, "directories", "/Shared").await;
    let shown = plain(&server, &shared).await.ok();
    assert_eq!(shown["access_control_list"][0]["group_name"], "users");
}

#[tokio::test]
async fn kinds_are_not_mixed_up_and_grants_go_with_their_object() {
    let server = start().await;
    let folder = "/Users/al@x.org/project";
    let address = permissions_of(&server, "notebooks", folder).await;
    let missing = "RESOURCE_DOES_NOT_EXIST";
    server.get(&address).await.refused(404, missing);
    let none = "/api/2.0/permissions/directories/none";
    server.get(none).await.refused(404, missing);
    plain(&server, none).await.refused(403, "PERMISSION_DENIED");
    let address = permissions_of(&server, "directories", folder).await;
    share(&server, &address, "CAN_MANAGE").await;
    delete(&server, folder).await.ok();
    let again = json!({"path": folder});
    server.post("/api/2.0/workspace/mkdirs", again).await.ok();
    plain(&server, &format!("{STATUS}{folder}"))
        .await
        .refused(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn an_archive_has_only_what_its_reader_may_see() {
    let server = start().await;
    let address = permissions_of(&server, "notebooks", "/Users/al@x.org/project/n").await;
    share(&server, &address, "CAN_READ").await;
    import(&server, &server.plain, "/Shared/mine").await.ok();
    let exported = plain(
        &server,
        "/api/2.0/workspace/export?path=/&direct_download=true",
    )
    .await;
    assert!(exported.status.is_success());
    let zip = zip::ZipArchive::new(std::io::Cursor::new(exported.body.to_vec())).unwrap();
    let mut files: Vec<&str> = zip
        .file_names()
        .filter(|name| !name.ends_with('/'))
        .collect();
    files.sort_unstable();
    assert_eq!(files, ["Shared/mine.py", "Users/al@x.org/project/n.py"]);
}

#[tokio::test]
async fn a_link_in_a_shared_folder_opens_nothing_else() {
    let server = start().await;
    let folder = "/Users/al@x.org/project";
    let address = permissions_of(&server, "directories", folder).await;
    share(&server, &address, "CAN_EDIT").await;
    let tree = &server.app.services.dirs.workspace;
    let link = tree.join("Users/al@x.org/project/link");
    std::os::unix::fs::symlink("..", link).unwrap();
    let denied = "PERMISSION_DENIED";
    plain(&server, &format!("{STATUS}{folder}/link/private"))
        .await
        .refused(403, denied);
    import(&server, &server.plain, &format!("{folder}/link/new"))
        .await
        .refused(403, denied);
}

#[tokio::test]
async fn runs_follow_the_same_rule() {
    let server = start().await;
    let folder = "/Users/al@x.org/project";
    let address = permissions_of(&server, "directories", folder).await;
    let run = async |path: &str| {
        let body = json!({"run_name": "t", "notebook_task": {"notebook_path": path}});
        let call = server.call(&server.plain, "POST", "/api/2.0/jobs/runs/submit", body);
        let id = call.await.ok()["run_id"].clone();
        let path = format!("/api/forebay/v1/runs/{id}?wait_ms=30000");
        let ended = plain(&server, &path).await.ok();
        ended["state"]["result_state"].as_str().unwrap().to_owned()
    };
    share(&server, &address, "CAN_READ").await;
    assert_eq!(run(&format!("{folder}/n")).await, "FAILED");
    assert!(server.executor.started().is_empty());
    share(&server, &address, "CAN_RUN").await;
    assert_eq!(run(&format!("{folder}/n")).await, "SUCCESS");
    share(&server, &address, "CAN_EDIT").await;
    assert_eq!(run(&format!("{folder}/n")).await, "SUCCESS");
    // A notebook that is shared alone runs as well, where its folder cannot be seen.
    share(&server, &address, "CAN_READ").await;
    let alone = permissions_of(&server, "notebooks", "/Users/al@x.org/private").await;
    share(&server, &alone, "CAN_RUN").await;
    assert_eq!(run("/Users/al@x.org/private").await, "SUCCESS");
    let started = server.executor.started();
    let seen: Vec<(Option<bool>, &str)> = started
        .iter()
        .map(|workload| {
            let at = format!("/Workspace{folder}");
            let mut mounts = workload.place.mounts.0.iter();
            let mount = mounts.find(|mount| mount.at == at);
            (
                mount.map(|mount| mount.writable),
                workload.working_dir.as_str(),
            )
        })
        .collect();
    let at = format!("/Workspace{folder}");
    assert_eq!(
        seen,
        [
            (Some(false), at.as_str()),
            (Some(true), at.as_str()),
            (Some(false), "/local_disk0")
        ]
    );
    // A wheel has no folder; it starts where every user may read and write.
    let wheel = json!({"package_name": "p", "entry_point": "main"});
    let body = json!({"run_name": "t", "python_wheel_task": wheel});
    let call = server.call(&server.plain, "POST", "/api/2.0/jobs/runs/submit", body);
    let id = call.await.ok()["run_id"].clone();
    plain(&server, &format!("/api/forebay/v1/runs/{id}?wait_ms=30000"))
        .await
        .ok();
    let started = server.executor.started();
    assert_eq!(started.last().unwrap().working_dir, "/local_disk0");
}

#[tokio::test]
async fn jobs_and_runs_are_shared_from_their_first_moment() {
    let server = start().await;
    import(&server, &server.admin, "/Shared/n").await.ok();
    let task = json!({"notebook_path": "/Shared/n"});
    let list = |level: &str| json!([{"user_name": PLAIN_USER, "permission_level": level}]);
    let job = |level: &str| json!({"name": "j", "notebook_task": task, "access_control_list": list(level)});
    let made = server
        .post("/api/2.0/jobs/create", job("CAN_VIEW"))
        .await
        .ok();
    let get = format!("/api/2.0/jobs/get?job_id={}", made["job_id"]);
    let settings = plain(&server, &get).await.ok()["settings"].clone();
    assert!(settings.get("access_control_list").is_none());
    let given = job("CAN_FLY");
    let refused = server.post("/api/2.0/jobs/create", given).await;
    let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("CAN_FLY"), "{message}");
    // An owner who is named takes the creator's place.
    let made = server
        .post("/api/2.0/jobs/create", job("IS_OWNER"))
        .await
        .ok();
    let shown = plain(
        &server,
        &format!("/api/2.0/permissions/jobs/{}", made["job_id"]),
    )
    .await;
    let owner = &shown.ok()["access_control_list"][0];
    assert_eq!(owner["user_name"], PLAIN_USER);
    let reset = json!({"job_id": made["job_id"], "new_settings": job("CAN_VIEW")});
    let refused = server.post("/api/2.0/jobs/reset", reset).await;
    let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
    assert!(message.contains("access_control_list"), "{message}");

    let submit = "/api/2.0/jobs/runs/submit";
    let hidden = json!({"run_name": "t", "notebook_task": task});
    let hidden = server.post(submit, hidden).await.ok()["run_id"].clone();
    let run = server.post(submit, job("CAN_VIEW")).await.ok()["run_id"].clone();
    let get = |id: &Value| format!("/api/2.0/jobs/runs/get?run_id={id}");
    plain(&server, &get(&hidden))
        .await
        .refused(403, "PERMISSION_DENIED");
    plain(&server, &get(&run)).await.ok();
    let runs = plain(&server, "/api/2.0/jobs/runs/list").await.ok()["runs"].clone();
    assert_eq!(runs.as_array().unwrap().len(), 1);
    let cancel = json!({"run_id": run});
    server
        .call(&server.plain, "POST", "/api/2.0/jobs/runs/cancel", cancel)
        .await
        .refused(403, "PERMISSION_DENIED");
}
