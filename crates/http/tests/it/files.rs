use axum::body::Body;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, HOST};
use forebay_testkit::{Answer, TestServer};
use serde_json::{Value, json};

const FILE: &str = "/api/2.0/fs/files/Volumes/main/default/v/dir/f";

async fn send(
    server: &TestServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header(AUTHORIZATION, format!("Bearer {}", server.admin));
    server
        .send(request.body(Body::from(body.to_vec())).unwrap())
        .await
}

async fn put(server: &TestServer, path: &str, content: &[u8]) -> Answer {
    send(server, "PUT", path, &[], content).await
}

#[tokio::test]
async fn ranges_and_dates_decide_what_a_download_gives() {
    let server = TestServer::start().await;
    assert_eq!(put(&server, FILE, b"0123456789").await.status, 204);
    let get = |name: &'static str, value: String| {
        let server = &server;
        async move { send(server, "GET", FILE, &[(name, &value)], b"").await }
    };
    let whole = server.get(FILE).await;
    assert_eq!(
        (whole.status.as_u16(), whole.text().as_str()),
        (200, "0123456789")
    );
    let part = get("range", "bytes=2-4".to_owned()).await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "234"));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    assert_eq!(part.headers["content-length"], "3");
    assert_eq!(get("range", "bytes=-2".to_owned()).await.text(), "89");
    let beyond = get("range", "bytes=10-".to_owned()).await;
    assert_eq!(beyond.headers["content-range"], "bytes */10");
    beyond.refused(416, "BAD_REQUEST");
    let modified = whole.headers["last-modified"].to_str().unwrap().to_owned();
    assert_eq!(get("if-unmodified-since", modified).await.status, 200);
    let early = get(
        "if-unmodified-since",
        "Thu, 01 Jan 1998 00:00:00 GMT".to_owned(),
    )
    .await;
    early.refused(412, "PRECONDITION_FAILED");
    let head = send(&server, "HEAD", FILE, &[], b"").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], "10");
}

#[tokio::test]
async fn files_and_directories_have_their_own_calls() {
    let server = TestServer::start().await;
    put(&server, FILE, b"one").await;
    put(&server, FILE, b"two")
        .await
        .refused(409, "ALREADY_EXISTS");
    assert_eq!(
        put(&server, &format!("{FILE}?overwrite=true"), b"two")
            .await
            .status,
        204
    );
    assert_eq!(server.get(FILE).await.text(), "two");
    let directory = "/api/2.0/fs/directories/Volumes/main/default/v/dir";
    let as_file = "/api/2.0/fs/files/Volumes/main/default/v/dir";
    server.get(as_file).await.refused(404, "NOT_FOUND");
    let call = |method: &'static str, path: &'static str| {
        server.call(&server.admin, method, path, Value::Null)
    };
    call("DELETE", as_file).await.refused(404, "NOT_FOUND");
    put(&server, &format!("{as_file}?overwrite=true"), b"x")
        .await
        .refused(409, "ALREADY_EXISTS");
    call("DELETE", directory).await.refused(400, "BAD_REQUEST");
    let not_empty = call("DELETE", directory).await;
    assert_eq!(
        not_empty.json()["details"][0]["reason"],
        "FILES_API_DIRECTORY_IS_NOT_EMPTY"
    );
    assert_eq!(call("DELETE", FILE).await.status, 204);
    assert_eq!(call("DELETE", directory).await.status, 204);
    let gone = call("DELETE", directory).await;
    assert_eq!(
        gone.json()["details"][0]["reason"],
        "FILES_API_DIRECTORY_IS_NOT_FOUND"
    );
    gone.refused(404, "NOT_FOUND");
    assert_eq!(call("HEAD", directory).await.status, 404);
}

#[tokio::test]
async fn roots_that_are_not_served_are_refused_by_name() {
    let server = TestServer::start().await;
    for (path, status, code) in [
        ("WorkspaceInternal/Mlflow/x", 501, "NOT_IMPLEMENTED"),
        ("dbfs/x", 404, "NOT_FOUND"),
        ("Volumes/main/default", 400, "INVALID_PARAMETER_VALUE"),
        (
            "Volumes/a/b/c/..%2F..%2F..%2F..%2Fetc%2Fpasswd",
            400,
            "INVALID_PARAMETER_VALUE",
        ),
        ("Volumes/a/b/c/%00", 400, "INVALID_PARAMETER_VALUE"),
        ("Volumes/a/b/c/%ff", 400, "INVALID_PARAMETER_VALUE"),
    ] {
        server
            .get(&format!("/api/2.0/fs/files/{path}"))
            .await
            .refused(status, code);
    }
    let url = server
        .post(
            "/api/2.0/fs/create-download-url",
            json!({"path": "/Volumes/a/b/c/x"}),
        )
        .await;
    url.refused(501, "NOT_IMPLEMENTED");
}

