use forebay_testkit::PLAIN_USER;
use serde_json::{Value, json};

use crate::browser::{Site, form_token, goes_to};

const OWN: Option<&str> = Some("forebay.test:7071");

fn task(key: &str, path: &str, after: &[&str]) -> Value {
    let after: Vec<_> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({"task_key": key, "depends_on": after, "notebook_task": {"notebook_path": path}})
}

async fn ended(site: &Site, run: &Value) -> String {
    let wait = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    let run = site.dev.get(&wait).await.ok();
    run["state"]["result_state"].as_str().unwrap().to_owned()
}

/// A run in which `load` succeeded, `sum` failed and `send` was not reached.
async fn failed_run(site: &Site) -> Value {
    site.run("/Shared/good", &["print fine"]).await;
    site.run("/Shared/sum", &["fail ValueError broken"]).await;
    let tasks = [
        task("load", "/Shared/good", &[]),
        task("sum", "/Shared/sum", &["load"]),
        task("send", "/Shared/good", &["sum"]),
    ];
    let settings = json!({"run_name": "three", "tasks": tasks});
    let answer = site.dev.post("/api/2.1/jobs/runs/submit", settings).await;
    let run = answer.ok()["run_id"].clone();
    assert_eq!(ended(site, &run).await, "FAILED");
    run
}

/// The `value="…"` of each ticked box.
fn ticked(page: &str) -> Vec<&str> {
    let boxes = page.split("name=\"task\" value=\"").skip(1);
    boxes
        .filter_map(|rest| rest.split_once('>'))
        .filter(|(tag, _)| tag.ends_with("checked"))
        .filter_map(|(tag, _)| tag.split('"').next())
        .collect()
}

#[tokio::test]
async fn a_failed_run_is_repaired_by_its_button_and_keeps_what_was_before() {
    let site = Site::start().await;
    let run = failed_run(&site).await;
    let mut browser = site.admin().await;
    let address = format!("/runs/{run}");
    let page = browser.page(&address).await;
    assert_eq!(ticked(&page), ["sum", "send"], "{page}");
    assert!(!page.contains("Original run"), "{page}");

    site.write("/Shared/sum", &["print mended"]).await;
    let token = form_token(&page);
    let action = format!("/runs/{run}/repair");
    let form = [
        ("form_token", &*token),
        ("task", "sum"),
        ("dependents", "yes"),
    ];
    let forged = [("form_token", "0"), ("task", "sum")];
    assert_eq!(browser.post(0, &action, &forged, OWN).await.status, 403);
    let none = [("form_token", &*token), ("dependents", "yes")];
    let refused = browser.post(0, &action, &none, OWN).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("Choose at least one task"));
    let answer = browser.post(0, &action, &form, OWN).await;
    let notice = browser.page(goes_to(&answer)).await;
    assert!(notice.contains("The tasks run again."), "{notice}");
    assert_eq!(ended(&site, &run).await, "SUCCESS");

    let page = browser.page(&address).await;
    assert!(page.contains("2 attempts"), "{page}");
    assert!(page.contains(">Run again</summary>"), "{page}");
    let times = page.split("class=\"cards times\"").nth(1).unwrap();
    let (repair, original) = times.split_once("1. Original run").unwrap();
    assert!(repair.contains("2. Repair"), "{repair}");
    assert!(
        repair.contains(">sum<") && !repair.contains(">load<"),
        "{repair}"
    );
    let original = original.split("</table>").next().unwrap();
    assert!(
        original.contains(">load<") && original.contains(">send<"),
        "{original}"
    );

    let before = browser.page(&format!("{address}?time=0")).await;
    assert!(
        before.contains("how the run stood after attempt 1"),
        "{before}"
    );
    assert!(before.contains("ValueError: broken"), "{before}");
    assert!(
        !before.contains("action=\"/runs/"),
        "an old time is not repaired: {before}"
    );
    // Whoever looked before the repair does not repair what is mended by now.
    let late = browser.post(0, &action, &form, OWN).await;
    assert_eq!(late.status, 400);
    assert!(
        late.text().contains("was repaired since"),
        "{}",
        late.text()
    );
}

#[tokio::test]
async fn only_who_may_manage_a_run_is_offered_to_repair_it() {
    let site = Site::start().await;
    site.write("/Shared/sum", &["fail ValueError broken"]).await;
    let settings = json!({"name": "j", "tasks": [task("sum", "/Shared/sum", &[])]});
    let job = site.dev.post("/api/2.1/jobs/create", settings).await.ok()["job_id"].clone();
    let run = json!({"job_id": job});
    let run = site.dev.post("/api/2.1/jobs/run-now", run).await.ok()["run_id"].clone();
    assert_eq!(ended(&site, &run).await, "FAILED");
    let allow = async |level: &str| {
        let list = json!([{"user_name": PLAIN_USER, "permission_level": level}]);
        let (path, list) = (
            format!("/api/2.0/permissions/jobs/{job}"),
            json!({"access_control_list": list}),
        );
        site.dev
            .call(&site.dev.admin, "PATCH", &path, list)
            .await
            .ok();
    };
    allow("CAN_VIEW").await;
    let mut browser = site.browser();
    assert_eq!(browser.sign_in(0, &site.dev.plain).await.status, 303);
    let address = format!("/runs/{run}");
    let page = browser.page(&address).await;
    assert!(
        page.contains("ValueError: broken") && !page.contains("Repair run"),
        "{page}"
    );
    let token = form_token(&page);
    let form = [("form_token", &*token), ("task", "sum")];
    let action = format!("/runs/{run}/repair");
    assert_eq!(browser.post(0, &action, &form, OWN).await.status, 403);
    allow("CAN_MANAGE_RUN").await;
    let page = browser.page(&address).await;
    assert!(page.contains("Repair run"), "{page}");
    assert!(
        !page.contains("type=\"checkbox\""),
        "one task is no choice: {page}"
    );
    assert_eq!(browser.post(0, &action, &form, OWN).await.status, 303);
    ended(&site, &run).await;
    let page = site.admin().await.page(&address).await;
    let times = page.split("class=\"cards times\"").nth(1).unwrap();
    assert!(times.contains(PLAIN_USER), "it says who: {times}");
}
