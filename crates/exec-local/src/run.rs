//! One run under way: the server's ends of its channel and pipes, and how it is brought to an end.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use forebay_exec::{
    CallId, CancelReason, Canceler, Ended, Event, Execution, Host, HostError, Limits, Meter,
    StreamName, Usage, method,
};
use forebay_notebook::RunCommand;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use nix::sys::socket::{MsgFlags, recv, send};
use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;

use crate::frame::{self, Decoder, Frame, FrameKind};
use crate::group::RunGroup;
use crate::habits::Habit;
use crate::java;
use crate::output::Output;
use crate::scratch::Folder;
use crate::verdict::{Done, Report};
use crate::zygote::Parent;

/// Read from one source before the events are handed on.
const READ_BYTES_MAX: usize = 1 << 20;
const BUFFER_BYTES: usize = 64 << 10;
/// Calls under way at once, and bytes of answers that the program has not read: with more than
/// that, what it sends is left in the socket.
const CALLS_MAX: usize = 64;
const OUTBOX_BYTES_MAX: usize = 16 << 20;
/// Between two looks at the CPU time of a run that has nearly used up its limit.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// After the kill; a process that the kernel cannot end in this time is given up.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

type Answer = (u64, String, Result<Value, HostError>);

pub(crate) struct LocalRun {
    pub(crate) ends: Ends,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) output: Output,
    pub(crate) limits: Limits,
    pub(crate) group: RunGroup,
    /// Shared with other runs when it is warm; this run's own otherwise.
    pub(crate) parent: Arc<Parent>,
    pub(crate) warm: bool,
    /// Told when the program used what only a parent of notebooks has imported.
    pub(crate) habit: Option<Habit>,
    /// For the next run, when the program used Java.
    pub(crate) next_java: Option<java::Next>,
    /// Until it is given back.
    pub(crate) scratch: Option<Folder>,
    pub(crate) environment: String,
    pub(crate) isolation: String,
    pub(crate) canceler: Canceler,
    pub(crate) started: Instant,
    pub(crate) calls: FuturesUnordered<BoxFuture<'static, Answer>>,
    pub(crate) state: State,
}

/// The server's ends of what connects it with the run.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) channel: UnixStream,
    pub(crate) stdout: Receiver,
    pub(crate) stderr: Receiver,
    pub(crate) status: AsyncFd<OwnedFd>,
    pub(crate) decoder: Decoder,
    /// For reading: a new one for each look would cost more than the look.
    pub(crate) buffer: Vec<u8>,
    /// Frames for the driver that did not fit into the socket yet.
    pub(crate) outbox: Vec<u8>,
    pub(crate) channel_open: bool,
    pub(crate) stdout_open: bool,
    pub(crate) stderr_open: bool,
}

impl Ends {
    /// The buffer, or another one while somebody reads with it.
    fn buffer(&mut self) -> Vec<u8> {
        let kept = std::mem::take(&mut self.buffer);
        if kept.is_empty() {
            return vec![0; BUFFER_BYTES];
        }
        kept
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) canceled: Option<CancelReason>,
    /// When its CPU time is to be looked at again; nothing without a limit.
    pub(crate) look: Option<Instant>,
    /// It used up its CPU time, and is ended for that.
    pub(crate) over_cpu: bool,
    /// When the next, harder step towards the end is due.
    pub(crate) deadline: Option<Instant>,
    pub(crate) killed: bool,
    pub(crate) calls_made: u64,
    pub(crate) engine: Option<String>,
    pub(crate) done: Option<Done>,
    pub(crate) report: Option<Report>,
    /// Why we ended it ourselves.
    pub(crate) fault: Option<String>,
    /// The worker is gone; its calls have nobody to answer to.
    pub(crate) winding_up: bool,
    pub(crate) over: bool,
    /// Nothing of the run is left.
    pub(crate) gone: bool,
}

enum Wake {
    Channel,
    Writable,
    Pipe(StreamName),
    Status,
    Answer(Answer),
    Cancel(CancelReason),
    Look,
    Deadline,
}

#[async_trait]
impl Execution for LocalRun {
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.output.next() {
                return Some(event);
            }
            if self.state.over {
                return None;
            }
            self.step().await;
        }
    }

    fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }

    fn meter(&self) -> Meter {
        let (counts, started) = (self.group.counts().clone(), self.started);
        Meter::new(move || {
            Some(Usage {
                wall_ms: millis(started.elapsed()),
                ..counts.now()?
            })
        })
    }

    async fn finish(mut self: Box<Self>) -> Ended {
        if !self.state.over {
            self.kill();
            while self.next_event().await.is_some() {}
        }
        let mut usage = self.usage();
        let outcome = self.outcome();
        let engine = self.state.engine.take();
        self.clean_up().await;
        if let Some(next) = self.next_java.take()
            && engine.is_some()
        {
            drop(tokio::task::spawn_blocking(move || next.order()));
        }
        usage.wall_ms = millis(self.started.elapsed());
        Ended {
            outcome,
            usage,
            isolation: self.isolation.clone(),
            environment: self.environment.clone(),
            warm: self.warm,
            engine,
        }
    }
}

