//! The tasks of a run as a picture, and as a table that says the same in words.

use forebay_control::jobs::JobDocument;
use forebay_engine::Plan;
use forebay_store::Attempt;
use forebay_types::Millis;
use maud::{Markup, html};
use serde_json::Value;

use super::Seen;
use crate::runs::{run_link, task_what};
use crate::show::{badge, phase_words, span};

/// Beyond this the picture says less than the table.
const PICTURE_TASKS_MAX: usize = 60;
const WIDTH: usize = 176;
const HEIGHT: usize = 46;
const GAP_X: usize = 44;
const GAP_Y: usize = 14;
const EDGE: usize = 4;

/// Nothing for a run of one task.
pub(super) fn tasks(seen: &Seen, now: Millis) -> Markup {
    let newest: Vec<&Attempt> = seen.view.newest().collect();
    let plan = JobDocument::of_normal(seen.view.run.settings.clone()).map(|document| document.plan);
    let Ok(plan) = plan else {
        return html! {};
    };
    if plan.tasks.len() < 2 {
        return retries(seen, now);
    }
    html! {
        h2 { "Tasks" }
        @if plan.tasks.len() <= PICTURE_TASKS_MAX { (picture(seen, &plan, &newest)) }
        (table(seen, &plan, &newest, now))
        (retries(seen, now))
    }
}

/// The earlier tries of the task in view.
fn retries(seen: &Seen, now: Millis) -> Markup {
    let Some(shown) = &seen.attempt else {
        return html! {};
    };
    let of_task = seen.view.attempts.iter();
    let tries: Vec<_> = of_task.filter(|one| one.task == shown.task).collect();
    html! {
        @if tries.len() > 1 {
            p class="tries" {
                "Tries of this task: "
                @for one in tries {
                    a href=(link(seen, one)) aria-current=[(one.id == shown.id).then_some("true")] {
                        (one.attempt + 1) ". " (badge(one.phase))
                        @if let Some(took) = span(one.started_at, one.ended_at, now) { " " (took) }
                    } " "
                }
            }
        }
    }
}

fn link(seen: &Seen, attempt: &Attempt) -> String {
    format!("{}?task={}", run_link(&seen.view.run), attempt.id)
}

fn table(seen: &Seen, plan: &Plan, newest: &[&Attempt], now: Millis) -> Markup {
    let definitions = seen
        .view
        .run
        .settings
        .get("tasks")
        .and_then(Value::as_array);
    html! {
        table class="cards" {
            thead { tr {
                th scope="col" class="is" { "State" } th scope="col" { "Task" }
                th scope="col" { "Took" } th scope="col" { "After" }
            } }
            tbody {
                @for attempt in newest {
                    @let task = plan.tasks.get(attempt.task);
                    @let is_shown = seen.attempt.as_ref().is_some_and(|one| one.id == attempt.id);
                    tr class=[is_shown.then_some("chosen")] {
                        td class="is" { (badge(attempt.phase)) }
                        td data-label="Task" class="wide" {
                            a class="name" href=(link(seen, attempt))
                                aria-current=[is_shown.then_some("true")] { (attempt.task_key) }
                            @if let Some(task) = definitions.and_then(|all| all.get(attempt.task)) {
                                div class="soft" { (task_what(task)) }
                            }
                        }
                        td data-label="Took" class="tight" {
                            (span(attempt.started_at, attempt.ended_at, now).unwrap_or_else(|| "–".to_owned()))
                        }
                        td data-label="After" {
                            @for (index, before) in task.iter().flat_map(|task| &task.depends_on).enumerate() {
                                @if index > 0 { ", " }
                                (plan.tasks.get(*before).map_or("", |task| &task.key))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Column by the longest way to a task, row by its place in that column.
fn places(plan: &Plan) -> Vec<(usize, usize)> {
    let mut columns = vec![0_usize; plan.tasks.len()];
    // The plan has no cycle, so as many rounds as tasks are always enough.
    for _ in 0..plan.tasks.len() {
        let before = columns.clone();
        for (index, task) in plan.tasks.iter().enumerate() {
            let after = task.depends_on.iter().map(|one| columns[*one] + 1).max();
            columns[index] = after.unwrap_or(0);
        }
        if columns == before {
            break;
        }
    }
    let mut rows = vec![0_usize; plan.tasks.len() + 1];
    columns
        .into_iter()
        .map(|column| {
            let row = rows[column];
            rows[column] += 1;
            (column, row)
        })
        .collect()
}

fn picture(seen: &Seen, plan: &Plan, newest: &[&Attempt]) -> Markup {
    let places = places(plan);
    let columns = places
        .iter()
        .map(|(column, _)| column + 1)
        .max()
        .unwrap_or(1);
    let rows = places.iter().map(|(_, row)| row + 1).max().unwrap_or(1);
    let width = columns * (WIDTH + GAP_X) - GAP_X + 2 * EDGE;
    let height = rows * (HEIGHT + GAP_Y) - GAP_Y + 2 * EDGE;
    let at = |index: usize| {
        let (column, row) = places[index];
        (
            EDGE + column * (WIDTH + GAP_X),
            EDGE + row * (HEIGHT + GAP_Y),
        )
    };
    // The table below says the same to those who do not see it.
    html! {
        div class="graph" aria-hidden="true" {
            svg width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
                @for (index, task) in plan.tasks.iter().enumerate() {
                    @for before in &task.depends_on { (edge(at(*before), at(index))) }
                }
                @for attempt in newest {
                    @if attempt.task < places.len() {
                        (node(seen, attempt, at(attempt.task)))
                    }
                }
            }
        }
    }
}

fn edge((from_x, from_y): (usize, usize), (to_x, to_y): (usize, usize)) -> Markup {
    let (x1, y1) = (from_x + WIDTH, from_y + HEIGHT / 2);
    let (x2, y2) = (to_x, to_y + HEIGHT / 2);
    let bend = GAP_X / 2;
    let path = format!(
        "M{x1} {y1} C{} {y1} {} {y2} {x2} {y2}",
        x1 + bend,
        x2 - bend.min(x2)
    );
    html! { path class="edge" d=(path) {} }
}

fn node(seen: &Seen, attempt: &Attempt, (x, y): (usize, usize)) -> Markup {
    let (word, tone) = phase_words(attempt.phase);
    let chosen = seen
        .attempt
        .as_ref()
        .is_some_and(|one| one.id == attempt.id);
    let class = if chosen { "chosen" } else { "" };
    html! {
        a href=(link(seen, attempt)) tabindex="-1" class={ "node " (tone) " " (class) } {
            title { (attempt.task_key) ": " (word) }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="6" {}
            text x=(x + 10) y=(y + 19) class="key" { (short(&attempt.task_key, 22)) }
            text x=(x + 10) y=(y + 36) class="word" { (short(word, 27)) }
        }
    }
}

fn short(text: &str, chars: usize) -> String {
    crate::show::first_line(text, chars)
}

#[cfg(test)]
mod tests {
    use forebay_engine::TaskPlan;

    use super::*;

    #[test]
    fn a_task_stands_right_of_all_before_it() {
        let task = |key: &str, depends_on: &[usize]| TaskPlan {
            depends_on: depends_on.to_vec(),
            ..TaskPlan::new(key)
        };
        // The last one is listed before those it waits for.
        let plan = Plan {
            tasks: vec![
                task("d", &[1, 2]),
                task("b", &[3]),
                task("c", &[1]),
                task("a", &[]),
            ],
        };
        assert_eq!(places(&plan), [(3, 0), (1, 0), (2, 0), (0, 0)]);
    }
}
