use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use forebay_store::{RunBrief, RunFilter};
use forebay_types::Millis;
use maud::{Markup, html};

use crate::failure::PageResult;
use crate::fragment::Fragment;
use crate::layout::{Page, Section};
use crate::live::{Living, Look, follow};
use crate::runs::{cards, failure_line};
use crate::session::Session;
use crate::show::address;
use crate::site::{Pages, Place};

const DAY_MS: i64 = 24 * 3600 * 1000;
const ROWS_MAX: usize = 10;

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    headers: HeaderMap,
) -> PageResult<Markup> {
    let (fragments, changes) = fragments(&pages, &session, &headers).await?;
    let body = html! {
        h1 class="hidden" { "Home" }
        article data-live="/live" {
            @for fragment in &fragments { (fragment.render()) }
        }
    };
    let page = Page {
        changes,
        ..Page::new("Home", Section::Home, body)
    };
    Ok(pages.page(Some(&session), page))
}

/// The pieces of the page, and whether anything is active.
async fn fragments(
    pages: &Pages,
    session: &Session,
    headers: &HeaderMap,
) -> PageResult<(Vec<Fragment>, bool)> {
    let now = pages.now();
    let since = now.plus_ms(-DAY_MS);
    let (runs, ctx) = (&pages.services().runs, &session.ctx);
    let filter = |active, failed, from| RunFilter {
        active: Some(active),
        failed,
        started_from: from,
        contexts: true,
        limit: ROWS_MAX,
        ..RunFilter::default()
    };
    let active = runs.list_brief(ctx, filter(true, false, None)).await?;
    let failed = runs
        .list_brief(ctx, filter(false, true, Some(since)))
        .await?;
    let newest = RunFilter {
        limit: 5,
        contexts: true,
        ..RunFilter::default()
    };
    let newest = runs.list_brief(ctx, newest).await?;
    let mut places = Vec::new();
    for (place, here) in pages.places() {
        let counts = counts(place, headers, since).await;
        let link = pages.address_of(place, headers);
        places.push((place, here, counts, link));
    }
    let places = html! {
        section aria-labelledby="places" {
            h2 id="places" { "Workspaces" }
            ul class="places" {
                @for (place, here, counts, link) in &places {
                    li { (place_card(place, *here, *counts, link)) }
                }
            }
        }
    };
    let rest = if newest.is_empty() {
        first_steps(pages, session)
    } else {
        lists(&active, &failed, &newest, now)
    };
    let fragments = vec![
        Fragment::new("home-places", "", places),
        Fragment::new("home-runs", "", rest),
    ];
    Ok((fragments, !active.is_empty()))
}

pub(crate) async fn live(
    State(pages): State<Pages>,
    session: Option<Session>,
    headers: HeaderMap,
) -> PageResult<Response> {
    let Some(session) = session else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    Ok(follow(LiveHome {
        pages,
        session,
        headers,
    }))
}

struct LiveHome {
    pages: Pages,
    session: Session,
    /// The cookies for the other workspaces are here.
    headers: HeaderMap,
}

impl Living for LiveHome {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    async fn look(&mut self) -> Option<Look> {
        let fragments = fragments(&self.pages, &self.session, &self.headers);
        Some(Look {
            fragments: fragments.await.ok()?.0,
            ended: false,
        })
    }
}

/// `(active, failed)` of a workspace, for those who are signed in there with this browser.
async fn counts(place: &Place, headers: &HeaderMap, since: Millis) -> Option<(u32, u32)> {
    let session = Session::find(&place.services, headers).await.ok()??;
    place.services.runs.counts(&session.ctx, since).await.ok()
}

fn place_card(place: &Place, here: bool, counts: Option<(u32, u32)>, link: &str) -> Markup {
    let class = match place.name.as_str() {
        name @ ("dev" | "staging" | "prod") => name,
        _ => "other",
    };
    html! {
        a class={ "place env-" (class) } href={ (link) "/" } aria-current=[here.then_some("true")] {
            span class="env" { (place.name) }
            span class="counts" {
                @match counts {
                    Some((active, failed)) => {
                        span { b { (active) } " active" }
                        span class=[(failed > 0).then_some("bad")] { b { (failed) } " failed in 24 h" }
                    }
                    None => span { "Sign in to see it" }
                }
            }
            span class="address" { (link) @if here { " · you are here" } }
        }
    }
}

fn lists(active: &[RunBrief], failed: &[RunBrief], newest: &[RunBrief], now: Millis) -> Markup {
    html! {
        section aria-labelledby="active" {
            div class="head" {
                h2 id="active" { "Running and waiting" }
                @if !active.is_empty() { a href="/queue" { "What waits, and why" } }
            }
            @if active.is_empty() {
                p class="nothing" { "Nothing runs at the moment." }
            } @else {
                (cards(active, now, failure_line))
                (more("/runs?state=active", active.len()))
            }
        }
        section aria-labelledby="failed" {
            h2 id="failed" { "Failed in the last 24 hours" }
            @if failed.is_empty() {
                p class="nothing" { "Nothing failed." }
            } @else {
                (cards(failed, now, failure_line))
                (more("/runs?state=failed", failed.len()))
            }
        }
        @if active.is_empty() && failed.is_empty() {
            section aria-labelledby="newest" {
                h2 id="newest" { "Latest runs" }
                (cards(newest, now, |_| html! {}))
            }
        }
        p { a href="/runs" { "All runs" } }
    }
}

fn more(link: &str, shown: usize) -> Markup {
    html! {
        @if shown == ROWS_MAX { p { a href=(link) { "See all of them" } } }
    }
}

fn first_steps(pages: &Pages, session: &Session) -> Markup {
    let name = &pages.place().name;
    let home = format!("/Users/{}", session.ctx.user.name);
    html! {
        section class="first" {
            h2 { "Nothing has run here yet" }
            p { "Try it with a notebook of yours, from a terminal:" }
            pre class="source" tabindex="0" {
                "forebay run report.py --profile " (name)
            }
            p {
                "Or see the whole thing with a real Git repository: " code { "forebay demo" } ". "
                "The Databricks SDK and the legacy command line use the profile " code { "[" (name) "]" }
                " in " code { "databrickscfg" } " in the data folder" "."
            }
            p { a href={ "/workspace" (address(&home)) } { "Open your folder" } }
        }
    }
}
