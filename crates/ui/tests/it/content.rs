use axum::http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::browser::Site;

const HOSTILE: &str = "<script>alert(1)</script>";

/// No script of a page may come from anywhere but our one file.
fn assert_tame(page: &str) {
    assert!(!page.contains(HOSTILE), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "{page}");
    assert!(page.contains("<script src=\"/ui/pages.js?"), "{page}");
    let handlers = [" onerror=", " onload=", " onclick=", "javascript:"];
    for handler in handlers.iter().filter(|handler| page.contains(**handler)) {
        // Shown as text they are harmless: then the tag around them is text as well.
        assert!(page.contains("&lt;img"), "{handler} in {page}");
    }
}

#[tokio::test]
async fn names_and_texts_of_strangers_stay_text() {
    let site = Site::start().await;
    let dev = &site.dev;
    let folder = "/Shared/<img src=x onerror=alert(1)>";
    dev.post("/api/2.0/workspace/mkdirs", json!({"path": folder}))
        .await
        .ok();
    let run = site
        .run(
            &format!("{folder}/n"),
            &[&format!("# {HOSTILE}\nfail {HOSTILE} {HOSTILE}")],
        )
        .await;
    let task = json!([{"task_key": "a", "notebook_task": {
        "notebook_path": format!("{folder}/n"), "base_parameters": {HOSTILE: HOSTILE}}}]);
    let job = dev
        .post(
            "/api/2.1/jobs/create",
            json!({"name": HOSTILE, "tasks": task}),
        )
        .await
        .ok()["job_id"]
        .clone();
    let mut browser = site.admin().await;
    for path in [
        "/".to_owned(),
        "/runs".to_owned(),
        format!("/runs/{run}"),
        "/jobs".to_owned(),
        format!("/jobs/{job}"),
        "/workspace/Shared".to_owned(),
        "/workspace/Shared/%3Cimg%20src=x%20onerror=alert(1)%3E/n".to_owned(),
    ] {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{policy}"
        );
        assert_tame(&answer.text());
    }
    let evil = "/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    assert_tame(&site.browser().get(evil).await.text());
}

#[tokio::test]
async fn a_failed_run_tells_its_error_before_its_cells() {
    let site = Site::start().await;
    let run = site
        .run(
            "/Shared/n",
            &[
                "# MAGIC %md\n# MAGIC # Title",
                "print fine",
                "fail KeyError gone",
                "print never",
            ],
        )
        .await;
    let page = site
        .admin()
        .await
        .page(&format!("/jobs/{run}/runs/{run}"))
        .await;
    let at = |text: &str| {
        page.find(text)
            .unwrap_or_else(|| panic!("no {text} in {page}"))
    };
    assert!(at("KeyError: gone") < at("id=\"cell-1\""));
    assert!(page.contains("<a href=\"#cell-3\">cell 3</a>"), "{page}");
    assert!(at("<h1>Title</h1>") < at("fine\n"));
    assert!(
        page.contains("<span class=\"state off\">Not run</span>"),
        "{page}"
    );
    assert!(
        page.contains("<span class=\"state bad\">Failed</span>"),
        "{page}"
    );
    assert!(
        !page.contains("data-live"),
        "an ended run does not change any more"
    );
}

#[tokio::test]
async fn tasks_are_a_graph_and_the_failed_one_is_in_view() {
    let site = Site::start().await;
    site.run("/Shared/good", &["print fine"]).await;
    site.run("/Shared/bad", &["fail ValueError broken"]).await;
    let task = |key: &str, path: &str, after: &[&str]| {
        let after: Vec<_> = after.iter().map(|key| json!({"task_key": key})).collect();
        json!({"task_key": key, "depends_on": after, "notebook_task": {"notebook_path": path}})
    };
    let tasks = [
        task("first", "/Shared/good", &[]),
        task("second", "/Shared/bad", &["first"]),
        task("third", "/Shared/good", &["second"]),
    ];
    let submit = site
        .dev
        .post("/api/2.1/jobs/runs/submit", json!({"tasks": tasks}));
    let run = submit.await.ok()["run_id"].clone();
    let wait = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    let ended = site.dev.get(&wait).await.ok();
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/runs/{run}")).await;
    assert!(page.contains("Output of second"), "{page}");
    assert!(page.contains("In task <b>second</b>"), "{page}");
    assert!(page.contains("Upstream failed"), "{page}");
    assert_eq!(page.matches("class=\"node ").count(), 3, "{page}");
    let first = &ended["tasks"][0]["run_id"];
    let page = browser.page(&format!("/runs/{run}?task={first}")).await;
    assert!(
        page.contains("Output of first") && page.contains("fine\n"),
        "{page}"
    );
}

