//! The whole endpoint table against the whole router.

use std::collections::{HashMap, HashSet};

use forebay_testkit::{Answer, TestServer};
use forebay_wire::{Auth, Endpoint, Status, endpoints, sdk};
use serde_json::{Value, json};

/// A concrete address for a row's path.
fn address(path: &str) -> String {
    let mut address = String::new();
    let mut rest = path;
    while let Some((head, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}').unwrap();
        address.push_str(head);
        address.push_str(if name.starts_with('*') { "a/b" } else { "1" });
        rest = tail;
    }
    address + rest
}

fn rows() -> impl Iterator<Item = (&'static Endpoint, String)> {
    endpoints::all().flat_map(|(_, row)| {
        let paths = row.paths().into_iter();
        paths.map(move |path| (row, address(&path)))
    })
}

/// A refusal in the API's own form; a HEAD has no body to look at.
fn is_refusal(method: &str, answer: &Answer, status: u16, code: &str) -> bool {
    let in_form = || answer.json()["error_code"] == code && answer.json()["message"] != "";
    answer.status.as_u16() == status && (method == "HEAD" || in_form())
}

#[tokio::test]
async fn every_row_wants_a_valid_token_unless_it_is_public() {
    let server = TestServer::start().await;
    for (row, path) in rows() {
        let method = row.method.as_str();
        for token in ["", "dapi00000000000000000000000000000000"] {
            let answer = server.call(token, method, &path, Value::Null).await;
            match row.auth {
                Auth::Public => assert_ne!(answer.status.as_u16(), 401, "{method} {path}"),
                _ => assert!(
                    is_refusal(method, &answer, 401, "UNAUTHENTICATED"),
                    "{method} {path} with token {token:?}: {} {}",
                    answer.status,
                    answer.text()
                ),
            }
        }
    }
}

