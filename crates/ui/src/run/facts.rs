//! What a run was given, what it cost, and what exactly ran.

use forebay_control::runs::fact;
use forebay_store::Attempt;
use forebay_types::Millis;
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::bars::ready_at;
use super::{Asked, Seen, tasks};
use crate::session::Session;
use crate::show::{badge, size, span};

const VALUE_CHARS: usize = 2000;
const HASH_CHARS: usize = 12;

pub(super) fn all(session: &Session, seen: &Seen, asked: &Asked, now: Millis) -> Markup {
    let given = given(seen);
    html! {
        @if let Some(attempt) = &seen.attempt {
            @let ready = ready_at(attempt, seen.plan.as_ref(), &seen.view.attempts);
            (head(session, seen, attempt))
            (tasks::tries(seen, asked, now))
            dl class="facts" {
                (cost(attempt, ready, now))
                (git_source(&seen.view.run.settings, seen.view.run.used_commit.as_deref()))
            }
        }
        @if let Some(value) = seen.attempt.as_ref().and_then(|one| one.exit_value.as_ref()) {
            h2 { "Returned" }
            pre class="source" tabindex="0" { (cut(value)) }
        }
        @if !given.is_empty() {
            h2 { "Parameters" }
            dl class="pairs" {
                @for (name, value) in &given { dt { (name) } dd { (cut(value)) } }
            }
        }
    }
}

/// Which task this is about, where there are several, and the button that stops it alone.
fn head(session: &Session, seen: &Seen, attempt: &Attempt) -> Markup {
    let many = seen.view.newest().nth(1).is_some();
    let can_stop = !attempt.phase.is_ended() && seen.view.run.stopping.is_none();
    html! {
        @if many {
            div class="head" {
                h2 { "Task " (attempt.task_key) " " (badge(attempt.phase)) }
                @if can_stop && seen.may_manage {
                    details class="action" {
                        summary { "Cancel task" }
                        form method="post" action={ "/runs/" (attempt.id) "/cancel" } {
                            input type="hidden" name="form_token" value=(session.form_token());
                            p { "It is stopped, and the tasks after it are told so. The others go on." }
                            button type="submit" class="danger" { "Yes, cancel this task" }
                        }
                    }
                }
            }
        }
    }
}

fn cost(attempt: &Attempt, ready: Millis, now: Millis) -> Markup {
    let usage = fact(attempt, "usage");
    let number = |name: &str| {
        usage
            .and_then(|usage| usage.get(name))
            .and_then(Value::as_u64)
    };
    let text = |name: &str| {
        fact(attempt, name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let cpu = number("cpu_ms").map(|ms| format!("{}.{:02} s", ms / 1000, ms % 1000 / 10));
    let memory = number("memory_peak_bytes").map(size);
    let waited = span(Some(ready), attempt.started_at, now);
    let setup = span(attempt.started_at, attempt.executed_at, now)
        .filter(|_| attempt.executed_at.is_some());
    let ran = attempt
        .executed_at
        .and_then(|at| span(Some(at), attempt.ended_at, now));
    let warm = fact(attempt, "warm").and_then(Value::as_bool);
    html! {
        (pair("Ran", ran.filter(|_| attempt.phase.is_ended())))
        (pair("Waited", waited.filter(|_| attempt.started_at.is_some())))
        (pair("Set up", setup))
        (pair("CPU time", cpu))
        (pair("Memory, peak", memory))
        (pair("Read from disk", number("read_bytes").filter(|n| *n > 0).map(size)))
        (pair("Written to disk", number("write_bytes").filter(|n| *n > 0).map(size)))
        (pair("Start", warm.map(|warm| if warm { "warm, forked" } else { "new process" }.to_owned())))
        (pair("Spark", text("engine").map(str::to_owned)))
        (pair("Isolation", text("isolation").map(str::to_owned)))
        (hash("Environment", text("environment")))
        (hash("What ran", text("source_digest")))
        (pair("Cluster", attempt.cluster_id.clone()))
        @if attempt.attempt > 0 { (pair("Try", Some((attempt.attempt + 1).to_string()))) }
    }
}

/// The repository the code comes from, and the commit it was found at.
pub(crate) fn git_source(settings: &Map<String, Value>, commit: Option<&str>) -> Markup {
    let source = settings.get("git_source");
    let text = |name: &str| {
        let value = source.and_then(|source| source.get(name)?.as_str());
        value.map(str::to_owned)
    };
    html! {
        (pair("Repository", text("git_url")))
        (pair("Branch", text("git_branch")))
        (pair("Tag", text("git_tag")))
        (hash("Commit", commit.or(text("git_commit").as_deref())))
    }
}

fn pair(name: &str, value: Option<String>) -> Markup {
    html! {
        @if let Some(value) = value { div { dt { (name) } dd { (value) } } }
    }
}

fn hash(name: &str, value: Option<&str>) -> Markup {
    html! {
        @if let Some(value) = value {
            div {
                dt { (name) }
                dd { code title=(value) { (value.get(..HASH_CHARS).unwrap_or(value)) } }
            }
        }
    }
}

/// Values of parameters by their names: those of the task's definition, under those of the run.
fn given(seen: &Seen) -> Vec<(String, String)> {
    let run = &seen.view.run;
    let mut given = Map::new();
    for parameter in run
        .settings
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        if let Some(name) = parameter.get("name").and_then(Value::as_str) {
            given.insert(
                name.to_owned(),
                parameter.get("default").cloned().unwrap_or_default(),
            );
        }
    }
    let tasks = run.settings.get("tasks").and_then(Value::as_array);
    let task = seen
        .attempt
        .as_ref()
        .and_then(|attempt| tasks?.get(attempt.task));
    let kinds = task.and_then(Value::as_object).into_iter().flatten();
    for (_, kind) in kinds.filter(|(name, _)| name.ends_with("_task")) {
        for field in ["base_parameters", "named_parameters", "parameters"] {
            take(&mut given, kind.get(field));
        }
    }
    for value in run.parameters.values() {
        take(&mut given, Some(value));
    }
    given
        .into_iter()
        .map(|(name, value)| (name, plain(&value)))
        .collect()
}

fn take(given: &mut Map<String, Value>, value: Option<&Value>) {
    match value {
        Some(Value::Object(fields)) => given.extend(fields.clone()),
        Some(Value::Array(items)) if !items.is_empty() => {
            let words: Vec<String> = items.iter().map(plain).collect();
            given.insert("arguments".to_owned(), Value::String(words.join(" ")));
        }
        _ => {}
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}… ({})", &text[..end], size(text.len() as u64)),
        None => text.to_owned(),
    }
}
