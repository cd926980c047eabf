//! Running some tasks of an ended run again, and what became of it before.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect};
use forebay_control::runs::{Episode, RepairRun, RunView};
use forebay_engine::{Phase, Verdict};
use forebay_store::{Attempt, Repair, Run, RunKind};
use forebay_types::{Error, ErrorCode, Millis, RunId};
use maud::{Markup, html};

use super::{Asked, Seen, run_id};
use crate::failure::{Failure, PageResult};
use crate::notice::Notice;
use crate::runs::run_link;
use crate::session::Session;
use crate::show::{badge, breaking, span, when};
use crate::site::Pages;

/// Tasks of one time that are named.
const TASKS_MAX: usize = 20;
/// Up to here each task can be chosen; beyond, all that failed.
const CHOICES_MAX: usize = 100;

fn is_fine(attempt: &Attempt) -> bool {
    attempt.phase.verdict().is_some_and(Verdict::is_fine)
}

/// Whether the reader may repair the run, and there is something to run again: not in one that
/// never started, nor in one that only its parent can start.
fn is_offered(seen: &Seen) -> bool {
    let run = &seen.view.run;
    let stands_alone = matches!(run.kind, RunKind::Job | RunKind::Submit);
    let started = run.phase != Phase::Ended(Verdict::Skipped);
    seen.may_manage && seen.is_latest() && stands_alone && started
}

/// A button with a choice of tasks; those that failed are chosen.
pub(super) fn form(session: &Session, seen: &Seen) -> Markup {
    let run = &seen.view.run;
    let tasks: Vec<&Attempt> = seen.view.newest().collect();
    let failed = tasks.iter().filter(|one| !is_fine(one)).count();
    if !is_offered(seen) || tasks.is_empty() || (failed == 0 && tasks.len() > CHOICES_MAX) {
        return html! {};
    }
    html! {
        details class="action" {
            summary { @if failed > 0 { "Repair run" } @else { "Run again" } }
            form method="post" action={ "/runs/" (run.id) "/repair" } {
                input type="hidden" name="form_token" value=(session.form_token());
                @if let Some(last) = seen.latest_repair {
                    input type="hidden" name="latest" value=(last);
                }
                @match tasks.as_slice() {
                    [task] => {
                        input type="hidden" name="task" value=(task.task_key);
                        p { "It runs again in this run, " (as_what(run)) ". Its output so far stays." }
                    }
                    tasks => {
                        p { "They run again in this run, " (as_what(run)) ". Their outputs so far stay." }
                        (choice(tasks, failed))
                    }
                }
                button type="submit" class="main" { "Run again" }
            }
        }
    }
}

fn choice(tasks: &[&Attempt], failed: usize) -> Markup {
    html! {
        @if tasks.len() <= CHOICES_MAX {
            fieldset class="choices" {
                legend class="hidden" { "Tasks to run again" }
                @for task in tasks {
                    label class="check" {
                        input type="checkbox" name="task" value=(task.task_key) checked[!is_fine(task)];
                        span { (breaking(&task.task_key)) }
                        (badge(task.phase))
                    }
                }
            }
        } @else {
            input type="hidden" name="all_failed" value="yes";
            p { b { "All " (failed) " tasks that did not succeed" } " are chosen." }
        }
        label class="check" {
            input type="checkbox" name="dependents" value="yes" checked;
            " and all tasks that come after them"
        }
    }
}

fn as_what(run: &Run) -> &'static str {
    match run.job_id {
        Some(_) => "with the parameters of before and the tasks as the job has them now",
        None => "with the parameters of before",
    }
}

