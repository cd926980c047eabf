//! What the attempt in view put out, cell by cell, in bounded size.

use forebay_control::Ctx;
use forebay_control::runs::{CellState, Ran, path_in_repository};
use forebay_exec::CellStatus;
use forebay_notebook::outputs::{Frames, Output as CellOutput, Text, cell_to_html};
use forebay_notebook::{Cell, CellKind};
use forebay_store::Attempt;
use forebay_types::ErrorCode;
use maud::{Markup, PreEscaped, html};

use super::Seen;
use crate::failure::PageResult;
use crate::fragment::Fragment;
use crate::show::{address, duration, exact_time, size, state};
use crate::site::Pages;

/// The most of one text output that a page carries; its beginning and its end.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The most of all outputs of one page; what is beyond is in the download.
const PAGE_BYTES_MAX: usize = 8 << 20;

pub(super) enum Output {
    Notebook(Box<Ran>),
    Log(String),
    Nothing,
}

impl Output {
    pub(super) fn failed_cell(&self) -> Option<usize> {
        let Self::Notebook(ran) = self else {
            return None;
        };
        let failed = |state: &CellState| matches!(state.finished, Some((CellStatus::Failed, _)));
        ran.states.iter().position(failed)
    }
}

pub(super) async fn load(pages: &Pages, ctx: &Ctx, attempt: &Attempt) -> PageResult<Output> {
    let runs = &pages.services().runs;
    match runs.rendered(ctx, attempt.id).await {
        Ok(ran) => return Ok(Output::Notebook(Box::new(ran))),
        Err(e) if e.code == ErrorCode::ResourceDoesNotExist => {}
        Err(e) => return Err(e.into()),
    }
    let output = runs.output(ctx, attempt.id).await?;
    let log = output.logs.map(|(text, _)| text).unwrap_or_default();
    Ok(if log.is_empty() {
        Output::Nothing
    } else {
        Output::Log(log)
    })
}

pub(super) fn fragment(seen: &Seen, output: Output) -> Fragment {
    let Some(attempt) = &seen.attempt else {
        return Fragment::new("output", "run-output", html! {});
    };
    let ended = attempt.phase.is_ended();
    match output {
        Output::Notebook(ran) => notebook(seen, attempt, *ran),
        Output::Log(text) => {
            let own = html! {
                h2 { "Output" }
                div class="notebook" { div class="output stdout" {
                    pre tabindex="0" { (PreEscaped(forebay_notebook::outputs::ansi_to_html(&shorten(&text)))) }
                } }
            };
            Fragment::new("output", "run-output", own)
        }
        Output::Nothing => {
            let own = html! {
                h2 { "Output" }
                p class="nothing" {
                    @if ended { "It wrote nothing." } @else { "Nothing yet." }
                }
            };
            Fragment::new("output", "run-output", own)
        }
    }
}

fn notebook(seen: &Seen, attempt: &Attempt, ran: Ran) -> Fragment {
    let many = seen.view.newest().nth(1).is_some();
    let head = html! {
        div class="head" {
            h2 {
                @if many { "Output of " (attempt.task_key) } @else { "Notebook" }
                " "
                @if let Some(inside) = path_in_repository(&ran.path) {
                    // The checkout went with the run; there is nothing to lead to.
                    span class="path" { (inside) }
                } @else {
                    a class="path" href={ "/workspace" (address(&ran.path)) } { (ran.path) }
                }
            }
            a class="quiet" href={ "/runs/" (attempt.id) "/notebook.ipynb" } download {
                "Download .ipynb"
            }
        }
    };
    let language = ran.notebook.language;
    let ended = attempt.phase.is_ended();
    let mut left = PAGE_BYTES_MAX;
    let cells = ran.notebook.cells.iter().enumerate().map(|(index, cell)| {
        let outputs = ran.outputs.get(index).map_or(&[][..], Vec::as_slice);
        let (outputs, left_out) = bounded(outputs, &mut left);
        let html = cell_to_html(index, cell, language, &outputs, Frames::Inert);
        let state = ran.states.get(index).copied().unwrap_or_default();
        let own = html! {
            (PreEscaped(html))
            @if left_out > 0 {
                p class="note" {
                    "More output (" (size(left_out as u64)) ") is not shown here; the download has it."
                }
            }
            (cell_foot(cell, cell.kind(language), state, ended))
        };
        Fragment::new(format!("part-{}", index + 1), "part", own)
    });
    let cells: Vec<_> = cells.collect();
    Fragment::new("output", "run-output notebook", head).with_parts(cells)
}

