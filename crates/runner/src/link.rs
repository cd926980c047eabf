//! The server's end of one connection to one runner process.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_exec::{CallId, Host, Usage};
use forebay_runtime::{CancellationToken, Clock, TaskKind, Tasks};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::warn;

use crate::home::Process;
use crate::protocol::{self, PROTOCOL, Reply, ToRunner, ToServer, Welcome};

/// For a runner to introduce itself.
const WELCOME_MAX: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Heartbeats without an answer after which a runner is taken for hung: a lease of 30 s. Counted,
/// not measured, so that a machine that was asleep does not end its runs when it wakes.
const UNANSWERED_MAX: u32 = 3;

/// What a run says whose runner died.
pub(crate) const LOST: &str =
    "The process that executed this run went away; its output up to then is kept.";
/// The same, of one that was taken for hung.
const HUNG: &str = "The process that executed this run did not answer for 30 seconds and was ended; \
                    the run's output up to then is kept.";

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) welcome: Welcome,
    process: Process,
    outbox: mpsc::UnboundedSender<ToRunner>,
    state: Mutex<State>,
    unanswered: AtomicU32,
    /// It was ended because it did not answer.
    hung: AtomicBool,
    /// Nobody answers here any more.
    pub(crate) closed: CancellationToken,
    /// Nothing of what the runner executed runs any more.
    pub(crate) gone: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    requests: u64,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    attempts: HashMap<PathBuf, Arc<Followed>>,
}

/// An attempt that this server follows.
pub(crate) struct Followed {
    host: Arc<dyn Host>,
    /// There is more in the spool.
    pub(crate) grown: Notify,
    /// Why the spool will not tell the end.
    broken: Mutex<Option<String>>,
    /// What it had used at the last heartbeat. Apart from the rest, because whoever shows it may
    /// keep it for longer.
    pub(crate) usage: Arc<Mutex<Option<Usage>>>,
    /// Calls of the program that are being answered.
    calls: Mutex<HashMap<CallId, CancellationToken>>,
}

impl std::fmt::Debug for Followed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Followed").finish_non_exhaustive()
    }
}

impl Followed {
    fn calls(&self) -> MutexGuard<'_, HashMap<CallId, CancellationToken>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn broken(&self) -> Option<String> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.clone()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        for (_, withdrawn) in self.calls().drain() {
            withdrawn.cancel();
        }
    }
}

