//! What runs, what waits and why, and how full the caps are; live.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_control::runs::RunView;
use forebay_engine::Phase;
use forebay_store::{Attempt, RunFilter};
use forebay_types::Millis;
use maud::{Markup, html};

use crate::failure::PageResult;
use crate::fragment::Fragment;
use crate::layout::{Page, Section};
use crate::live::{Living, Look, follow};
use crate::runs::{run_link, what};
use crate::session::Session;
use crate::show::{duration, when};
use crate::site::Pages;

/// Active runs that are looked at; what is beyond is counted, not shown.
const RUNS_MAX: usize = 200;

/// The queue at one moment, as one reader sees it.
struct Queue {
    slots: usize,
    running: Vec<Running>,
    waiting: Vec<Waiting>,
    /// Whether there are more runs than were looked at.
    is_cut: bool,
}

struct Running {
    link: String,
    name: String,
    what: String,
    since: Millis,
    by: String,
}

struct Waiting {
    link: String,
    name: String,
    what: String,
    since: Millis,
    why: String,
    /// From 1; nothing for what does not wait in line.
    place: Option<usize>,
    by: String,
}

impl Queue {
    async fn load(pages: &Pages, session: &Session) -> PageResult<Self> {
        let filter = RunFilter {
            active: Some(true),
            limit: RUNS_MAX + 1,
            ..RunFilter::default()
        };
        let mut runs = pages.services().runs.list(&session.ctx, filter).await?;
        let is_cut = runs.len() > RUNS_MAX;
        runs.truncate(RUNS_MAX);
        // The list has the newest first; what has waited longest is nearest to its turn.
        runs.reverse();
        let mut queue = Self {
            slots: pages.services().setup.server.limits.running_attempts_max,
            running: Vec::new(),
            waiting: Vec::new(),
            is_cut,
        };
        for view in &runs {
            queue.add(view);
        }
        queue.place();
        Ok(queue)
    }

    fn add(&mut self, view: &RunView) {
        let run = &view.run;
        if run.phase == Phase::Queued {
            self.waiting.push(Waiting {
                link: run_link(run),
                name: run.name.clone(),
                what: what(run),
                since: run.created_at,
                why: "its job has as many runs as it may have at once".to_owned(),
                place: None,
                by: run.creator_name.clone(),
            });
            return;
        }
        for attempt in view.newest() {
            match attempt.phase {
                Phase::Running | Phase::Terminating => self.running.push(running(view, attempt)),
                Phase::Pending | Phase::WaitingForRetry => {
                    self.waiting.push(waiting(view, attempt));
                }
                _ => {}
            }
        }
    }

    fn place(&mut self) {
        let mut place = 0;
        for waiting in &mut self.waiting {
            if waiting.place.is_some() {
                place += 1;
                waiting.place = Some(place);
            }
        }
    }
}

fn running(view: &RunView, attempt: &Attempt) -> Running {
    Running {
        link: link(view, attempt),
        name: view.run.name.clone(),
        what: attempt.task_key.clone(),
        since: attempt.started_at.unwrap_or(attempt.created_at),
        by: view.run.creator_name.clone(),
    }
}

fn waiting(view: &RunView, attempt: &Attempt) -> Waiting {
    let is_retry = attempt.phase == Phase::WaitingForRetry;
    let why = if is_retry {
        "the time between two tries is not over"
    } else {
        "all slots are in use, or others are before it"
    };
    Waiting {
        link: link(view, attempt),
        name: view.run.name.clone(),
        what: attempt.task_key.clone(),
        since: attempt.created_at,
        why: why.to_owned(),
        place: (!is_retry).then_some(0),
        by: view.run.creator_name.clone(),
    }
}

fn link(view: &RunView, attempt: &Attempt) -> String {
    format!("{}?task={}#output", run_link(&view.run), attempt.id)
}

pub(crate) async fn show(State(pages): State<Pages>, session: Session) -> PageResult<Markup> {
    let queue = Queue::load(&pages, &session).await?;
    let body = html! {
        h1 { "Queue" }
        article data-live="/queue/live" {
            @for fragment in fragments(&queue, pages.now()) { (fragment.render()) }
        }
    };
    let page = Page {
        changes: true,
        ..Page::new("Queue", Section::Queue, body)
    };
    Ok(pages.page(Some(&session), page))
}

fn fragments(queue: &Queue, now: Millis) -> Vec<Fragment> {
    vec![
        Fragment::new("caps", "caps", caps(queue)),
        Fragment::new("running", "", running_table(queue, now)),
        Fragment::new("waiting", "", waiting_table(queue, now)),
    ]
}

fn caps(queue: &Queue) -> Markup {
    let used = queue.running.len();
    html! {
        (cap("Slots of this workspace", used, queue.slots))
    }
}

/// How full a cap is, in numbers and as a bar.
fn cap(name: &str, used: usize, most: usize) -> Markup {
    let is_full = used >= most;
    html! {
        div class={ "cap" @if is_full { " full" } } {
            span { (name) }
            b { (used) " of " (most) @if is_full { ", full" } }
            meter min="0" max=(most) value=(used.min(most)) aria-hidden="true" {}
        }
    }
}

fn running_table(queue: &Queue, now: Millis) -> Markup {
    html! {
        h2 { "Running" @if !queue.running.is_empty() { " (" (queue.running.len()) ")" } }
        @if queue.running.is_empty() {
            p class="nothing" { "Nothing runs at the moment." }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Task" } th scope="col" { "Since" }
                    th scope="col" { "So far" } th scope="col" { "By" }
                } }
                tbody {
                    @for row in &queue.running {
                        tr {
                            td data-label="Task" class="wide" {
                                a class="name" href=(row.link) { (row.name) }
                                div class="soft" { (row.what) }
                            }
                            td data-label="Since" class="tight" { (when(row.since, now)) }
                            td data-label="So far" class="tight" { (duration(now.since(row.since))) }
                            td data-label="By" { (row.by) }
                        }
                    }
                }
            }
        }
    }
}

fn waiting_table(queue: &Queue, now: Millis) -> Markup {
    html! {
        h2 { "Waiting" @if !queue.waiting.is_empty() { " (" (queue.waiting.len()) ")" } }
        @if queue.waiting.is_empty() {
            p class="nothing" { "Nothing waits: whatever is started now begins at once." }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Place" } th scope="col" { "Task" } th scope="col" { "Why" }
                    th scope="col" { "Since" } th scope="col" { "By" }
                } }
                tbody {
                    @for row in &queue.waiting {
                        tr {
                            td data-label="Place" class="tight" {
                                @if let Some(place) = row.place { (place) "." }
                            }
                            td data-label="Task" class="wide" {
                                a class="name" href=(row.link) { (row.name) }
                                div class="soft" { (row.what) }
                            }
                            td data-label="Why" { (row.why) }
                            td data-label="Since" class="tight" { (when(row.since, now)) }
                            td data-label="By" { (row.by) }
                        }
                    }
                }
            }
        }
        @if queue.is_cut { p class="note" { "There are more; these are the newest." } }
    }
}

pub(crate) async fn live(
    State(pages): State<Pages>,
    session: Option<Session>,
) -> PageResult<Response> {
    let Some(session) = session else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    Ok(follow(LiveQueue { pages, session }))
}

struct LiveQueue {
    pages: Pages,
    session: Session,
}

impl Living for LiveQueue {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    async fn look(&mut self) -> Option<Look> {
        let queue = Queue::load(&self.pages, &self.session).await.ok()?;
        Some(Look {
            fragments: fragments(&queue, self.pages.now()),
            ended: false,
        })
    }
}
