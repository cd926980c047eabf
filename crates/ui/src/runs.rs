use axum::extract::{Query, State};
use forebay_engine::{Children, Phase};
use forebay_store::{Braked, Run, RunBrief, RunCursor, RunFilter};
use forebay_types::{JobId, Millis, RunId};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::PageResult;
use crate::layout::{Page, Section};
use crate::session::Session;
use crate::show::{badge, duration, first_line, when};
use crate::site::Pages;

const ROWS: usize = 50;

#[derive(Debug, Default, Clone, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    state: String,
    job: Option<i64>,
    /// The last run of the page before, as [`RunCursor`] is written.
    before: Option<String>,
}

const STATES: [(&str, &str); 3] = [("", "All"), ("active", "Running"), ("failed", "Failed")];

pub(crate) async fn show(
    State(pages): State<Pages>,
    session: Session,
    Query(asked): Query<Asked>,
) -> PageResult<Markup> {
    let before = asked.before.as_deref().map(str::parse).transpose()?;
    let filter = RunFilter {
        job_id: asked.job.map(JobId),
        active: (asked.state == "active").then_some(true),
        failed: asked.state == "failed",
        before,
        contexts: true,
        limit: ROWS + 1,
        ..RunFilter::default()
    };
    let mut runs = pages
        .services()
        .runs
        .list_brief(&session.ctx, filter)
        .await?;
    let has_more = runs.len() > ROWS;
    runs.truncate(ROWS);
    let next = runs.last().filter(|_| has_more);
    let next = next.map(|run| RunCursor::new(run.id, run.created_at));
    let job = asked.job.map(JobId);
    let braked = pages.services().triggers.braked(&session.ctx, job).await?;
    let active = runs.iter().any(|run| !run.phase.is_ended());
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
        (brakes(&braked))
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
    match (asked.state.as_str(), &asked.before) {
        (_, Some(_)) => "There are no older runs.",
        ("active", None) => "Nothing runs at the moment.",
        ("failed", None) => "Nothing has failed.",
        _ => "Nothing has run here yet. Start something: forebay run PATH",
    }
}

fn link(state: &str, job: Option<i64>, before: Option<RunCursor>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !state.is_empty() {
        query.append_pair("state", state);
    }
    if let Some(job) = job {
        query.append_pair("job", &job.to_string());
    }
    if let Some(before) = before {
        query.append_pair("before", &before.to_string());
    }
    let query = query.finish();
    if query.is_empty() {
        "/runs".to_owned()
    } else {
        format!("/runs?{query}")
    }
}

