//! What runs, what waits and why, and how full the caps are; live.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_control::runs::{QueuePage, Waiting};
use forebay_engine::admission::Use;
use forebay_store::{Braked, DueEntry, QueueEntry, RoomUse};
use forebay_types::Millis;
use maud::{Markup, html};
use serde::Deserialize;

use crate::failure::PageResult;
use crate::fragment::Fragment;
use crate::layout::{Page, Section};
use crate::live::{Living, Look, follow};
use crate::runs::brakes;
use crate::session::Session;
use crate::show::{duration, exact_time, when};
use crate::site::Pages;

/// Rows of each of the lists.
const ROWS: usize = 50;

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// How many rows of each list to leave out at the beginning.
    from: usize,
}

/// The queue as one reader sees it.
struct Seen {
    queue: QueuePage,
    due: Vec<DueEntry>,
    braked: Vec<Braked>,
    from: usize,
}

impl Seen {
    async fn load(pages: &Pages, session: &Session, from: usize) -> PageResult<Self> {
        let (services, ctx) = (pages.services(), &session.ctx);
        Ok(Self {
            queue: services.runs.queue(ctx, from, ROWS).await?,
            due: services.runs.due(ctx, ROWS).await?,
            braked: services.triggers.braked(ctx, None).await?,
            from,
        })
    }

    fn fragments(&self) -> Vec<Fragment> {
        let queue = &self.queue;
        vec![
            Fragment::new("caps", "caps", caps(queue)),
            Fragment::new("brakes", "", brakes(&self.braked)),
            Fragment::new("running", "", running(queue)),
            Fragment::new("waiting", "", waiting(queue)),
            Fragment::new("queue-foot", "", foot(queue, self.from)),
            Fragment::new("due", "", due(&self.due, queue.now)),
        ]
    }
}

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let seen = Seen::load(&pages, &session, asked.from).await?;
    let body = html! {
        h1 { "Queue" }
        article data-live={ "/queue/live?from=" (asked.from) } {
            @for fragment in seen.fragments() { (fragment.render()) }
        }
    };
    let page = Page {
        changes: true,
        ..Page::new("Queue", Section::Queue, body)
    };
    Ok(pages.page(Some(&session), page))
}

fn caps(queue: &QueuePage) -> Markup {
    html! {
        (cap(&html! { "Workspace" }, queue.workspace, 0))
        (cap(&html! { "Server" }, queue.server, 0))
        @for room in &queue.rooms { (cap(&room_name(queue, room), room.fill, room.queued)) }
    }
}

fn room_name(queue: &QueuePage, room: &RoomUse) -> Markup {
    let mut waiting = queue.waiting.iter().map(|one| &one.entry);
    let of_job = waiting.find(|entry| entry.job_id == room.job_id);
    html! {
        @match (&room.job_id, &room.key) {
            (Some(job), _) => {
                "Job " a href={ "/jobs/" (job) } {
                    @match of_job { Some(entry) => (entry.name), None => (job) }
                }
            },
            (None, Some(key)) => { "Key " code { (key) } },
            (None, None) => "",
        }
    }
}

/// How full a cap is, in numbers and as a bar.
fn cap(name: &Markup, fill: Use, waiting: usize) -> Markup {
    let Use { live, max } = fill;
    let is_full = live >= max;
    html! {
        div class={ "cap" @if is_full { " full" } } {
            span { (name) }
            b { (live) " of " (max) @if is_full { ", full" } }
            meter min="0" max=(max) value=(live.min(max)) aria-hidden="true" {}
            @if waiting > 0 && is_full { span class="soft" { (waiting) " wait for it" } }
        }
    }
}

fn running(queue: &QueuePage) -> Markup {
    html! {
        h2 { "Running" @if queue.running_total > 0 { " (" (queue.running_total) ")" } }
        @if queue.running_total == 0 {
            p class="nothing" { "Nothing runs at the moment." }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Run" } th scope="col" { "Since" }
                    th scope="col" { "So far" } th scope="col" { "By" }
                } }
                tbody {
                    @for entry in &queue.running {
                        tr {
                            (name(entry))
                            td data-label="Since" class="tight" { (when(entry.since, queue.now)) }
                            td data-label="So far" class="tight" { (duration(queue.now.since(entry.since))) }
                            td data-label="By" { (entry.creator_name) }
                        }
                    }
                }
            }
        }
    }
}