#[tokio::test]
async fn workspace_files_are_served_under_their_prefix() {
    let server = TestServer::start().await;
    let file = "/api/2.0/fs/files/Workspace/Shared/x.txt";
    assert_eq!(put(&server, file, b"text").await.status, 204);
    put(&server, file, b"text")
        .await
        .refused(409, "ALREADY_EXISTS");
    assert_eq!(server.get(file).await.text(), "text");
    let listed = server
        .get("/api/2.0/fs/directories/Workspace/Shared")
        .await
        .ok();
    assert_eq!(listed["contents"][0]["path"], "/Workspace/Shared/x.txt");
    assert_eq!(listed["contents"][0]["file_size"], 4);
    let status = server
        .get("/api/2.0/workspace/get-status?path=/Shared/x.txt")
        .await
        .ok();
    assert_eq!(
        (&status["object_type"], &status["size"]),
        (&json!("FILE"), &json!(4))
    );
    let deleted = server
        .call(&server.admin, "DELETE", file, Value::Null)
        .await;
    assert_eq!(deleted.status, 204);
    server.get(file).await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        put(&server, &format!("{FILE}s/{name}"), b"x").await;
    }
    let mut names = Vec::new();
    let mut token = String::new();
    loop {
        let query = format!(
            "/api/2.0/fs/directories/Volumes/main/default/v/dir/fs?page_size=2&page_token={token}"
        );
        let page = server.get(&query).await.ok();
        let contents = page["contents"].as_array().unwrap();
        assert!(contents.len() <= 2);
        names.extend(
            contents
                .iter()
                .map(|entry| entry["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_page_token"].as_str() else {
            break;
        };
        token = next.to_owned();
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

/// Begins an upload and returns its token and where parts go, as the path of a URL.
async fn begin(server: &TestServer) -> (String, String) {
    let begun = server
        .post(&format!("{FILE}?action=initiate-upload"), Value::Null)
        .await
        .ok();
    let token = begun["multipart_upload"]["session_token"]
        .as_str()
        .unwrap()
        .to_owned();
    let body = json!({"path": "x", "session_token": token, "start_part_number": 3, "count": 2, "expire_time": "x"});
    let headers = [
        (HOST.as_str(), "reached.test:81"),
        ("content-type", "application/json"),
    ];
    let path = "/api/2.0/fs/create-upload-part-urls";
    let urls = send(server, "POST", path, &headers, body.to_string().as_bytes())
        .await
        .ok();
    let urls = urls["upload_part_urls"].as_array().unwrap();
    assert_eq!((urls.len(), &urls[0]["part_number"]), (2, &json!(3)));
    let url = urls[0]["url"].as_str().unwrap();
    let base = url
        .strip_prefix("http://reached.test:81")
        .unwrap()
        .strip_suffix("/3")
        .unwrap();
    (token, base.to_owned())
}

/// Sends a part as clients do, without an account.
async fn part(server: &TestServer, base: &str, number: u32, content: &'static [u8]) -> Answer {
    let request = Request::put(format!("{base}/{number}"))
        .body(Body::from(content))
        .unwrap();
    server.send(request).await
}

async fn complete(server: &TestServer, token: &str, etags: &[Answer]) -> Answer {
    let parts: Vec<_> = etags
        .iter()
        .zip(1..)
        .map(|(answer, number)| json!({"part_number": number, "etag": answer.headers["etag"].to_str().unwrap()}))
        .collect();
    let path = format!("{FILE}?action=complete-upload&upload_type=multipart&session_token={token}");
    server.post(&path, json!({"parts": parts})).await
}

#[tokio::test]
async fn parts_may_come_in_any_order_after_the_first_and_again() {
    let server = TestServer::start().await;
    let (token, base) = begin(&server).await;
    part(&server, &base, 2, b"bbbb")
        .await
        .refused(400, "INVALID_PARAMETER_VALUE");
    let first = part(&server, &base, 1, b"aaaa").await;
    let third = part(&server, &base, 3, b"cc").await;
    part(&server, &base, 2, b"xxxx").await;
    let second = part(&server, &base, 2, b"bbbb").await;
    part(&server, &base, 4, b"never named")
        .await
        .refused(413, "PAYLOAD_TOO_LARGE");
    server.get(FILE).await.refused(404, "NOT_FOUND");
    complete(&server, &token, &[first, second, third])
        .await
        .ok();
    assert_eq!(server.get(FILE).await.text(), "aaaabbbbcc");
    complete(&server, &token, &[])
        .await
        .refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn uploads_in_parts_are_private_and_end() {
    let server = TestServer::start().await;
    let (token, base) = begin(&server).await;
    let first = part(&server, &base, 1, b"aaaa").await;
    let stranger = json!({"session_token": token, "start_part_number": 1, "count": 1});
    let path = "/api/2.0/fs/create-upload-part-urls";
    server
        .call(&server.plain, "POST", path, stranger)
        .await
        .refused(404, "NOT_FOUND");
    part(&server, &base.replace(&token, "guessed"), 1, b"x")
        .await
        .refused(404, "NOT_FOUND");
    put(&server, FILE, b"faster").await;
    complete(&server, &token, &[first])
        .await
        .refused(409, "ALREADY_EXISTS");
    assert_eq!(server.get(FILE).await.text(), "faster");

    server
        .post(&format!("{FILE}?action=initiate-upload"), Value::Null)
        .await
        .refused(409, "ALREADY_EXISTS");
    let begun = server
        .post(
            &format!("{FILE}?action=initiate-upload&overwrite=true"),
            Value::Null,
        )
        .await
        .ok();
    let token = begun["multipart_upload"]["session_token"].as_str().unwrap();
    let abort = server
        .post(
            "/api/2.0/fs/create-abort-upload-url",
            json!({"session_token": token}),
        )
        .await
        .ok();
    let url = abort["abort_upload_url"]["url"]
        .as_str()
        .unwrap()
        .strip_prefix("http://forebay.test")
        .unwrap()
        .to_owned();
    let request = Request::delete(&url).body(Body::empty()).unwrap();
    assert_eq!(server.send(request).await.status, 200);
    part(&server, &url, 1, b"x").await.refused(404, "NOT_FOUND");
    let staging = std::fs::read_dir(&server.app.services.dirs.staging).unwrap();
    assert_eq!(staging.count(), 0);
}
