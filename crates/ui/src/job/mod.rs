//! The page of one job: how its newest runs went, task by task; when it runs; what it is made of.

mod definition;
mod matrix;
mod start;
mod when;

use std::collections::{HashMap, HashSet};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use forebay_control::jobs::JobDocument;
use forebay_control::runs::TaskPage;
use forebay_control::runs::{ENGINE_SETTING, JobWarning};
use forebay_control::triggers::{Preview, TriggerView};
use forebay_engine::Children;
use forebay_store::{Job, RunBrief, RunFilter};
use forebay_types::{Error, Grant, JobId, ObjectKind, ObjectRef, PermissionLevel, RunId};
use maud::{Markup, html};
use serde::Deserialize;

use self::matrix::{COLUMNS, Matrix, ROWS};
use crate::failure::{Failure, PageResult};
use crate::fragment::Fragment;
use crate::jobs::{name, tags};
use crate::layout::{Page, Section};
use crate::live::{Living, Look, follow};
use crate::notice::{self, Notice};
use crate::session::Session;
use crate::show::exact_time;
use crate::site::Pages;

/// Of what its code asks of its engine, on the page.
const WARNINGS_MAX: usize = 10;

pub(crate) use definition::document;
pub(crate) use start::run;
pub(crate) use when::pause;

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    /// How many tasks to leave out at the beginning.
    from: usize,
    said: Option<Notice>,
}

fn job_id(text: &str) -> PageResult<JobId> {
    let id = text.parse().map(JobId);
    id.map_err(|_| Failure(Error::missing(format!("'{text}' is not the id of a job."))))
}

/// A job as one reader sees it.
struct Seen {
    job: Job,
    /// Nothing for settings that cannot be read any more.
    document: Option<JobDocument>,
    grants: Vec<Grant>,
    may_run: bool,
    may_manage: bool,
    triggers: Vec<TriggerView>,
    runs: Vec<RunBrief>,
    /// The tasks of these runs that are on the page.
    tasks: TaskPage,
    /// How the iterations of each for-each of these runs stand.
    each: HashMap<RunId, Children>,
    /// What its code asks of its Spark engine and does not get; nothing where only the runs move.
    warnings: Vec<JobWarning>,
}

impl Seen {
    async fn load(pages: &Pages, session: &Session, id: JobId, from: usize) -> PageResult<Self> {
        let (services, ctx) = (pages.services(), &session.ctx);
        let job = services.jobs.get(ctx, id).await?;
        let object = ObjectRef::new(ObjectKind::Job, id);
        let level = services.permissions.level_of(ctx, &object).await?;
        let may = |wanted| level.is_some_and(|has| ObjectKind::Job.allows(has, wanted));
        let runs = newest_runs(pages, session, id).await?;
        let document = JobDocument::of_normal(job.settings.clone()).ok();
        let specs = document.as_ref().map_or(&[][..], |one| &one.spec.tasks);
        let keys = specs.iter().map(|task| task.task_key.clone()).collect();
        let tasks = services.runs.tasks_brief(&runs, keys, (from, ROWS)).await?;
        let of_each = specs.iter().filter(|task| task.for_each_task.is_some());
        let of_each: HashSet<&str> = of_each.map(|task| task.task_key.as_str()).collect();
        let each = tasks
            .tasks
            .iter()
            .filter(|task| of_each.contains(task.task_key.as_str()));
        let each = services
            .runs
            .iteration_counts(each.map(|task| task.id).collect())
            .await?;
        Ok(Self {
            document,
            tasks,
            grants: services.permissions.get(ctx, &object).await?,
            may_run: may(PermissionLevel::CanManageRun),
            may_manage: may(PermissionLevel::CanManage),
            triggers: services.triggers.get(ctx, id).await?,
            runs,
            each,
            job,
            warnings: Vec::new(),
        })
    }
}