#[tokio::test]
async fn runs_are_filtered_and_paged() {
    let site = Site::start().await;
    let good = site.run("/Shared/good", &["print fine"]).await;
    let bad = site.run("/Shared/bad", &["fail ValueError broken"]).await;
    let mut browser = site.admin().await;
    let link = |run: i64| format!("/jobs/{run}/runs/{run}\"");
    let all = browser.page("/runs").await;
    assert!(
        all.contains(&link(good)) && all.contains(&link(bad)),
        "{all}"
    );
    assert!(!all.contains("Older"), "{all}");
    let failed = browser.page("/runs?state=failed").await;
    assert!(
        !failed.contains(&link(good)) && failed.contains(&link(bad)),
        "{failed}"
    );
    assert!(failed.contains("ValueError: broken"), "{failed}");
    let active = browser.page("/runs?state=active").await;
    assert!(active.contains("Nothing runs at the moment"), "{active}");
    let older = browser.page(&format!("/runs?before={bad}")).await;
    assert!(
        older.contains(&link(good)) && !older.contains(&link(bad)),
        "{older}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_to_people_in_words_and_to_programs_in_json() {
    let site = Site::start().await;
    let mut browser = site.admin().await;
    for path in [
        "/nope",
        "/runs/12345678",
        "/runs/abc",
        "/jobs/12345678",
        "/workspace/Shared/nope",
    ] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        let page = answer.text();
        assert!(
            page.contains("<h1>Not found</h1>") && page.contains("Sign out"),
            "{page}"
        );
    }
    let program = site.dev.get("/nope").await;
    assert_eq!(program.json()["error_code"], "ENDPOINT_NOT_FOUND");
    let climbing = browser.get("/workspace/%2e%2e/%2e%2e/etc/passwd").await;
    assert_eq!(climbing.status, 404);
}

#[tokio::test]
async fn files_are_shown_as_what_they_are_and_act_on_nothing() {
    let site = Site::start().await;
    for (name, content) in [
        ("read.md", "# Hello\n\n<script>alert(1)</script>"),
        ("page.html", "<script>alert(1)</script>"),
        (
            "dot.svg",
            "<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>",
        ),
        ("data.bin", "\0\u{1}\u{2}"),
    ] {
        let import = json!({"path": format!("/Shared/{name}"), "format": "AUTO", "content": STANDARD.encode(content)});
        site.dev
            .post("/api/2.0/workspace/import", import)
            .await
            .ok();
    }
    let mut browser = site.admin().await;
    let markdown = browser.page("/workspace/Shared/read.md").await;
    assert!(markdown.contains("<h1>Hello</h1>"), "{markdown}");
    assert_tame(&markdown);
    assert_tame(&browser.page("/workspace/Shared/page.html").await);
    let binary = browser.page("/workspace/Shared/data.bin").await;
    assert!(binary.contains("not text"), "{binary}");
    assert!(
        browser
            .page("/workspace/Shared/dot.svg")
            .await
            .contains("?raw=image")
    );

    let html = browser.get("/workspace/Shared/page.html?raw=image").await;
    assert_eq!(html.headers[CONTENT_TYPE], "application/octet-stream");
    assert_eq!(
        html.headers[CONTENT_DISPOSITION],
        "attachment; filename*=UTF-8''page.html"
    );
    let svg = browser.get("/workspace/Shared/dot.svg?raw=image").await;
    assert_eq!(svg.headers[CONTENT_TYPE], "image/svg+xml");
    let policy = svg.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert_eq!(
        policy,
        "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    );
}

#[tokio::test]
async fn an_executed_notebook_can_be_taken_home() {
    let site = Site::start().await;
    let run = site.run("/Shared/n", &["print fine"]).await;
    let answer = site
        .admin()
        .await
        .get(&format!("/runs/{run}/notebook.ipynb"))
        .await;
    let name = format!("attachment; filename=\"run-{run}.ipynb\"");
    assert_eq!(answer.headers[CONTENT_DISPOSITION], *name);
    assert_eq!(answer.json()["cells"][0]["outputs"][0]["text"], "fine\n");
}

#[tokio::test]
async fn the_first_page_of_an_empty_workspace_says_what_to_do() {
    let site = Site::start().await;
    let mut browser = site.admin().await;
    let home = browser.page("/").await;
    assert!(
        home.contains("forebay run report.py --profile dev"),
        "{home}"
    );
    for (path, words) in [
        ("/runs", "Nothing has run here yet"),
        ("/jobs", "no jobs yet"),
        ("/repos", "no Git folders yet"),
        ("/clusters", "There are no clusters"),
        ("/workspace/Shared", "This folder is empty"),
    ] {
        let page = browser.page(path).await;
        assert!(page.contains(words), "{path}: {page}");
    }
}
