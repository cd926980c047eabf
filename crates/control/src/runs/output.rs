//! What a run wrote: a file of events per attempt, appended as they come, read by offset.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::time::Duration;

use forebay_exec::{CellStatus, Event, StreamName};
use forebay_notebook::Notebook;
use forebay_notebook::outputs::{Output, Text, render_html, to_ipynb_with_outputs};
use forebay_runtime::blocking;
use forebay_store::Attempt;
use forebay_types::{Error, ErrorCode, Millis, Result, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::{RunView, Runs};
use crate::Ctx;
use crate::services::WorkspaceDirs;

/// The most of a result or a log that get-output carries.
const RESULT_BYTES_MAX: usize = 5 << 20;
/// How many events one page has at most.
const PAGE_MAX: usize = 1000;

/// One line of the output file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredEvent {
    pub seq: u64,
    pub at: Millis,
    #[serde(flatten)]
    pub event: Event,
}

/// Some events of an attempt, and whether there can be more.
#[derive(Debug, Clone, Serialize)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// The attempt has ended and nothing follows `events`.
    pub end: bool,
}

/// What `get-output` tells of one attempt.
#[derive(Debug, Clone)]
pub struct RunOutput {
    pub view: RunView,
    pub attempt: Attempt,
    /// The value of `dbutils.notebook.exit`, cut to its first 5 MB; the flag says whether it was.
    pub result: Option<(String, bool)>,
    /// What a script or wheel printed, cut to its last 5 MB.
    pub logs: Option<(String, bool)>,
}

/// A notebook as it ran.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Its path in the workspace at that time.
    pub path: String,
    pub notebook: Notebook,
    /// By cell, as `states`.
    pub outputs: Vec<Vec<Output>>,
    pub states: Vec<CellState>,
}

/// How one cell of a run stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct CellState {
    pub started_at: Option<Millis>,
    /// The verdict, and the duration in milliseconds.
    pub finished: Option<(CellStatus, u64)>,
}

fn folder(dirs: &WorkspaceDirs, attempt: RunId) -> PathBuf {
    dirs.runs.join(attempt.to_string())
}

/// Forgets an attempt's files; what cannot be removed now is only space.
pub(crate) fn remove(dirs: &WorkspaceDirs, attempt: RunId) {
    drop(std::fs::remove_dir_all(folder(dirs, attempt)));
}

/// A full disk is the operator's to mend, and the run says so.
fn storage(doing: &str, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::StorageFull {
        let message = format!("The server's disk is full: cannot {doing}.");
        return Error::new(ErrorCode::TemporarilyUnavailable, message).because(error);
    }
    Error::internal(format!("cannot {doing}"), error)
}

/// The notebook as it was when it ran, kept beside its output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) path: String,
    /// The file's name tells the format.
    pub(crate) file_name: String,
    pub(crate) source: String,
}

/// Appends events to an attempt's file.
pub(crate) struct Writer {
    file: std::fs::File,
    seq: u64,
    watchers: watch::Sender<u64>,
}

impl Writer {
    pub(crate) fn create(
        dirs: &WorkspaceDirs,
        attempt: RunId,
        snapshot: Option<&Snapshot>,
        watchers: watch::Sender<u64>,
    ) -> Result<Self> {
        let folder = folder(dirs, attempt);
        let cannot = |e| storage("keep a run's output", e);
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        if let Some(snapshot) = snapshot {
            let text = serde_json::to_vec(snapshot)
                .map_err(|e| Error::internal("cannot keep the notebook", e))?;
            std::fs::write(folder.join("notebook.json"), text).map_err(cannot)?;
        }
        let path = folder.join("output.jsonl");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .map_err(cannot)?;
        Ok(Self {
            file,
            seq: 0,
            watchers,
        })
    }

    pub(crate) fn append(&mut self, at: Millis, event: Event) -> Result<()> {
        self.seq += 1;
        let stored = StoredEvent {
            seq: self.seq,
            at,
            event,
        };
        let mut line =
            serde_json::to_vec(&stored).map_err(|e| Error::internal("cannot write an event", e))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|e| storage("write a run's output", e))?;
        self.watchers.send_replace(self.seq);
        Ok(())
    }
}

/// Reads events after `from`, at most `limit`. A last line that a crash cut off is left out.
fn read_events(path: &PathBuf, from: u64, limit: usize) -> Result<Vec<StoredEvent>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::internal("cannot read a run's output", e)),
    };
    let mut events = Vec::new();
    for line in BufReader::with_capacity(1 << 16, file)
        .lines()
        .skip(usize::try_from(from).unwrap_or(usize::MAX))
    {
        let Ok(line) = line else { break };
        let Ok(event) = serde_json::from_str(&line) else {
            break;
        };
        events.push(event);
        if events.len() >= limit {
            break;
        }
    }
    Ok(events)
}

