//! Markdown of strangers as safe HTML.

use std::sync::LazyLock;

use ammonia::Builder;
use pulldown_cmark::{Options, Parser, html};

/// Larger or deeper text is shown as it is: sanitising costs time by size times depth, and nobody
/// reads such Markdown.
const BYTES_MAX: usize = 1024 * 1024;
const DEPTH_MAX: usize = 200;

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
    if text.len() > BYTES_MAX {
        return super::html::preformatted(text, "md-raw");
    }
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    let mut rendered = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut rendered, Parser::new_ext(text, options));
    if depth(&rendered) > DEPTH_MAX {
        return super::html::preformatted(text, "md-raw");
    }
    SANITISER.clean(&rendered).to_string()
}

/// How deep the tags nest at most, by counting what opens and closes without parsing.
fn depth(html: &str) -> usize {
    const VOID: [&str; 8] = ["br", "hr", "img", "input", "wbr", "col", "link", "meta"];
    let (mut open, mut deepest) = (0_usize, 0);
    for tag in html.split('<').skip(1) {
        if tag.starts_with('/') {
            open = open.saturating_sub(1);
        } else if tag.starts_with(|char: char| char.is_ascii_alphabetic()) {
            let name = tag.split(|char: char| !char.is_ascii_alphanumeric()).next();
            if !name.is_some_and(|name| VOID.contains(&name)) {
                open += 1;
                deepest = deepest.max(open);
            }
        }
    }
    deepest
}