impl Drop for LocalRun {
    fn drop(&mut self) {
        if !self.state.gone {
            self.kill();
        }
        // `finish` says when this does not work; here nobody would listen.
        drop(self.scratch.take().map(Folder::remove));
    }
}

impl LocalRun {
    async fn step(&mut self) {
        match self.wait().await {
            Wake::Channel => self.read_channel(),
            Wake::Writable => {
                self.write_channel();
                self.take_frames();
            }
            Wake::Pipe(name) => {
                self.read_pipe(name);
            }
            Wake::Status => self.read_status(),
            Wake::Answer(answer) => {
                self.answer(answer);
                self.take_frames();
            }
            Wake::Cancel(reason) => self.interrupt(reason),
            Wake::Look => self.look(),
            Wake::Deadline => self.deadline(),
        }
        if self.output.is_over_limit() && !self.state.killed {
            self.kill();
        }
    }

    async fn wait(&mut self) -> Wake {
        let is_busy = self.is_busy();
        let Self {
            ends,
            calls,
            canceler,
            state,
            ..
        } = self;
        let (look, deadline) = (until(state.look), until(state.deadline));
        // An error of a readiness call shows again, with its cause, in the read that follows.
        tokio::select! {
            _ = ends.channel.readable(), if ends.channel_open && !is_busy => Wake::Channel,
            _ = ends.channel.writable(), if ends.channel_open && !ends.outbox.is_empty() => {
                Wake::Writable
            }
            _ = ends.stdout.readable(), if ends.stdout_open => Wake::Pipe(StreamName::Stdout),
            _ = ends.stderr.readable(), if ends.stderr_open => Wake::Pipe(StreamName::Stderr),
            _ = ends.status.readable() => Wake::Status,
            Some(answer) = calls.next(), if !calls.is_empty() => Wake::Answer(answer),
            reason = canceler.canceled(), if state.canceled.is_none() => Wake::Cancel(reason),
            () = look => Wake::Look,
            () = deadline => Wake::Deadline,
        }
    }

    // -- reading

    /// Whether the program has asked for more than we are willing to remember.
    fn is_busy(&self) -> bool {
        self.calls.len() >= CALLS_MAX || self.ends.outbox.len() >= OUTBOX_BYTES_MAX
    }

