//! Tasks by runs: how each task of a job went in its newest runs.

use std::collections::{HashMap, HashSet};

use forebay_control::runs::RunView;
use forebay_engine::{Children, Phase};
use forebay_store::Attempt;
use forebay_types::{Millis, RunId};
use maud::{Markup, html};

use crate::fragment::{Fragment, Tag};
use crate::runs::{iterations, run_link};
use crate::show::{breaking, duration, glyph, phase_words, short_time};

/// Runs of one table; the oldest of them stand beyond the edge of a phone.
pub(super) const COLUMNS: usize = 20;
/// Tasks of one table.
pub(super) const ROWS: usize = 100;

/// A task in one run: its newest try, and how many there were.
struct Cell<'a> {
    newest: &'a Attempt,
    tries: usize,
}

pub(super) struct Matrix<'a> {
    runs: &'a [RunView],
    /// The job's tasks of today in their order, then those that only older runs had.
    keys: Vec<&'a str>,
    cells: Vec<HashMap<&'a str, Cell<'a>>>,
    /// How the iterations of each for-each stand.
    each: &'a HashMap<RunId, Children>,
    now: Millis,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(
        tasks: &[&'a str],
        runs: &'a [RunView],
        each: &'a HashMap<RunId, Children>,
        now: Millis,
    ) -> Self {
        let mut keys = tasks.to_vec();
        let mut known: HashSet<&str> = keys.iter().copied().collect();
        let mut cells = Vec::new();
        for view in runs {
            let mut of_run: HashMap<&str, Cell<'_>> = HashMap::new();
            for attempt in &view.attempts {
                let key = attempt.task_key.as_str();
                if known.insert(key) {
                    keys.push(key);
                }
                // Tries come in their order.
                let tries = of_run.get(key).map_or(0, |cell| cell.tries) + 1;
                let newest = attempt;
                of_run.insert(key, Cell { newest, tries });
            }
            cells.push(of_run);
        }
        Self {
            runs,
            keys,
            cells,
            each,
            now,
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The table with the tasks from `from` on; a piece per task.
    pub(super) fn fragment(&self, from: usize) -> Fragment {
        let rows = self.keys.iter().enumerate().skip(from).take(ROWS);
        let rows = rows.map(|(index, key)| self.row(index, key));
        Fragment::new("matrix", "matrix", self.head())
            .with_tag(Tag::Table)
            .with_parts(rows.collect())
    }

    fn head(&self) -> Markup {
        let longest = self.runs.iter().map(|view| self.run_ms(view)).max();
        html! {
            thead { tr {
                th scope="col" { "Newest first" }
                @for view in self.runs {
                    @let run = &view.run;
                    @let (word, tone) = phase_words(view.shown_phase());
                    @let ms = self.run_ms(view);
                    @let words = format!("Run {}: {word}, took {}", run.id, duration(ms));
                    th scope="col" {
                        a class={ "column " (tone) } href=(run_link(run)) title=(words) {
                            span class="hidden" { (words) ", " }
                            span class="height" { i style=(share("height", ms, longest)) {} }
                            span class="mark" aria-hidden="true" { (glyph(view.shown_phase())) }
                            (short_time(run.created_at))
                        }
                    }
                }
            } }
        }
    }

    /// How long something of it was under way: not the time until it was repaired.
    fn run_ms(&self, view: &RunView) -> i64 {
        let mut stretches: Vec<(Millis, Millis)> = (view.attempts.iter())
            .filter_map(|one| Some((one.started_at?, one.ended_at.unwrap_or(self.now))))
            .collect();
        stretches.sort_unstable();
        let mut until = Millis(0);
        let mut busy = 0;
        for (from, to) in stretches {
            busy += to.since(from.max(until)).max(0);
            until = until.max(to);
        }
        busy
    }

    fn row(&self, index: usize, key: &str) -> Fragment {
        let cells = self.cells.iter().map(|of_run| of_run.get(key));
        let cells: Vec<Option<&Cell<'_>>> = cells.collect();
        let longest = cells.iter().flatten().map(|cell| self.cell_ms(cell)).max();
        let own = html! {
            th scope="row" { (breaking(key)) }
            @for (view, cell) in self.runs.iter().zip(cells) {
                td {
                    @if let Some(cell) = cell { (self.cell(view, cell, longest)) }
                }
            }
        };
        Fragment::new(format!("row-{index}"), "", own).with_tag(Tag::Row)
    }

    /// How long the program of the newest try ran; nothing for one that never began.
    fn cell_ms(&self, cell: &Cell<'_>) -> i64 {
        let attempt = cell.newest;
        let to = attempt.ended_at.unwrap_or(self.now);
        attempt.started_at.map_or(0, |from| to.since(from))
    }

    fn cell(&self, view: &RunView, cell: &Cell<'_>, longest: Option<i64>) -> Markup {
        let attempt = cell.newest;
        let (word, tone) = phase_words(attempt.phase);
        let ms = self.cell_ms(cell);
        let mut words = format!("{}: {word}", attempt.task_key);
        if ms > 0 {
            let after = if matches!(attempt.phase, Phase::Ended(_)) {
                "after"
            } else {
                "for"
            };
            words = format!("{words} {after} {}", duration(ms));
        }
        if cell.tries > 1 {
            words = format!("{words}, {} tries", cell.tries);
        }
        let each = self.each.get(&attempt.id);
        if let Some(each) = each {
            words = format!("{words}, {}", iterations(each));
        }
        let link = format!("{}?task={}#output", run_link(&view.run), attempt.id);
        html! {
            a class={ "cell-link " (tone) } href=(link) title=(words) aria-label=(words) {
                (glyph(attempt.phase))
                @if let Some(each) = each {
                    small { (each.started - each.active - each.failed - each.canceled) "/" (each.planned) }
                }
                @if cell.tries > 1 { sup { (cell.tries) } }
                @if ms > 0 { i style=(share("width", ms, longest)) {} }
            }
        }
    }
}

/// `width:40%`: how much of the longest something took.
fn share(what: &str, ms: i64, longest: Option<i64>) -> String {
    let longest = longest.unwrap_or(0).max(1);
    format!("{what}:{}%", (ms * 100 / longest).clamp(4, 100))
}
