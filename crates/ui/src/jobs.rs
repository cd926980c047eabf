use axum::extract::{Query, State};
use forebay_store::{Job, JobFilter, RunBrief, RunFilter};
use forebay_types::JobId;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::runs::{brakes, link_of, task_what};
use crate::session::Session;
use crate::show::{glyph, phase_words, when};
use crate::site::Pages;

const ROWS: usize = 50;
/// Enough to see whether a job fails now and then or always.
const RUNS: usize = 8;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    before: Option<i64>,
}

pub(crate) async fn list(
    State(pages): State<Pages>,
    session: Session,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let services = pages.services();
    let filter = JobFilter {
        before: asked.before.map(JobId),
        limit: ROWS + 1,
        ..JobFilter::default()
    };
    let mut jobs = services.jobs.list(&session.ctx, filter).await?;
    let has_more = jobs.len() > ROWS;
    jobs.truncate(ROWS);
    let mut rows = Vec::new();
    for job in &jobs {
        let filter = RunFilter {
            job_id: Some(job.id),
            limit: RUNS,
            ..RunFilter::default()
        };
        rows.push((job, services.runs.list_brief(&session.ctx, filter).await?));
    }
    let braked = services.triggers.braked(&session.ctx, None).await?;
    let now = pages.now();
    let body = html! {
        div class="head" { h1 { "Jobs" } a href="/schedule" { "Try a schedule" } }
        (brakes(&braked))
        @if jobs.is_empty() {
            p class="nothing" {
                "There are no jobs yet. Create one over the API: "
                code { "databricks jobs create --json-file job.json" }
            }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Job" } th scope="col" { "Newest runs" }
                    th scope="col" { "Last started" } th scope="col" { "By" }
                } }
                tbody {
                    @for (job, runs) in &rows {
                        tr {
                            td data-label="Job" class="wide" {
                                a class="name" href={ "/jobs/" (job.id) } { (name(job)) }
                                div class="soft" { (summary(job)) (tags(job)) }
                            }
                            td data-label="Newest runs" class="tight" { (strip(runs)) }
                            td data-label="Last started" class="tight" {
                                @match runs.first() {
                                    Some(run) => (when(run.created_at, now)),
                                    None => span class="soft" { "never" },
                                }
                            }
                            td data-label="By" { (job.creator_name) }
                        }
                    }
                }
            }
        }
        @if let Some(last) = jobs.last().filter(|_| has_more) {
            nav class="pager" aria-label="Pages" {
                a href={ "/jobs?before=" (last.id) } rel="next" { "Older →" }
            }
        }
    };
    let active = |(_, runs): &(_, Vec<RunBrief>)| runs.iter().any(|run| !run.phase.is_ended());
    let page = Page {
        changes: rows.iter().any(active),
        ..Page::new("Jobs", Section::Jobs, body)
    };
    Ok(pages.page(Some(&session), page))
}

/// One sign per run, the newest first.
fn strip(runs: &[RunBrief]) -> Markup {
    html! {
        span class="strip" {
            @for run in runs {
                @let (word, tone) = phase_words(run.phase);
                a class={ "cell-link " (tone) } href=(link_of(run.job_id, run.id)) title=(word) aria-label=(word) {
                    (glyph(run.phase))
                }
            }
        }
    }
}

pub(crate) fn name(job: &Job) -> &str {
    let name = job.settings.get("name").and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).unwrap_or("Untitled")
}

fn summary(job: &Job) -> String {
    let tasks = job.settings.get("tasks").and_then(Value::as_array);
    match tasks.map_or(&[][..], Vec::as_slice) {
        [task] => task_what(task),
        tasks => format!("{} tasks", tasks.len()),
    }
}

pub(crate) fn tags(job: &Job) -> Markup {
    let tags = job.settings.get("tags").and_then(Value::as_object);
    html! {
        @for (key, value) in tags.into_iter().flatten() {
            " " span class="tag" {
                (key)
                @if let Some(value) = value.as_str().filter(|value| !value.is_empty()) { ": " (value) }
            }
        }
    }
}
