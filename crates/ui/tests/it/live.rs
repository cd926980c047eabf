use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;

use crate::browser::Site;

#[tokio::test]
async fn output_comes_while_the_run_goes_on_and_then_the_verdict() {
    let site = Site::start().await;
    let run = site
        .submit("/Shared/n", &["print early", "wait", "print late"])
        .await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/runs/{run}")).await;
    assert!(
        page.contains(&format!("data-live=\"/runs/{run}/live?task=")),
        "{page}"
    );
    let (_, rest) = page.split_once("data-live=\"").unwrap();
    let live = rest.split('"').next().unwrap().to_owned();
    let response = browser.open(0, &live).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut text = String::new();
    let mut is_released = false;
    while !text.contains("event: end") {
        tokio::select! {
            frame = body.frame() => {
                let frame = frame.expect("the stream ended without its end").unwrap();
                text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
            // Time of the server passes while nothing comes.
            () = tokio::time::sleep(Duration::from_millis(2)) => {
                site.dev.clock.advance(Duration::from_millis(250));
            }
        }
        if !is_released && text.contains("early\\n") {
            assert!(!text.contains("late\\n"), "{text}");
            site.dev.executor.release();
            is_released = true;
        }
    }
    assert!(text.contains("late\\n"), "{text}");
    let pieces: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let last_head = pieces
        .iter()
        .rfind(|piece| piece["id"] == "run-head")
        .unwrap();
    assert!(
        last_head["html"].as_str().unwrap().contains("Succeeded"),
        "{last_head}"
    );
    // Once the cells are known, only those that changed are sent again.
    let alone = pieces
        .iter()
        .filter(|piece| piece["id"] == "part-3")
        .count();
    assert!(alone >= 1, "{text}");
}
