//! Lists of runs by pages.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay_testkit::TestServer;
use serde_json::{Value, json};

use crate::work::{ended, flat, notebook, start, submit};

fn ids(page: &Value) -> Vec<i64> {
    let runs = page["runs"].as_array().unwrap().iter();
    runs.map(|run| run["run_id"].as_i64().unwrap()).collect()
}

/// The ids of a page of two, and the token of the next one.
async fn page(server: &TestServer, query: &str) -> (Vec<i64>, Option<String>) {
    let path = format!("/api/2.1/jobs/runs/list?limit=2{query}");
    let page = server.get(&path).await.ok();
    let token = page["next_page_token"].as_str().map(str::to_owned);
    assert_eq!(page["has_more"], token.is_some(), "{page}");
    (ids(&page), token)
}

/// Six runs, a second between each and the next, newest first; and when the first was created.
async fn six_runs(server: &TestServer) -> (Vec<i64>, i64) {
    notebook(server, "/Shared/ok", &["print x"]).await;
    let mut runs = Vec::new();
    for _ in 0..6 {
        let run = submit(server, flat("/Shared/ok")).await;
        runs.insert(0, ended(server, run).await);
        server.clock.advance(Duration::from_secs(1));
    }
    let first = runs[5]["start_time"].as_i64().unwrap();
    (ids(&json!({"runs": runs})), first)
}

#[tokio::test]
async fn a_list_goes_on_after_a_run_that_was_deleted_meanwhile() {
    let server = start(15).await;
    let (runs, first) = six_runs(&server).await;
    let window = format!(
        "&start_time_from={}&start_time_to={}",
        first + 1000,
        first + 4000
    );
    let (seen, token) = page(&server, &window).await;
    assert_eq!(seen, runs[1..3]);
    let delete = json!({"run_id": seen[1]});
    server.post("/api/2.1/jobs/runs/delete", delete).await.ok();
    let rest = format!("{window}&page_token={}", token.unwrap());
    let rest = page(&server, &rest).await;
    assert_eq!(rest, (runs[3..5].to_vec(), None));
}

#[tokio::test]
async fn tokens_of_older_servers_and_offsets_name_a_place_in_the_same_list() {
    let server = start(15).await;
    let (runs, _) = six_runs(&server).await;
    let older = URL_SAFE_NO_PAD.encode(runs[1].to_string());
    let (found, token) = page(&server, &format!("&page_token={older}")).await;
    assert_eq!(found, runs[2..4]);
    let rest = page(&server, &format!("&page_token={}", token.unwrap())).await;
    assert_eq!(rest, (runs[4..].to_vec(), None));
    for version in ["2.0", "2.1"] {
        let path = format!("/api/{version}/jobs/runs/list?limit=2&offset=3");
        assert_eq!(ids(&server.get(&path).await.ok()), runs[3..5]);
    }
    for strange in ["???", "MS4y4"] {
        let path = format!("/api/2.1/jobs/runs/list?page_token={strange}");
        let refused = server.get(&path).await;
        let message = refused.refused(400, "INVALID_PARAMETER_VALUE");
        assert!(message.contains("'page_token'"), "{message}");
    }
}