/// A table of runs, which becomes cards where it is narrow; `extra` adds a line below the name.
pub(crate) fn cards(runs: &[RunBrief], now: Millis, extra: fn(&RunBrief) -> Markup) -> Markup {
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
                @for run in runs {
                    tr {
                        td class="is" { (badge(run.phase)) }
                        td data-label="Run" class="wide" {
                            a href=(link_of(run.job_id, run.id)) class="name" { (run.name) }
                            div class="soft" { (what_of(run.task_count, run.only_task.as_ref())) }
                            (extra(run))
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

fn took(run: &RunBrief, now: Millis) -> String {
    match run.phase {
        Phase::Queued | Phase::Blocked | Phase::Pending => "–".to_owned(),
        _ => duration(took_ms(run, now)),
    }
}

/// From its beginning to its end, without the time until somebody repaired it.
pub(crate) fn took_ms(run: &RunBrief, now: Millis) -> i64 {
    run.ended_at.unwrap_or(now).since(run.created_at) - run.idle_ms
}

/// The address that clients print for a run.
pub(crate) fn run_link(run: &Run) -> String {
    link_of(run.job_id, run.id)
}

pub(crate) fn link_of(job: Option<JobId>, run: RunId) -> String {
    let job = job.map_or(run.0, |id| id.0);
    format!("/jobs/{job}/runs/{run}")
}

/// What a run runs: its notebook, file or package; or how many tasks it has.
pub(crate) fn what(run: &Run) -> String {
    let tasks = run.settings.get("tasks").and_then(Value::as_array);
    let tasks = tasks.map_or(&[][..], Vec::as_slice);
    what_of(tasks.len(), tasks.first())
}

fn what_of(count: usize, only: Option<&Value>) -> String {
    match (count, only) {
        (0, _) => String::new(),
        (1, Some(task)) => task_what(task),
        (count, _) => format!("{count} tasks"),
    }
}

/// How the iterations of a for-each stand: `2 of 3 iterations, 1 failed`.
pub(crate) fn iterations(each: &Children) -> String {
    let (all, ended) = (each.planned, each.started - each.active);
    let mut words = if ended == all {
        format!("{all} iterations")
    } else {
        format!("{ended} of {all} iterations")
    };
    for (count, word) in [(each.failed, "failed"), (each.canceled, "canceled")] {
        if count > 0 {
            words = format!("{words}, {count} {word}");
        }
    }
    words
}

/// What one task of a definition runs.
pub(crate) fn task_what(task: &Value) -> String {
    let field = |kind: &str, field: &str| task.get(kind).and_then(|kind| kind.get(field));
    let text = |kind: &str, name: &str| field(kind, name)?.as_str().map(str::to_owned);
    let language = text("context_task", "language");
    text("notebook_task", "notebook_path")
        .or_else(|| Some(format!("execution context, {}", language?.to_lowercase())))
        .or_else(|| text("spark_python_task", "python_file"))
        .or_else(|| text("spark_jar_task", "main_class_name"))
        .or_else(|| {
            field("sql_task", "file")?
                .get("path")?
                .as_str()
                .map(str::to_owned)
        })
        .or_else(|| {
            let package = text("python_wheel_task", "package_name")?;
            let entry = text("python_wheel_task", "entry_point").unwrap_or_default();
            Some(format!("{package}: {entry}"))
        })
        .or_else(|| task.get("condition_task").map(condition))
        .or_else(|| {
            Some(format!(
                "each: {}",
                task_what(field("for_each_task", "task")?)
            ))
        })
        .or_else(|| Some(format!("job {}", field("run_job_task", "job_id")?)))
        .unwrap_or_else(|| {
            let fields = task.as_object();
            let kind = fields.and_then(|fields| fields.keys().find(|key| key.ends_with("_task")));
            kind.cloned().unwrap_or_default()
        })
}

/// `if {{tasks.a.values.n}} > 3`.
fn condition(task: &Value) -> String {
    let text = |name: &str| task.get(name).and_then(Value::as_str).unwrap_or_default();
    let sign = match text("op") {
        "EQUAL_TO" => "=",
        "NOT_EQUAL" => "≠",
        "GREATER_THAN" => ">",
        "GREATER_THAN_OR_EQUAL" => "≥",
        "LESS_THAN" => "<",
        "LESS_THAN_OR_EQUAL" => "≤",
        other => other,
    };
    format!("if {} {sign} {}", text("left"), text("right"))
}

/// The triggers that a brake paused, each with the way to its job, where it can go on.
pub(crate) fn brakes(braked: &[Braked]) -> Markup {
    html! {
        @for one in braked {
            p class="warning" {
                a href={ "/jobs/" (one.job_id) } { b { (one.job_name) } } ": " (one.message)
            }
        }
    }
}

/// Why it failed, or why it has not begun, in one line.
pub(crate) fn failure_line(run: &RunBrief) -> Markup {
    html! {
        @if let Some((key, error)) = &run.failed {
            div class="why" {
                @if run.task_count > 1 { (key) ": " }
                (first_line(error, 160))
            }
        } @else if let Some(why) = run.held() {
            div class="held" { (first_line(why, 160)) }
        } @else if run.phase.is_ended() && !run.message.is_empty() {
            div class="soft" { (first_line(&run.message, 160)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_tells_what_it_runs_whatever_its_kind() {
        let condition = json!({"op": "GREATER_THAN", "left": "{{job.parameters.n}}", "right": "3"});
        let notebook = json!({"task_key": "one", "notebook_task": {"notebook_path": "/Shared/n"}});
        for (task, expected) in [
            (notebook.clone(), "/Shared/n"),
            (
                json!({"condition_task": condition}),
                "if {{job.parameters.n}} > 3",
            ),
            (
                json!({"for_each_task": {"inputs": "[1]", "task": notebook}}),
                "each: /Shared/n",
            ),
            (json!({"run_job_task": {"job_id": 7}}), "job 7"),
            (json!({"sql_task": {}}), "sql_task"),
        ] {
            assert_eq!(task_what(&task), expected);
        }
    }
}
