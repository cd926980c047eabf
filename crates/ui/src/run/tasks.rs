//! The tasks of a run: one row each, with its attempts and the runs it started on a timeline.

use std::collections::HashMap;

use forebay_engine::Children;
use forebay_store::{Attempt, Run, RunKind};
use forebay_types::{Millis, RunId};
use maud::{Markup, html};
use serde_json::Value;

use super::axis::Axis;
use super::bars::{Stretch, bar, ready_at, scale};
use super::{Asked, Seen, graph};
use crate::fragment::{Fragment, Tag};
use crate::runs::{iterations, run_link, task_what, what};
use crate::show::{badge, first_line, phase_words, span};

/// Rows of one page; a run may have a thousand tasks.
const ROWS: usize = 100;
/// From here on it helps to see only the tasks in one state.
const FILTER_FROM: usize = 15;
/// Runs that one task started; a loop in a notebook may start any number.
const CHILDREN_MAX: usize = 20;
/// Of the element that an iteration is about.
const INPUT_CHARS: usize = 40;

/// The states by which tasks can be chosen: the word in the address, the label, the tones.
const GROUPS: [(&str, &str, &[&str]); 5] = [
    ("failed", "Failed", &["bad"]),
    ("active", "Running", &["busy"]),
    ("waiting", "Waiting", &["wait"]),
    ("done", "Succeeded", &["good", "warn"]),
    ("off", "Not run", &["off"]),
];

fn is_in(attempt: &Attempt, group: &str) -> bool {
    let (_, tone) = phase_words(attempt.phase);
    let wanted = GROUPS.iter().find(|(name, ..)| *name == group);
    wanted.is_none_or(|(.., tones)| tones.contains(&tone))
}

pub(super) fn fragment(
    seen: &Seen,
    asked: &Asked,
    started: (&[Run], &HashMap<RunId, Children>),
    now: Millis,
) -> Fragment {
    let run = &seen.view.run;
    let all: Vec<&Attempt> = seen.view.newest().collect();
    let wanted: Vec<&Attempt> = all
        .iter()
        .copied()
        .filter(|one| is_in(one, &asked.show))
        .collect();
    let rows = wanted.iter().skip(asked.from).take(ROWS);
    let own = html! {
        @if all.len() > 1 { h2 id="tasks" { (all.len()) " tasks" } } @else { h2 id="tasks" { "Timeline" } }
        @if let Some(plan) = &seen.plan { (graph::picture(seen, plan, &all)) }
        @if all.len() >= FILTER_FROM { (filter(run, asked, &all)) }
        @if wanted.is_empty() { p class="nothing" { "No task is in this state." } }
    };
    let lines = Lines::new(seen, asked, started, now);
    let head = html! {
        thead { tr {
            th scope="col" class="is" { "State" }
            th scope="col" { "Task" }
            th scope="col" class="line" {
                span class="hidden" { "Timeline, from the run's start" }
                (scale(&lines.axis))
            }
            th scope="col" class="tight" { "Took" }
        } }
    };
    let rows: Vec<Fragment> = rows.flat_map(|attempt| lines.of_task(attempt)).collect();
    let table = Fragment::new("run-timeline", "timeline", head)
        .with_tag(Tag::Table)
        .with_parts(rows);
    let foot = Fragment::new("run-tasks-foot", "", foot(run, asked, wanted.len()));
    Fragment::new("run-tasks", "run-tasks", own).with_parts(vec![table, foot])
}

fn filter(run: &Run, asked: &Asked, all: &[&Attempt]) -> Markup {
    let link = |group: &str| {
        let asked = Asked {
            show: group.to_owned(),
            from: 0,
            ..asked.clone()
        };
        format!("{}{}#tasks", run_link(run), asked.query())
    };
    html! {
        nav class="filter" aria-label="Which tasks" {
            a href=(link("")) aria-current=[asked.show.is_empty().then_some("true")] {
                "All " b { (all.len()) }
            }
            @for (group, label, _) in GROUPS {
                @let count = all.iter().filter(|one| is_in(one, group)).count();
                @if count > 0 || asked.show == group {
                    a href=(link(group)) aria-current=[(asked.show == group).then_some("true")] {
                        (label) " " b { (count) }
                    }
                }
            }
        }
    }
}