#[tokio::test]
async fn rows_for_administrators_refuse_everybody_else() {
    let server = TestServer::start().await;
    let rows: Vec<_> = rows().filter(|(row, _)| row.auth == Auth::Admin).collect();
    assert!(rows.len() > 5);
    for (row, path) in rows {
        let method = row.method.as_str();
        let answer = server.call(&server.plain, method, &path, Value::Null).await;
        assert!(
            is_refusal(method, &answer, 403, "PERMISSION_DENIED"),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

/// Whether a row's path has this address; `{*name}` takes the rest.
fn fits(row: &str, address: &str) -> bool {
    let row: Vec<_> = row.split('/').collect();
    let address: Vec<_> = address.split('/').collect();
    let takes_rest = row.last().is_some_and(|last| last.starts_with("{*"));
    let lengths = row.len() == address.len() || (takes_rest && address.len() > row.len());
    let mut segments = row.iter().zip(address);
    lengths && segments.all(|(known, segment)| known.starts_with('{') || *known == segment)
}

#[tokio::test]
async fn refused_rows_and_calls_of_the_sdk_that_are_no_rows_are_refused_by_name() {
    let server = TestServer::start().await;
    let mut refused: HashSet<(&str, String)> = HashSet::new();
    let mut served: HashMap<&str, Vec<String>> = HashMap::new();
    for (_, row) in endpoints::all() {
        let method = row.method.as_str();
        for path in row.paths() {
            if matches!(row.status, Status::Refused(_)) {
                refused.insert((method, address(&path)));
            }
            served.entry(method).or_default().push(path);
        }
    }
    for (method, pattern) in sdk::calls() {
        // A hole without a slash before it stands for a whole path.
        let sample = pattern.replace("s{}", "s/1").replace("{}", "1");
        let rows = served.get(method).map(Vec::as_slice).unwrap_or_default();
        if !rows.iter().any(|row| fits(row, &sample)) {
            refused.insert((method, sample));
        }
    }
    assert!(refused.len() > 500);
    for (method, path) in refused {
        let answer = server.call(&server.admin, method, &path, Value::Null).await;
        assert!(
            is_refusal(method, &answer, 501, "NOT_IMPLEMENTED"),
            "{method} {path}: {} {}",
            answer.status,
            answer.text()
        );
    }
}

#[tokio::test]
async fn wrong_method_on_a_known_path_is_a_refusal_in_json() {
    let server = TestServer::start().await;
    let paths: Vec<_> = endpoints::all()
        .flat_map(|(_, row)| {
            row.paths()
                .into_iter()
                .map(|path| (row.method.as_str(), path))
        })
        .collect();
    for address in rows().map(|(_, path)| path).collect::<HashSet<_>>() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let mut rows = paths.iter().filter(|(known, _)| *known == method);
            if rows.any(|(_, path)| fits(path, &address)) {
                continue;
            }
            let answer = server
                .call(&server.admin, method, &address, Value::Null)
                .await;
            assert!(
                is_refusal(method, &answer, 501, "NOT_IMPLEMENTED")
                    || is_refusal(method, &answer, 404, "ENDPOINT_NOT_FOUND"),
                "{method} {address}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
}

#[tokio::test]
async fn unknown_routes_are_never_a_success_and_say_nothing_to_strangers() {
    let server = TestServer::start().await;
    let paths = [
        "/api/2.0/no-such-thing",
        "/api/9.9/jobs/list",
        "/api",
        "/apix",
        "/nothing/here",
        "/api/2.0/",
        "/api//2.0/jobs/list",
    ];
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answer = server.call(&server.admin, method, path, json!({})).await;
            assert!(answer.refused(404, "ENDPOINT_NOT_FOUND").contains(path));
            if path.starts_with("/api/") {
                let stranger = server.call("", method, path, json!({})).await;
                stranger.refused(401, "UNAUTHENTICATED");
            }
        }
    }
}

#[tokio::test]
async fn calls_around_the_work_answer_honestly() {
    let server = TestServer::start().await;
    let logs = json!({"uploadTime": 1, "items": [], "protoLogs": ["{}", "{}"]});
    let answer = server.post("/telemetry-ext", logs).await.ok();
    let all = json!({"errors": [], "numProtoSuccess": 2, "numSuccess": 0});
    assert_eq!(answer, all);
    for name in ["current-metastore-assignment", "metastore_summary"] {
        let path = format!("/api/2.1/unity-catalog/{name}");
        let metastore = server.get(&path).await;
        metastore.refused(404, "METASTORE_DOES_NOT_EXIST");
    }
    let pools = server.get("/api/2.0/instance-pools/list").await.ok();
    assert_eq!(pools, json!({"instance_pools": []}));
    let policies = server.get("/api/2.0/policies/clusters/list").await.ok();
    assert_eq!(policies, json!({"policies": []}));
    for path in ["instance-pools/create", "policies/clusters/create"] {
        let made = server.post(&format!("/api/2.0/{path}"), json!({})).await;
        assert!(made.refused(501, "NOT_IMPLEMENTED").contains(path));
    }
    let oauth = server.call("", "POST", "/oidc/v1/token", json!({})).await;
    oauth.refused(501, "NOT_IMPLEMENTED");
}

#[tokio::test]
async fn token_that_asks_too_often_is_told_to_wait_and_others_are_not() {
    let server = TestServer::start_with(|setup| {
        setup.server.limits.requests_per_second = 10;
        setup.server.limits.requests_burst = 3;
    })
    .await;
    let me = "/api/2.0/preview/scim/v2/Me";
    for _ in 0..3 {
        server.get(me).await.ok();
    }
    let refused = server.get(me).await;
    refused.refused(429, "REQUEST_LIMIT_EXCEEDED");
    let wait = refused.headers["retry-after"].to_str().unwrap();
    assert!(wait.parse::<u32>().unwrap() >= 1);
    let other = server.call(&server.plain, "GET", me, Value::Null).await;
    other.ok();
    server.clock.advance(std::time::Duration::from_millis(100));
    server.get(me).await.ok();
}
