//! Notebooks as Databricks' own exports hold them: a JSON model, alone in the entries of a `.dbc`
//! archive, or inside a page that a browser shows. What was shown with them is not kept.

use std::collections::BTreeMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::NotebookError;
use crate::{Cell, Language, NOTEBOOK_BYTES_MAX, Notebook};

const VARIABLE: &str = "__DATABRICKS_NOTEBOOK_MODEL";

/// `NotebookV1`, as far as it is read and written here.
#[derive(Debug, Serialize, Deserialize)]
struct Model {
    version: String,
    name: String,
    language: String,
    #[serde(default)]
    commands: Vec<Command>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    #[serde(default)]
    version: String,
    /// Cells stand in the order of this number, whatever their order in the list.
    position: f64,
    #[serde(default)]
    command: String,
    #[serde(default)]
    command_title: Option<String>,
    #[serde(default)]
    show_command_title: bool,
}

/// A notebook with the name that its export carries.
#[derive(Debug, Clone)]
pub struct Exported {
    pub name: String,
    pub notebook: Notebook,
}

impl Exported {
    /// Reads one entry of a `.dbc` archive.
    ///
    /// # Errors
    /// When it is too large, no JSON, or not of the version that is known.
    pub fn from_model(json: &[u8]) -> Result<Self, NotebookError> {
        within_limit(json)?;
        let model: Model = serde_json::from_slice(json).map_err(|e| wrong_json(&e))?;
        model.read()
    }

    /// Reads a page: ours, or one that Databricks exported.
    ///
    /// # Errors
    /// As for [`Self::from_model`], and when no notebook is in the page.
    pub fn from_page(page: &[u8]) -> Result<Self, NotebookError> {
        within_limit(page)?;
        let page = String::from_utf8_lossy(page);
        let none = || NotebookError::Exported(format!("the page has no {VARIABLE}"));
        // Later mentions may be text of the notebook itself.
        let (_, after) = page.split_once(VARIABLE).ok_or_else(none)?;
        let value = after.trim_start().strip_prefix('=').ok_or_else(none)?;
        let value = value.trim_start();
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
            // Pages of some years ago hold the model as it is.
            let mut models = serde_json::Deserializer::from_str(value).into_iter::<Model>();
            let model = models.next().ok_or_else(none)?;
            return model.map_err(|e| wrong_json(&e))?.read();
        };
        let (encoded, _) = value[1..].split_once(quote).ok_or_else(none)?;
        let wrong = |what: &str| NotebookError::Exported(format!("{VARIABLE} is not {what}"));
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong("base64"))?;
        Self::from_model(&percent_decoded(&bytes))
    }
}

impl Model {
    fn read(mut self) -> Result<Exported, NotebookError> {
        if self.version != "NotebookV1" {
            return Err(NotebookError::Exported(format!(
                "the notebook is of version {:?}; NotebookV1 is read",
                self.version
            )));
        }
        let language = Language::from_str(&self.language)
            .map_err(|unknown| NotebookError::Language(unknown.0))?;
        self.commands
            .sort_by(|one, other| one.position.total_cmp(&other.position));
        let cells = self.commands.into_iter().map(|command| {
            let mut cell = Cell::new(command.command.replace("\r\n", "\n"));
            cell.title = command.command_title.filter(|title| !title.is_empty());
            cell.title_hidden = cell.title.is_some() && !command.show_command_title;
            cell
        });
        let notebook = Notebook::new(language, cells.collect());
        Ok(Exported {
            name: self.name,
            notebook,
        })
    }
}

impl Notebook {
    /// The JSON of a `.dbc` archive's entry.
    #[must_use]
    pub fn to_model(&self, name: &str) -> String {
        let commands = self
            .cells
            .iter()
            .zip(1_u32..)
            .map(|(cell, number)| Command {
                version: "CommandV1".to_owned(),
                position: f64::from(number),
                command: cell.source.clone(),
                command_title: cell.shown_title(),
                show_command_title: cell.shown_title().is_some() && !cell.title_hidden,
            });
        let model = Model {
            version: "NotebookV1".to_owned(),
            name: name.to_owned(),
            language: self.language.name().to_owned(),
            commands: commands.collect(),
            rest: BTreeMap::new(),
        };
        serde_json::to_string(&model).unwrap_or_default()
    }

