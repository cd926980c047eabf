use axum::body::Body;
use axum::http::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RANGE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_testkit::TestServer;
use serde_json::{Value, json};

const MIB: usize = 1 << 20;

async fn put(server: &TestServer, path: &str, content: &[u8]) {
    let body = json!({"path": path, "contents": STANDARD.encode(content)});
    server.post("/api/2.0/dbfs/put", body).await.ok();
}

#[tokio::test]
async fn errors_are_the_ones_that_clients_look_for() {
    let server = TestServer::start().await;
    put(&server, "/d/f", b"x").await;
    let (invalid, missing, exists) = (
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "RESOURCE_ALREADY_EXISTS",
    );
    for (path, status, code) in [
        ("get-status?path=/none", 404, missing),
        ("list?path=/none", 404, missing),
        ("read?path=/none", 404, missing),
        ("read?path=/d", 400, invalid),
        ("read?path=/d/f&offset=-1", 400, invalid),
        (
            "read?path=/d/f&length=1048577",
            400,
            "MAX_READ_SIZE_EXCEEDED",
        ),
        ("get-status?path=d", 400, invalid),
        ("get-status?path=dbfs:/../d", 400, invalid),
    ] {
        server
            .get(&format!("/api/2.0/dbfs/{path}"))
            .await
            .refused(status, code);
    }
    let big = STANDARD.encode(vec![0; MIB + 1]);
    for (call, body, status, code) in [
        ("mkdirs", json!({"path": "/d/f/below"}), 400, exists),
        ("create", json!({"path": "/d/f"}), 400, exists),
        (
            "create",
            json!({"path": "/d", "overwrite": true}),
            400,
            exists,
        ),
        ("put", json!({"path": "/d", "overwrite": true}), 400, exists),
        ("put", json!({"path": "/d/f/below"}), 400, exists),
        (
            "put",
            json!({"path": "/big", "contents": big}),
            400,
            "MAX_BLOCK_SIZE_EXCEEDED",
        ),
        ("put", json!({"path": "/x", "contents": "%"}), 400, invalid),
        ("add-block", json!({"handle": 1, "data": ""}), 404, missing),
        ("close", json!({"handle": 1}), 404, missing),
        ("delete", json!({"path": "/d"}), 400, "IO_ERROR"),
        (
            "move",
            json!({"source_path": "/none", "destination_path": "/x"}),
            404,
            missing,
        ),
    ] {
        server
            .post(&format!("/api/2.0/dbfs/{call}"), body)
            .await
            .refused(status, code);
    }
    let found = server
        .get("/api/2.0/dbfs/get-status?path=dbfs:/d/f/")
        .await
        .ok();
    assert_eq!(
        (&found["path"], &found["file_size"]),
        (&json!("/d/f"), &json!(1))
    );
}

#[tokio::test]
async fn a_block_has_exactly_a_mebibyte_at_most() {
    let server = TestServer::start().await;
    let handle = server
        .post("/api/2.0/dbfs/create", json!({"path": "/f"}))
        .await
        .ok()["handle"]
        .clone();
    let block = vec![7; MIB];
    for size in [MIB, MIB + 1] {
        let data = STANDARD.encode(vec![7; size]);
        let added = server
            .post(
                "/api/2.0/dbfs/add-block",
                json!({"handle": handle, "data": data, "path": "/f"}),
            )
            .await;
        if size == MIB {
            added.ok();
        } else {
            added.refused(400, "MAX_BLOCK_SIZE_EXCEEDED");
        }
    }
    server
        .post("/api/2.0/dbfs/close", json!({"handle": handle.to_string()}))
        .await
        .ok();
    let read = server
        .get(&format!("/api/2.0/dbfs/read?path=/f&length={MIB}"))
        .await
        .ok();
    assert_eq!(read["bytes_read"], MIB);
    assert_eq!(
        STANDARD.decode(read["data"].as_str().unwrap()).unwrap(),
        block
    );
    let end = server
        .get(&format!("/api/2.0/dbfs/read?path=/f&offset={MIB}"))
        .await
        .ok();
    assert_eq!(end, json!({"bytes_read": 0, "data": ""}));
}

#[tokio::test]
async fn a_form_that_breaks_off_leaves_nothing() {
    let server = TestServer::start().await;
    let form = "--e\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\n/f\r\n\
        --e\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\
        Content-Type: multipart/form-data\r\n\r\nhalf of it";
    let request = Request::post("/api/2.0/dbfs/put")
        .header(AUTHORIZATION, format!("Bearer {}", server.admin))
        .header(CONTENT_TYPE, "multipart/form-data; boundary=e");
    let answer = server.send(request.body(Body::from(form)).unwrap()).await;
    answer.refused(400, "BAD_REQUEST");
    server
        .get("/api/2.0/dbfs/get-status?path=/f")
        .await
        .refused(404, "RESOURCE_DOES_NOT_EXIST");
    let staging = std::fs::read_dir(&server.app.services.dirs.staging).unwrap();
    assert_eq!(staging.count(), 0);
}

#[tokio::test]
async fn whole_files_move_under_their_own_names() {
    let server = TestServer::start().await;
    let send = |method: &str, range: &str, body: &'static str| {
        let request = Request::builder()
            .method(method)
            .uri("/dbfs/artifacts/a%20b.txt")
            .header(AUTHORIZATION, format!("Bearer {}", server.admin))
            .header(RANGE, range);
        server.send(request.body(Body::from(body)).unwrap())
    };
    send("POST", "", "0123456789").await.ok();
    assert_eq!(send("GET", "", "").await.text(), "0123456789");
    assert_eq!(send("GET", "bytes=3-", "").await.text(), "3456789");
    let status = server
        .get("/api/2.0/dbfs/get-status?path=/artifacts/a%20b.txt")
        .await
        .ok();
    assert_eq!(status["file_size"], 10);
    let denied = server
        .call("", "GET", "/dbfs/artifacts/a%20b.txt", Value::Null)
        .await;
    denied.refused(401, "UNAUTHENTICATED");
}
