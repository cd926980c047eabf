//! What a run wrote: a file of events per attempt, appended as they come, read by offset.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use forebay_exec::{CellStatus, Event, StreamName};
use forebay_notebook::Notebook;
use forebay_notebook::outputs::{Output, Text, render_html, to_ipynb_with_outputs};
use forebay_runtime::blocking;
use forebay_store::{Attempt, RunKind};
use forebay_types::{Error, ErrorCode, Millis, Result, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::{Inner, RunView, Runs};
use crate::Ctx;
use crate::services::WorkspaceDirs;

/// The most of a result or a log that get-output carries.
const RESULT_BYTES_MAX: usize = 5 << 20;
/// How many events one page has at most, and after how many bytes it ends.
pub(super) const PAGE_MAX: usize = 1000;
pub(super) const PAGE_BYTES: u64 = 4 << 20;

/// One line of the output file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredEvent {
    pub seq: u64,
    pub at: Millis,
    #[serde(flatten)]
    pub event: Event,
}

/// How far somebody has read the events of an attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the last event that was read.
    seq: u64,
    /// Where the next one begins in the file; without it, events are counted from its start.
    offset: Option<u64>,
}

impl Cursor {
    /// After the first `seq` events.
    #[must_use]
    pub fn after(seq: u64) -> Self {
        Self { seq, offset: None }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.offset.unwrap_or_default())
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('.');
        let number = |text: &str| text.parse::<u64>().ok();
        let read = parts.and_then(|(seq, offset)| Some((number(seq)?, number(offset)?)));
        let (seq, offset) = read.ok_or_else(not_a_cursor)?;
        let offset = Some(offset);
        Ok(Self { seq, offset })
    }
}

fn not_a_cursor() -> Error {
    Error::invalid("Field 'cursor' is not one that this server gave for this run.")
}

/// Some events of an attempt, and whether there can be more.
#[derive(Debug, Clone)]
pub struct EventPage {
    pub events: Vec<StoredEvent>,
    /// From here on it goes on.
    pub next: Cursor,
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
    /// Retention has removed it.
    pub is_gone: bool,
    /// The run that a run-job started.
    pub run_job: Option<RunId>,
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

pub(super) fn folder(dirs: &WorkspaceDirs, attempt: RunId) -> PathBuf {
    dirs.runs.join(attempt.to_string())
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

impl Snapshot {
    pub(crate) fn keep(&self, dirs: &WorkspaceDirs, attempt: RunId) -> Result<()> {
        let text =
            serde_json::to_vec(self).map_err(|e| Error::internal("cannot keep the notebook", e))?;
        keep(dirs, attempt, (NOTEBOOK, "notebook"), &text)
    }

    /// As an earlier process kept it; `None` when the attempt is not of a notebook.
    pub(crate) fn kept(dirs: &WorkspaceDirs, attempt: RunId) -> Option<Self> {
        serde_json::from_slice(&kept(dirs, attempt, NOTEBOOK)?).ok()
    }
}

const NOTEBOOK: &str = "notebook.json";

/// Keeps a file beside what an attempt puts out; `what` says in errors what it is.
pub(super) fn keep(
    dirs: &WorkspaceDirs,
    attempt: RunId,
    (name, what): (&str, &str),
    content: &[u8],
) -> Result<()> {
    let folder = folder(dirs, attempt);
    let cannot = |e| storage(&format!("keep a run's {what}"), e);
    std::fs::create_dir_all(&folder).map_err(cannot)?;
    std::fs::write(folder.join(name), content).map_err(cannot)
}

pub(super) fn kept(dirs: &WorkspaceDirs, attempt: RunId, name: &str) -> Option<Vec<u8>> {
    std::fs::read(folder(dirs, attempt).join(name)).ok()
}

/// Where what an attempt puts out is written.
pub(super) fn file(dirs: &WorkspaceDirs, attempt: RunId) -> PathBuf {
    folder(dirs, attempt).join("output.jsonl")
}

/// What an attempt takes in while it runs, see `inputs.rs`.
pub(super) fn included_file(dirs: &WorkspaceDirs, attempt: RunId) -> PathBuf {
    folder(dirs, attempt).join("included.jsonl")
}

/// How much an attempt has put out so far, in bytes.
pub(super) fn written(dirs: &WorkspaceDirs, attempt: RunId) -> u64 {
    std::fs::metadata(file(dirs, attempt)).map_or(0, |meta| meta.len())
}

/// How one cell stands and what it put out, of which nothing is before `from`.
pub(super) fn of_cell(path: &PathBuf, from: u64, cell: usize) -> Result<(CellState, Vec<Output>)> {
    let mut cursor = Cursor {
        seq: 0,
        offset: Some(from),
    };
    let mut events = Vec::new();
    loop {
        let page = read_page(path, cursor, PAGE_MAX, PAGE_BYTES)?;
        let last = |stored: &StoredEvent| matches!(stored.event, Event::CellFinished { .. });
        let own = page.events.into_iter();
        let own = own.filter(|stored| cell_of(&stored.event) == cell);
        events.extend(own);
        if page.end || events.last().is_some_and(last) {
            break;
        }
        cursor = page.next;
    }
    let mut states = cell_states(&events, cell + 1);
    let mut outputs = outputs_by_cell(cell + 1, events);
    let both = states.pop().zip(outputs.pop());
    Ok(both.unwrap_or_default())
}

/// The same of the first `count` cells.
pub(super) fn of_cells(path: &PathBuf, count: usize) -> Result<(Vec<CellState>, Vec<Vec<Output>>)> {
    let events = read_events(path)?;
    let states = cell_states(&events, count);
    Ok((states, outputs_by_cell(count, events)))
}

/// Where an executor keeps its own things about an attempt: beside its output, because a folder more
/// for each attempt would be made and removed for a single file. An attempt that an older server began
/// has such a folder, and its runner knows it by that.
pub(crate) fn spool_dir(dirs: &WorkspaceDirs, attempt: RunId) -> PathBuf {
    let folder = folder(dirs, attempt);
    let older = folder.join("spool");
    match older.join("events.jsonl").exists() {
        true => older,
        false => folder,
    }
}

/// Appends events to an attempt's file.
pub(crate) struct Writer {
    file: std::fs::File,
    seq: u64,
    watchers: watch::Sender<u64>,
}

impl Writer {
    /// Goes on after the last event that is there whole; the half of one that a crash left behind
    /// is cut off.
    pub(crate) fn open(
        dirs: &WorkspaceDirs,
        attempt: RunId,
        watchers: watch::Sender<u64>,
    ) -> Result<Self> {
        let folder = folder(dirs, attempt);
        let cannot = |e| storage("keep a run's output", e);
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        let file = std::fs::File::options()
            .create(true)
            .read(true)
            .append(true)
            .open(folder.join("output.jsonl"))
            .map_err(cannot)?;
        let (seq, bytes) = whole_lines(&file).map_err(cannot)?;
        // Not without need: a file system writes one that was cut when it is closed.
        if file.metadata().map_err(cannot)?.len() > bytes {
            file.set_len(bytes).map_err(cannot)?;
        }
        watchers.send_replace(seq);
        Ok(Self {
            file,
            seq,
            watchers,
        })
    }

    /// How many events were written, by earlier writers too.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
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

/// The number of complete lines, and their length in bytes.
fn whole_lines(file: &std::fs::File) -> std::io::Result<(u64, u64)> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let (mut lines, mut bytes, mut read) = (0, 0, 0);
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            return Ok((lines, bytes));
        }
        for at in part.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            lines += 1;
            bytes = read + at.0 as u64 + 1;
        }
        let length = part.len();
        read += length as u64;
        reader.consume(length);
    }
}

