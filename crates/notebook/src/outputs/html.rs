//! Outputs and cell sources as HTML fragments.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Output, ansi_to_html, markdown_to_html, table};

/// Whether scripts of an HTML output may run inside its frame. Even then the frame has an origin
/// of its own, so that they reach neither the page nor its cookies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Frames {
    #[default]
    Inert,
    Scripted,
}

/// Text for element content and double-quoted attributes. Control characters other than tab and
/// line feed, which HTML cannot hold, become U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    push_escaped(&mut out, text);
    out
}

pub(super) fn push_escaped(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(char),
            '\r' => {}
            _ if char.is_control() => out.push('\u{fffd}'),
            _ => out.push(char),
        }
    }
}

/// The text of a cell in its language, for a style sheet or a highlighter to find.
#[must_use]
pub fn source_to_html(source: &str, language: &str) -> String {
    format!(
        "<pre class=\"source\"><code class=\"language-{}\">{}</code></pre>",
        escape(language),
        escape(source)
    )
}

/// One output as a `<div class="output ...">`.
#[must_use]
pub fn output_to_html(output: &Output, frames: Frames) -> String {
    let (class, body) = match output {
        Output::Stream { name, text } => {
            let class = if name == "stderr" { "stderr" } else { "stdout" };
            (class, ansi_pre(&text.0))
        }
        Output::DisplayData { data, metadata } => ("display", data_to_html(data, metadata, frames)),
        Output::ExecuteResult { data, metadata, .. } => {
            ("result", data_to_html(data, metadata, frames))
        }
        Output::Error {
            ename,
            evalue,
            traceback,
        } => ("error", error_to_html(ename, evalue, traceback)),
    };
    format!("<div class=\"output {class}\">{body}</div>")
}

pub(super) fn preformatted(text: &str, class: &str) -> String {
    format!("<pre class=\"{class}\">{}</pre>", escape(text))
}

fn ansi_pre(text: &str) -> String {
    format!("<pre>{}</pre>", ansi_to_html(text))
}

fn error_to_html(ename: &str, evalue: &str, traceback: &[String]) -> String {
    let headline = match (ename, evalue) {
        ("", "") => "Error".to_owned(),
        (name, "") | ("", name) => name.to_owned(),
        (name, value) => format!("{name}: {value}"),
    };
    let mut html = format!("<p class=\"headline\">{}</p>", ansi_to_html(&headline));
    if !traceback.is_empty() {
        html.push_str(&ansi_pre(&traceback.join("\n")));
    }
    html
}

/// The richest form that can be shown safely.
fn data_to_html(
    data: &Map<String, Value>,
    metadata: &Map<String, Value>,
    frames: Frames,
) -> String {
    const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
    if let Some(html) = text_of(data, "text/html") {
        return table::plain(&html).unwrap_or_else(|| html_frame(&html, frames));
    }
    if let Some(svg) = text_of(data, "image/svg+xml") {
        // As the source of an image, scripts in an SVG do not run.
        return image("image/svg+xml", &STANDARD.encode(svg), metadata, data);
    }
    for mime in IMAGES {
        let bytes = text_of(data, mime).and_then(|text| checked_base64(&text));
        if let Some(bytes) = bytes {
            return image(mime, &bytes, metadata, data);
        }
    }
    if let Some(markdown) = text_of(data, "text/markdown") {
        return format!("<div class=\"md\">{}</div>", markdown_to_html(&markdown));
    }
    if let Some(plain) = text_of(data, "text/plain") {
        return ansi_pre(&plain);
    }
    if let Some(latex) = text_of(data, "text/latex") {
        return preformatted(&latex, "latex");
    }
    if let Some(json) = data.get("application/json") {
        let text = serde_json::to_string_pretty(json).unwrap_or_default();
        return preformatted(&text, "json");
    }
    let mimes: Vec<&str> = data.keys().map(String::as_str).collect();
    let note = format!(
        "An output of type {} cannot be shown here.",
        mimes.join(", ")
    );
    format!("<p class=\"note\">{}</p>", escape(&note))
}

/// A non-empty text under this MIME type, given as a string or as a list of lines.
fn text_of(data: &Map<String, Value>, mime: &str) -> Option<String> {
    let text = match data.get(mime)? {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

/// Base64 without line breaks, or `None` when it is something else.
fn checked_base64(text: &str) -> Option<String> {
    let bytes: String = text.split_ascii_whitespace().collect();
    let is_base64 = bytes
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    (is_base64 && !bytes.is_empty()).then_some(bytes)
}

fn image(
    mime: &str,
    base64: &str,
    metadata: &Map<String, Value>,
    data: &Map<String, Value>,
) -> String {
    // The size is under the MIME type or, from some libraries, beside it.
    let size = |name: &str| {
        let own = metadata.get(mime).and_then(|facts| facts.get(name));
        own.or_else(|| metadata.get(name))
            .and_then(Value::as_u64)
            .filter(|pixels| (1..=10_000).contains(pixels))
            .map(|pixels| format!(" {name}=\"{pixels}\""))
            .unwrap_or_default()
    };
    let alt = text_of(data, "text/plain").unwrap_or_else(|| "output image".to_owned());
    format!(
        "<img src=\"data:{mime};base64,{base64}\" alt=\"{}\"{}{}>",
        escape(&alt),
        size("width"),
        size("height")
    )
}

/// A frame of its own origin, whose links open in a new window. Its height is a guess from the
/// content, because a frame without scripts cannot tell its height; the style sheet lets readers
/// drag it.
fn html_frame(html: &str, frames: Frames) -> String {
    const HEAD: &str = "<!doctype html><meta charset=\"utf-8\">\
        <meta name=\"color-scheme\" content=\"light dark\">\
        <base target=\"_blank\">\
        <style>body{font:14px/1.45 system-ui,sans-serif;margin:4px}\
        table{border-collapse:collapse}\
        th,td{padding:3px 9px;text-align:right;border-bottom:1px solid #8884}</style>";
    let sandbox = match frames {
        Frames::Inert => "allow-popups allow-popups-to-escape-sandbox",
        Frames::Scripted => "allow-popups allow-popups-to-escape-sandbox allow-scripts",
    };
    let lower = html.to_ascii_lowercase();
    let note = if frames == Frames::Inert && lower.contains("<script") {
        "<p class=\"note\">Scripts in this output do not run here.</p>"
    } else {
        ""
    };
    format!(
        "<iframe sandbox=\"{sandbox}\" referrerpolicy=\"no-referrer\" loading=\"lazy\" \
         title=\"HTML output\" height=\"{}\" srcdoc=\"{}{}\"></iframe>{note}",
        frame_height(&lower, frames),
        escape(HEAD),
        escape(html)
    )
}

/// `html` is in lower case.
fn frame_height(html: &str, frames: Frames) -> usize {
    let count = |tag: &str| html.matches(tag).count();
    let has = |tags: &[&str]| tags.iter().any(|tag| html.contains(tag));
    let is_scripted = frames == Frames::Scripted && has(&["<script", "<canvas"]);
    if is_scripted || has(&["<svg", "<img"]) {
        return 480;
    }
    let rows = count("<tr") * 29;
    let blocks = ["<p", "<div", "<li", "<br", "<h1", "<h2", "<h3"]
        .iter()
        .map(|tag| count(tag))
        .sum::<usize>()
        * 26;
    (rows + blocks + 40).clamp(60, 520)
}