pub(crate) async fn repair(
    State(pages): State<Pages>,
    session: Session,
    Path(run): Path<String>,
    Form(sent): Form<Vec<(String, String)>>,
) -> PageResult {
    let all = |name: &'static str| sent.iter().filter(move |(key, _)| key == name);
    let first = |name| all(name).next().map(|(_, value)| value.as_str());
    session.check_form(first("form_token").unwrap_or_default())?;
    let (runs, ctx) = (&pages.services().runs, &session.ctx);
    let view = runs.get(ctx, run_id(&run)?).await?;
    let chosen = first("all_failed").or(first("task"));
    chosen.ok_or_else(|| Error::state("Choose at least one task to run again."))?;
    let request = RepairRun {
        rerun_tasks: all("task").map(|(_, key)| key.clone()).collect(),
        rerun_all_failed_tasks: first("all_failed").is_some(),
        rerun_dependent_tasks: first("dependents").is_some(),
        latest_repair_id: first("latest").and_then(|id| id.parse().ok()).map(RunId),
        ..RepairRun::default()
    };
    let repaired = runs.repair(ctx, view.run.id, request).await;
    repaired.map_err(|e| match e.code {
        ErrorCode::ResourceConflict if e.message.contains("latest_repair_id") => Failure(
            Error::state("The run was repaired since you opened its page. Look at it anew."),
        ),
        _ => Failure::of_form(e),
    })?;
    let page = Notice::Repaired.at(&run_link(&view.run));
    Ok(Redirect::to(&page).into_response())
}

/// A run from one of its beginnings, its own or a repair, to the end that followed.
#[derive(Debug, Clone)]
pub(super) struct Time {
    pub(super) began_at: Millis,
    ended_at: Option<Millis>,
    phase: Phase,
    by: String,
    /// What ran in it: each task's last attempt and its key.
    tasks: Vec<(RunId, String)>,
}

impl Time {
    pub(super) fn all(view: &RunView, repairs: &[Repair]) -> Vec<Self> {
        let of = |one: Episode<'_>| Self {
            began_at: one.began_at,
            ended_at: one.ended_at,
            phase: one.phase,
            by: (one
                .repair
                .map_or(&view.run.creator_name, |repair| &repair.creator_name))
            .clone(),
            tasks: (one.attempts.iter())
                .map(|attempt| (attempt.id, attempt.task_key.clone()))
                .collect(),
        };
        view.episodes(repairs).into_iter().map(of).collect()
    }
}

/// How often the run began and ended, and what ran each time; nothing for a run that was never
/// repaired.
pub(super) fn times(seen: &Seen, asked: &Asked, now: Millis) -> Markup {
    let run = &seen.view.run;
    let link = |index: usize| {
        let asked = Asked {
            time: Some(index),
            ..Asked::default()
        };
        format!("{}{}", run_link(run), asked.query())
    };
    let last = seen.times.len() - 1;
    html! {
        @if last > 0 {
            h2 { (seen.times.len()) " attempts" }
            table class="cards times" {
                thead { tr {
                    th scope="col" class="is" { "State" } th scope="col" { "Attempt" }
                    th scope="col" { "Tasks" } th scope="col" { "Began" }
                    th scope="col" { "Took" } th scope="col" { "By" }
                } }
                tbody {
                    @for (index, time) in seen.times.iter().enumerate().rev() {
                        @let is_shown = index == seen.time;
                        tr class=[is_shown.then_some("chosen")] {
                            td class="is" { (badge(time.phase)) }
                            td class="name" {
                                a href=(link(index)) aria-current=[is_shown.then_some("true")] {
                                    (index + 1) ". " @if index == 0 { "Original run" } @else { "Repair" }
                                }
                            }
                            td data-label="Tasks" class="wide" { (tasks_of(run, asked, index, time)) }
                            td data-label="Began" class="tight" { (when(time.began_at, now)) }
                            td data-label="Took" class="tight" {
                                (span(Some(time.began_at), time.ended_at, now).unwrap_or_default())
                            }
                            td data-label="By" { (time.by) }
                        }
                    }
                }
            }
            @if !seen.is_latest() {
                p class="note" {
                    "Below is how the run stood after attempt " (seen.time + 1) ". "
                    a href=(run_link(run)) { "Show the latest" }
                }
            }
        }
    }
}

/// Each task leads to its output of that time.
fn tasks_of(run: &Run, asked: &Asked, index: usize, time: &Time) -> Markup {
    let left_out = time.tasks.len().saturating_sub(TASKS_MAX);
    html! {
        @for (at, (id, key)) in time.tasks.iter().take(TASKS_MAX).enumerate() {
            @let query = Asked { time: Some(index), task: Some(id.0), ..Asked::default() }.query();
            @let is_shown = asked.task == Some(id.0);
            @if at > 0 { ", " }
            a href={ (run_link(run)) (query) "#output" } aria-current=[is_shown.then_some("true")] {
                (breaking(key))
            }
        }
        @if left_out > 0 { " and " (left_out) " more" }
    }
}
