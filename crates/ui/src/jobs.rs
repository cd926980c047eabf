use axum::extract::{Path, Query, State};
use forebay_control::jobs::JobDocument;
use forebay_store::{Job, JobFilter, RunFilter};
use forebay_types::{Error, JobId};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, PageResult};
use crate::layout::{Page, Section};
use crate::runs::{cards, failure_line, task_what};
use crate::session::Session;
use crate::show::{exact_time, when};
use crate::site::Pages;

const ROWS: usize = 50;
const RUNS: usize = 20;

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    before: Option<i64>,
}

pub(crate) async fn list(
    State(pages): State<Pages>,
    session: Session,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let filter = JobFilter {
        before: asked.before.map(JobId),
        limit: ROWS + 1,
        ..JobFilter::default()
    };
    let mut jobs = pages.services().jobs.list(&session.ctx, filter).await?;
    let has_more = jobs.len() > ROWS;
    jobs.truncate(ROWS);
    let now = pages.now();
    let body = html! {
        h1 { "Jobs" }
        @if jobs.is_empty() {
            p class="nothing" {
                "There are no jobs yet. Create one over the API: "
                code { "databricks jobs create --json-file job.json" }
            }
        } @else {
            table class="cards" {
                thead { tr {
                    th scope="col" { "Job" } th scope="col" { "Runs" }
                    th scope="col" { "Created" } th scope="col" { "By" }
                } }
                tbody {
                    @for job in &jobs {
                        tr {
                            td data-label="Job" class="wide" {
                                a class="name" href={ "/jobs/" (job.id) } { (name(job)) }
                                div class="soft" { (summary(job)) }
                            }
                            td data-label="Runs" class="tight" {
                                a href={ "/runs?job=" (job.id) } { "See runs" }
                            }
                            td data-label="Created" class="tight" { (when(job.created_at, now)) }
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
    Ok(pages.page(Some(&session), Page::new("Jobs", Section::Jobs, body)))
}

fn name(job: &Job) -> &str {
    let name = job.settings.get("name").and_then(Value::as_str);
    name.filter(|name| !name.is_empty()).unwrap_or("Untitled")
}

fn tasks(job: &Job) -> &[Value] {
    let tasks = job.settings.get("tasks").and_then(Value::as_array);
    tasks.map_or(&[], Vec::as_slice)
}

fn summary(job: &Job) -> String {
    match tasks(job) {
        [task] => task_what(task),
        tasks => format!("{} tasks", tasks.len()),
    }
}

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
) -> PageResult<Markup> {
    let services = pages.services();
    let id = id.parse().map(JobId);
    let id = id.map_err(|_| Failure(Error::missing("This is not the id of a job.")))?;
    let job = services.jobs.get(&session.ctx, id).await?;
    let filter = RunFilter {
        job_id: Some(id),
        limit: RUNS,
        ..RunFilter::default()
    };
    let runs = services.runs.list(&session.ctx, filter).await?;
    let body = html! {
        p class="crumbs" { a href="/jobs" { "Jobs" } " / " (id) }
        h1 { (name(&job)) }
        p class="soft" { "Created by " (job.creator_name) " · " (exact_time(job.created_at)) }
        h2 { "Tasks" }
        (task_table(&job))
        h2 { "Runs" }
        @if runs.is_empty() {
            p class="nothing" { "This job has not run yet." }
        } @else {
            (cards(&runs, pages.now(), failure_line))
            @if runs.len() == RUNS { p { a href={ "/runs?job=" (id) } { "All its runs" } } }
        }
        details {
            summary { "Definition as JSON" }
            pre class="source" tabindex="0" {
                (serde_json::to_string_pretty(&job.settings).unwrap_or_default())
            }
        }
    };
    let page = Page {
        changes: runs.iter().any(|view| !view.run.phase.is_ended()),
        ..Page::new(name(&job), Section::Jobs, body)
    };
    Ok(pages.page(Some(&session), page))
}

fn task_table(job: &Job) -> Markup {
    let spec = JobDocument::of_normal(job.settings.clone()).map(|document| document.spec);
    let after = |index: usize| {
        let task = spec.as_ref().ok().and_then(|spec| spec.tasks.get(index));
        let keys = task.into_iter().flat_map(|task| &task.depends_on);
        let keys: Vec<&str> = keys.map(|one| one.task_key.as_str()).collect();
        keys.join(", ")
    };
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" { "Task" } th scope="col" { "Runs" } th scope="col" { "After" }
            } }
            tbody {
                @for (index, task) in tasks(job).iter().enumerate() {
                    tr {
                        td data-label="Task" class="name" {
                            (task.get("task_key").and_then(Value::as_str).unwrap_or_default())
                        }
                        td data-label="Runs" class="wide" { (task_what(task)) }
                        td data-label="After" { (after(index)) }
                    }
                }
            }
        }
    }
}
