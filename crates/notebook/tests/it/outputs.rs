use forebay_notebook::outputs::{
    Frames, Output, ansi_to_html, markdown_to_html, output_to_html, render_html,
    to_ipynb_with_outputs,
};
use forebay_notebook::{Cell, Format, Language, Notebook};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture;

fn output(value: Value) -> Output {
    serde_json::from_value(value).unwrap()
}

fn display(data: Value) -> String {
    let value = json!({"output_type": "display_data", "data": data, "metadata": {}});
    output_to_html(&output(value), Frames::Inert)
}

/// What must not be in a page in any spelling once attribute values and text are taken out.
fn assert_inert(html: &str) {
    let mut outside = String::new();
    let mut quoted = false;
    let mut in_tag = false;
    for char in html.chars() {
        match char {
            '<' if !quoted => in_tag = true,
            '>' if !quoted => in_tag = false,
            '"' if in_tag => quoted = !quoted,
            _ => {}
        }
        if in_tag && !quoted {
            outside.push(char.to_ascii_lowercase());
        }
    }
    assert!(!quoted && !in_tag, "unbalanced: {html}");
    for bad in [
        "<script", " on", "\ton", "\non", "<object", "<embed", "<form", "<base",
    ] {
        assert!(!outside.contains(bad), "{bad} in {html}");
    }
    for bad in [
        "href=\"javascript",
        "src=\"javascript",
        "href=\"data",
        "href=\"vbscript",
    ] {
        assert!(!html.to_ascii_lowercase().contains(bad), "{bad} in {html}");
    }
}

const HOSTILE: &[&str] = &[
    "<script>alert(1)</script>",
    "</pre></code></iframe></title></style><script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](data:text/html,<script>)",
    "<a href=\"java&#10;script:alert(1)\">x</a>",
    "<a href=\"  javascript:alert(1)\" onclick=alert(1)>x</a>",
    "![x](javascript:alert(1)) ![y](x\" onerror=\"alert(1))",
    "<svg onload=alert(1)><style>*{}</style></svg><math><mi xlink:href=\"javascript:alert(1)\">",
    "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
    "<input type=\"image\" src=\"x\" onerror=\"alert(1)\"><form action=x><base href=x>",
    "<!--><script>alert(1)</script>--><![CDATA[<script>]]>",
    "\u{1b}[31m<script>\u{1b}]8;;javascript:alert(1)\u{7}x\u{1b}]8;;\u{7}\u{1b}[",
    "\u{0}<scr\u{0}ipt>\u{fffd}\u{202e}\u{85}",
    "`</code><script>` \n\n```\"><script>\n</script>\n```",
];

#[test]
fn hostile_text_is_inert_wherever_it_stands() {
    for text in HOSTILE {
        let traceback = vec![(*text).to_owned()];
        let outputs = vec![
            Output::stdout(*text),
            output(json!({"output_type": "stream", "name": text, "text": [text]})),
            output(json!({"output_type": "display_data", "data": {"text/html": text}})),
            output(json!({"output_type": "display_data", "data": {"text/markdown": text}})),
            output(json!({"output_type": "display_data", "data": {"text/plain": text}})),
            output(json!({"output_type": "display_data", "data": {"text/latex": text}})),
            output(json!({"output_type": "display_data", "data": {"image/svg+xml": text}})),
            output(json!({"output_type": "display_data",
                "data": {"image/png": text, "text/plain": text},
                "metadata": {"width": text}})),
            output(
                json!({"output_type": "display_data", "data": {"application/json": {*text: text}}}),
            ),
            output(json!({"output_type": "execute_result", "data": {*text: text}})),
            output(json!({"output_type": "display_data",
                "data": {"image/png": "iVBORw0K", "text/plain": text}})),
            output(
                json!({"output_type": "error", "ename": text, "evalue": text,
                "traceback": traceback}),
            ),
        ];
        for output in &outputs {
            assert_inert(&output_to_html(output, Frames::Inert));
            assert_inert(&output_to_html(output, Frames::Scripted));
        }
        for language in Language::ALL {
            let cells = vec![
                Cell::new(*text).titled(*text),
                Cell::new(format!("%md\n{text}")),
                Cell::new(format!("%sql {text}")),
            ];
            let notebook = Notebook::new(language, cells);
            let page = render_html(&notebook, std::slice::from_ref(&outputs), text);
            let body = page.split_once("</style></head>").unwrap().1;
            assert_inert(body);
        }
    }
}

#[test]
fn html_runs_in_a_frame_it_cannot_leave() {
    let html = display(json!({"text/html": "<p id=\"a\">x</p></iframe>", "text/plain": "x"}));
    assert!(html.contains("<iframe sandbox=\"allow-popups allow-popups-to-escape-sandbox\" "));
    assert!(html.contains("&lt;p id=&quot;a&quot;&gt;x&lt;/p&gt;&lt;/iframe&gt;\"></iframe>"));
    assert_eq!(html.matches("</iframe>").count(), 1);
    let value = json!({"output_type": "display_data", "data": {"text/html": "<b>"}});
    let scripted = output_to_html(&output(value), Frames::Scripted);
    assert!(scripted.contains("allow-scripts") && !scripted.contains("allow-same-origin"));
}

