//! The order of a run's tasks as a picture.

use forebay_engine::Plan;
use forebay_store::Attempt;
use maud::{Markup, html};

use super::Seen;
use crate::show::phase_words;

/// Up to here the picture is open at first.
const OPEN_TASKS_MAX: usize = 12;
/// Beyond this the picture says less than the table.
const TASKS_MAX: usize = 60;
const WIDTH: usize = 176;
const HEIGHT: usize = 46;
const GAP_X: usize = 44;
const GAP_Y: usize = 14;
const EDGE: usize = 4;

/// Column by the longest way to a task, row by its place in that column.
fn places(plan: &Plan) -> Vec<(usize, usize)> {
    let mut columns = vec![0_usize; plan.tasks.len()];
    // The plan has no cycle, so as many rounds as tasks are always enough.
    for _ in 0..plan.tasks.len() {
        let before = columns.clone();
        for (index, task) in plan.tasks.iter().enumerate() {
            let after = task
                .depends_on
                .iter()
                .map(|one| columns[one.task] + 1)
                .max();
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

/// Nothing where no task waits for another: then there is no order.
pub(super) fn picture(seen: &Seen, plan: &Plan, newest: &[&Attempt]) -> Markup {
    let ordered = plan.tasks.iter().any(|task| !task.depends_on.is_empty());
    if !ordered || plan.tasks.len() > TASKS_MAX {
        return html! {};
    }
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
    // The table of tasks says the same to those who do not see it.
    html! {
        details class="order" open[plan.tasks.len() <= OPEN_TASKS_MAX] {
            summary { "Order of the tasks" }
            div class="graph" aria-hidden="true" {
                svg width=(width) height=(height) viewBox={ "0 0 " (width) " " (height) } {
                    @for (index, task) in plan.tasks.iter().enumerate() {
                        @for before in &task.depends_on { (edge(at(before.task), at(index))) }
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
        a href=(seen.link_to(attempt)) tabindex="-1" class={ "node " (tone) " " (class) } {
            title { (attempt.task_key) ": " (word) }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="6" {}
            text x=(x + 10) y=(y + 19) class="key" { (short(&attempt.task_key, 19)) }
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
        // The last one is listed before those it waits for.
        let tasks = ["d", "b", "c", "a"].map(TaskPlan::new).to_vec();
        let on = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), None)).collect();
        let edges: [Vec<_>; 4] = [on(&["b", "c"]), on(&["a"]), on(&["b"]), on(&[])];
        let plan = Plan::new(tasks, &edges).unwrap();
        assert_eq!(places(&plan), [(3, 0), (1, 0), (2, 0), (0, 0)]);
    }
}
