//! Markdown of strangers as safe HTML.

use std::sync::LazyLock;

use ammonia::Builder;
use pulldown_cmark::{Options, Parser, html};

/// Quotes and lists deeper than this are shown as plain text: each level costs stack and bytes in
/// what follows.
const NESTING_MAX: usize = 64;

/// Tags, attributes and link schemes that cannot run anything; relative links stay as they are.
static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    builder
        .add_tags(["input"])
        .add_tag_attributes("input", ["type", "checked", "disabled"])
        .link_rel(Some("noopener noreferrer nofollow"))
        .url_schemes(["http", "https", "mailto"].into_iter().collect())
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            // The only field Markdown makes is the box of a task list.
            ("input", "type") if value != "checkbox" => None,
            _ => Some(value.into()),
        });
    builder
});

/// Renders GitHub-style Markdown; HTML inside it is kept only as far as it is harmless.
#[must_use]
pub fn markdown_to_html(text: &str) -> String {
    if nesting(text) > NESTING_MAX {
        return super::html::preformatted(text, "md-raw");
    }
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    let mut rendered = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut rendered, Parser::new_ext(text, options));
    SANITISER.clean(&rendered).to_string()
}

/// An upper bound of how deep blocks and tags nest, without parsing.
fn nesting(text: &str) -> usize {
    text.lines()
        .map(|line| {
            let quotes = line.bytes().take_while(|byte| b"> \t-*+".contains(byte));
            quotes.filter(|byte| b">-*+".contains(byte)).count()
        })
        .max()
        .unwrap_or(0)
}
