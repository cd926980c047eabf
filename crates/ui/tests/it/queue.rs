use serde_json::json;

use crate::browser::{Site, form_token, goes_to};

const OWN: Option<&str> = Some("forebay.test:7071");

#[tokio::test]
async fn the_queue_tells_what_runs_what_waits_and_how_full_the_caps_are() {
    let site = Site::start().await;
    let mut browser = site.admin().await;
    let empty = browser.page("/queue").await;
    assert!(empty.contains("Nothing runs at the moment."), "{empty}");
    assert!(empty.contains("Nothing waits"), "{empty}");
    assert!(
        empty.contains("data-live=\"/queue/live?from=0\""),
        "{empty}"
    );

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
    assert!(at("1 of 1, full") < at("1 wait for it"), "{page}");
    at("the job has 1 of 1 concurrent runs");
    // Runs of one name can be told apart.
    at(&format!("run {running} · "));
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

#[tokio::test]
async fn a_run_that_a_budget_holds_says_so_wherever_it_is_shown() {
    let site = Site::start().await;
    site.write("/Shared/costly", &["use 1500"]).await;
    let task = json!({"task_key": "only", "notebook_task": {"notebook_path": "/Shared/costly"}});
    let budget = json!({"budget": {"cpu_seconds_per_day": 1}});
    let job = json!({"name": "frugal", "tasks": [task], "forebay": budget});
    let job = site.dev.post("/api/2.1/jobs/create", job).await.ok()["job_id"].clone();
    let run = async || {
        let answer = site
            .dev
            .post("/api/2.1/jobs/run-now", json!({"job_id": job}))
            .await;
        answer.ok()["run_id"].as_i64().unwrap()
    };
    let used = run().await;
    let wait = format!("/api/forebay/v1/runs/{used}?wait_ms=30000");
    site.dev.get(&wait).await.ok();
    let held = run().await;
    let mut browser = site.admin().await;
    for path in [
        format!("/runs/{held}"),
        "/runs".to_owned(),
        "/queue".to_owned(),
    ] {
        let page = browser.page(&path).await;
        assert!(
            page.contains("Waits for the next day (UTC)"),
            "{path}: {page}"
        );
        assert!(
            !page.contains("class=\"state busy\""),
            "it does not run: {page}"
        );
    }
    let day = std::time::Duration::from_secs(86_400);
    site.dev.clock.advance(day);
    site.dev
        .get(&format!("/api/forebay/v1/runs/{held}?wait_ms=30000"))
        .await
        .ok();
    for path in [format!("/runs/{held}"), "/runs".to_owned()] {
        let page = browser.page(&path).await;
        assert!(!page.contains("Waits for the next day"), "{path}: {page}");
    }
}

#[tokio::test]
async fn a_trigger_that_the_brake_paused_is_named_with_the_way_to_go_on() {
    let site = Site::start().await;
    site.write("/Shared/good", &["print fine"]).await;
    let task = json!({"task_key": "only", "notebook_task": {"notebook_path": "/Shared/good"}});
    let own = json!({"on_event": {"topic": "t"}, "brake": {"runs": 1, "minutes": 10}});
    let job = json!({"name": "stormy", "tasks": [task], "max_concurrent_runs": 9, "forebay": own});
    let job = site.dev.post("/api/2.1/jobs/create", job).await.ok()["job_id"].clone();
    for n in 0..3 {
        let sent = site.dev.post("/api/forebay/v1/events/t", json!(n)).await;
        assert_eq!(sent.status, 202, "{}", sent.text());
        site.dev.app.services.triggers.round().await.unwrap();
    }
    let mut browser = site.admin().await;
    let address = format!("/jobs/{job}");
    for path in ["/runs", "/jobs", "/queue", &address] {
        let page = browser.page(path).await;
        assert!(
            page.contains(
                "Paused by the storm brake: it made 1 of 1 allowed runs within 10 minutes"
            ),
            "{path}: {page}"
        );
    }
    let other = browser.page("/runs?job=1").await;
    assert!(!other.contains("storm brake"), "{other}");
    let mut stranger = site.browser();
    assert_eq!(stranger.sign_in(0, &site.dev.plain).await.status, 303);
    for path in ["/runs", "/jobs", "/queue"] {
        let page = stranger.page(path).await;
        assert!(!page.contains("stormy"), "{path}: {page}");
    }
    let page = browser.page(&address).await;
    let form = [
        ("form_token", &*form_token(&page)),
        ("kind", "event"),
        ("paused", "false"),
    ];
    let answer = browser
        .post(0, &format!("{address}/pause"), &form, OWN)
        .await;
    let page = browser.page(goes_to(&answer)).await;
    assert!(!page.contains("storm brake"), "{page}");
    assert!(!browser.page("/runs").await.contains("storm brake"));
}