impl Runs {
    /// Events of an attempt after the first `from`; waits up to `wait` for one to come.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn events(
        &self,
        ctx: &Ctx,
        id: RunId,
        from: u64,
        wait: Duration,
    ) -> Result<EventPage> {
        let attempt = self.attempt(ctx, id).await?.1;
        let following = self.0.live.follow(attempt.id);
        let path = folder(&self.0.dirs, attempt.id).join("output.jsonl");
        if let Some(mut following) = following {
            let deadline = self.0.clock.sleep(wait);
            tokio::select! {
                _ = following.wait_for(|written| *written > from) => {}
                () = deadline => {}
            }
        } else if !attempt.phase.is_ended() {
            // It waits for its slot, or is being ended; the run's next move wakes us.
            let mut moved = self.0.live.watch_run(attempt.run_id);
            tokio::select! {
                _ = moved.changed() => {}
                () = self.0.clock.sleep(wait.min(Duration::from_millis(200))) => {}
            }
        }
        // Looked at before the file is read: when it has ended, the file is complete.
        let ended = self.attempt(ctx, id).await?.1.phase.is_ended();
        let events = blocking(move || read_events(&path, from, PAGE_MAX)).await?;
        Ok(EventPage {
            end: ended && events.len() < PAGE_MAX,
            events,
        })
    }

    /// Waits until the run has ended, at most for `wait`, and tells how it stands.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn wait(&self, ctx: &Ctx, id: RunId, wait: Duration) -> Result<RunView> {
        let deadline = self.0.clock.sleep(wait);
        tokio::pin!(deadline);
        loop {
            let view = self.get(ctx, id).await?;
            let mut moved = self.0.live.watch_run(view.run.id);
            // Asked again after subscribing, so that an end in between is not missed.
            let view = self.get(ctx, id).await?;
            if view.run.phase.is_ended() {
                self.0.live.ended(view.run.id);
                return Ok(view);
            }
            tokio::select! {
                _ = moved.changed() => {}
                () = &mut deadline => return Ok(view),
            }
        }
    }

    /// # Errors
    /// `Run N does not exist.`; `INVALID_PARAMETER_VALUE` for a run of several tasks.
    pub async fn output(&self, ctx: &Ctx, id: RunId) -> Result<RunOutput> {
        let (view, attempt) = self.attempt(ctx, id).await?;
        let result = attempt.exit_value.as_ref().map(|value| cut_end(value));
        let path = folder(&self.0.dirs, attempt.id).join("output.jsonl");
        let is_notebook = is_notebook(&view, &attempt);
        let logs = if is_notebook {
            None
        } else {
            let events = blocking(move || read_events(&path, 0, usize::MAX)).await?;
            Some(cut_start(streams(&events)))
        };
        Ok(RunOutput {
            view,
            attempt,
            result,
            logs,
        })
    }

    /// The notebook with its outputs, as an `.ipynb` document.
    ///
    /// # Errors
    /// `RESOURCE_DOES_NOT_EXIST` when the run was not of a notebook or has not begun.
    pub async fn notebook(&self, ctx: &Ctx, id: RunId) -> Result<Vec<u8>> {
        let ran = self.rendered(ctx, id).await?;
        Ok(to_ipynb_with_outputs(&ran.notebook, &ran.outputs))
    }

    /// The notebook with its outputs, as a page of its own.
    ///
    /// # Errors
    /// As for [`Runs::notebook`].
    pub async fn export_html(&self, ctx: &Ctx, id: RunId) -> Result<(String, String)> {
        let ran = self.rendered(ctx, id).await?;
        let name = ran.path.rsplit('/').next().unwrap_or_default().to_owned();
        Ok((name, render_html(&ran.notebook, &ran.outputs, &ran.path)))
    }

    /// The notebook as it ran and what each of its cells put out so far.
    ///
    /// # Errors
    /// As for [`Runs::notebook`].
    pub async fn rendered(&self, ctx: &Ctx, id: RunId) -> Result<Ran> {
        let (_, attempt) = self.attempt(ctx, id).await?;
        let folder = folder(&self.0.dirs, attempt.id);
        blocking(move || {
            let text = std::fs::read(folder.join("notebook.json")).map_err(|e| {
                Error::missing(format!(
                    "Run {id} has no notebook: it ran something else, or not yet."
                ))
                .because(e)
            })?;
            let snapshot: Snapshot = serde_json::from_slice(&text)
                .map_err(|e| Error::internal("a kept notebook cannot be read", e))?;
            let notebook = super::source::parse(&snapshot.file_name, snapshot.source.as_bytes())?;
            let events = read_events(&folder.join("output.jsonl"), 0, usize::MAX)?;
            let cells = notebook.cells.len();
            Ok(Ran {
                path: snapshot.path,
                states: cell_states(&events, cells),
                outputs: outputs_by_cell(cells, events),
                notebook,
            })
        })
        .await
    }

    async fn attempt(&self, ctx: &Ctx, id: RunId) -> Result<(RunView, Attempt)> {
        let view = self.get(ctx, id).await?;
        let attempt = view.only_attempt().cloned();
        let attempt = attempt.ok_or_else(|| {
            Error::new(
                ErrorCode::InvalidParameterValue,
                format!(
                    "Run {id} has several tasks: ask for the output of each task by the run_id of \
                     the task, which runs/get lists."
                ),
            )
        })?;
        Ok((view, attempt))
    }
}