fn foot(run: &Run, asked: &Asked, wanted: usize) -> Markup {
    let link = |from: usize| {
        let asked = Asked {
            from,
            ..asked.clone()
        };
        format!("{}{}#tasks", run_link(run), asked.query())
    };
    let end = (asked.from + ROWS).min(wanted);
    html! {
        p class="legend" aria-hidden="true" {
            span class="waits" { "waiting" } span class="sets-up" { "setting up" } span class="runs" { "running" }
        }
        @if wanted > ROWS { nav class="pager" aria-label="Pages of tasks" {
            span { "Tasks " (asked.from + 1) " to " (end) " of " (wanted) }
            @if asked.from > 0 { a href=(link(asked.from.saturating_sub(ROWS))) rel="prev" { "← Before" } }
            @if end < wanted { a href=(link(end)) rel="next" { "Next →" } }
        } }
    }
}

/// What all rows have in common.
struct Lines<'a> {
    seen: &'a Seen,
    asked: &'a Asked,
    definitions: &'a [Value],
    children: HashMap<RunId, Vec<&'a Run>>,
    /// How the iterations of each for-each stand.
    counts: &'a HashMap<RunId, Children>,
    axis: Axis,
    /// What ended before is not on the timeline.
    start: Millis,
    step: String,
    now: Millis,
}

impl<'a> Lines<'a> {
    fn new(
        seen: &'a Seen,
        asked: &'a Asked,
        (children, counts): (&'a [Run], &'a HashMap<RunId, Children>),
        now: Millis,
    ) -> Self {
        let run = &seen.view.run;
        let definitions = run.settings.get("tasks").and_then(Value::as_array);
        let start = seen.began_at();
        let axis = Axis::new(start, run.ended_at.unwrap_or(now), !run.phase.is_ended());
        let mut by_parent: HashMap<RunId, Vec<&Run>> = HashMap::new();
        for child in children {
            if let Some(parent) = child.parent_attempt {
                by_parent.entry(parent).or_default().push(child);
            }
        }
        Self {
            seen,
            asked,
            definitions: definitions.map_or(&[], Vec::as_slice),
            children: by_parent,
            counts,
            axis,
            start,
            step: format!("--step:{}", axis.step()),
            now,
        }
    }

    /// The row of a task by its newest attempt, and those of the runs that it started.
    fn of_task(&self, newest: &Attempt) -> Vec<Fragment> {
        let attempts = self.seen.view.attempts.iter();
        let tries: Vec<&Attempt> = attempts.filter(|one| one.task == newest.task).collect();
        let children = tries.iter().filter_map(|one| self.children.get(&one.id));
        let children: Vec<&Run> = children.flatten().copied().collect();
        let left_out = children.len().saturating_sub(CHILDREN_MAX);
        let mut rows = vec![self.task(newest, &tries)];
        rows.extend(
            children
                .iter()
                .take(CHILDREN_MAX)
                .map(|run| self.child(run)),
        );
        if left_out > 0 {
            let own =
                html! { td {} td colspan="3" class="soft" { "and " (left_out) " more runs" } };
            let id = format!("more-{}", newest.task);
            rows.push(Fragment::new(id, "child", own).with_tag(Tag::Row));
        }
        rows
    }

