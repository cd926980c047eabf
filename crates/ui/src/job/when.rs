//! What starts a job by itself, what comes next, and how to pause it.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use forebay_control::jobs::{After, JobDocument, Unit};
use forebay_control::triggers::{Preview, TriggerView};
use forebay_store::{Job, TriggerKind};
use forebay_types::{Error, Millis};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Seen, job_id};
use crate::failure::{Failure, PageResult};
use crate::notice::Notice;
use crate::schedule;
use crate::session::Session;
use crate::show::{exact_time, when};
use crate::site::Pages;

pub(super) fn section(session: &Session, seen: &Seen, firings: &[Preview], now: Millis) -> Markup {
    let triggers = &seen.triggers;
    html! {
        h2 { "When it runs" }
        @if triggers.is_empty() {
            p class="nothing" { "It runs only when somebody starts it." }
        }
        @for trigger in triggers {
            div class="trigger" {
                p {
                    (words(trigger, seen.document.as_ref())) " "
                    @if trigger.trigger.paused { span class="state warn" { "Paused" } }
                    @else if let Some(next) = trigger.next_at {
                        "Next: " b { (exact_time(next)) }
                    }
                }
                (troubles(trigger))
                @if let Some(last) = trigger.trigger.last_fired_at {
                    p class="soft" {
                        "Last fired " (when(last, now))
                        @if let Some(run) = trigger.trigger.last_run_id {
                            ": " a href={ "/runs/" (run) } { "run " (run) }
                        }
                    }
                }
                @if seen.may_manage { (pause_form(session, &seen.job, trigger)) }
            }
        }
        @if let Some(schedule) = seen.document.as_ref().and_then(|one| one.spec.schedule.as_ref()) {
            details open[firings.len() <= 3] {
                summary { "The next " (firings.len()) " firings" }
                (schedule::table(firings, &schedule.timezone_id))
                p {
                    a href=(schedule::link(&schedule.quartz_cron_expression, &schedule.timezone_id)) {
                        "Try another schedule"
                    }
                }
            }
        }
    }
}

fn troubles(trigger: &TriggerView) -> Markup {
    html! {
        @if let Some(brake) = &trigger.trigger.brake {
            p class="warning" { (brake) " Look first at what made it fire so often." }
        }
        @if let Some(error) = &trigger.trigger.error {
            p class="problem" { "It cannot fire: " (error) }
        }
        @if let Some((known, waiting)) = trigger.files {
            p class="soft" { (known) " files known, " (waiting) " new ones wait for a run" }
        }
        @if let Some(events) = trigger.events_waiting.filter(|events| *events > 0) {
            p class="soft" { (events) " events wait for a run" }
        }
    }
}

/// What it waits for, in words.
fn words(trigger: &TriggerView, document: Option<&JobDocument>) -> Markup {
    let spec = document.map(|document| &document.spec);
    match trigger.trigger.kind {
        TriggerKind::Schedule => match spec.and_then(|spec| spec.schedule.as_ref()) {
            Some(schedule) => html! {
                "By the schedule " code { (schedule.quartz_cron_expression) }
                " in " (schedule.timezone_id) "."
            },
            None => html! { "By a schedule." },
        },
        TriggerKind::Periodic => {
            let periodic = spec.and_then(|spec| spec.trigger.as_ref()?.periodic.as_ref());
            match periodic {
                Some(periodic) => {
                    html! { "Every " (periodic.interval) " " (unit(periodic.unit)) "." }
                }
                None => html! { "Periodically." },
            }
        }
        TriggerKind::FileArrival => {
            let arrival = spec.and_then(|spec| spec.trigger.as_ref()?.file_arrival.as_ref());
            html! {
                "When files arrive"
                @if let Some(arrival) = arrival { " in " code { (arrival.url) } }
                "."
            }
        }
        TriggerKind::Continuous => html! { "Always: when a run has ended, the next one starts." },
        TriggerKind::AfterJob => match spec.and_then(|spec| spec.own.after_job.as_ref()) {
            Some(after) => html! {
                "After a run of " a href={ "/jobs/" (after.job_id) } { "job " (after.job_id) } " "
                @match after.on {
                    After::Success => "succeeded.",
                    After::Failure => "failed.",
                    After::Any => "ended, well or not.",
                }
            },
            None => html! { "After another job." },
        },
        TriggerKind::Event => match spec.and_then(|spec| spec.own.on_event.as_ref()) {
            Some(event) => html! { "For events of the topic " code { (event.topic) } "." },
            None => html! { "For events." },
        },
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Minutes => "minutes",
        Unit::Hours => "hours",
        Unit::Days => "days",
        Unit::Weeks => "weeks",
    }
}