fn waiting(queue: &QueuePage) -> Markup {
    html! {
        h2 { "Waiting" @if queue.waiting_total > 0 { " (" (queue.waiting_total) ")" } }
        @if queue.waiting_total == 0 {
            p class="nothing" { "Nothing waits: whatever is started now begins at once." }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Place" } th scope="col" { "Run" } th scope="col" { "Why" }
                    th scope="col" { "Since" } th scope="col" { "By" }
                } }
                tbody {
                    @for one in &queue.waiting { (waiting_row(one, queue.now)) }
                }
            }
        }
    }
}

fn waiting_row(one: &Waiting, now: Millis) -> Markup {
    let why = one.held.map(|held| held.message());
    html! {
        tr {
            td data-label="Place" class="tight" { (one.place) "." }
            (name(&one.entry))
            td data-label="Why" {
                (why.as_deref().unwrap_or("about to start"))
            }
            td data-label="Since" class="tight" { (when(one.entry.since, now)) }
            td data-label="By" { (one.entry.creator_name) }
        }
    }
}

/// What waits for its time, not in line.
fn due(due: &[DueEntry], now: Millis) -> Markup {
    html! {
        @if !due.is_empty() {
            h2 { "Held until later (" (due.len()) ")" }
            table class="cards" {
                thead { tr {
                    th scope="col" { "Until" } th scope="col" { "Run" }
                    th scope="col" { "Why" } th scope="col" { "Since" } th scope="col" { "By" }
                } }
                tbody {
                    @for one in due {
                        tr {
                            td data-label="Until" class="tight" { (exact_time(one.due_at)) }
                            (name(&one.entry))
                            td data-label="Why" {
                                @if one.is_retry { "the time between two tries is not over" }
                                @else { (one.message) }
                            }
                            td data-label="Since" class="tight" { (when(one.entry.since, now)) }
                            td data-label="By" { (one.entry.creator_name) }
                        }
                    }
                }
            }
        }
    }
}

fn name(entry: &QueueEntry) -> Markup {
    let job = entry.job_id.map_or(entry.run_id.0, |id| id.0);
    let run = format!("/jobs/{job}/runs/{}", entry.run_id);
    let link = match entry.attempt_id {
        Some(attempt) => format!("{run}?task={attempt}#output"),
        None => run,
    };
    html! {
        td data-label="Run" class="wide" {
            a class="name" href=(link) { (entry.name) }
            div class="soft" {
                "run " (entry.run_id)
                @if !entry.task_key.is_empty() { " · " (entry.task_key) }
                @if !entry.key.is_empty() { " · key " (entry.key) }
            }
        }
    }
}

fn foot(queue: &QueuePage, from: usize) -> Markup {
    html! {
        @if queue.hidden > 0 {
            p class="note" { (queue.hidden) " more are not yours to see; they count in the places above." }
        }
        nav class="pager" aria-label="Pages" {
            @if from > 0 { a href={ "/queue?from=" (from.saturating_sub(ROWS)) } rel="prev" { "← Before" } }
            @if queue.more { a href={ "/queue?from=" (from + ROWS) } rel="next" { "Next →" } }
        }
    }
}

pub(crate) async fn live(
    State(pages): State<Pages>,
    session: Option<Session>,
    Query(asked): Query<Asked>,
) -> PageResult<Response> {
    let Some(session) = session else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    Ok(follow(LiveQueue {
        pages,
        session,
        from: asked.from,
    }))
}

struct LiveQueue {
    pages: Pages,
    session: Session,
    from: usize,
}

impl Living for LiveQueue {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    async fn look(&mut self) -> Option<Look> {
        let seen = Seen::load(&self.pages, &self.session, self.from);
        Some(Look {
            fragments: seen.await.ok()?.fragments(),
            ended: false,
        })
    }
}
