use std::time::Duration;

use forebay_testkit::PLAIN_USER;

use crate::browser::{Site, form_token, goes_to};

const PAGES: [&str; 8] = [
    "/",
    "/runs?state=failed",
    "/jobs",
    "/jobs/1/runs/2",
    "/runs/2",
    "/workspace/Shared",
    "/repos",
    "/clusters",
];

#[tokio::test]
async fn every_page_wants_a_session_and_leads_back_after_it() {
    let site = Site::start().await;
    let mut browser = site.browser();
    for path in PAGES {
        let answer = browser.get(path).await;
        let wanted = goes_to(&answer);
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("next", path)
            .finish();
        let expected = if path == "/" {
            "/login".to_owned()
        } else {
            format!("/login?{query}")
        };
        assert_eq!(wanted, expected);
        let form = browser.page(wanted).await;
        assert!(
            form.contains(&format!("name=\"next\" value=\"{path}\"")),
            "{form}"
        );
    }
    assert_eq!(browser.get("/runs/2/live").await.status, 401);
    // The API answers programs in its own words, cookie or not.
    let api = browser.get("/api/2.1/jobs/runs/list").await;
    assert_eq!(api.json()["error_code"], "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_token_opens_a_session_until_sign_out() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let refused = browser.sign_in(0, "dapi0000").await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("not known here"),
        "{}",
        refused.text()
    );
    // Tokens of one workspace are nothing in another.
    assert_eq!(browser.sign_in(0, &site.prod.admin).await.status, 403);

    assert_eq!(goes_to(&browser.sign_in(0, &site.dev.admin).await), "/runs");
    let page = browser.page("/runs").await;
    assert!(page.contains("admin"), "{page}");
    assert!(!page.contains(&site.dev.admin), "the page shows the token");
    let form = [("form_token", &*form_token(&page))];
    let out = browser.post(0, "/logout", &form, None).await;
    assert_eq!(goes_to(&out), "/login");
    assert_eq!(goes_to(&browser.get("/").await), "/login");
}

#[tokio::test]
async fn a_session_that_was_signed_out_stays_out() {
    let site = Site::start().await;
    let mut thief = site.admin().await;
    let page = thief.page("/").await;
    // The same cookie, in two browsers.
    let form = [("form_token", &*form_token(&page))];
    let cookies = thief.cookies();
    let mut owner = site.browser_with(cookies);
    owner.page("/").await;
    goes_to(&owner.post(0, "/logout", &form, None).await);
    assert_eq!(goes_to(&thief.get("/").await), "/login");
}

#[tokio::test]
async fn a_session_ends_after_a_week() {
    let site = Site::start().await;
    let mut browser = site.admin().await;
    site.dev
        .clock
        .advance(Duration::from_secs(7 * 24 * 3600 - 1));
    browser.page("/runs").await;
    site.dev.clock.advance(Duration::from_secs(1));
    assert_eq!(goes_to(&browser.get("/").await), "/login");
}

#[tokio::test]
async fn a_sign_in_link_works_once_and_for_a_quarter_of_an_hour() {
    let site = Site::start().await;
    let user = site.dev.app.services.identity.first_admin().await.unwrap();
    let link = site.pages[0].sign_in_link(user.clone());
    let path = link.strip_prefix("http://dev.forebay.test").unwrap();
    let mut browser = site.browser();
    assert_eq!(goes_to(&browser.get(path).await), "/");
    browser.page("/").await;
    let again = site.browser().get(path).await;
    assert_eq!(again.status, 403);
    assert!(again.text().contains("used already"), "{}", again.text());

    let late = site.pages[0].sign_in_link(user);
    let late = late.strip_prefix("http://dev.forebay.test").unwrap();
    site.dev.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(site.browser().get(late).await.status, 403);
}

#[tokio::test]
async fn forms_of_others_change_nothing() {
    let site = Site::start().await;
    let run = site.submit("/Shared/n", &["wait"]).await;
    let mut browser = site.admin().await;
    let page = browser.page(&format!("/runs/{run}")).await;
    let token = form_token(&page);
    let cancel = format!("/runs/{run}/cancel");
    let own = Some("forebay.test:7071");
    // Without the token; with one of another session; from another site and another workspace.
    assert_eq!(browser.post(0, &cancel, &[], own).await.status, 403);
    let mut other = site.admin().await;
    let strange = form_token(&other.page("/").await);
    let form = [("form_token", &*strange)];
    assert_eq!(browser.post(0, &cancel, &form, own).await.status, 403);
    let form = [("form_token", &*token)];
    for origin in ["evil.test", "forebay.test:7072", "forebay.test"] {
        let answer = browser.post(0, &cancel, &form, Some(origin)).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert!(answer.text().contains("another site"), "{}", answer.text());
    }
    assert!(
        browser
            .page(&format!("/runs/{run}"))
            .await
            .contains("Cancel run")
    );

    let done = browser.post(0, &cancel, &form, own).await;
    assert_eq!(
        goes_to(&done),
        format!("/jobs/{run}/runs/{run}?said=canceled")
    );
    let wait = format!("/api/forebay/v1/runs/{run}?wait_ms=30000");
    let ended = site.dev.get(&wait).await.ok();
    assert_eq!(ended["state"]["result_state"], "CANCELED");
}

#[tokio::test]
async fn home_counts_other_workspaces_for_those_who_are_signed_in_there() {
    let site = Site::start().await;
    site.run("/Shared/broken", &["fail ValueError on-purpose"])
        .await;
    let mut browser = site.browser();
    assert_eq!(browser.sign_in(1, &site.prod.admin).await.status, 303);
    let home = browser.open_text(1, "/").await;
    assert!(home.contains("Sign in to see it"), "{home}");
    assert!(home.contains("http://forebay.test:7071/"), "{home}");
    assert!(!home.contains("<b>1</b> failed"), "{home}");
    assert_eq!(browser.sign_in(0, &site.dev.admin).await.status, 303);
    let home = browser.open_text(1, "/").await;
    assert!(home.contains("<b>1</b> failed in 24 h"), "{home}");
}

#[tokio::test]
async fn a_plain_user_sees_what_is_theirs() {
    let site = Site::start().await;
    let run = site
        .run("/Users/admin/secret-plans", &["fail ValueError on-purpose"])
        .await;
    let mut browser = site.browser();
    assert_eq!(browser.sign_in(0, &site.dev.plain).await.status, 303);
    let home = browser.page("/").await;
    assert!(
        home.contains(PLAIN_USER) && home.contains("Nothing has run here yet"),
        "{home}"
    );
    for path in [format!("/runs/{run}"), "/workspace/Users/admin".to_owned()] {
        let answer = browser.get(&path).await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(!answer.text().contains("secret-plans"), "{}", answer.text());
    }
    let download = format!("/runs/{run}/notebook.ipynb");
    assert_eq!(browser.get(&download).await.status, 403);
}
