use axum::body::Body;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_testkit::{Answer, PLAIN_USER, TestServer};
use serde_json::{Value, json};

const NOTEBOOK: &str = "# Databricks notebook source\nprint(1)\n";

fn b64(text: &str) -> String {
    STANDARD.encode(text)
}

async fn import(server: &TestServer, path: &str, more: Value) -> Answer {
    let mut body =
        json!({"path": path, "content": b64(NOTEBOOK), "format": "SOURCE", "language": "PYTHON"});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    server.post("/api/2.0/workspace/import", body).await
}

async fn import_file(server: &TestServer, token: &str, path: &str, content: &str) -> Answer {
    let request = Request::post(format!("/api/2.0/workspace-files/import-file/{path}"))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from(content.to_owned()))
        .unwrap();
    server.send(request).await
}

async fn paths(server: &TestServer, token: &str, folder: &str) -> Vec<String> {
    let path = format!("/api/2.0/workspace/list?path={folder}");
    let listed = server.call(token, "GET", &path, Value::Null).await.ok();
    let objects = listed["objects"].as_array().unwrap();
    objects
        .iter()
        .map(|object| object["path"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_object_keeps_its_id_until_it_is_deleted() {
    let server = TestServer::start().await;
    let status = "/api/2.0/workspace/get-status?path=/Shared/n";
    import(&server, "/Shared/n", json!({})).await.ok();
    let first = server.get(status).await.ok();
    assert_eq!(first["object_type"], "NOTEBOOK");
    assert_eq!(first["resource_id"], first["object_id"].to_string());
    import(
        &server,
        "/Shared/n",
        json!({"overwrite": "True", "language": "SQL"}),
    )
    .await
    .ok();
    let second = server.get(status).await.ok();
    assert_eq!(
        (&second["object_id"], &second["language"]),
        (&first["object_id"], &json!("SQL"))
    );
    server
        .post("/api/2.0/workspace/delete", json!({"path": "/Shared/n"}))
        .await
        .ok();
    server
        .get(status)
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    import(&server, "/Shared/n", json!({})).await.ok();
    assert_ne!(
        server.get(status).await.ok()["object_id"],
        first["object_id"]
    );
}

#[tokio::test]
async fn the_workspace_prefix_is_echoed_if_it_was_sent() {
    let server = TestServer::start().await;
    import(&server, "/Workspace/Shared/n", json!({})).await.ok();
    for (asked, shown) in [
        ("/Shared", "/Shared/n"),
        ("/Workspace/Shared", "/Workspace/Shared/n"),
        ("//Workspace//Shared/", "/Shared/n"),
        ("/Workspace/Shared/n", "/Workspace/Shared/n"),
        ("//Shared/n", "//Shared/n"),
    ] {
        assert_eq!(
            paths(&server, &server.admin, asked).await,
            [shown],
            "{asked}"
        );
    }
    let root = paths(&server, &server.admin, "/Workspace").await;
    assert_eq!(
        root,
        ["/Workspace/Repos", "/Workspace/Shared", "/Workspace/Users"]
    );
}

#[tokio::test]
async fn a_plain_user_sees_and_changes_only_what_is_hers() {
    let server = TestServer::start().await;
    let plain = &server.plain;
    server
        .post(
            "/api/2.0/workspace/mkdirs",
            json!({"path": "/Users/admin/a"}),
        )
        .await
        .ok();
    assert_eq!(
        paths(&server, plain, "/Users").await,
        [format!("/Users/{PLAIN_USER}")]
    );
    assert_eq!(
        paths(&server, plain, "/").await,
        ["/Repos", "/Shared", "/Users"]
    );
    import_file(
        &server,
        plain,
        &format!("Users%2F{PLAIN_USER}%2Fx.txt"),
        "mine",
    )
    .await
    .ok();
    for (method, path, body) in [
        (
            "GET",
            "/api/2.0/workspace/list?path=/Users/admin",
            Value::Null,
        ),
        (
            "GET",
            "/api/2.0/workspace/get-status?path=/Users/admin/nothing",
            Value::Null,
        ),
        (
            "GET",
            "/api/2.0/workspace/export?path=/Users/admin/a",
            Value::Null,
        ),
        ("GET", "/api/2.0/workspace-files/Users/admin/a", Value::Null),
        (
            "GET",
            "/api/2.0/fs/directories/Workspace/Users/admin",
            Value::Null,
        ),
        (
            "PUT",
            "/api/2.0/fs/files/Workspace/Users/admin/x",
            Value::Null,
        ),
        (
            "POST",
            "/api/2.0/workspace/mkdirs",
            json!({"path": "/Users/admin/b"}),
        ),
        ("POST", "/api/2.0/workspace/mkdirs", json!({"path": "/new"})),
        (
            "POST",
            "/api/2.0/workspace/delete",
            json!({"path": "/Users/admin/a"}),
        ),
    ] {
        server
            .call(plain, method, path, body)
            .await
            .refused(403, "PERMISSION_DENIED");
    }
    let denied = import_file(&server, plain, "Users/admin/x", "not hers").await;
    denied.refused(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn a_link_in_a_shared_folder_opens_nobodys_home() {
    let server = TestServer::start().await;
    server
        .post(
            "/api/2.0/workspace/mkdirs",
            json!({"path": "/Users/admin/a"}),
        )
        .await
        .ok();
    import(&server, "/Users/admin/a/n", json!({})).await.ok();
    let shared = server.app.services.dirs.workspace.join("Shared");
    std::os::unix::fs::symlink("../Users/admin/a", shared.join("door")).unwrap();
    std::os::unix::fs::symlink("../Users/admin/a/n.py", shared.join("n.py")).unwrap();
    std::os::unix::fs::symlink("/etc", shared.join("out")).unwrap();
    let plain = &server.plain;
    for path in [
        "/api/2.0/workspace/list?path=/Shared/door",
        "/api/2.0/workspace/export?path=/Shared/door/n",
        "/api/2.0/workspace/export?path=/Shared/n",
        "/api/2.0/workspace-files/Shared/n.py",
        "/api/2.0/workspace-files/Shared/out/passwd",
    ] {
        server
            .call(plain, "GET", path, Value::Null)
            .await
            .refused(403, "PERMISSION_DENIED");
    }
    import_file(&server, plain, "Shared/door/new.txt", "x")
        .await
        .refused(403, "PERMISSION_DENIED");
    let body = json!({"path": "/Shared/door/n", "recursive": true});
    let delete = server
        .call(plain, "POST", "/api/2.0/workspace/delete", body)
        .await;
    delete.refused(403, "PERMISSION_DENIED");
    server
        .get("/api/2.0/workspace-files/Shared/out/passwd")
        .await
        .refused(403, "PERMISSION_DENIED");
    // The link itself is in the shared folder, and goes without what it points to.
    let body = json!({"path": "/Shared/door", "recursive": true});
    server
        .call(plain, "POST", "/api/2.0/workspace/delete", body)
        .await
        .ok();
    server
        .get("/api/2.0/workspace/get-status?path=/Users/admin/a/n")
        .await
        .ok();
}

#[tokio::test]
async fn fixed_folders_and_homes_stay() {
    let server = TestServer::start().await;
    paths(&server, &server.plain, "/Users").await;
    let delete = "/api/2.0/workspace/delete";
    for path in ["/", "/Users", "/Shared", "/Repos"] {
        let body = json!({"path": path, "recursive": true});
        server.post(delete, body).await.refused(400, "BAD_REQUEST");
    }
    let body = json!({"path": format!("/Users/{PLAIN_USER}"), "recursive": true});
    server
        .call(&server.plain, "POST", delete, body.clone())
        .await
        .refused(400, "BAD_REQUEST");
    server.post(delete, body).await.ok();
}

#[tokio::test]
async fn formats_that_are_not_there_are_refused_by_name() {
    let server = TestServer::start().await;
    let refused = import(&server, "/Shared/n", json!({"format": "R_MARKDOWN"})).await;
    assert!(
        refused
            .refused(501, "NOT_IMPLEMENTED")
            .contains("R_MARKDOWN")
    );
    import(&server, "/Shared/n", json!({"format": "PDF"}))
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    import(&server, "/Shared/n", json!({"language": "COBOL"}))
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    let zip = import(&server, "/Shared/n", json!({"language": null})).await;
    assert!(
        zip.refused(400, "INVALID_PARAMETER_VALUE")
            .contains("The zip archive contains no items.")
    );
    import(&server, "/Shared/n", json!({})).await.ok();
    let export = server
        .get("/api/2.0/workspace/export?path=/Shared/n&format=R_MARKDOWN")
        .await;
    export.refused(501, "NOT_IMPLEMENTED");
}

#[tokio::test]
async fn a_folder_goes_out_as_an_archive_and_comes_back() {
    let server = TestServer::start().await;
    let mkdirs = json!({"path": "/Shared/tree/sub"});
    server.post("/api/2.0/workspace/mkdirs", mkdirs).await.ok();
    import(&server, "/Shared/tree/n", json!({})).await.ok();
    let jupyter = r#"{"cells":[{"cell_type":"code","source":"x","metadata":{},"outputs":[],"execution_count":null}],"metadata":{},"nbformat":4,"nbformat_minor":5}"#;
    let body = json!({"format": "JUPYTER", "content": b64(jupyter)});
    import(&server, "/Shared/tree/sub/j", body).await.ok();
    import_file(&server, &server.admin, "Shared/tree/sub/data.csv", "a,b\n")
        .await
        .ok();

    let exported = server
        .get("/api/2.0/workspace/export?path=/Shared/tree&format=AUTO")
        .await
        .ok();
    assert_eq!(exported["file_type"], "zip");
    let body = json!({"path": "/Shared/copy", "content": exported["content"]});
    server
        .post("/api/2.0/workspace/import", body.clone())
        .await
        .ok();
    assert_eq!(
        paths(&server, &server.admin, "/Shared/copy").await,
        ["/Shared/copy/n", "/Shared/copy/sub"]
    );
    assert_eq!(
        paths(&server, &server.admin, "/Shared/copy/sub").await,
        ["/Shared/copy/sub/data.csv", "/Shared/copy/sub/j"]
    );
    let back = server
        .get("/api/2.0/workspace/export?path=/Shared/copy/sub/j&format=AUTO&direct_download=true")
        .await;
    assert_eq!(back.text(), jupyter);
    server
        .post("/api/2.0/workspace/import", body)
        .await
        .refused(400, "RESOURCE_ALREADY_EXISTS");
    // As source, every notebook becomes text.
    let raw = server
        .get("/api/2.0/workspace/export?path=/Shared/tree&direct_download=true")
        .await;
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(raw.body.to_vec())).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut zip.by_name("sub/j.py").unwrap(), &mut text).unwrap();
    assert!(text.starts_with("# Databricks notebook source\n"), "{text}");
}

/// A `.dbc` archive with these entries.
fn dbc(entries: &[(&str, &str)]) -> String {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for (name, text) in entries {
        zip.start_file(*name, options).unwrap();
        std::io::Write::write_all(&mut zip, text.as_bytes()).unwrap();
    }
    STANDARD.encode(zip.finish().unwrap().into_inner())
}

#[tokio::test]
async fn a_page_and_a_dbc_archive_come_back_as_notebooks() {
    let server = TestServer::start().await;
    let mkdirs = json!({"path": "/Shared/tree/sub"});
    server.post("/api/2.0/workspace/mkdirs", mkdirs).await.ok();
    let source = "# Databricks notebook source\n# DBTITLE 1,First\nprint('<ü>')\n\n\
                  # COMMAND ----------\n\n# MAGIC %md\n# MAGIC text\n";
    for path in ["/Shared/tree/n", "/Shared/tree/sub/m"] {
        let body = json!({"content": b64(source)});
        import(&server, path, body).await.ok();
    }
    import_file(&server, &server.admin, "Shared/tree/data.csv", "a,b\n")
        .await
        .ok();
    let export = async |path: &str, format: &str| {
        let path = format!("/api/2.0/workspace/export?path={path}&format={format}");
        server.get(&path).await.ok()["content"].clone()
    };
    let body = |content: &Value, format: &str| json!({"content": content, "format": format, "language": null});
    let page = export("/Shared/tree/n", "HTML").await;
    import(&server, "/Shared/page", body(&page, "HTML"))
        .await
        .ok();
    let one = export("/Shared/tree/n", "DBC").await;
    import(&server, "/Shared/one", body(&one, "DBC")).await.ok();
    let all = export("/Shared/tree", "DBC").await;
    import(&server, "/Shared/all", body(&all, "DBC")).await.ok();
    let found = paths(&server, &server.admin, "/Shared/all").await;
    assert_eq!(found, ["/Shared/all/n", "/Shared/all/sub"]);
    for path in ["page", "one", "all/n", "all/sub/m"] {
        let back = export(&format!("/Shared/{path}"), "SOURCE").await;
        assert_eq!(back, b64(source), "{path}");
    }
    // A page may replace a notebook; an archive replaces nothing.
    let mut again = body(&page, "HTML");
    import(&server, "/Shared/page", again.clone())
        .await
        .refused(400, "RESOURCE_ALREADY_EXISTS");
    again["overwrite"] = json!(true);
    import(&server, "/Shared/page", again.clone()).await.ok();
    again["format"] = json!("DBC");
    again["content"] = one;
    import(&server, "/Shared/page", again)
        .await
        .refused(400, "RESOURCE_ALREADY_EXISTS");
}

#[tokio::test]
async fn what_is_no_export_writes_nothing_and_says_which_entry() {
    let server = TestServer::start().await;
    let good = r#"{"version":"NotebookV1","name":"n","language":"python","commands":[]}"#;
    for (format, content, words) in [
        ("HTML", b64("<html></html>"), "__DATABRICKS_NOTEBOOK_MODEL"),
        ("DBC", b64("no zip"), "not a .dbc archive"),
        ("DBC", dbc(&[]), "no notebooks"),
        ("DBC", dbc(&[("n.python", good), ("b.txt", "x")]), "b.txt"),
        (
            "DBC",
            dbc(&[("n.python", good), ("../n.python", good)]),
            "..",
        ),
    ] {
        let body = json!({"content": content, "format": format, "language": null});
        let refused = import(&server, "/Shared/bad", body).await;
        let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains(words), "{message}");
    }
    assert!(paths(&server, &server.admin, "/Shared").await.is_empty());
    // The same name twice: the archive is ambiguous, so nothing of it is taken.
    let twice = dbc(&[("a/n.python", good), ("a/n.sql", good)]);
    let body = json!({"content": twice, "format": "DBC", "language": null});
    let refused = import(&server, "/Shared/bad", body).await;
    assert!(!refused.status.is_success());
    let staging = std::fs::read_dir(&server.app.services.dirs.staging).unwrap();
    assert_eq!(staging.count(), 0);
}

#[tokio::test]
async fn an_archive_that_climbs_out_writes_nothing() {
    let server = TestServer::start().await;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    for name in ["fine.txt", "../../evil.txt"] {
        zip.start_file(name, options).unwrap();
        std::io::Write::write_all(&mut zip, b"x").unwrap();
    }
    let content = STANDARD.encode(zip.finish().unwrap().into_inner());
    let refused = import(
        &server,
        "/Shared/z",
        json!({"content": content, "language": null}),
    )
    .await;
    assert!(
        refused
            .refused(400, "INVALID_PARAMETER_VALUE")
            .contains("..")
    );
    assert!(paths(&server, &server.admin, "/Shared").await.is_empty());
    let staging = std::fs::read_dir(&server.app.services.dirs.staging).unwrap();
    assert_eq!(staging.count(), 0);
}

#[tokio::test]
async fn import_file_tells_files_and_notebooks_in_the_way_apart() {
    let server = TestServer::start().await;
    let admin = &server.admin;
    import_file(&server, admin, "Shared/x.txt", "one")
        .await
        .ok();
    import_file(&server, admin, "/Shared/x.txt", "two")
        .await
        .refused(409, "ALREADY_EXISTS");
    import_file(&server, admin, "Shared/nb.py", NOTEBOOK)
        .await
        .ok();
    let again = import_file(&server, admin, "Shared/nb.py", NOTEBOOK).await;
    assert!(
        again
            .refused(400, "RESOURCE_ALREADY_EXISTS")
            .contains("already exists.")
    );
    import_file(&server, admin, "Shared/no/x.txt", "x")
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    import_file(&server, admin, "Shared/nb.py?overwrite=true", "x = 1\n")
        .await
        .ok();
    assert_eq!(
        paths(&server, admin, "/Shared").await,
        ["/Shared/nb.py", "/Shared/x.txt"]
    );
    assert_eq!(
        server
            .get("/api/2.0/workspace-files/Shared/x.txt")
            .await
            .text(),
        "one"
    );
}

#[tokio::test]
async fn forms_import_with_their_parts_in_any_order() {
    let server = TestServer::start().await;
    let form = "--e\r\nContent-Disposition: form-data; name=\"content\"; filename=\"content\"\r\n\r\nx = 1\n\r\n\
        --e\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n/Shared/form.py\r\n\
        --e\r\nContent-Disposition: form-data; name=\"format\"\r\n\r\nAUTO\r\n--e--\r\n";
    let send = |form: &str| {
        let request = Request::post("/api/2.0/workspace/import")
            .header(AUTHORIZATION, format!("Bearer {}", server.admin))
            .header(CONTENT_TYPE, "multipart/form-data; boundary=e");
        server.send(request.body(Body::from(form.to_owned())).unwrap())
    };
    send(form).await.ok();
    assert_eq!(
        server
            .get("/api/2.0/workspace-files/Shared/form.py")
            .await
            .text(),
        "x = 1\n"
    );
    send(&form[..120]).await.refused(400, "MALFORMED_REQUEST");
}

#[tokio::test]
async fn listing_can_leave_out_notebooks_that_did_not_change() {
    let server = TestServer::start().await;
    import(&server, "/Shared/n", json!({})).await.ok();
    import_file(&server, &server.admin, "Shared/f", "x")
        .await
        .ok();
    let list = async |after: i64| {
        let path = format!("/api/2.0/workspace/list?path=/Shared&notebooks_modified_after={after}");
        server.get(&path).await.ok()["objects"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(list(0).await, 2);
    assert_eq!(list(i64::MAX).await, 1);
}

#[tokio::test]
async fn ids_outlive_a_restart_and_half_made_files_do_not() {
    let server = TestServer::start().await;
    import(&server, "/Shared/n", json!({})).await.ok();
    let status = "/api/2.0/workspace/get-status?path=/Shared/n&return_export_info=true";
    let before = server.get(status).await.ok();
    assert_eq!(before["repos_export_format"], "SOURCE");
    let staging = server.app.services.dirs.staging.clone();
    std::fs::write(staging.join("left"), "half").unwrap();
    let server = server.restart(|_| {}).await;
    assert_eq!(server.get(status).await.ok(), before);
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
}