fn pause_form(session: &Session, job: &Job, trigger: &TriggerView) -> Markup {
    let paused = trigger.trigger.paused;
    html! {
        form method="post" action={ "/jobs/" (job.id) "/pause" } {
            input type="hidden" name="form_token" value=(session.form_token());
            input type="hidden" name="kind" value=(trigger.trigger.kind.as_str());
            input type="hidden" name="paused" value=(!paused);
            button type="submit" { @if paused { "Go on" } @else { "Pause" } }
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Sent {
    #[serde(default)]
    form_token: String,
    kind: String,
    paused: bool,
}

pub(crate) async fn pause(
    State(pages): State<Pages>,
    session: Session,
    Path(id): Path<String>,
    Form(sent): Form<Sent>,
) -> PageResult {
    session.check_form(&sent.form_token)?;
    let (jobs, ctx) = (&pages.services().jobs, &session.ctx);
    let job = jobs.get(ctx, job_id(&id)?).await?;
    let change = paused(&job.settings, &sent.kind, sent.paused);
    let change = change.ok_or_else(|| {
        Failure(Error::invalid(
            "The job has no such trigger any more.".to_owned(),
        ))
    })?;
    jobs.update(ctx, job.id, change, Vec::new(), |_| Ok(()))
        .await?;
    let notice = if sent.paused {
        Notice::Paused
    } else {
        Notice::Unpaused
    };
    let page = notice.at(&format!("/jobs/{}", job.id));
    Ok(Redirect::to(&page).into_response())
}

/// The one field of the settings in which a trigger's pause stands, with it changed.
fn paused(settings: &Map<String, Value>, kind: &str, paused: bool) -> Option<Map<String, Value>> {
    let (field, inner) = match kind {
        "schedule" => ("schedule", None),
        "periodic" | "file_arrival" => ("trigger", None),
        "continuous" => ("continuous", None),
        "after_job" => ("forebay", Some("after_job")),
        "event" => ("forebay", Some("on_event")),
        _ => return None,
    };
    let mut value = settings.get(field)?.clone();
    let place = match inner {
        Some(inner) => value.get_mut(inner)?,
        None => &mut value,
    };
    let word = if paused { "PAUSED" } else { "UNPAUSED" };
    place
        .as_object_mut()?
        .insert("pause_status".to_owned(), json!(word));
    Some(Map::from_iter([(field.to_owned(), value)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_changes_nothing_else_of_its_trigger() {
        let Value::Object(settings) = json!({
            "name": "j",
            "schedule": {"quartz_cron_expression": "0 0 1 * * ?", "timezone_id": "UTC"},
            "forebay": {"after_job": {"job_id": 1}, "missed": "skip"},
        }) else {
            unreachable!()
        };
        let changed = |kind| paused(&settings, kind, true).map(Value::Object);
        let schedule = json!({"schedule": {"quartz_cron_expression": "0 0 1 * * ?",
            "timezone_id": "UTC", "pause_status": "PAUSED"}});
        assert_eq!(changed("schedule"), Some(schedule));
        let after = json!({"forebay": {"after_job": {"job_id": 1, "pause_status": "PAUSED"},
            "missed": "skip"}});
        assert_eq!(changed("after_job"), Some(after));
        assert_eq!(changed("continuous"), None);
    }
}
