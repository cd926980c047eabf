use forebay_testkit::PLAIN_USER;
use serde_json::{Value, json};

use crate::browser::{Site, form_token, goes_to};

const OWN: Option<&str> = Some("forebay.test:7071");

async fn create(site: &Site, settings: Value) -> Value {
    let answer = site.dev.post("/api/2.1/jobs/create", settings).await;
    answer.ok()["job_id"].clone()
}

async fn run_now(site: &Site, job: &Value) -> Value {
    let answer = site
        .dev
        .post("/api/2.1/jobs/run-now", json!({"job_id": job}))
        .await;
    let run = answer.ok()["run_id"].clone();
    finished(site, &run).await;
    run
}

async fn finished(site: &Site, run: &Value) -> Value {
    let wait = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    site.dev.get(&wait).await.ok()
}

fn task(key: &str, path: &str) -> Value {
    json!({"task_key": key, "notebook_task": {"notebook_path": path}})
}

#[tokio::test]
async fn the_matrix_has_a_cell_for_each_task_of_each_run_also_for_tasks_of_old() {
    let site = Site::start().await;
    site.run("/Shared/good", &["print fine"]).await;
    site.run("/Shared/bad", &["fail ValueError broken"]).await;
    let tasks = json!([task("load", "/Shared/good"), task("gone", "/Shared/bad")]);
    let job = create(&site, json!({"name": "nightly", "tasks": tasks})).await;
    let first = run_now(&site, &job).await;
    let mut again = task("load", "/Shared/bad");
    again["max_retries"] = json!(1);
    let new = json!({"name": "nightly", "tasks": [again]});
    let reset = json!({"job_id": job, "new_settings": new});
    site.dev.post("/api/2.1/jobs/reset", reset).await.ok();
    let second = run_now(&site, &job).await;

    let mut browser = site.admin().await;
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert_eq!(page.matches("class=\"cell-link ").count(), 3, "{page}");
    assert!(page.contains("aria-label=\"load: Failed"), "{page}");
    assert!(page.contains(", 2 tries\""), "{page}");
    let row = |key: &str| {
        page.find(&format!("<th scope=\"row\">{key}<wbr></th>"))
            .unwrap()
    };
    assert!(row("load") < row("gone"), "today's tasks stand first");
    let column = |run: &Value| {
        page.find(&format!("href=\"/jobs/{job}/runs/{run}\""))
            .unwrap()
    };
    assert!(
        column(&second) < column(&first),
        "the newest run stands first"
    );
    let cell = page
        .split("href=\"")
        .find(|rest| rest.contains("#output"))
        .unwrap();
    let link = cell.split('#').next().unwrap();
    assert!(browser.page(link).await.contains("ValueError: broken"));
    let list = browser.page("/jobs").await;
    assert_eq!(list.matches("class=\"cell-link bad\"").count(), 2, "{list}");
}

#[tokio::test]
async fn run_now_starts_one_run_with_what_was_changed() {
    let site = Site::start().await;
    site.run("/Shared/good", &["print fine"]).await;
    let parameters =
        json!([{"name": "day", "default": "today"}, {"name": "mode", "default": "all"}]);
    let job = create(
        &site,
        json!({"name": "j", "tasks": [task("a", "/Shared/good")], "parameters": parameters}),
    )
    .await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert!(
        page.contains("name=\"parameter.day\" value=\"today\""),
        "{page}"
    );
    let token = form_token(&page);
    let action = format!("/jobs/{job}/run");
    let forged = [("form_token", "0"), ("parameter.day", "monday")];
    assert_eq!(browser.post(0, &action, &forged, OWN).await.status, 403);
    let form = [
        ("form_token", &*token),
        ("once", "page-1"),
        ("parameter.day", "monday"),
        ("parameter.mode", "all"),
    ];
    let answer = browser.post(0, &action, &form, OWN).await;
    let started = goes_to(&answer).to_owned();
    // A double click is one run.
    let twice = browser.post(0, &action, &form, OWN).await;
    assert_eq!(goes_to(&twice), started);
    let page = browser.page(&started).await;
    assert!(page.contains("The run was started."), "{page}");
    let list = format!("/api/2.1/jobs/runs/list?job_id={job}");
    let runs = site.dev.get(&list).await.ok();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    let given = site
        .dev
        .get(&format!(
            "/api/2.1/jobs/runs/get?run_id={}",
            runs["runs"][0]["run_id"]
        ))
        .await
        .ok();
    let overridden = &given["overriding_parameters"];
    assert!(!overridden.to_string().contains("mode"), "{given}");
}

