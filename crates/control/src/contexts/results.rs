//! What a command gave, from what its cell put out.

use forebay_exec::TABLE;
use forebay_notebook::outputs::Output;
use forebay_wire::contexts::{Column, Results};
use serde_json::{Map, Value};

/// Of a text; what is beyond is on the page of the run.
const TEXT_BYTES_MAX: usize = 5 << 20;
/// As `python/forebay_driver/context.py` writes it.
const EXIT: &str = "application/vnd.forebay.exit";
const IMAGES: [&str; 2] = ["image/png", "image/jpeg"];

/// An error stands for all else; then what the command exited with; then its last table; then its
/// images, and else what it wrote.
pub(super) fn of(outputs: &[Output]) -> Results {
    if let Some(error) = error(outputs) {
        return error;
    }
    let shown = || outputs.iter().filter_map(bundle);
    if let Some(value) = shown().find_map(|data| data.get(EXIT)?.as_str()) {
        return text(value.to_owned());
    }
    if let Some(table) = shown().filter_map(|data| data.get(TABLE)).next_back() {
        return of_table(table);
    }
    let written = written(outputs);
    let mut images: Vec<String> = shown().filter_map(image).collect();
    if images.len() > 1 {
        return Results::Images {
            file_names: images,
            data: written,
            truncated: false,
        };
    }
    match images.pop() {
        Some(file_name) => Results::Image {
            file_name,
            data: written,
            truncated: false,
        },
        None => text(written),
    }
}

/// Of a command whose context ended before it.
pub(super) fn ended(reason: &str) -> Results {
    Results::Error {
        summary: escaped(reason),
        cause: reason.to_owned(),
    }
}

pub(super) fn canceled() -> Results {
    ended("The command was canceled.")
}

/// With the trace of where it was interrupted, if it was.
pub(super) fn canceled_with(outputs: &[Output]) -> Results {
    error(outputs).unwrap_or_else(canceled)
}

/// Whether an interrupt ended a command that failed: in Python, in R, or before it could say so.
pub(super) fn was_interrupted(outputs: &[Output]) -> bool {
    let last = outputs.iter().rev().find_map(|output| match output {
        Output::Error { ename, .. } => Some(ename.as_str()),
        _ => None,
    });
    matches!(last, None | Some("KeyboardInterrupt" | "Interrupt"))
}

fn error(outputs: &[Output]) -> Option<Results> {
    outputs.iter().rev().find_map(|output| match output {
        Output::Error {
            ename,
            evalue,
            traceback,
        } => Some(Results::Error {
            summary: format!(
                "<span class=\"ansi-red-fg\">{}</span>: {}",
                escaped(ename),
                escaped(evalue)
            ),
            cause: traceback.join("\n"),
        }),
        _ => None,
    })
}

fn bundle(output: &Output) -> Option<&Map<String, Value>> {
    match output {
        Output::DisplayData { data, .. } | Output::ExecuteResult { data, .. } => Some(data),
        _ => None,
    }
}

fn image(data: &Map<String, Value>) -> Option<String> {
    let mut found = IMAGES
        .into_iter()
        .filter_map(|kind| Some((kind, data.get(kind)?.as_str()?)));
    let (kind, content) = found.next()?;
    let content: String = content.split_whitespace().collect();
    Some(format!("data:{kind};base64,{content}"))
}

fn of_table(table: &Value) -> Results {
    let columns = table.get("schema").and_then(Value::as_array);
    let column = |column: &Value| Column {
        name: column["name"].as_str().unwrap_or_default().to_owned(),
        kind: column["type"].to_string(),
        metadata: "{}",
    };
    Results::Table {
        data: table.get("rows").cloned().unwrap_or_default(),
        schema: columns.into_iter().flatten().map(column).collect(),
        truncated: table.get("more") == Some(&Value::Bool(true)),
        is_json_schema: true,
    }
}

/// What a person would read, without the last line's end.
fn written(outputs: &[Output]) -> String {
    let mut all = String::new();
    for output in outputs {
        if let Output::Stream { text, .. } = output {
            all.push_str(&text.0);
            continue;
        }
        let Some(data) = bundle(output) else { continue };
        if image(data).is_some() {
            continue;
        }
        let of = |kind: &str| data.get(kind).and_then(Value::as_str);
        let plain = of("text/plain");
        // What says no more than that there is something to be seen.
        let is_html = plain.is_none_or(|text| text.starts_with("<IPython.core.display.HTML"));
        let shown = if is_html { of("text/html") } else { plain };
        if let Some(shown) = shown.or(plain) {
            if !all.is_empty() && !all.ends_with('\n') {
                all.push('\n');
            }
            all.push_str(shown);
            all.push('\n');
        }
    }
    all.truncate(all.trim_end_matches('\n').len());
    all
}

fn text(mut data: String) -> Results {
    let truncated = data.len() > TEXT_BYTES_MAX;
    data.truncate(data.floor_char_boundary(TEXT_BYTES_MAX));
    Results::Text { data, truncated }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(data: Value) -> Output {
        let Value::Object(data) = data else {
            panic!("an object")
        };
        Output::DisplayData {
            data,
            metadata: Map::new(),
        }
    }

    fn failed() -> Output {
        Output::Error {
            ename: "ValueError".to_owned(),
            evalue: "a <b>".to_owned(),
            traceback: vec!["Traceback".to_owned(), "ValueError: a <b>".to_owned()],
        }
    }

    #[test]
    fn each_kind_of_output_has_its_kind_of_result() {
        let table =
            json!({"schema": [{"name": "n", "type": "long"}], "rows": [[1], [2]], "more": true});
        let table = || shown(json!({"text/plain": "n\n1", TABLE: table.clone()}));
        let png = || shown(json!({"image/png": "aGk=\n", "text/plain": "<Figure>"}));
        let print = || Output::stdout("hello\n");
        let cases = [
            (
                vec![],
                json!({"resultType": "text", "data": "", "truncated": false}),
            ),
            (
                vec![print(), shown(json!({"text/plain": "2"}))],
                json!({"resultType": "text", "data": "hello\n2", "truncated": false}),
            ),
            (
                vec![shown(json!({
                    "text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>x</b>"
                }))],
                json!({"resultType": "text", "data": "<b>x</b>", "truncated": false}),
            ),
            (
                vec![print(), table()],
                json!({
                    "resultType": "table", "data": [[1], [2]], "truncated": true,
                    "schema": [{"name": "n", "type": "\"long\"", "metadata": "{}"}],
                    "isJsonSchema": true,
                }),
            ),
            (
                vec![print(), png()],
                json!({
                    "resultType": "image", "fileName": "data:image/png;base64,aGk=",
                    "data": "hello", "truncated": false,
                }),
            ),
            (
                vec![png(), png()],
                json!({
                    "resultType": "images", "data": "", "truncated": false,
                    "fileNames": ["data:image/png;base64,aGk=", "data:image/png;base64,aGk="],
                }),
            ),
            (
                vec![print(), shown(json!({"text/plain": "1", EXIT: "1"}))],
                json!({"resultType": "text", "data": "1", "truncated": false}),
            ),
            (
                vec![table(), failed()],
                json!({
                    "resultType": "error",
                    "summary": "<span class=\"ansi-red-fg\">ValueError</span>: a &lt;b&gt;",
                    "cause": "Traceback\nValueError: a <b>",
                }),
            ),
        ];
        for (outputs, expected) in cases {
            let seen = serde_json::to_value(of(&outputs)).unwrap();
            assert_eq!(seen, expected, "{outputs:?}");
        }
    }
}
