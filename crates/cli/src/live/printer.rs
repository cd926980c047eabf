use forebay_client::{Bundle, CellStatus, EventLine, RunEvent, StreamName};

use crate::failure::Failure;
use crate::output::{BAD, DIM, Out, duration};

/// Turns events into lines: what the program wrote goes where it wrote it, cell heads and
/// tracebacks go to standard error. In JSON form each event is a line of standard output.
#[derive(Debug)]
pub(super) struct Printer {
    out: Out,
    /// A script has one cell only, whose head would say nothing.
    heads: bool,
    /// The cell whose head was printed last.
    head: Option<usize>,
    /// Whether the last text left its line open.
    open: Option<StreamName>,
    /// Whether an error was printed.
    told: bool,
}

impl Printer {
    pub(super) fn new(out: Out, heads: bool) -> Self {
        Self {
            out,
            heads,
            head: None,
            open: None,
            told: false,
        }
    }

    pub(super) fn print(&mut self, line: &EventLine) -> Result<(), Failure> {
        if self.out.is_json() {
            return self.out.json(&line.raw);
        }
        match &line.event {
            RunEvent::Stream { cell, name, text } => {
                self.head(*cell)?;
                self.stream(*name, text)
            }
            RunEvent::Display { cell, data } | RunEvent::Result { cell, data } => {
                self.head(*cell)?;
                self.close()?;
                self.out.line(shown(data))
            }
            RunEvent::Error {
                cell,
                ename,
                evalue,
                traceback,
            } => {
                self.told = true;
                self.head(*cell)?;
                self.close()?;
                if traceback.is_empty() {
                    self.out.note(format_args!("{BAD}{ename}{BAD:#}: {evalue}"));
                } else {
                    self.out.note(traceback.join("\n").trim_end());
                }
                Ok(())
            }
            RunEvent::CellFinished {
                cell,
                status: CellStatus::Failed,
                duration_ms,
            } if self.heads => {
                self.head(*cell)?;
                self.close()?;
                let took = duration(i64::try_from(*duration_ms).unwrap_or(i64::MAX));
                self.out.note(format_args!(
                    "{BAD}cell {} failed{BAD:#} after {took}",
                    cell + 1
                ));
                Ok(())
            }
            // An update replaces what is already on the screen; the executed notebook has it.
            RunEvent::UpdateDisplay { .. }
            | RunEvent::CellStarted { .. }
            | RunEvent::CellFinished { .. }
            | RunEvent::Other => Ok(()),
        }
    }

    /// Whether the last text left its line open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Says whether an error was printed.
    pub(super) fn finish(mut self) -> Result<bool, Failure> {
        self.close()?;
        Ok(self.told)
    }

    /// Only cells with output get a head.
    fn head(&mut self, cell: usize) -> Result<(), Failure> {
        if self.heads && self.head != Some(cell) {
            self.close()?;
            self.out
                .note(format_args!("{DIM}── cell {} ──{DIM:#}", cell + 1));
            self.head = Some(cell);
        }
        Ok(())
    }

    fn stream(&mut self, name: StreamName, text: &str) -> Result<(), Failure> {
        match name {
            StreamName::Stdout => self.out.text(text)?,
            StreamName::Stderr => self.out.note_text(text),
        }
        self.open = (!text.ends_with('\n')).then_some(name);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Failure> {
        match self.open.take() {
            Some(StreamName::Stdout) => self.out.text("\n"),
            Some(StreamName::Stderr) => {
                self.out.note_text("\n");
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// The representation that a terminal can show.
fn shown(data: &Bundle) -> String {
    for kind in ["text/plain", "text/markdown", "application/json"] {
        match data.get(kind) {
            Some(serde_json::Value::String(text)) => return text.trim_end().to_owned(),
            Some(value) => return value.to_string(),
            None => {}
        }
    }
    let kinds: Vec<_> = data.keys().map(String::as_str).collect();
    format!("[{}]", kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bundle(value: serde_json::Value) -> Bundle {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_terminal_gets_the_plain_text_of_a_rich_output() {
        let rich = bundle(json!({"text/html": "<b>1</b>", "text/plain": "1\n"}));
        assert_eq!(shown(&rich), "1");
    }

    #[test]
    fn an_output_without_text_is_named_by_its_kinds() {
        let image = bundle(json!({"image/png": "aGk="}));
        assert_eq!(shown(&image), "[image/png]");
    }
}