/// By the definition, so that pollers see the same form before, during and after the run.
fn is_notebook(view: &RunView, attempt: &Attempt) -> bool {
    let tasks = view.run.settings.get("tasks");
    let task = tasks.and_then(|tasks| tasks.get(attempt.task));
    task.is_some_and(|task| task.get("notebook_task").is_some())
}

fn cut_end(text: &str) -> (String, bool) {
    if text.len() <= RESULT_BYTES_MAX {
        return (text.to_owned(), false);
    }
    let end = (0..=RESULT_BYTES_MAX)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0);
    (text.get(..end).unwrap_or_default().to_owned(), true)
}

fn cut_start(text: String) -> (String, bool) {
    if text.len() <= RESULT_BYTES_MAX {
        return (text, false);
    }
    let start = text.len() - RESULT_BYTES_MAX;
    let start = (start..text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(text.len());
    (text.get(start..).unwrap_or_default().to_owned(), true)
}

fn streams(events: &[StoredEvent]) -> String {
    let mut text = String::new();
    for stored in events {
        if let Event::Stream { text: part, .. } = &stored.event {
            text.push_str(part);
        }
    }
    text
}

/// Folds events into the outputs that a notebook document keeps per cell.
fn outputs_by_cell(cells: usize, events: Vec<StoredEvent>) -> Vec<Vec<Output>> {
    let mut outputs: Vec<Vec<Output>> = vec![Vec::new(); cells];
    let mut displays: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
    let mut clear_next = vec![false; cells];
    for StoredEvent { event, .. } in events {
        let cell = cell_of(&event);
        if cell >= cells {
            continue;
        }
        if let Event::UpdateDisplay {
            display_id,
            data,
            metadata,
            ..
        } = event
        {
            for (cell, index) in displays.get(&display_id).into_iter().flatten() {
                if let Some(place) = outputs.get_mut(*cell).and_then(|list| list.get_mut(*index)) {
                    *place = Output::DisplayData {
                        data: data.clone(),
                        metadata: metadata.clone(),
                    };
                }
            }
            continue;
        }
        if let Event::ClearOutput { wait, .. } = event {
            clear_next[cell] = true;
            if !wait {
                outputs[cell].clear();
                clear_next[cell] = false;
            }
            continue;
        }
        let display_id = match &event {
            Event::Display { display_id, .. } => display_id.clone(),
            _ => None,
        };
        let Some(output) = output_of(event) else {
            continue;
        };
        if std::mem::take(&mut clear_next[cell]) {
            outputs[cell].clear();
        }
        push(&mut outputs[cell], output);
        if let Some(id) = display_id {
            displays
                .entry(id)
                .or_default()
                .push((cell, outputs[cell].len() - 1));
        }
    }
    outputs
}

fn cell_of(event: &Event) -> usize {
    match event {
        Event::CellStarted { cell }
        | Event::Stream { cell, .. }
        | Event::Display { cell, .. }
        | Event::UpdateDisplay { cell, .. }
        | Event::ClearOutput { cell, .. }
        | Event::Result { cell, .. }
        | Event::Error { cell, .. }
        | Event::CellFinished { cell, .. } => *cell,
    }
}

fn output_of(event: Event) -> Option<Output> {
    Some(match event {
        Event::Stream { name, text, .. } => {
            let name = match name {
                StreamName::Stdout => "stdout",
                StreamName::Stderr => "stderr",
            };
            Output::Stream {
                name: name.to_owned(),
                text: Text(text),
            }
        }
        Event::Display { data, metadata, .. } => Output::DisplayData { data, metadata },
        Event::Result {
            data,
            metadata,
            count,
            ..
        } => Output::ExecuteResult {
            execution_count: Some(count.into()),
            data,
            metadata,
        },
        Event::Error {
            ename,
            evalue,
            traceback,
            ..
        } => Output::Error {
            ename,
            evalue,
            traceback,
        },
        _ => return None,
    })
}

/// Neighbouring pieces of one stream are one output, as notebook documents have it.
fn push(outputs: &mut Vec<Output>, output: Output) {
    if let Output::Stream { name, text } = &output
        && let Some(Output::Stream {
            name: last,
            text: before,
        }) = outputs.last_mut()
        && last == name
    {
        before.0.push_str(&text.0);
        return;
    }
    outputs.push(output);
}

/// How each cell stands; a cell that began and has not finished runs, or its run was ended.
fn cell_states(events: &[StoredEvent], cells: usize) -> Vec<CellState> {
    let mut states = vec![CellState::default(); cells];
    for stored in events {
        let Some(state) = states.get_mut(cell_of(&stored.event)) else {
            continue;
        };
        match stored.event {
            Event::CellStarted { .. } => state.started_at = Some(stored.at),
            Event::CellFinished {
                status,
                duration_ms,
                ..
            } => state.finished = Some((status, duration_ms)),
            _ => {}
        }
    }
    states
}

/// Facts that are not there read as null.
#[must_use]
pub fn fact<'a>(attempt: &'a Attempt, name: &str) -> Option<&'a Value> {
    attempt.facts.get(name).filter(|value| !value.is_null())
}