#[test]
fn the_richest_safe_form_is_shown() {
    let png = display(json!({"image/png": "iVBO\nRw0K\n", "text/plain": "<Figure>"}));
    assert!(png.contains("src=\"data:image/png;base64,iVBORw0K\" alt=\"&lt;Figure&gt;\""));
    let sized = output(
        json!({"output_type": "display_data", "data": {"image/jpeg": "AA=="},
        "metadata": {"image/jpeg": {"width": 300}}}),
    );
    assert!(output_to_html(&sized, Frames::Inert).contains(" width=\"300\""));
    assert!(display(json!({"image/svg+xml": "<svg/>"})).contains("image/svg+xml;base64,PHN2Zy8+"));
    assert!(
        display(json!({"image/png": "not base64!", "text/plain": "p"})).contains("<pre>p</pre>")
    );
    assert!(display(json!({"text/html": " ", "text/plain": ["a\n", "b"]})).contains("a\nb"));
    assert!(display(json!({"text/markdown": "**b**"})).contains("<strong>b</strong>"));
    assert!(display(json!({"application/json": {"a": 1}})).contains("&quot;a&quot;: 1"));
    let unknown = display(json!({"application/javascript": "alert(1)"}));
    assert!(unknown.contains("type application/javascript cannot be shown"));
    assert!(!unknown.contains("alert"));
}

#[test]
fn errors_show_a_headline_and_a_coloured_traceback() {
    let error = output(
        json!({"output_type": "error", "ename": "ValueError", "evalue": "a < b",
        "traceback": ["\u{1b}[0;31mValueError\u{1b}[0m: a < b", "  line 2"]}),
    );
    insta::assert_snapshot!(
        output_to_html(&error, Frames::Inert),
        @r#"
    <div class="output error"><p class="headline">ValueError: a &lt; b</p><pre><span class="ansi-fg-1">ValueError</span>: a &lt; b
      line 2</pre></div>
    "#
    );
}

#[test]
fn terminal_text_becomes_spans() {
    let cases = [
        (
            "\u{1b}[1;32mok\u{1b}[22m!\u{1b}[0m.",
            "<span class=\"ansi-bold ansi-fg-2\">ok</span><span class=\"ansi-fg-2\">!</span>.",
        ),
        (
            "\u{1b}[38;5;196mr\u{1b}[39m",
            "<span class=\"ansi-fg-9\">r</span>",
        ),
        (
            "\u{1b}[38;5;241mg\u{1b}[m",
            "<span class=\"ansi-fg-8\">g</span>",
        ),
        (
            "\u{1b}[48;2;0;0;255mb\u{1b}[49m",
            "<span class=\"ansi-bg-12\">b</span>",
        ),
        ("\u{1b}[2K\u{1b}[1Ax\u{1b}(By", "xBy"),
        ("\u{1b}]0;title\u{7}x\u{1b}]0;t\u{1b}\\y", "xy"),
        ("\u{1b}[999999999mx\u{1b}[38;5mz", "xz"),
        ("10%\r50%\r100%\nnext\r\n", "100%\nnext\n"),
        ("a\u{8}\u{7}&", "a\u{fffd}\u{fffd}&amp;"),
    ];
    for (text, html) in cases {
        assert_eq!(ansi_to_html(text), html, "{text:?}");
    }
}

#[test]
fn markdown_has_tables_and_keeps_harmless_links() {
    let html =
        markdown_to_html("# T\n\n|a|b|\n|-|-|\n|1|2|\n\n- [x] done\n\n[l](./x) <https://a.b>");
    assert!(html.contains("<h1>T</h1>") && html.contains("<td>1</td>"));
    assert!(html.contains("type=\"checkbox\""));
    assert!(html.contains("href=\"./x\"") && html.contains("rel=\"noopener noreferrer nofollow\""));
}

#[test]
fn deep_markdown_does_not_exhaust_anything() {
    for part in ["> ", "- ", "<div>", "[", "*a ", "![", "<b><i>", "(", "`"] {
        let html = markdown_to_html(&part.repeat(20_000));
        assert_inert(&html);
    }
}