    fn read_channel(&mut self) {
        // What was written to the pipes before a frame was sent is in the pipes already.
        self.read_pipe(StreamName::Stdout);
        self.read_pipe(StreamName::Stderr);
        self.take_frames();
        let mut buffer = self.ends.buffer();
        let mut total = 0;
        while total < READ_BYTES_MAX && !self.is_busy() {
            let tried = self.ends.channel.try_read(&mut buffer);
            match read_now(tried, &self.ends.channel, &mut buffer) {
                Ok(0) => self.ends.channel_open = false,
                Ok(length) => {
                    total += length;
                    self.ends.decoder.push(&buffer[..length]);
                    self.take_frames();
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.ends.channel_open = false,
            }
            break;
        }
        self.ends.buffer = buffer;
    }

    fn take_frames(&mut self) {
        while !self.is_busy() {
            match self.ends.decoder.next_frame() {
                Ok(Some(frame)) => self.take_frame(frame),
                Ok(None) => return,
                Err(problem) => {
                    self.ends.channel_open = false;
                    self.ends.decoder = Decoder::default();
                    self.state.fault = Some(format!(
                        "the program wrote to the driver's own connection ({problem})"
                    ));
                    self.kill();
                    return;
                }
            }
        }
    }

    fn take_frame(&mut self, frame: Frame) {
        let cell = frame.cell;
        match frame.kind {
            FrameKind::Start => self.output.begin(cell),
            FrameKind::Stream { name, text } => self.output.text(name, &text),
            FrameKind::Display {
                data,
                metadata,
                display_id,
            } => {
                let id = display_id.as_deref().unwrap_or_default().len();
                self.output
                    .display(data, metadata, id, |cell, data, metadata| Event::Display {
                        cell,
                        data,
                        metadata,
                        display_id,
                    });
            }
            FrameKind::Update {
                data,
                metadata,
                display_id,
            } => {
                let display_id = display_id.unwrap_or_default();
                let id = display_id.len();
                self.output
                    .display(data, metadata, id, |cell, data, metadata| {
                        Event::UpdateDisplay {
                            cell,
                            data,
                            metadata,
                            display_id,
                        }
                    });
            }
            FrameKind::Clear { wait } => self.output.clear(wait),
            FrameKind::Result {
                data,
                metadata,
                count,
            } => {
                self.output
                    .display(data, metadata, 0, |cell, data, metadata| Event::Result {
                        cell,
                        count,
                        data,
                        metadata,
                    });
            }
            FrameKind::Error {
                ename,
                evalue,
                traceback,
            } => {
                self.output.error(&ename, &evalue, &traceback);
            }
            FrameKind::Finish { status, ms } => {
                self.read_pipe(StreamName::Stdout);
                self.read_pipe(StreamName::Stderr);
                self.output.finish(status, ms);
            }
            FrameKind::Engine { name } => self.state.engine = Some(name),
            FrameKind::Call { id, method, args } => self.call(id, method, args),
            FrameKind::Done {
                ok,
                exit_value,
                interrupted,
                ename,
                message,
                trace,
                packages,
            } => {
                if packages && let Some(habit) = self.habit.take() {
                    habit.keep();
                }
                let cell = Some(cell);
                self.state.done = Some(Done {
                    ok,
                    interrupted,
                    exit_value,
                    ename,
                    message,
                    trace,
                    cell,
                });
                // What runs at exit must not keep the verdict waiting.
                self.state.deadline = Some(Instant::now() + self.limits.grace);
            }
        }
    }

    fn read_pipe(&mut self, name: StreamName) {
        let mut buffer = self.ends.buffer();
        let (pipe, open) = match name {
            StreamName::Stdout => (&self.ends.stdout, &mut self.ends.stdout_open),
            StreamName::Stderr => (&self.ends.stderr, &mut self.ends.stderr_open),
        };
        let mut total = 0;
        while *open && total < READ_BYTES_MAX {
            let tried = pipe.try_read(&mut buffer);
            match read_now(tried, pipe, &mut buffer) {
                Ok(0) => *open = false,
                Ok(length) => {
                    total += length;
                    self.output.bytes(name, &buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => *open = false,
            }
        }
        self.ends.buffer = buffer;
    }

    fn read_status(&mut self) {
        let mut buffer = [0; 4096];
        let received = self
            .ends
            .status
            .try_io(tokio::io::Interest::READABLE, |fd| {
                Ok(recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?)
            });
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(length) if length > 0 => {
                self.state.report = serde_json::from_slice(&buffer[..length]).ok();
            }
            Ok(_) | Err(_) => self.state.gone = true,
        }
        self.wind_up();
    }

    /// The worker is gone: takes what it left in the pipes, and ends the stream of events.
    fn wind_up(&mut self) {
        if self.state.over {
            return;
        }
        self.state.winding_up = true;
        self.calls.clear();
        self.ends.outbox.clear();
        loop {
            let waiting = self.output.waiting();
            self.read_channel();
            if self.output.waiting() == waiting {
                break;
            }
        }
        self.output.close();
        self.state.over = true;
    }

    // -- calls

    fn call(&mut self, id: u64, method: String, args: Value) {
        if self.state.winding_up {
            return;
        }
        if method == method::SYNC {
            return self.answer((id, method, Ok(Value::Null)));
        }
        let host = Arc::clone(&self.host);
        // Not the program's own number, which it may use twice.
        self.state.calls_made += 1;
        let call = CallId(self.state.calls_made);
        self.calls.push(Box::pin(async move {
            let result = if method == method::NOTEBOOK_SOURCE {
                notebook_source(&*host, call, &args).await
            } else {
                host.call(call, &method, args).await
            };
            (id, method, result)
        }));
    }

    fn answer(&mut self, (id, method, result): Answer) {
        let reply = match result {
            Ok(value) => {
                if method == method::SECRETS_GET {
                    self.learn_secret(&value);
                }
                json!({"id": id, "ok": value})
            }
            Err(error) => json!({"id": id, "error": error}),
        };
        self.ends.outbox.extend_from_slice(&frame::encode(&reply));
        self.write_channel();
    }

    fn learn_secret(&mut self, answer: &Value) {
        let encoded = answer
            .get("value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match base64::engine::general_purpose::STANDARD.decode(encoded) {
            Ok(secret) => self.output.redactor.add(&secret),
            // The driver will fail on it just so.
            Err(_) => self.output.redactor.add(encoded.as_bytes()),
        }
    }

    fn write_channel(&mut self) {
        while !self.ends.outbox.is_empty() {
            match self.ends.channel.try_write(&self.ends.outbox) {
                Ok(length) => drop(self.ends.outbox.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The worker is going away; the status socket will tell.
                Err(_) => self.ends.outbox.clear(),
            }
        }
    }

    // -- ending

    fn interrupt(&mut self, reason: CancelReason) {
        self.state.canceled = Some(reason);
        if !self.state.killed {
            self.interrupt_program();
        }
    }

    fn interrupt_program(&mut self) {
        self.tell(b"int");
        self.state.deadline = Some(Instant::now() + self.limits.grace);
    }

    /// Whether it may use more CPU time. Before what is left could be gone on all processors there
    /// is no need to look again, so a run that idles is hardly ever looked at.
    fn look(&mut self) {
        self.state.look = None;
        let ending =
            self.state.killed || self.state.canceled.is_some() || self.state.done.is_some();
        let limit = self.limits.cpu_ms.filter(|_| !ending);
        let Some((limit, used)) = limit.zip(self.group.counts().cpu_ms()) else {
            return;
        };
        if used >= limit {
            self.state.over_cpu = true;
            self.interrupt_program();
            return;
        }
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let soonest = Duration::from_millis((limit - used) / processors);
        self.state.look = Some(Instant::now() + soonest.max(LOOK_PAUSE));
    }

    fn deadline(&mut self) {
        if self.state.killed {
            tracing::error!("a run outlives its kill; it is given up");
            self.wind_up();
        } else {
            self.kill();
        }
    }

    fn kill(&mut self) {
        self.state.killed = true;
        self.state.deadline = Some(Instant::now() + KILL_PATIENCE);
        self.tell(b"kill");
        self.group.kill_all();
        if !self.warm {
            self.parent.kill();
        }
    }

    fn tell(&self, command: &[u8]) {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        // It fails only when nothing of the run is left, and then there is nobody to tell.
        send(self.ends.status.as_raw_fd(), command, flags).ok();
    }

    async fn clean_up(&mut self) {
        let end = Instant::now() + KILL_PATIENCE;
        drop(tokio::time::timeout_at(end.into(), self.until_gone()).await);
        if !self.state.gone {
            self.group.kill_all();
        }
        // The kernel takes a moment to take the dead out of their groups.
        let mut left = self.group.leave();
        while !left && Instant::now() < end {
            self.group.kill_all();
            tokio::time::sleep(Duration::from_millis(1)).await;
            left = self.group.leave();
        }
        let Some(folder) = self.scratch.take() else {
            return;
        };
        let gone = if left && self.state.gone {
            self.parent.folders.give_back(folder)
        } else {
            folder.remove()
        };
        if let Err(error) = gone {
            tracing::warn!(%error, "the scratch folder of a run was not removed");
        }
    }

    /// Until whoever watches the run has closed its end of the status socket.
    async fn until_gone(&mut self) {
        while !self.state.gone {
            if self.ends.status.readable().await.is_err() {
                return;
            }
            self.read_status();
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let report = self.state.report.as_ref();
        let mut usage = Usage {
            wall_ms: 0,
            cpu_ms: report.and_then(|report| report.cpu_ms),
            memory_bytes: None,
            memory_peak_bytes: report.and_then(|report| report.memory_peak_bytes),
            read_bytes: report.and_then(|report| report.read_bytes),
            write_bytes: report.and_then(|report| report.write_bytes),
        };
        self.group.counts().account(&mut usage);
        usage
    }
}

/// What is there to read, also when the event loop has not heard of it yet: a short run may be
/// over, and say so, before it has.
fn read_now(tried: io::Result<usize>, fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    match tried {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Ok(nix::unistd::read(fd, buffer)?)
        }
        tried => tried,
    }
}

/// The driver sends a `%run` line as written, so that there is one reader of such lines.
async fn notebook_source(host: &dyn Host, call: CallId, args: &Value) -> Result<Value, HostError> {
    let line = args
        .get("command")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let command =
        RunCommand::parse(line).map_err(|error| HostError::new("ValueError", error.to_string()))?;
    let params: serde_json::Map<String, Value> = command
        .params
        .into_iter()
        .map(|(name, value)| (name, value.into()))
        .collect();
    let asked = json!({"from": args.get("from"), "path": command.path, "params": params});
    let mut found = host.call(call, method::NOTEBOOK_SOURCE, asked).await?;
    if let Some(found) = found.as_object_mut() {
        found.insert("params".to_owned(), params.into());
    }
    Ok(found)
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_came_before_the_event_loop_looked_is_read() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        nix::unistd::write(&theirs, b"done").unwrap();
        let mut buffer = [0; 8];
        // Nothing was awaited since, so the loop cannot have said that there is something.
        let tried = ours.try_read(&mut buffer);
        assert!(tried.is_err(), "{tried:?}");
        assert_eq!(read_now(tried, &ours, &mut buffer).unwrap(), 4);
        let tried = ours.try_read(&mut buffer);
        let nothing = read_now(tried, &ours, &mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        let tried = ours.try_read(&mut buffer);
        assert_eq!(read_now(tried, &ours, &mut buffer).unwrap(), 0);
    }
}