/// Reads all events.
fn read_events(path: &PathBuf) -> Result<Vec<StoredEvent>> {
    Ok(read_page(path, Cursor::default(), usize::MAX, u64::MAX)?.events)
}

/// Reads events from `from` on, at most `limit`, and none after the one with which there are more
/// than `bytes`. The page's `end` says that nothing more is in the file now; a last line that is not
/// whole, because it is being written or a crash cut it off, is left out.
pub(super) fn read_page(
    path: &PathBuf,
    from: Cursor,
    limit: usize,
    bytes: u64,
) -> Result<EventPage> {
    let cannot = |e| Error::internal("cannot read a run's output", e);
    let mut page = EventPage {
        events: Vec::new(),
        next: from,
        end: true,
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(page),
        Err(e) => return Err(cannot(e)),
    };
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    let begin = match from.offset {
        Some(offset) => seek_to_line(&mut file, offset).map_err(cannot)?,
        None => {
            let mut begin = 0;
            for _ in 0..from.seq {
                line.clear();
                begin += file.read_until(b'\n', &mut line).map_err(cannot)? as u64;
            }
            begin
        }
    };
    let mut offset = begin;
    loop {
        page.next.offset = Some(offset);
        if page.events.len() >= limit || offset - begin > bytes {
            page.end = false;
            return Ok(page);
        }
        line.clear();
        let length = file.read_until(b'\n', &mut line).map_err(cannot)?;
        let whole = line.strip_suffix(b"\n").map(serde_json::from_slice);
        let Some(Ok(event)) = whole else {
            return Ok(page);
        };
        let event: StoredEvent = event;
        page.next.seq = event.seq;
        page.events.push(event);
        offset += length as u64;
    }
}

/// Goes to `offset`, or to the first start of a line after it: a cursor comes from a client. Gives
/// where that is.
fn seek_to_line(file: &mut BufReader<std::fs::File>, offset: u64) -> std::io::Result<u64> {
    let length = file.get_ref().metadata()?.len();
    let Some(before) = offset.min(length).checked_sub(1) else {
        return Ok(0);
    };
    file.seek(SeekFrom::Start(before))?;
    Ok(before + file.skip_until(b'\n')? as u64)
}