    fn task(&self, newest: &Attempt, tries: &[&Attempt]) -> Fragment {
        let shown = self.seen.attempt.as_ref();
        let is_shown = shown.is_some_and(|one| one.task == newest.task);
        let definition = self.definitions.get(newest.task);
        let bars = html! {
            @for one in tries.iter().filter(|one| self.is_on(one.ended_at)) {
                @let ready = ready_at(one, self.seen.plan.as_ref(), &self.seen.view.attempts);
                @if let Some(stretch) = Stretch::of_attempt(one, ready, self.now) {
                    @let name = format!("Try {}", one.attempt + 1);
                    (bar(&self.axis, &stretch, one.phase, &self.link(one), &name))
                }
            }
        };
        let took = span(newest.started_at, newest.ended_at, self.now);
        let own = html! {
            td class="is" { (badge(newest.phase)) }
            td class="what" {
                a class="name" href=(self.link(newest)) aria-current=[is_shown.then_some("true")] {
                    (newest.task_key)
                }
                @if tries.len() > 1 { span class="soft" { " · " (tries.len()) " tries" } }
                div class="soft" {
                    @if let Some(task) = definition { (task_what(task)) }
                    @if let Some(each) = self.counts.get(&newest.id) { " · " (iterations(each)) }
                    (self.after(newest))
                }
            }
            (self.track(&bars))
            td class="tight" { (took.unwrap_or_default()) }
        };
        let class = if is_shown { "chosen" } else { "" };
        Fragment::new(format!("task-{}", newest.task), class, own).with_tag(Tag::Row)
    }

    fn after(&self, attempt: &Attempt) -> Markup {
        let tasks = self.seen.plan.as_ref().map_or(&[][..], |plan| &plan.tasks);
        let before = tasks
            .get(attempt.task)
            .map_or(&[][..], |task| &task.depends_on);
        let keys: Vec<&str> = before
            .iter()
            .filter_map(|edge| tasks.get(edge.task).map(|task| task.key.as_str()))
            .collect();
        html! {
            @match keys.as_slice() {
                [] => {}
                [.., last] if keys.len() > 4 => {
                    " · after " (last) " and " (keys.len() - 1) " more"
                }
                keys => { " · after " (keys.join(", ")) }
            }
        }
    }

    fn child(&self, run: &Run) -> Fragment {
        let stretch = Stretch::of_run(run, self.now);
        let bars = html! {
            @if self.is_on(run.ended_at) {
                (bar(&self.axis, &stretch, run.phase, &run_link(run), &run.name))
            }
        };
        let input = run
            .parameters
            .get("input")
            .filter(|_| run.kind == RunKind::Iteration);
        let own = html! {
            td class="is" { (badge(run.phase)) }
            td class="what" {
                @if let Some(input) = input {
                    a href=(run_link(run)) { (run.name) }
                    " " span class="soft" { (first_line(&input.to_string(), INPUT_CHARS)) }
                } @else {
                    a href=(run_link(run)) { (what(run)) }
                }
            }
            (self.track(&bars))
            td class="tight" {
                (span(Some(run.created_at), run.ended_at, self.now).unwrap_or_default())
            }
        };
        Fragment::new(format!("child-{}", run.id), "child", own).with_tag(Tag::Row)
    }

    /// Whether what ended then is on the timeline.
    fn is_on(&self, ended_at: Option<Millis>) -> bool {
        ended_at.is_none_or(|at| at >= self.start)
    }

    fn track(&self, bars: &Markup) -> Markup {
        html! {
            td class="line" { div class="track" style=(self.step) { (bars) } }
        }
    }

    fn link(&self, attempt: &Attempt) -> String {
        let asked = Asked {
            task: Some(attempt.id.0),
            ..self.asked.clone()
        };
        let query = asked.query();
        format!("{}{query}#output", run_link(&self.seen.view.run))
    }
}

/// The tries of the task in view, in words.
pub(super) fn tries(seen: &Seen, asked: &Asked, now: Millis) -> Markup {
    let Some(shown) = &seen.attempt else {
        return html! {};
    };
    let of_task = seen.view.attempts.iter();
    let tries: Vec<_> = of_task.filter(|one| one.task == shown.task).collect();
    let link = |one: &Attempt| {
        let asked = Asked {
            task: Some(one.id.0),
            ..asked.clone()
        };
        format!("{}{}#output", run_link(&seen.view.run), asked.query())
    };
    html! {
        @if tries.len() > 1 {
            p class="tries" {
                "Tries: "
                @for one in tries {
                    a href=(link(one)) aria-current=[(one.id == shown.id).then_some("true")] {
                        (one.attempt + 1) ". " (badge(one.phase))
                        @if let Some(took) = span(one.started_at, one.ended_at, now) { " " (took) }
                    } " "
                }
            }
        }
    }
}