async fn newest_runs(pages: &Pages, session: &Session, id: JobId) -> PageResult<Vec<RunBrief>> {
    let filter = RunFilter {
        job_id: Some(id),
        limit: COLUMNS,
        ..RunFilter::default()
    };
    Ok(pages
        .services()
        .runs
        .list_brief(&session.ctx, filter)
        .await?)
}

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let id = job_id(&id)?;
    let mut seen = Seen::load(&pages, &session, id, asked.from).await?;
    seen.warnings = pages.services().runs.job_warnings(&session.ctx, id).await?;
    let job = &seen.job;
    let body = html! {
        (notice::show(asked.said))
        p class="crumbs" { a href="/jobs" { "Jobs" } " / " (job.id) }
        div class="title" {
            h1 { (name(job)) }
            @if let Some(document) = seen.document.as_ref().filter(|_| seen.may_run) {
                (start::form(&session, job, document))
            }
        }
        p class="soft" {
            "Made by " (job.creator_name) ", " (exact_time(job.created_at)) (tags(job))
        }
        (warnings(&seen.warnings))
        (when::section(&session, &seen, &firings(&pages, &seen), pages.now()))
        article data-live={ "/jobs/" (job.id) "/live?from=" (asked.from) } {
            (runs(&pages, &seen, asked.from).render())
        }
        (definition::all(job, seen.document.as_ref(), &seen.grants))
    };
    let page = Page {
        changes: seen.runs.iter().any(|run| !run.phase.is_ended()),
        ..Page::new(name(job), Section::Jobs, body)
    };
    Ok(pages.page(Some(&session), page))
}

fn warnings(found: &[JobWarning]) -> Markup {
    html! {
        @if !found.is_empty() {
            div class="warning" {
                p { "The code asks for what the Spark engine sail does not have, or only in part:" }
                ul {
                    @for one in found.iter().take(WARNINGS_MAX) {
                        li {
                            code { (one.feature) } " in " (one.path)
                            @if let Some(cell) = one.cell { ", cell " (cell) }
                            ", line " (one.line)
                        }
                    }
                    @if found.len() > WARNINGS_MAX { li { "and " (found.len() - WARNINGS_MAX) " more" } }
                }
                p { "Apache Spark has it: " code { (ENGINE_SETTING) } " in the definition of the cluster." }
            }
        }
    }
}

/// What the schedule makes of the time to come; nothing while it is paused.
fn firings(pages: &Pages, seen: &Seen) -> Vec<Preview> {
    let schedule = seen
        .document
        .as_ref()
        .and_then(|one| one.spec.schedule.as_ref());
    let firings = schedule.map(|schedule| {
        let triggers = &pages.services().triggers;
        triggers.preview(&schedule.quartz_cron_expression, &schedule.timezone_id)
    });
    firings.and_then(Result::ok).unwrap_or_default()
}

fn runs(pages: &Pages, seen: &Seen, from: usize) -> Fragment {
    let matrix = Matrix::new(&seen.runs, &seen.tasks, &seen.each, pages.now());
    let id = seen.job.id;
    let rows = seen.tasks.total;
    let end = (from + ROWS).min(rows);
    let head = html! {
        div class="head" {
            h2 id="runs" { "Runs" }
            @if !seen.runs.is_empty() {
                nav class="links" aria-label="Runs of this job" {
                    a href={ "/runs?job=" (id) } { "All" }
                    a href={ "/runs?job=" (id) "&state=active" } { "Active" }
                    a href={ "/runs?job=" (id) "&state=failed" } { "Failed" }
                }
            }
        }
        @if seen.runs.is_empty() { p class="nothing" { "This job has not run yet." } }
        @if seen.tasks.tasks.iter().any(|task| task.tries > 1) {
            p class="soft" { "A raised number is how many tries a task had." }
        }
        @if rows > ROWS && !seen.runs.is_empty() {
            nav class="pager" aria-label="Pages of tasks" {
                span { "Tasks " (from + 1) " to " (end) " of " (rows) }
                @if from > 0 { a href={ "/jobs/" (id) "?from=" (from.saturating_sub(ROWS)) "#runs" } rel="prev" { "← Before" } }
                @if end < rows { a href={ "/jobs/" (id) "?from=" (end) "#runs" } rel="next" { "Next →" } }
            }
        }
    };
    let table = if seen.runs.is_empty() {
        Vec::new()
    } else {
        vec![matrix.fragment(from)]
    };
    Fragment::new("job-runs", "matrix-box", head).with_parts(table)
}

pub(crate) async fn live(
    State(pages): State<Pages>,
    session: Option<Session>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> PageResult<Response> {
    let Some(session) = session else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    let id = job_id(&id)?;
    Ok(follow(LiveJob {
        pages,
        session,
        id,
        from: asked.from,
    }))
}

struct LiveJob {
    pages: Pages,
    session: Session,
    id: JobId,
    from: usize,
}

impl Living for LiveJob {
    fn pages(&self) -> &Pages {
        &self.pages
    }

    async fn look(&mut self) -> Option<Look> {
        let seen = Seen::load(&self.pages, &self.session, self.id, self.from);
        let seen = seen.await.ok()?;
        Some(Look {
            fragments: vec![runs(&self.pages, &seen, self.from)],
            // Somebody or something may start the next one at any time.
            ended: false,
        })
    }
}