/// Whether retention removed what an attempt put out; one of a later repair has its own.
pub(super) async fn is_gone(inner: &Inner, attempt: &Attempt) -> Result<bool> {
    let (_, gone) = inner.store.run_kept(attempt.run_id).await?;
    let ended = gone.zip(attempt.ended_at);
    Ok(ended.is_some_and(|(gone, ended)| ended <= gone))
}

impl Runs {
    /// Events of an attempt from a cursor on; waits up to `wait` for one to come. What was read
    /// before is not read again, so following costs what there is to follow.
    ///
    /// # Errors
    /// `Run N does not exist.`; `PERMISSION_DENIED`.
    pub async fn events(
        &self,
        ctx: &Ctx,
        id: RunId,
        from: Cursor,
        wait: Duration,
    ) -> Result<EventPage> {
        let attempt = self.attempt(ctx, id).await?.1;
        let following = self.0.live.follow(attempt.id);
        let path = folder(&self.0.dirs, attempt.id).join("output.jsonl");
        if let Some(mut following) = following {
            let deadline = self.0.clock.sleep(wait);
            tokio::select! {
                _ = following.wait_for(|written| *written > from.seq) => {}
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
        let mut page = blocking(move || read_page(&path, from, PAGE_MAX, PAGE_BYTES)).await?;
        page.end &= ended;
        Ok(page)
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
        let run_job = if view.has_type(&attempt, "run_job_task") {
            self.iterations(attempt.id, 0, 1).await?.pop()
        } else {
            None
        };
        // By the definition, so that pollers see the same form before, during and after the run.
        let has_cells = ["notebook_task", "sql_task", "context_task"];
        let has_cells = has_cells.iter().any(|kind| view.has_type(&attempt, kind));
        let logs = if has_cells || !attempt.takes_slot {
            None
        } else {
            let events = blocking(move || read_events(&path)).await?;
            Some(cut_start(streams(&events)))
        };
        let is_gone = is_gone(&self.0, &attempt).await?;
        Ok(RunOutput {
            view,
            attempt,
            result,
            logs,
            is_gone,
            run_job: run_job.and_then(|child| child.run).map(|(run, _)| run.id),
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
        let (view, attempt) = self.attempt(ctx, id).await?;
        if is_gone(&self.0, &attempt).await? {
            return Err(Error::missing(format!(
                "What run {id} put out was removed by retention."
            )));
        }
        if view.run.kind == RunKind::Context {
            return self.transcript(&view.run, &attempt).await;
        }
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
            let events = read_events(&folder.join("output.jsonl"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_an_older_server_began_is_found_where_that_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = WorkspaceDirs::open(dir.path()).unwrap();
        let own = folder(&dirs, RunId(7));
        std::fs::create_dir_all(own.join("spool")).unwrap();
        assert_eq!(spool_dir(&dirs, RunId(7)), own);
        std::fs::write(own.join("spool/events.jsonl"), "").unwrap();
        assert_eq!(spool_dir(&dirs, RunId(7)), own.join("spool"));
    }

    fn line(seq: u64, text: &str) -> String {
        let event = Event::Stream {
            cell: 0,
            name: StreamName::Stdout,
            text: text.to_owned(),
        };
        let at = Millis(1);
        serde_json::to_string(&StoredEvent { seq, at, event }).unwrap() + "\n"
    }

    #[test]
    fn following_reads_each_byte_once_and_never_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.jsonl");
        let read = |from, limit, bytes| read_page(&path, from, limit, bytes).unwrap();
        assert!(read(Cursor::default(), 10, 10).end);
        let lines: Vec<String> = (1..=5).map(|seq| line(seq, "text")).collect();
        let half = &lines[4][..20];
        std::fs::write(&path, format!("{}{half}", lines[..4].concat())).unwrap();

        let first = read(Cursor::default(), 3, u64::MAX);
        assert_eq!((first.events.len(), first.end), (3, false));
        let rest = read(first.next, 10, u64::MAX);
        assert_eq!((rest.events.len(), rest.end), (1, true));
        assert!(read(rest.next, 10, u64::MAX).events.is_empty());
        std::fs::write(&path, lines.concat()).unwrap();
        let last = read(rest.next, 10, u64::MAX);
        assert_eq!(last.events[0].seq, 5);
        assert_eq!(last.next.to_string().parse::<Cursor>().unwrap(), last.next);

        // A page ends soon after its bytes, but always has an event if there is one.
        let small = read(Cursor::default(), 10, 1);
        assert_eq!((small.events.len(), small.end), (1, false));
        let counted = read(Cursor::after(2), 10, u64::MAX);
        assert_eq!(counted.events[0].seq, 3);
        assert_eq!(counted.next, last.next);
    }

    #[test]
    fn a_cursor_of_somebody_elses_making_reads_whole_events_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.jsonl");
        std::fs::write(&path, line(1, "a") + &line(2, "b")).unwrap();
        for text in ["0.3", "7.100000", "1.18446744073709551615"] {
            let from: Cursor = text.parse().unwrap();
            for stored in read_page(&path, from, 10, u64::MAX).unwrap().events {
                assert_eq!(stored.seq, 2);
            }
        }
        for text in ["", "1", "a.b", "1.-1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
