use serde_json::json;

use crate::browser::Site;

#[tokio::test]
async fn the_queue_tells_what_runs_what_waits_and_how_full_the_caps_are() {
    let site = Site::start().await;
    let mut browser = site.admin().await;
    let empty = browser.page("/queue").await;
    assert!(empty.contains("Nothing runs at the moment."), "{empty}");
    assert!(empty.contains("Nothing waits"), "{empty}");
    assert!(empty.contains("data-live=\"/queue/live\""), "{empty}");

    let running = site.submit("/Shared/slow", &["wait"]).await;
    let task = json!({"task_key": "only", "notebook_task": {"notebook_path": "/Shared/slow"}});
    let job = json!({"name": "one at a time", "tasks": [task], "queue": {"enabled": true}});
    let job = site.dev.post("/api/2.1/jobs/create", job).await.ok()["job_id"].clone();
    for _ in 0..2 {
        let run = json!({"job_id": job, "queue": {"enabled": true}});
        site.dev.post("/api/2.1/jobs/run-now", run).await.ok();
    }
    let page = browser.page("/queue").await;
    let at = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("no {text} in {page}"))
    };
    assert!(at(&format!("/runs/{running}?task=")) < at("Waiting"));
    assert!(at("Running (2)") < at("Waiting (1)"), "{page}");
    let home = browser.page("/").await;
    assert!(home.contains("href=\"/queue\""), "{home}");
}

#[tokio::test]
async fn nobody_follows_a_page_without_a_session() {
    let site = Site::start().await;
    for path in ["/live", "/queue/live", "/jobs/1/live"] {
        assert_eq!(site.browser().get(path).await.status, 401, "{path}");
    }
}