impl Link {
    /// Introduces this server to whoever listens.
    ///
    /// # Errors
    /// When it does not answer, or not in a way that can be understood; the process that did so
    /// comes with the error, if it is known.
    pub(crate) async fn open(
        stream: UnixStream,
        clock: &Clock,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, (io::Error, Option<Process>)> {
        let process = match process_of(&stream) {
            Ok(process) => process,
            Err(error) => return Err((error, None)),
        };
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greet = async {
            let hello = ToRunner::Hello { protocol: PROTOCOL };
            protocol::write(&mut writer, &hello).await?;
            match protocol::read(&mut reader).await? {
                Some(ToServer::Welcome(welcome)) if welcome.protocol == PROTOCOL => Ok(welcome),
                Some(ToServer::Welcome(welcome)) => Err(io::Error::other(format!(
                    "it speaks protocol {}, not {PROTOCOL}",
                    welcome.protocol
                ))),
                _ => Err(io::Error::other("it does not introduce itself")),
            }
        };
        let greeted = tokio::time::timeout(WELCOME_MAX, greet).await;
        let welcome = match greeted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(welcome) => welcome,
            Err(error) => return Err((error, Some(process))),
        };
        let (outbox, messages) = mpsc::unbounded_channel();
        let link = Arc::new(Self {
            welcome,
            process,
            outbox,
            state: Mutex::default(),
            unanswered: AtomicU32::new(0),
            hung: AtomicBool::new(false),
            closed: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        let closed = link.closed.clone();
        tasks.spawn(TaskKind::Chore, "write to the runner", async move {
            tokio::select! {
                written = write_all(writer, messages) => written,
                () = closed.cancelled() => Ok(()),
            }
        });
        let reading = Arc::clone(&link).read_all(reader, tasks.clone());
        tasks.spawn(TaskKind::Chore, "read from the runner", reading);
        let beating = Arc::clone(&link).heartbeat(clock.clone());
        tasks.spawn(TaskKind::Chore, "heartbeat of the runner", beating);
        Ok(link)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn say(&self, message: ToRunner) {
        // To a runner that is gone there is nothing to say.
        drop(self.outbox.send(message));
    }

    /// `None` when the runner is gone.
    pub(crate) async fn ask(&self, question: impl FnOnce(u64) -> ToRunner) -> Option<Reply> {
        let (answer, answered) = oneshot::channel();
        let request = {
            let mut state = self.state();
            state.requests += 1;
            let request = state.requests;
            state.waiting.insert(request, answer);
            request
        };
        self.say(question(request));
        tokio::select! {
            reply = answered => reply.ok(),
            () = self.closed.cancelled() => None,
        }
    }

    /// Has the calls of an attempt answered by `host` from now on.
    pub(crate) fn follow(&self, attempt: &Path, host: Arc<dyn Host>) -> Arc<Followed> {
        let followed = Arc::new(Followed {
            host,
            grown: Notify::new(),
            broken: Mutex::default(),
            usage: Arc::default(),
            calls: Mutex::default(),
        });
        let known = Arc::clone(&followed);
        self.state().attempts.insert(attempt.to_owned(), known);
        followed
    }

    pub(crate) fn unfollow(&self, attempt: &Path) {
        self.state().attempts.remove(attempt);
    }

    /// Ends the process and all that it executes.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    pub(crate) async fn ended(&self) {
        self.process.ended().await;
    }

    /// Why its attempts ended before their time.
    pub(crate) fn reason(&self) -> &'static str {
        if self.hung.load(Ordering::Relaxed) {
            HUNG
        } else {
            LOST
        }
    }

    async fn heartbeat(self: Arc<Self>, clock: Clock) -> io::Result<()> {
        loop {
            tokio::select! {
                () = self.closed.cancelled() => return Ok(()),
                () = clock.sleep(HEARTBEAT) => {}
            }
            if self.unanswered.fetch_add(1, Ordering::Relaxed) >= UNANSWERED_MAX {
                warn!(
                    "the runner (process {}) hangs and is ended",
                    self.process.pid
                );
                self.hung.store(true, Ordering::Relaxed);
                self.kill();
                return Ok(());
            }
            self.say(ToRunner::Ping);
        }
    }

    async fn read_all(
        self: Arc<Self>,
        mut reader: BufReader<OwnedReadHalf>,
        tasks: Tasks,
    ) -> io::Result<()> {
        let _closing = self.closed.clone().drop_guard();
        while let Some(message) = protocol::read(&mut reader).await? {
            self.unanswered.store(0, Ordering::Relaxed);
            self.take(message, &tasks);
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, message: ToServer, tasks: &Tasks) {
        match message {
            ToServer::Welcome(_) => {}
            ToServer::Pong { usage } => self.note(usage),
            ToServer::Reply { request, reply } => {
                let waiting = self.state().waiting.remove(&request);
                // Whoever asked may be gone.
                drop(waiting.map(|waiting| waiting.send(reply)));
            }
            ToServer::Grown { attempt } => {
                if let Some(followed) = self.followed(&attempt) {
                    followed.grown.notify_one();
                }
            }
            ToServer::Broken { attempt, message } => {
                if let Some(followed) = self.followed(&attempt) {
                    let mut broken = followed
                        .broken
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    *broken = Some(message);
                    drop(broken);
                    followed.grown.notify_one();
                }
            }
            ToServer::Call {
                attempt,
                call,
                method,
                args,
            } => self.answer(tasks, attempt, (call, method, args)),
            ToServer::Withdraw { attempt, call } => {
                let withdrawn = self
                    .followed(&attempt)
                    .and_then(|followed| followed.calls().remove(&call));
                if let Some(withdrawn) = withdrawn {
                    withdrawn.cancel();
                }
            }
        }
    }

    fn note(&self, usage: Vec<(PathBuf, Usage)>) {
        for (attempt, used) in usage {
            if let Some(followed) = self.followed(&attempt) {
                let mut known = followed
                    .usage
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *known = Some(used);
            }
        }
    }

    fn followed(&self, attempt: &Path) -> Option<Arc<Followed>> {
        self.state().attempts.get(attempt).cloned()
    }

    fn answer(
        self: &Arc<Self>,
        tasks: &Tasks,
        attempt: PathBuf,
        (call, method, args): (CallId, String, Value),
    ) {
        let Some(followed) = self.followed(&attempt) else {
            return;
        };
        let withdrawn = CancellationToken::new();
        followed.calls().insert(call, withdrawn.clone());
        let host = Arc::clone(&followed.host);
        let link = Arc::clone(self);
        let followed = Arc::downgrade(&followed);
        tasks.spawn(TaskKind::Chore, "a call of a program", async move {
            let result = tokio::select! {
                result = host.call(call, &method, args) => result,
                () = withdrawn.cancelled() => return Ok::<(), io::Error>(()),
                () = link.closed.cancelled() => return Ok(()),
            };
            if let Some(followed) = followed.upgrade() {
                followed.calls().remove(&call);
            }
            link.say(ToRunner::Answer {
                attempt,
                call,
                result,
            });
            Ok(())
        });
    }
}

fn process_of(stream: &UnixStream) -> io::Result<Process> {
    let pid = stream.peer_cred()?.pid();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let unknown = || io::Error::other("nobody knows which process listens");
    Process::open(pid.ok_or_else(unknown)?)?.ok_or_else(unknown)
}

async fn write_all(
    writer: OwnedWriteHalf,
    mut messages: mpsc::UnboundedReceiver<ToRunner>,
) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    let mut waiting = Vec::new();
    while messages.recv_many(&mut waiting, 64).await > 0 {
        for message in waiting.drain(..) {
            if protocol::write(&mut writer, &message).await.is_err() {
                // The reader of this connection sees the end as well.
                return Ok(());
            }
        }
        if writer.flush().await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
