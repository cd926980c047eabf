//! What the page of a run consists of, from top to bottom.

use forebay_control::runs::Reason;
use forebay_engine::Phase;
use forebay_store::{Attempt, Run};
use forebay_types::{Millis, RunId};
use maud::{Markup, html};

use super::output::{self, Output};
use super::{Asked, Seen, facts, is_bad, repair, tasks};
use crate::failure::PageResult;
use crate::fragment::Fragment;
use crate::runs::what;
use crate::session::Session;
use crate::show::{badge, moment, span};
use crate::site::Pages;

/// How much of a traceback stands above everything else; the whole is with its cell.
const TRACE_LINES: usize = 12;

pub(super) async fn all(
    pages: &Pages,
    session: &Session,
    seen: &Seen,
    asked: &Asked,
) -> PageResult<Vec<Fragment>> {
    let now = pages.now();
    let output = match &seen.attempt {
        Some(attempt) => output::load(pages, &session.ctx, attempt).await?,
        None => Output::Nothing,
    };
    let runs = &pages.services().runs;
    let parent = runs.parent(&seen.view.run).await?;
    let children = runs.children(&session.ctx, seen.view.run.id).await?;
    let each = seen
        .view
        .newest()
        .filter(|one| seen.view.has_type(one, "for_each_task"));
    let counts = runs
        .iteration_counts(each.map(|one| one.id).collect())
        .await?;
    let waits = runs.why_waiting(&session.ctx, &seen.view).await?;
    let mut fragments = vec![
        Fragment::new(
            "run-head",
            "run-head",
            head(session, seen, parent, waits, now),
        ),
        Fragment::new("run-error", "run-error", errors(seen, &output)),
        Fragment::new("run-times", "", repair::times(seen, asked, now)),
        tasks::fragment(seen, asked, (&children, &counts), now),
        Fragment::new(
            "run-facts",
            "run-facts",
            facts::all(session, seen, asked, now),
        ),
    ];
    fragments.push(output::fragment(seen, output));
    Ok(fragments)
}

fn head(
    session: &Session,
    seen: &Seen,
    parent: Option<RunId>,
    waits: Option<Reason>,
    now: Millis,
) -> Markup {
    let run = &seen.view.run;
    let ended = run.phase.is_ended();
    html! {
        p class="crumbs" {
            @match run.job_id {
                Some(job) => { a href="/jobs" { "Jobs" } " / " a href={ "/jobs/" (job) } { (run.name) } }
                None => a href="/runs" { "Runs" },
            }
            @if let Some(parent) = parent {
                " / started by " a href={ "/runs/" (parent) } { "run " (parent) }
            }
            " / run " (run.id)
        }
        div class="title" {
            h1 { (run.name) }
            (badge(seen.view.shown_phase()))
            @if ended { (repair::form(session, seen)) } @else if seen.may_manage { (cancel(session, run)) }
        }
        @if let Some(why) = waits {
            p class="note" { (why.message()) " " a href="/queue" { "See the queue" } }
        }
        @if let Some(words) = seen.attempt.as_ref().and_then(|one| seen.view.doing(one)) {
            p class="note" { (words) }
        }
        p class="soft" {
            (what(run)) " · by " (run.creator_name) " · " (moment(run.created_at, now))
            @if ended && let Some(took) = span(Some(seen.times[seen.time].began_at), run.ended_at, now) {
                " · took " b { (took) }
            }
        }
    }
}

/// A second press confirms: what was under way is lost.
fn cancel(session: &Session, run: &Run) -> Markup {
    html! {
        @if run.stopping.is_some() {
            span class="soft" { "Stopping…" }
        } @else {
            details class="action" {
                summary { "Cancel run" }
                form method="post" action={ "/runs/" (run.id) "/cancel" } {
                    input type="hidden" name="form_token" value=(session.form_token());
                    p { "What runs is stopped, and what waits does not start. Results written so far stay." }
                    button type="submit" class="danger" { "Yes, cancel this run" }
                }
            }
        }
    }
}

/// The first thing to read when something went wrong.
fn errors(seen: &Seen, output: &Output) -> Markup {
    let run = &seen.view.run;
    let shown = seen
        .attempt
        .as_ref()
        .filter(|attempt| is_bad(attempt.phase));
    let others = seen.view.newest().filter(|attempt| {
        is_bad(attempt.phase) && shown.is_none_or(|shown| shown.task != attempt.task)
    });
    let others: Vec<_> = others.collect();
    let many = seen.view.newest().nth(1).is_some();
    html! {
        @if let Some(attempt) = shown { (error(attempt, output, many)) }
        @for attempt in others.iter().take(10) {
            p class="problem" {
                a href=(seen.link_to(attempt)) { "Task " (attempt.task_key) }
                ": " (crate::show::first_line(headline(attempt), 200))
            }
        }
        @if let Some(why) = seen.view.held() {
            p class="warning" { (why) }
        } @else if shown.is_none() && others.is_empty() && is_told(run.phase) && !run.message.is_empty() {
            p class="warning" { (run.message) }
        }
    }
}

fn is_told(phase: Phase) -> bool {
    use forebay_engine::Verdict as V;
    let fine = matches!(phase, Phase::Ended(V::Succeeded | V::SucceededWithFailures));
    phase.is_ended() && !fine
}

fn headline(attempt: &Attempt) -> &str {
    match &attempt.error {
        Some(text) => text,
        None if attempt.message.is_empty() => "It ended without a message.",
        None => &attempt.message,
    }
}

fn error(attempt: &Attempt, output: &Output, many: bool) -> Markup {
    let cell = output.failed_cell();
    let trace = attempt
        .trace
        .as_deref()
        .map(str::trim_end)
        .unwrap_or_default();
    let lines: Vec<&str> = trace.lines().collect();
    let cut = lines.len().saturating_sub(TRACE_LINES);
    html! {
        div class="problem" role="alert" {
            p class="headline" { (headline(attempt)) }
            p {
                @if many { "In task " b { (attempt.task_key) } }
                @if let Some(cell) = cell {
                    @if many { ", " } @else { "In " }
                    a href={ "#cell-" (cell + 1) } { "cell " (cell + 1) }
                }
            }
            @if !lines.is_empty() {
                pre tabindex="0" aria-label="The end of the traceback" {
                    @if cut > 0 { "…\n" }
                    (lines[cut..].join("\n"))
                }
            }
        }
    }
}
