use serde_json::json;

use crate::browser::{Site, form_token, goes_to};

const OWN: Option<&str> = Some("forebay.test:7071");

#[tokio::test]
async fn a_job_shows_its_next_firings_and_is_paused_and_goes_on() {
    let site = Site::start().await;
    site.run("/Shared/good", &["print fine"]).await;
    let task = json!({"task_key": "a", "notebook_task": {"notebook_path": "/Shared/good"}});
    let schedule =
        json!({"quartz_cron_expression": "0 30 2 * * ?", "timezone_id": "Europe/Berlin"});
    let job = json!({"name": "nightly", "tasks": [task], "schedule": schedule});
    let job = site.dev.post("/api/2.1/jobs/create", job).await.ok()["job_id"].clone();
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert!(page.contains("The next 10 firings"), "{page}");
    assert!(
        page.contains("Wed 15 Nov 2023, 02:30:00 <span class=\"soft\">+01:00</span>"),
        "{page}"
    );
    assert!(page.contains("datetime=\"2023-11-15T01:30:00Z\""), "{page}");

    let token = form_token(&page);
    let action = format!("/jobs/{job}/pause");
    let pause = async |browser: &mut crate::browser::Browser<'_>, token: &str, paused: &str| {
        let form = [
            ("form_token", token),
            ("kind", "schedule"),
            ("paused", paused),
        ];
        browser.post(0, &action, &form, OWN).await
    };
    assert_eq!(pause(&mut browser, "0", "true").await.status, 403);
    let done = pause(&mut browser, &token, "true").await;
    assert_eq!(goes_to(&done), format!("/jobs/{job}?said=paused"));
    let page = browser.page(goes_to(&done)).await;
    assert!(page.contains("starts no more by itself"), "{page}");
    assert!(page.contains(">Paused</span>"), "{page}");
    let get = format!("/api/2.1/jobs/get?job_id={job}");
    let settings = site.dev.get(&get).await.ok()["settings"].clone();
    assert_eq!(settings["schedule"]["pause_status"], "PAUSED", "{settings}");
    assert_eq!(settings["schedule"]["timezone_id"], "Europe/Berlin");
    let done = pause(&mut browser, &token, "false").await;
    assert_eq!(goes_to(&done), format!("/jobs/{job}?said=unpaused"));
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert!(!page.contains(">Paused</span>"), "{page}");
}

#[tokio::test]
async fn a_schedule_is_tried_out_and_told_where_it_is_wrong() {
    let site = Site::start().await;
    let mut browser = site.admin().await;
    let empty = browser.page("/schedule").await;
    assert!(empty.contains("For example"), "{empty}");
    let page = browser
        .page("/schedule?expression=0+0+12+L+*+%3F&timezone=Asia/Tokyo")
        .await;
    assert!(
        page.contains("Thu 30 Nov 2023, 12:00:00 <span class=\"soft\">+09:00</span>"),
        "{page}"
    );
    let wrong = browser.page("/schedule?expression=0+0+25+*+*+%3F").await;
    assert!(wrong.contains("<mark>"), "{wrong}");
    let zone = browser
        .page("/schedule?expression=0+0+12+*+*+%3F&timezone=Atlantis")
        .await;
    assert!(
        zone.contains("Atlantis") && zone.contains("class=\"problem\""),
        "{zone}"
    );
    let hostile = browser
        .page("/schedule?expression=%3Cscript%3E&timezone=%22%3E")
        .await;
    assert_eq!(hostile.matches("<script").count(), 1, "{hostile}");
}