    /// The line of script by which a page carries the notebook; programs read it, and nothing runs it.
    #[must_use]
    pub(crate) fn to_page_model(&self, name: &str) -> String {
        let encoded = STANDARD.encode(percent_encoded(&self.to_model(name)));
        format!("<script>var {VARIABLE} = '{encoded}';</script>")
    }
}

fn within_limit(bytes: &[u8]) -> Result<(), NotebookError> {
    if bytes.len() > NOTEBOOK_BYTES_MAX {
        return Err(NotebookError::TooLarge {
            size_bytes: bytes.len(),
            max_bytes: NOTEBOOK_BYTES_MAX,
        });
    }
    Ok(())
}

fn wrong_json(error: &serde_json::Error) -> NotebookError {
    NotebookError::Json {
        line: error.line(),
        column: error.column(),
        problem: error.to_string(),
    }
}

/// As browsers' `encodeURIComponent` does.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(byte.into()),
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// What is not a whole escape stays as it is.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| Some(char::from(*bytes.get(at)?).to_digit(16)? as u8);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Notebook {
        let mut hidden = Cell::new("%md\n# Ünï </script> 100%").titled("Hidden");
        hidden.title_hidden = true;
        let cells = vec![Cell::new("x = 'a'\nprint(x)").titled("First"), hidden];
        Notebook::new(Language::Python, cells)
    }

    #[test]
    fn a_notebook_comes_back_from_its_model_and_its_page() {
        let notebook = sample();
        let model = notebook.to_model("n");
        let line = notebook.to_page_model("n");
        assert!(!line[8..line.len() - 9].contains('<'), "{line}");
        let page = format!("<html>{line}<p>__DATABRICKS_NOTEBOOK_MODEL = 'x'</p></html>");
        for read in [
            Exported::from_model(model.as_bytes()).unwrap(),
            Exported::from_page(page.as_bytes()).unwrap(),
        ] {
            assert_eq!(
                (read.name.as_str(), read.notebook.language),
                ("n", Language::Python)
            );
            assert_eq!(read.notebook.cells, notebook.cells);
        }
    }

    #[test]
    fn commands_stand_by_their_position() {
        let model = r#"{"version":"NotebookV1","origId":7,"name":"n","language":"sql","commands":[
            {"version":"CommandV1","position":2.0,"command":"b","state":"finished","results":null},
            {"version":"CommandV1","position":1.5,"command":"a","commandTitle":null}],
            "dashboards":[],"inputWidgets":{}}"#;
        let old =
            format!("<script>var __DATABRICKS_NOTEBOOK_MODEL = {model};\nvar x = 1;</script>");
        let read = Exported::from_page(old.as_bytes()).unwrap().notebook;
        let sources: Vec<_> = read.cells.iter().map(|cell| cell.source.as_str()).collect();
        assert_eq!((read.language, sources), (Language::Sql, vec!["a", "b"]));
    }

    #[test]
    fn what_is_no_export_is_named() {
        let page = |text: &str| {
            Exported::from_page(text.as_bytes())
                .unwrap_err()
                .to_string()
        };
        let variable = "__DATABRICKS_NOTEBOOK_MODEL";
        assert!(page("<html></html>").contains("has no __DATABRICKS"));
        assert!(page(&format!("{variable} = '?'")).contains("not base64"));
        assert!(page(&format!("{variable} = 'e30='")).contains("version"));
        assert!(page(&format!("{variable} = 'e30=")).contains("has no"));
        let model = |text: &str| {
            Exported::from_model(text.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert!(model("[").contains("line 1"));
        let other = |version: &str, language: &str| {
            model(&format!(
                r#"{{"version":"{version}","name":"n","language":"{language}"}}"#
            ))
        };
        assert!(other("NotebookV9", "r").contains("NotebookV9"));
        assert!(other("NotebookV1", "perl").contains("perl"));
    }
}