#[tokio::test]
async fn who_may_only_look_is_offered_no_start() {
    let site = Site::start().await;
    site.run("/Shared/good", &["print fine"]).await;
    let job = create(
        &site,
        json!({"name": "j", "tasks": [task("a", "/Shared/good")]}),
    )
    .await;
    let mut browser = site.browser();
    assert_eq!(browser.sign_in(0, &site.dev.plain).await.status, 303);
    assert_eq!(browser.get(&format!("/jobs/{job}")).await.status, 403);
    let list = json!([{"user_name": PLAIN_USER, "permission_level": "CAN_VIEW"}]);
    let (admin, path) = (&site.dev.admin, format!("/api/2.0/permissions/jobs/{job}"));
    let grant = json!({"access_control_list": list});
    site.dev.call(admin, "PATCH", &path, grant).await.ok();
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert!(!page.contains("Run now"), "{page}");
    assert!(page.contains("see it and its runs"), "{page}");
    let token = form_token(&page);
    let form = [("form_token", &*token)];
    let answer = browser
        .post(0, &format!("/jobs/{job}/run"), &form, OWN)
        .await;
    assert_eq!(answer.status, 403, "{}", answer.text());
}

#[tokio::test]
async fn the_box_to_wait_in_line_counts_ticked_and_unticked() {
    let site = Site::start().await;
    site.write("/Shared/slow", &["wait"]).await;
    // The job itself would queue; whoever unticks the box does not want to.
    let settings =
        json!({"name": "j", "tasks": [task("a", "/Shared/slow")], "queue": {"enabled": true}});
    let job = create(&site, settings).await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert!(
        page.contains("name=\"queue\" value=\"yes\" checked"),
        "{page}"
    );
    let token = form_token(&page);
    let action = format!("/jobs/{job}/run");
    let mut state = async |once: &str, queue: bool| {
        let mut form = vec![("form_token", &*token), ("once", once)];
        form.extend(queue.then_some(("queue", "yes")));
        let answer = browser.post(0, &action, &form, OWN).await;
        let run = goes_to(&answer).rsplit_once("/runs/").unwrap().1;
        let run = run.split('?').next().unwrap();
        let shown = site
            .dev
            .get(&format!("/api/2.1/jobs/runs/get?run_id={run}"))
            .await
            .ok();
        shown["state"]["life_cycle_state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_ne!(state("first", false).await, "SKIPPED");
    assert_eq!(state("second", false).await, "SKIPPED");
    assert_eq!(state("third", true).await, "QUEUED");
}

#[tokio::test]
async fn a_for_each_tells_how_its_iterations_went_in_the_matrix_and_in_its_run() {
    let site = Site::start().await;
    site.write("/Shared/good", &["print fine"]).await;
    let inner = json!({"task_key": "one", "notebook_task": {"notebook_path": "/Shared/good"}});
    let each = json!({"task_key": "each", "for_each_task": {"inputs": "[\"north\",\"south\"]", "task": inner}});
    let job = create(&site, json!({"name": "j", "tasks": [each]})).await;
    let run = run_now(&site, &job).await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert!(page.contains("<small>2/2</small>"), "{page}");
    assert!(page.contains(", 2 iterations\""), "{page}");
    let page = browser.page(&format!("/runs/{run}")).await;
    assert!(page.contains(" · 2 iterations"), "{page}");
    assert!(
        page.contains("each 1") && page.contains("&quot;south&quot;"),
        "{page}"
    );
}

#[tokio::test]
async fn the_page_of_a_job_of_a_thousand_tasks_is_bounded_and_leads_to_the_rest() {
    let site = Site::start().await;
    site.write("/Shared/bad", &["fail ValueError broken"]).await;
    let mut tasks = vec![task("first", "/Shared/bad")];
    tasks.extend((1..1000).map(|index| {
        let mut one = task(&format!("t{index}"), "/Shared/bad");
        one["depends_on"] = json!([{"task_key": "first"}]);
        one
    }));
    let settings = json!({"name": "big", "tasks": tasks});
    let answer = site.dev.post("/api/2.2/jobs/create", settings).await;
    let job = answer.ok()["job_id"].clone();
    run_now(&site, &job).await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/jobs/{job}")).await;
    assert_eq!(page.matches("class=\"cell-link ").count(), 100);
    assert!(page.len() < 100_000, "{} bytes", page.len());
    assert!(page.contains("Tasks 1 to 100 of 1000"), "{page}");
    let last = browser.page(&format!("/jobs/{job}?from=900")).await;
    assert!(last.contains(">t999<"), "{last}");
    let json = browser.page(&format!("/jobs/{job}/definition.json")).await;
    let definition: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(definition["tasks"].as_array().map(Vec::len), Some(1000));
    let mut stranger = site.browser();
    stranger.sign_in(0, &site.dev.plain).await;
    let refused = stranger.get(&format!("/jobs/{job}/definition.json")).await;
    assert_eq!(refused.status, 403);
    let list = browser.page("/runs").await;
    assert!(
        list.contains("1000 tasks") && list.contains("first: ValueError: broken"),
        "{list}"
    );
}
