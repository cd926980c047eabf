//! What a job is made of: its tasks, its rules, its parameters, and who may do what with it.

use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use forebay_control::jobs::{JobDocument, TaskSpec};
use forebay_store::Job;
use forebay_types::{Grant, PermissionLevel, Principal};
use maud::{Markup, html};
use serde_json::Value;

use super::job_id;
use crate::failure::PageResult;
use crate::run::git_source;
use crate::runs::task_what;
use crate::session::Session;
use crate::show::{breaking, duration};
use crate::site::Pages;

/// Tasks that the table shows; the document below has all.
const TASKS_MAX: usize = 100;

pub(super) fn all(job: &Job, document: Option<&JobDocument>, grants: &[Grant]) -> Markup {
    html! {
        @if let Some(document) = document {
            (rules(document))
            (parameters(document))
            h2 { "Tasks" }
            (tasks(job, document))
        }
        h2 { "Who may do what" }
        (access(grants))
        @if job.settings.get("tasks").and_then(Value::as_array).is_some_and(|tasks| tasks.len() > TASKS_MAX) {
            p { a href={ "/jobs/" (job.id) "/definition.json" } { "Definition as JSON" } }
        } @else {
            details {
                summary { "Definition as JSON" }
                pre class="source" tabindex="0" { (json(job)) }
            }
        }
    }
}

fn json(job: &Job) -> String {
    serde_json::to_string_pretty(&job.settings).unwrap_or_default()
}

/// The whole definition, for those too long for the page.
pub(crate) async fn document(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
) -> PageResult<Response> {
    let job = pages
        .services()
        .jobs
        .get(&session.ctx, job_id(&id)?)
        .await?;
    Ok(([(CONTENT_TYPE, "application/json")], json(&job)).into_response())
}

fn rules(document: &JobDocument) -> Markup {
    let spec = &document.spec;
    let most = spec.max_concurrent_runs.unwrap_or(1);
    let queues = spec.queue.as_ref().is_some_and(|queue| queue.enabled);
    html! {
        dl class="facts" {
            div { dt { "Runs at once" } dd { "at most " (most) } }
            div { dt { "More runs" } dd { @if queues { "wait in line" } @else { "are skipped" } } }
            div {
                dt { "Time limit" }
                dd {
                    @if spec.timeout_seconds > 0 {
                        (duration(spec.timeout_seconds.saturating_mul(1000)))
                    } @else { "none" }
                }
            }
            (git_source(&document.settings, None))
        }
    }
}

fn parameters(document: &JobDocument) -> Markup {
    let parameters = &document.spec.parameters;
    html! {
        @if !parameters.is_empty() {
            h2 { "Parameters" }
            dl class="pairs" {
                @for parameter in parameters {
                    dt { (parameter.name) }
                    dd { @if parameter.default.is_empty() { span class="soft" { "(empty)" } } @else { (parameter.default) } }
                }
            }
        }
    }
}

fn tasks(job: &Job, document: &JobDocument) -> Markup {
    let definitions = job.settings.get("tasks").and_then(Value::as_array);
    let definitions = definitions.map_or(&[][..], Vec::as_slice);
    let specs = &document.spec.tasks;
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" { "Task" } th scope="col" { "Runs" }
                th scope="col" { "After" } th scope="col" { "Rules" }
            } }
            tbody {
                @for (spec, definition) in specs.iter().zip(definitions).take(TASKS_MAX) {
                    tr {
                        td data-label="Task" class="name" { (breaking(&spec.task_key)) }
                        td data-label="Runs" class="wide" { (task_what(definition)) }
                        td data-label="After" { (breaking(&after(spec))) }
                        td data-label="Rules" { (rules_of(spec)) }
                    }
                }
            }
        }
        @if specs.len() > TASKS_MAX {
            p class="note" { "and " (specs.len() - TASKS_MAX) " more: the definition has all of them." }
        }
    }
}

fn after(spec: &TaskSpec) -> String {
    let keys = spec.depends_on.iter().map(|one| one.task_key.as_str());
    keys.collect::<Vec<_>>().join(", ")
}

/// What differs from a task that runs once when all before it succeeded.
fn rules_of(spec: &TaskSpec) -> String {
    let mut rules = Vec::new();
    if spec.disabled {
        rules.push("disabled".to_owned());
    }
    if let Some(run_if) = spec.run_if.as_deref().filter(|rule| *rule != "ALL_SUCCESS") {
        rules.push(format!(
            "runs if {}",
            run_if.to_lowercase().replace('_', " ")
        ));
    }
    match spec.max_retries {
        0 => {}
        1 => rules.push("1 retry".to_owned()),
        retries if retries < 0 => rules.push("retries without end".to_owned()),
        retries => rules.push(format!("{retries} retries")),
    }
    if spec.timeout_seconds > 0 {
        let limit = duration(spec.timeout_seconds.saturating_mul(1000));
        rules.push(format!("stops after {limit}"));
    }
    rules.join(", ")
}

fn access(grants: &[Grant]) -> Markup {
    html! {
        dl class="pairs plain-pairs" {
            dt { "administrators" } dd { "everything" }
            @for grant in grants {
                dt {
                    @match &grant.principal {
                        Principal::User(name) => (name),
                        Principal::Group(name) if name == "users" => "everybody",
                        Principal::Group(name) => { "group " (name) },
                    }
                }
                dd { (level_words(grant.level)) }
            }
        }
    }
}

fn level_words(level: PermissionLevel) -> &'static str {
    match level {
        PermissionLevel::CanView => "see it and its runs",
        PermissionLevel::CanManageRun => "see it, start, cancel and repair runs",
        PermissionLevel::CanManage => "everything except giving it away",
        PermissionLevel::IsOwner => "everything; its runs act with this user's rights",
        _ => level.as_str(),
    }
}
