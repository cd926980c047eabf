use std::time::Duration;

use forebay_testkit::wait_until;
use serde_json::{Value, json};

use crate::browser::{Site, form_token, goes_to};

fn task(key: &str, path: &str, after: &[&str]) -> Value {
    let after: Vec<_> = after.iter().map(|key| json!({"task_key": key})).collect();
    json!({"task_key": key, "depends_on": after, "notebook_task": {"notebook_path": path}})
}

async fn submit(site: &Site, tasks: Vec<Value>) -> Value {
    let settings = json!({"run_name": "t", "tasks": tasks});
    let answer = site.dev.post("/api/2.2/jobs/runs/submit", settings).await;
    answer.ok()["run_id"].clone()
}

async fn finished(site: &Site, run: &Value) -> Value {
    let wait = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    site.dev.get(&wait).await.ok()
}

/// The tag of each bar of a page.
fn bars(page: &str) -> Vec<&str> {
    page.split("<a class=\"try ")
        .skip(1)
        .filter_map(|rest| rest.split('>').next())
        .collect()
}

#[tokio::test]
async fn each_try_of_a_task_is_a_bar_that_leads_to_its_output() {
    let site = Site::start().await;
    site.run("/Shared/bad", &["fail ValueError broken"]).await;
    let mut again = task("again", "/Shared/bad", &[]);
    again["max_retries"] = json!(2);
    let run = submit(&site, vec![again, task("next", "/Shared/bad", &["again"])]).await;
    let ended = finished(&site, &run).await;
    assert_eq!(ended["state"]["result_state"], "FAILED", "{ended}");
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/runs/{run}")).await;
    let bars = bars(&page);
    assert_eq!(bars.len(), 3, "a task that never ran has no bar: {bars:?}");
    for (number, bar) in bars.iter().enumerate() {
        let name = format!("aria-label=\"Try {}: Failed", number + 1);
        assert!(bar.contains(&name), "{bar}");
    }
    assert!(page.contains(" · 3 tries"), "{page}");
    let first = bars[0]
        .split("href=\"")
        .nth(1)
        .and_then(|rest| rest.split('#').next());
    let page = browser.page(first.unwrap()).await;
    assert!(page.contains("Output of again"), "{page}");
}

#[tokio::test]
async fn a_task_waits_only_from_when_those_before_it_have_ended() {
    let site = Site::start().await;
    site.run("/Shared/good", &["print fine"]).await;
    site.submit("/Shared/slow", &["wait"]).await;
    let tasks = vec![
        task("first", "/Shared/slow", &[]),
        task("second", "/Shared/good", &["first"]),
    ];
    let run = submit(&site, tasks).await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/runs/{run}")).await;
    assert_eq!(bars(&page).len(), 1, "{page}");
    site.dev.clock.advance(Duration::from_secs(90));
    let page = browser.page(&format!("/runs/{run}")).await;
    assert!(
        page.contains("1:30 min"),
        "the scale grows with the run: {page}"
    );
}

#[tokio::test]
async fn a_run_of_a_thousand_tasks_comes_in_parts_that_can_be_chosen_by_state() {
    let site = Site::start().await;
    site.run("/Shared/bad", &["fail ValueError broken"]).await;
    let mut tasks = vec![task("first", "/Shared/bad", &[])];
    tasks.extend((1..1000).map(|index| task(&format!("t{index}"), "/Shared/bad", &["first"])));
    let run = submit(&site, tasks).await;
    finished(&site, &run).await;
    let mut browser = site.admin().await;
    let rows = |page: &str| page.matches("<tr id=\"task-").count();
    let page = browser.page(&format!("/runs/{run}")).await;
    assert_eq!(rows(&page), 100);
    assert!(page.len() < 200_000, "{} bytes", page.len());
    assert!(page.contains("Not run <b>999</b>"), "{page}");
    let last = browser.page(&format!("/runs/{run}?from=900")).await;
    assert_eq!(rows(&last), 100);
    assert!(last.contains("Tasks 901 to 1000 of 1000"), "{last}");
    assert!(!last.contains("Next →"), "{last}");
    let failed = browser.page(&format!("/runs/{run}?show=failed")).await;
    assert_eq!(rows(&failed), 1, "{failed}");
}

#[tokio::test]
async fn one_task_is_canceled_from_the_page_and_the_others_go_on() {
    let site = Site::start().await;
    site.write("/Shared/slow", &["wait"]).await;
    site.write("/Shared/other", &["wait"]).await;
    let tasks = vec![
        task("first", "/Shared/slow", &[]),
        task("second", "/Shared/other", &[]),
    ];
    let run = submit(&site, tasks).await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/runs/{run}")).await;
    let (before, _) = page.split_once("Yes, cancel this task").unwrap();
    let (_, action) = before.rsplit_once("action=\"").unwrap();
    let action = action.split('"').next().unwrap().to_owned();
    assert_ne!(action, format!("/runs/{run}/cancel"));
    let form = [("form_token", &*form_token(&page))];
    let answer = browser
        .post(0, &action, &form, Some("forebay.test:7071"))
        .await;
    let page = browser.page(goes_to(&answer)).await;
    assert!(page.contains("The task was asked to stop."), "{page}");
    let states = || async {
        let run = site
            .dev
            .get(&format!("/api/2.1/jobs/runs/get?run_id={run}"))
            .await
            .ok();
        let tasks = run["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["state"]["result_state"].clone())
            .collect::<Vec<_>>()
    };
    wait_until("the end of one task", states, |states| {
        *states == [json!("CANCELED"), Value::Null]
    })
    .await;
}
