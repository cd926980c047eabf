//! Data frames as tables of the page itself: the most common HTML output needs no frame, which
//! could not be searched, copied from, or as high as what it shows.

use std::sync::LazyLock;

use ammonia::Builder;

/// Larger tables stay in a frame, where they do not slow down the page around them.
const BYTES_MAX: usize = 512 * 1024;

/// The tags of a table and the attributes that say which cells belong together. Everything else
/// goes, and so do the texts of styles and scripts.
static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    builder
        .add_tags([
            "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "p", "br", "b", "i",
        ])
        .add_tag_attributes("th", ["colspan", "rowspan"])
        .add_tag_attributes("td", ["colspan", "rowspan"])
        .add_clean_content_tags(["style", "script"]);
    builder
});

/// The table of a data frame as safe HTML; `None` for HTML that is more than that.
pub(super) fn plain(html: &str) -> Option<String> {
    // What pandas and its like write: one table with this class, with a style of its own at most.
    let is_frame = html.contains("class=\"dataframe") && html.len() <= BYTES_MAX;
    // The one style that pandas gives its head.
    let lower = html
        .to_ascii_lowercase()
        .replace("<tr style=\"text-align: right;\">", "<tr>");
    let count = |tag: &str| lower.matches(tag).count();
    let tells_more = [
        "<script", "<img", "<svg", "<a ", "<iframe", "<input", "style=\"",
    ];
    if !is_frame || count("<table") != 1 || tells_more.iter().any(|tag| lower.contains(tag)) {
        return None;
    }
    let clean = SANITISER.clean(html).to_string();
    Some(format!("<div class=\"table\">{}</div>", clean.trim()))
}

#[cfg(test)]
mod tests {
    use super::plain;

    const PANDAS: &str = "<div>\n<style scoped>\n .dataframe th { color: red }\n</style>\n\
        <table border=\"1\" class=\"dataframe\"><thead><tr style=\"text-align: right;\">\
        <th></th><th>a</th></tr></thead><tbody><tr><th>0</th><td>&lt;b&gt;</td></tr></tbody>\
        </table>\n<p>1 rows × 1 columns</p></div>";

    #[test]
    fn a_data_frame_is_a_table_of_the_page() {
        assert_eq!(
            plain(PANDAS).unwrap(),
            "<div class=\"table\"><table><thead><tr><th></th><th>a</th></tr></thead><tbody><tr>\
             <th>0</th><td>&lt;b&gt;</td></tr></tbody></table>\n<p>1 rows × 1 columns</p></div>"
        );
    }

    #[test]
    fn more_than_a_table_is_left_to_a_frame() {
        for more in [
            "<script>1</script>",
            "<img src=x>",
            "<a href=x>y</a>",
            "<p style=\"color: red\">",
            "<table></table>",
        ] {
            assert_eq!(plain(&format!("{PANDAS}{more}")), None, "{more}");
        }
        assert_eq!(plain("<table class=\"other\"></table>"), None);
    }
}
