//! A whole notebook with its outputs as one page that needs nothing else.

use super::{Frames, Output, escape, markdown_to_html, output_to_html, source_to_html};
use crate::magic::Body;
use crate::{Cell, CellKind, Language, Notebook};

/// The style of cells and outputs, for pages that embed [`cell_to_html`].
pub const PAGE_STYLE: &str = include_str!("page.css");

/// A static page in which no script runs. It carries the notebook itself as well, in the form that
/// [`crate::Exported::from_page`] reads. `outputs` are by cell index; cells beyond their end have none.
#[must_use]
pub fn render_html(notebook: &Notebook, outputs: &[Vec<Output>], title: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         img-src data: https:; style-src 'unsafe-inline'; frame-src 'none'; base-uri 'none'; \
         form-action 'none'\">\
         <meta name=\"referrer\" content=\"no-referrer\">{model}\
         <title>{title}</title><style>{PAGE_STYLE}</style></head>\n\
         <body><main class=\"notebook\"><header><h1>{title}</h1>\
         <p class=\"facts\">{language} notebook, {count}</p></header>\n",
        // Before all text of the notebook, which may look like it.
        model = notebook.to_page_model(title),
        title = escape(title),
        language = language_label(notebook.language),
        count = match notebook.cells.len() {
            1 => "1 cell".to_owned(),
            count => format!("{count} cells"),
        },
    );
    for (index, cell) in notebook.cells.iter().enumerate() {
        let outputs = outputs.get(index).map_or(&[][..], Vec::as_slice);
        let html = cell_to_html(index, cell, notebook.language, outputs, Frames::Inert);
        page.push_str(&html);
        page.push('\n');
    }
    page.push_str("</main></body></html>\n");
    page
}

/// One cell as a `<section>` with the id `cell-N`, N from 1: its title, its text, or its Markdown
/// rendered, and what it put out.
#[must_use]
pub fn cell_to_html(
    index: usize,
    cell: &Cell,
    language: Language,
    outputs: &[Output],
    frames: Frames,
) -> String {
    let number = index + 1;
    let body = Body::of(&cell.source, language);
    let kind = body.kind;
    let mut html = format!(
        "<section class=\"cell {}\" id=\"cell-{number}\">",
        kind.name()
    );
    if let Some(title) = cell.shown_title().filter(|_| !cell.title_hidden) {
        html.push_str(&format!("<h2>{}</h2>", escape(&title)));
    }
    if kind == CellKind::Md {
        let markdown = markdown_to_html(&body.source);
        html.push_str(&format!("<div class=\"md\">{markdown}</div>"));
    } else if !cell.source.trim().is_empty() {
        html.push_str(&format!(
            "<a class=\"number\" href=\"#cell-{number}\">{number}</a>"
        ));
        html.push_str(&source_to_html(&cell.source, kind.name()));
    }
    for output in outputs {
        html.push_str(&output_to_html(output, frames));
    }
    html.push_str("</section>");
    html
}

fn language_label(language: Language) -> &'static str {
    match language {
        Language::Python => "Python",
        Language::R => "R",
        Language::Scala => "Scala",
        Language::Sql => "SQL",
    }
}