#[test]
fn a_page_is_complete_and_needs_nothing_else() {
    let notebook = fixture("sales.py");
    let outputs = vec![
        Vec::new(),
        Vec::new(),
        Vec::new(),
        vec![Output::stdout("loaded\n")],
    ];
    let page = render_html(&notebook, &outputs, "Sales & more");
    assert!(page.contains("<title>Sales &amp; more</title>"));
    assert!(page.contains("<h1>Sales by region</h1>"));
    assert!(page.contains("<h2>Load the orders</h2>"));
    assert!(!page.contains("A title that is not shown</h2>"));
    assert!(page.contains("id=\"cell-8\"") && page.contains("<pre>loaded\n</pre>"));
    assert!(page.contains("default-src 'none'"));
    // The notebook itself, which that policy keeps from running.
    assert_eq!(page.matches("<script").count(), 1);
    let read = forebay_notebook::Exported::from_page(page.as_bytes()).unwrap();
    assert_eq!(read.name, "Sales & more");
    let sources = |notebook: &Notebook| {
        let cells = notebook.cells.iter();
        cells.map(|cell| cell.source.clone()).collect::<Vec<_>>()
    };
    assert_eq!(sources(&read.notebook), sources(&notebook));
    assert!(!page.contains("<link") && !page.contains("@import"));
}

#[test]
fn outputs_are_put_into_the_ipynb() {
    let notebook = fixture("sales.py");
    let result = json!({"output_type": "execute_result", "execution_count": 2,
        "data": {"text/plain": "3"}, "metadata": {}});
    let outputs = vec![
        Vec::new(),
        Vec::new(),
        Vec::new(),
        vec![output(result.clone())],
    ];
    let bytes = to_ipynb_with_outputs(&notebook, &outputs);
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["cells"][3]["outputs"], json!([result]));
    assert_eq!(value["cells"][3]["execution_count"], 2);
    assert_eq!(value["cells"][7]["outputs"], json!([]));
    assert!(value["cells"][0].get("outputs").is_none());
    assert_eq!(
        Notebook::parse(&bytes, Format::Jupyter)
            .unwrap()
            .cells
            .len(),
        8
    );
}

#[test]
fn a_run_of_an_ipynb_keeps_its_metadata() {
    let mut notebook = fixture("jupyter.ipynb");
    notebook.cells.swap(0, 1);
    let bytes = to_ipynb_with_outputs(&notebook, &[vec![Output::stdout("new")]]);
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["cells"][0]["outputs"][0]["text"], "new");
    assert_eq!(value["cells"][0]["metadata"]["custom"]["deep"][0], 1);
    assert_eq!(value["cells"][1]["metadata"]["tags"][0], "intro");
    assert_eq!(value["metadata"]["unknown"]["kept"][1], "☃");
    assert_eq!(value["metadata"]["language_info"]["version"], "3.12.1");
}

#[test]
fn the_outputs_of_a_jupyter_file_are_readable() {
    let mut notebook = fixture("jupyter.ipynb");
    notebook.cells.insert(0, Cell::new("new"));
    let outputs = notebook.stored_outputs();
    assert_eq!(outputs.len(), 5);
    assert_eq!(outputs[2][1], Output::stdout("one\ntwo\n"));
    assert!(outputs[0].is_empty() && outputs[4].is_empty());
    assert!(fixture("sales.py").stored_outputs().is_empty());
    let text = r#"{"nbformat":4,"cells":[{"cell_type":"code","outputs":[
        {"output_type":"new"},5,{"output_type":"error"},{"output_type":"display_data","data":{}}]}]}"#;
    let odd = Notebook::parse(text.as_bytes(), Format::Jupyter).unwrap();
    assert_eq!(odd.stored_outputs()[0].len(), 2);
}

#[test]
fn markdown_too_large_or_deep_is_shown_as_text() {
    let deep = markdown_to_html(&"<div>".repeat(300));
    assert!(deep.starts_with("<pre class=\"md-raw\">&lt;div&gt;"));
    let large = markdown_to_html(&"# a\n".repeat(300_000));
    assert!(large.starts_with("<pre class=\"md-raw\"># a"));
    let wide = markdown_to_html(&"- a\n".repeat(1000));
    assert_eq!(wide.matches("<li>").count(), 1000);
    assert!(markdown_to_html(&"![a](b) ".repeat(500)).contains("<img"));
}

#[test]
fn scripts_that_do_not_run_are_announced() {
    let value =
        json!({"output_type": "display_data", "data": {"text/html": "<SCRIPT>x()</SCRIPT>"}});
    let output = output(value);
    assert!(output_to_html(&output, Frames::Inert).contains("do not run here"));
    assert!(!output_to_html(&output, Frames::Scripted).contains("do not run here"));
}

proptest! {
    #[test]
    fn any_terminal_text_is_inert(text in "(\u{1b}[\\[\\]()]?[0-9;]{0,5}[a-zA-Z\\\\]?|[<>\"'&a\r\n\u{7}ü\u{9b}]){0,20}") {
        assert_inert(&ansi_to_html(&text));
    }

    #[test]
    fn any_markdown_is_inert(text in "(<[a-z/]{0,6}|[a-z]on[a-z]{1,4}=|[<>\"'&a\\[\\]()!`:#\n-]|javascript:){0,30}") {
        assert_inert(&markdown_to_html(&text));
    }
}
