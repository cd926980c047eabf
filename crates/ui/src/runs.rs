use axum::extract::{Query, State};
use forebay_control::runs::RunView;
use forebay_engine::Phase;
use forebay_store::{Run, RunFilter};
use forebay_types::{JobId, Millis, RunId};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::{badge, first_line, span, when};
use crate::site::Pages;

const ROWS: usize = 50;

#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    state: String,
    job: Option<i64>,
    before: Option<i64>,
}

const STATES: [(&str, &str); 3] = [("", "All"), ("active", "Running"), ("failed", "Failed")];

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let filter = RunFilter {
        job_id: asked.job.map(JobId),
        active: (asked.state == "active").then_some(true),
        failed: asked.state == "failed",
        before: asked.before.map(RunId),
        limit: ROWS + 1,
        ..RunFilter::default()
    };
    let mut runs = pages.services().runs.list(&session.ctx, filter).await?;
    let has_more = runs.len() > ROWS;
    runs.truncate(ROWS);
    let next = runs.last().filter(|_| has_more).map(|view| view.run.id);
    let active = runs.iter().any(|view| !view.run.phase.is_ended());
    let body = html! {
        div class="head" {
            h1 { "Runs" @if let Some(job) = asked.job { " of job " (job) } }
            nav class="filter" aria-label="Which runs" {
                @for (state, label) in STATES {
                    a href=(link(state, asked.job, None))
                        aria-current=[(state == asked.state).then_some("true")] { (label) }
                }
            }
        }
        @if runs.is_empty() {
            p class="nothing" { (nothing(&asked)) }
        } @else {
            (cards(&runs, pages.now(), failure_line))
        }
        nav class="pager" aria-label="Pages" {
            @if asked.before.is_some() { a href=(link(&asked.state, asked.job, None)) { "← Newest" } }
            @if let Some(next) = next {
                a href=(link(&asked.state, asked.job, Some(next))) rel="next" { "Older →" }
            }
        }
    };
    let page = Page {
        changes: active,
        ..Page::new("Runs", Section::Runs, body)
    };
    Ok(pages.page(Some(&session), page))
}

fn nothing(asked: &Asked) -> &'static str {
    match (asked.state.as_str(), asked.before) {
        (_, Some(_)) => "There are no older runs.",
        ("active", None) => "Nothing runs at the moment.",
        ("failed", None) => "Nothing has failed.",
        _ => "Nothing has run here yet. Start something: forebay run PATH",
    }
}

fn link(state: &str, job: Option<i64>, before: Option<RunId>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !state.is_empty() {
        query.append_pair("state", state);
    }
    for (name, id) in [("job", job), ("before", before.map(|id| id.0))] {
        if let Some(id) = id {
            query.append_pair(name, &id.to_string());
        }
    }
    let query = query.finish();
    if query.is_empty() {
        "/runs".to_owned()
    } else {
        format!("/runs?{query}")
    }
}

/// A table of runs, which becomes cards where it is narrow; `extra` adds a line below the name.
pub(crate) fn cards(runs: &[RunView], now: Millis, extra: fn(&RunView) -> Markup) -> Markup {
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" class="is" { "State" }
                th scope="col" { "Run" }
                th scope="col" { "Started" }
                th scope="col" { "Took" }
                th scope="col" { "By" }
            } }
            tbody {
                @for view in runs {
                    @let run = &view.run;
                    tr {
                        td class="is" { (badge(run.phase)) }
                        td data-label="Run" class="wide" {
                            a href=(run_link(run)) class="name" { (run.name) }
                            div class="soft" { (what(run)) }
                            (extra(view))
                        }
                        td data-label="Started" class="tight" { (when(run.created_at, now)) }
                        td data-label="Took" class="tight" { (took(run, now)) }
                        td data-label="By" { (run.creator_name) }
                    }
                }
            }
        }
    }
}

fn took(run: &Run, now: Millis) -> String {
    match run.phase {
        Phase::Queued | Phase::Blocked => "–".to_owned(),
        _ => span(Some(run.created_at), run.ended_at, now).unwrap_or_default(),
    }
}

/// The address that clients print for a run.
pub(crate) fn run_link(run: &Run) -> String {
    let job = run.job_id.map_or(run.id.0, |id| id.0);
    format!("/jobs/{job}/runs/{}", run.id)
}

/// What a run runs: its notebook, file or package; or how many tasks it has.
pub(crate) fn what(run: &Run) -> String {
    let tasks = run.settings.get("tasks").and_then(Value::as_array);
    match tasks.map_or(&[][..], Vec::as_slice) {
        [] => String::new(),
        [task] => task_what(task),
        tasks => format!("{} tasks", tasks.len()),
    }
}

/// What one task of a definition runs.
pub(crate) fn task_what(task: &Value) -> String {
    let text = |kind: &str, field: &str| {
        let value = task.get(kind).and_then(|kind| kind.get(field));
        value.and_then(Value::as_str).map(str::to_owned)
    };
    text("notebook_task", "notebook_path")
        .or_else(|| text("spark_python_task", "python_file"))
        .or_else(|| {
            let package = text("python_wheel_task", "package_name")?;
            let entry = text("python_wheel_task", "entry_point").unwrap_or_default();
            Some(format!("{package}: {entry}"))
        })
        .unwrap_or_else(|| {
            let fields = task.as_object();
            let kind = fields.and_then(|fields| fields.keys().find(|key| key.ends_with("_task")));
            kind.cloned().unwrap_or_default()
        })
}

/// Why it failed, in one line.
pub(crate) fn failure_line(view: &RunView) -> Markup {
    let failed = view.newest().find_map(|attempt| {
        let text = attempt.error.as_deref()?;
        Some((attempt, first_line(text, 160)))
    });
    html! {
        @if let Some((attempt, text)) = failed {
            div class="why" {
                @if view.attempts.len() > 1 { (attempt.task_key) ": " }
                (text)
            }
        } @else if !view.run.message.is_empty() {
            div class="soft" { (first_line(&view.run.message, 160)) }
        }
    }
}
