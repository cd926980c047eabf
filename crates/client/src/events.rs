use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::error::{Error, Result};

/// Representations of one object by media type.
pub type Bundle = Map<String, Value>;

/// What a run reports while it goes on. `cell` counts from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    CellStarted {
        cell: usize,
    },
    Stream {
        cell: usize,
        name: StreamName,
        text: String,
    },
    Display {
        cell: usize,
        data: Bundle,
    },
    UpdateDisplay {
        cell: usize,
        data: Bundle,
    },
    Result {
        cell: usize,
        data: Bundle,
    },
    Error {
        cell: usize,
        ename: String,
        evalue: String,
        #[serde(default)]
        traceback: Vec<String>,
    },
    CellFinished {
        cell: usize,
        status: CellStatus,
        duration_ms: u64,
    },
    /// Something of a newer server that does not concern this client.
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamName {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CellStatus {
    Succeeded,
    Failed,
    Skipped,
}

/// One line of the event log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventLine {
    pub event: RunEvent,
    /// As the server sent it.
    pub raw: Value,
}

/// What the last line of an answer says.
#[derive(Deserialize)]
struct Mark {
    #[serde(default)]
    end: bool,
    next: Option<String>,
}

/// The events of one task run from its beginning, past and to come.
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a Client,
    path: String,
    /// Where the server goes on; its own words.
    cursor: String,
    ready: VecDeque<EventLine>,
    ended: bool,
}

/// How long the server may hold a request while nothing happens.
const WAIT_MS: &str = "20000";

impl Client {
    /// `run_id` is a task's, or that of a run with one task.
    #[must_use]
    pub fn run_events(&self, run_id: i64) -> Events<'_> {
        Events {
            client: self,
            path: format!("/api/forebay/v1/runs/{run_id}/events"),
            cursor: String::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }
}

impl Events<'_> {
    /// The next event, however long it takes; `None` after the last one.
    pub async fn next(&mut self, follow: bool) -> Result<Option<EventLine>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(None);
            }
            self.fetch(if follow { WAIT_MS } else { "0" }).await?;
            if !follow && self.ready.is_empty() {
                self.ended = true;
            }
        }
    }

    async fn fetch(&mut self, wait_ms: &str) -> Result<()> {
        let request = self
            .client
            .request(reqwest::Method::GET, &self.path)
            .query(&[("cursor", self.cursor.as_str()), ("wait_ms", wait_ms)]);
        let response = self.client.open(request).await?;
        let body = response.bytes().await;
        let body = body.map_err(|e| self.client.unreachable(e))?;
        for line in body.split(|byte| *byte == b'\n') {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let raw: Value = serde_json::from_slice(line).map_err(|e| self.unreadable(&e))?;
            let mark = Mark::deserialize(&raw).map_err(|e| self.unreadable(&e))?;
            self.ended |= mark.end;
            if let Some(next) = mark.next {
                self.cursor = next;
                continue;
            }
            if mark.end {
                continue;
            }
            let event = RunEvent::deserialize(&raw).map_err(|e| self.unreadable(&e))?;
            self.ready.push_back(EventLine { event, raw });
        }
        Ok(())
    }

    fn unreadable(&self, e: &serde_json::Error) -> Error {
        self.client.protocol(format!("{}: {e}", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood_with_what_stands_beside_them() {
        let text = r#"{"seq":3,"at":1795210631428,"event":"stream","cell":2,"name":"stderr","text":"hello"}"#;
        let event: RunEvent = serde_json::from_str(text).unwrap();
        let expected = RunEvent::Stream {
            cell: 2,
            name: StreamName::Stderr,
            text: "hello".to_owned(),
        };
        assert_eq!(event, expected);
    }

    #[test]
    fn an_event_of_a_newer_server_is_passed_over() {
        let event: RunEvent = serde_json::from_str(r#"{"event":"progress","done":3}"#).unwrap();
        assert_eq!(event, RunEvent::Other);
    }
}
