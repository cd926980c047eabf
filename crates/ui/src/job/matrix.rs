//! Tasks by runs: how each task of a job went in its newest runs.

use std::collections::HashMap;

use forebay_control::runs::TaskPage;
use forebay_engine::{Children, Phase};
use forebay_store::{RunBrief, TaskBrief};
use forebay_types::{Millis, RunId};
use maud::{Markup, html};

use crate::fragment::{Fragment, Tag};
use crate::runs::{iterations, link_of, took_ms};
use crate::show::{breaking, duration, glyph, phase_words, short_time};

/// Runs of one table; the oldest of them stand beyond the edge of a phone.
pub(super) const COLUMNS: usize = 20;
/// Tasks of one table.
pub(super) const ROWS: usize = 100;

pub(super) struct Matrix<'a> {
    runs: &'a [RunBrief],
    /// The job's tasks of today in their order, then those that only older runs had.
    keys: &'a [String],
    cells: HashMap<(RunId, &'a str), &'a TaskBrief>,
    /// How the iterations of each for-each stand.
    each: &'a HashMap<RunId, Children>,
    now: Millis,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(
        runs: &'a [RunBrief],
        page: &'a TaskPage,
        each: &'a HashMap<RunId, Children>,
        now: Millis,
    ) -> Self {
        let cells = page.tasks.iter();
        Self {
            runs,
            keys: &page.keys,
            cells: cells
                .map(|one| ((one.run_id, one.task_key.as_str()), one))
                .collect(),
            each,
            now,
        }
    }

    /// The table; a piece per task.
    pub(super) fn fragment(&self, from: usize) -> Fragment {
        let rows = self.keys.iter().enumerate();
        let rows = rows.map(|(index, key)| self.row(from + index, key));
        Fragment::new("matrix", "matrix", self.head())
            .with_tag(Tag::Table)
            .with_parts(rows.collect())
    }

    fn head(&self) -> Markup {
        let longest = self.runs.iter().map(|run| took_ms(run, self.now)).max();
        html! {
            thead { tr {
                th scope="col" { "Newest first" }
                @for run in self.runs {
                    @let (word, tone) = phase_words(run.phase);
                    @let ms = took_ms(run, self.now);
                    @let words = format!("Run {}: {word}, took {}", run.id, duration(ms));
                    th scope="col" {
                        a class={ "column " (tone) } href=(link_of(run.job_id, run.id)) title=(words) {
                            span class="hidden" { (words) ", " }
                            span class="height" { i style=(share("height", ms, longest)) {} }
                            span class="mark" aria-hidden="true" { (glyph(run.phase)) }
                            (short_time(run.created_at))
                        }
                    }
                }
            } }
        }
    }

    fn row(&self, index: usize, key: &str) -> Fragment {
        let cells = self
            .runs
            .iter()
            .map(|run| self.cells.get(&(run.id, key)).copied());
        let cells: Vec<Option<&TaskBrief>> = cells.collect();
        let longest = cells.iter().flatten().map(|cell| self.cell_ms(cell)).max();
        let own = html! {
            th scope="row" { (breaking(key)) }
            @for (run, cell) in self.runs.iter().zip(cells) {
                td {
                    @if let Some(cell) = cell { (self.cell(run, cell, longest)) }
                }
            }
        };
        Fragment::new(format!("row-{index}"), "", own).with_tag(Tag::Row)
    }

    /// How long the program of the newest try ran; nothing for one that never began.
    fn cell_ms(&self, cell: &TaskBrief) -> i64 {
        let to = cell.ended_at.unwrap_or(self.now);
        cell.started_at.map_or(0, |from| to.since(from))
    }

    fn cell(&self, run: &RunBrief, cell: &TaskBrief, longest: Option<i64>) -> Markup {
        let (word, tone) = phase_words(cell.phase);
        let ms = self.cell_ms(cell);
        let mut words = format!("{}: {word}", cell.task_key);
        if ms > 0 {
            let after = if matches!(cell.phase, Phase::Ended(_)) {
                "after"
            } else {
                "for"
            };
            words = format!("{words} {after} {}", duration(ms));
        }
        if cell.tries > 1 {
            words = format!("{words}, {} tries", cell.tries);
        }
        let each = self.each.get(&cell.id);
        if let Some(each) = each {
            words = format!("{words}, {}", iterations(each));
        }
        let link = format!("{}?task={}#output", link_of(run.job_id, run.id), cell.id);
        html! {
            a class={ "cell-link " (tone) } href=(link) title=(words) aria-label=(words) {
                (glyph(cell.phase))
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