/// How a cell stands, where that says something.
fn cell_foot(cell: &Cell, kind: CellKind, at: CellState, ended: bool) -> Markup {
    let silent = matches!(kind, CellKind::Md | CellKind::Skip) || cell.source.trim().is_empty();
    let shown = match (at.finished, at.started_at) {
        (Some((CellStatus::Succeeded, ms)), _) => html! { (duration(ms.cast_signed())) },
        (Some((CellStatus::Failed, ms)), _) => {
            html! { (state("Failed", "bad")) " after " (duration(ms.cast_signed())) }
        }
        (Some((CellStatus::Skipped, _)), _) => state("Skipped", "off"),
        (None, Some(_)) if ended => state("Interrupted", "bad"),
        (None, Some(at)) => html! {
            (state("Running", "busy")) " since " (exact_time(at))
        },
        (None, None) if ended => state("Not run", "off"),
        (None, None) => html! { "Not yet" },
    };
    html! {
        @if !silent { p class="cell-foot" { (shown) } }
    }
}

/// Outputs as far as the page has room for them, and how many bytes it had none for.
fn bounded(outputs: &[CellOutput], left: &mut usize) -> (Vec<CellOutput>, usize) {
    let mut kept = Vec::new();
    let mut left_out = 0;
    for output in outputs {
        let output = match output {
            CellOutput::Stream { name, text } => CellOutput::Stream {
                name: name.clone(),
                text: Text(shorten(&text.0)),
            },
            other => other.clone(),
        };
        let bytes = weight(&output);
        if bytes > *left {
            left_out += bytes;
        } else {
            *left -= bytes;
            kept.push(output);
        }
    }
    (kept, left_out)
}

fn weight(output: &CellOutput) -> usize {
    match output {
        CellOutput::Stream { text, .. } => text.0.len(),
        CellOutput::DisplayData { data, .. } | CellOutput::ExecuteResult { data, .. } => data
            .values()
            .map(|value| value.as_str().map_or(100, str::len))
            .sum(),
        CellOutput::Error { traceback, .. } => traceback.iter().map(String::len).sum(),
    }
}

/// The beginning and the end of a long text, and how much is between them.
fn shorten(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    let head = (0..=TEXT_BYTES_MAX / 2)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    let tail = text.len() - TEXT_BYTES_MAX / 2;
    let tail = (tail..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    let (start, _) = text.split_at(head);
    let (_, end) = text.split_at(tail);
    format!(
        "{start}\n\n… {} are left out here …\n\n{end}",
        size((tail - head) as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_keeps_both_ends() {
        let text = format!("first{}last", "é".repeat(200_000));
        let short = shorten(&text);
        assert!(short.starts_with("first") && short.ends_with("last"));
        assert!(short.len() < TEXT_BYTES_MAX + 100);
        assert!(
            short.contains("334 kB are left out here"),
            "{}",
            &short[30_000..34_000]
        );
    }

    #[test]
    fn outputs_beyond_the_page_are_counted() {
        let mut left = 10;
        let outputs = [
            CellOutput::stdout("12345678"),
            CellOutput::stdout("12345"),
            CellOutput::stdout("12"),
        ];
        let (kept, left_out) = bounded(&outputs, &mut left);
        assert_eq!(
            kept,
            [CellOutput::stdout("12345678"), CellOutput::stdout("12")]
        );
        assert_eq!((left_out, left), (5, 0));
    }
}
