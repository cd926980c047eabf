//! The runner's process: takes a server's connection, and lives until it has nothing left to do.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_exec::{Executor, Usage, Workload};
use forebay_runtime::{CancellationToken, Clock, TaskKind, Tasks};
use forebay_types::Millis;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};
use tracing::{info, warn};

use crate::attempt::{Attempt, Drive, Out, Outbox, Wish};
use crate::home::Home;
use crate::protocol::{self, PROTOCOL, Refusal, Reply, ToRunner, ToServer, Welcome};
use crate::spool;

/// Without a server and without attempts it ends after so long.
const ALONE_MAX: Duration = Duration::from_secs(10 * 60);
/// Between two looks at whether it is still of use.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Serves an executor to one server after another.
pub struct Runner {
    executor: Arc<dyn Executor>,
    clock: Clock,
    tasks: Tasks,
    build: String,
    options: String,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    attempts: HashMap<PathBuf, Arc<Attempt>>,
    /// The connection that runs belong to now. A newer one ends it.
    server: Option<CancellationToken>,
    stopping: bool,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

impl Runner {
    /// `build` and `options` tell a server whether this runner is the one it would start itself.
    pub fn new(
        executor: Arc<dyn Executor>,
        clock: Clock,
        tasks: Tasks,
        build: impl Into<String>,
        options: impl Into<String>,
    ) -> Arc<Self> {
        Arc::new(Self {
            executor,
            clock,
            tasks,
            build: build.into(),
            options: options.into(),
            state: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Listens in its home until it is not needed any more; `ready` is called once it can be
    /// reached. `terminated` is a wish to end, which it follows only while it has no server: a
    /// server says by itself when it is time.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub async fn serve(
        self: &Arc<Self>,
        home: Home,
        ready: impl FnOnce(),
        mut terminated: impl AsyncFnMut(),
    ) -> io::Result<()> {
        let listener = home.listen()?;
        ready();
        let mut used = self.clock.now();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.welcome(stream),
                    Err(error) => {
                        warn!(%error, "cannot take a connection");
                        self.clock.sleep(LOOK_EVERY).await;
                    }
                },
                () = self.changed.notified() => {}
                () = self.clock.sleep(LOOK_EVERY) => {}
                () = terminated() => {
                    if self.state().server.is_none() {
                        info!("asked to end, and no server is there");
                        break;
                    }
                }
            }
            if self.is_over(&home, &mut used) {
                break;
            }
        }
        home.leave();
        self.end_all().await;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self, home: &Home, used: &mut Millis) -> bool {
        let state = self.state();
        let (idle, alone) = (state.attempts.is_empty(), state.server.is_none());
        if state.stopping && idle {
            return true;
        }
        if alone && home.is_gone() {
            warn!("the data folder is gone");
            return true;
        }
        let now = self.clock.now();
        if !idle || !alone {
            *used = now;
        }
        let alone_ms = i64::try_from(ALONE_MAX.as_millis()).unwrap_or(i64::MAX);
        now.since(*used) >= alone_ms
    }

    async fn end_all(&self) {
        let left: Vec<_> = self.state().attempts.values().cloned().collect();
        for attempt in left {
            attempt.wish(Wish::Kill);
        }
        self.executor.stop().await;
        let empty = async {
            while !self.state().attempts.is_empty() {
                self.changed.notified().await;
            }
        };
        if tokio::time::timeout(LOOK_EVERY, empty).await.is_err() {
            warn!("attempts are left; they end with this process");
        }
    }

    fn welcome(self: &Arc<Self>, stream: UnixStream) {
        let runner = Arc::clone(self);
        self.tasks
            .spawn(TaskKind::Chore, "a server's connection", async move {
                runner.connection(stream).await
            });
    }

    fn introduction(&self) -> ToServer {
        let state = self.state();
        ToServer::Welcome(Welcome {
            protocol: PROTOCOL,
            pid: std::process::id(),
            build: self.build.clone(),
            options: self.options.clone(),
            isolation: self.executor.isolation().clone(),
            runtimes: self.executor.runtimes(),
            attempts: state.attempts.keys().cloned().collect(),
            owned: state.server.is_some(),
        })
    }

    async fn connection(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let first = protocol::read(&mut reader).await?;
        protocol::write(&mut writer, &self.introduction()).await?;
        let Some(ToRunner::Hello { protocol }) = first else {
            return Ok(());
        };
        if protocol != PROTOCOL {
            // The server knows from our introduction, and decides.
            return Ok(());
        }
        let replaced = CancellationToken::new();
        {
            let mut state = self.state();
            if let Some(old) = state.server.replace(replaced.clone()) {
                old.cancel();
            }
        }
        let (outbox, messages) = mpsc::unbounded_channel();
        self.tasks.spawn(
            TaskKind::Chore,
            "write to a server",
            write_all(writer, messages),
        );
        let read = async {
            while let Some(message) = protocol::read(&mut reader).await? {
                self.take(message, &outbox);
            }
            Ok(())
        };
        let result = tokio::select! {
            result = read => result,
            () = replaced.cancelled() => return Ok(()),
        };
        {
            // Under the lock under which a newer connection takes its place.
            let mut state = self.state();
            if !replaced.is_cancelled() {
                state.server = None;
            }
        }
        self.changed.notify_one();
        result
    }

    fn take(self: &Arc<Self>, message: ToRunner, outbox: &Outbox) {
        match message {
            ToRunner::Hello { .. } | ToRunner::Inspect => {}
            ToRunner::Ping => {
                let usage = self.usage();
                reply(outbox, ToServer::Pong { usage });
            }
            ToRunner::Start { request, workload } => self.start(request, *workload, outbox),
            ToRunner::Attach { request, attempt } => {
                let found = self.find(&attempt);
                let known = found.is_some();
                let reply_of = Reply::Attached { known };
                reply(
                    outbox,
                    ToServer::Reply {
                        request,
                        reply: reply_of,
                    },
                );
                if let Some(found) = found {
                    found.attach(outbox.clone());
                }
            }
            ToRunner::Abandon { attempt } => self.wish(&attempt, Wish::Abandon),
            ToRunner::Kill { attempt } => self.wish(&attempt, Wish::Kill),
            ToRunner::Cancel { attempt, reason } => self.wish(&attempt, Wish::Cancel(reason)),
            ToRunner::Answer {
                attempt,
                call,
                result,
            } => {
                if let Some(attempt) = self.find(&attempt) {
                    attempt.answer(call, result);
                }
            }
            ToRunner::Prepare { request, place } => {
                let (runner, outbox) = (Arc::clone(self), outbox.clone());
                self.tasks.spawn(TaskKind::Chore, "prepare", async move {
                    let prepared = runner.executor.prepare(&place).await;
                    let answer = match prepared {
                        Ok(prepared) => Reply::Prepared(prepared),
                        Err(error) => Reply::NotStarted(error.into()),
                    };
                    let reply_of = ToServer::Reply {
                        request,
                        reply: answer,
                    };
                    reply(&outbox, reply_of);
                    Ok::<(), io::Error>(())
                });
            }
            ToRunner::Stop => {
                self.state().stopping = true;
                let runner = Arc::clone(self);
                self.tasks.spawn(TaskKind::Chore, "stop", async move {
                    runner.executor.stop().await;
                    runner.changed.notify_one();
                    Ok::<(), io::Error>(())
                });
            }
        }
    }

    fn usage(&self) -> Vec<(PathBuf, Usage)> {
        let attempts: Vec<_> = self.state().attempts.values().cloned().collect();
        let used = attempts.into_iter();
        used.filter_map(|attempt| Some((attempt.key.clone(), attempt.used()?)))
            .collect()
    }

    fn find(&self, attempt: &Path) -> Option<Arc<Attempt>> {
        self.state().attempts.get(attempt).cloned()
    }

    fn wish(&self, attempt: &Path, wish: Wish) {
        if let Some(attempt) = self.find(attempt) {
            attempt.wish(wish);
        }
    }

    fn start(self: &Arc<Self>, request: u64, workload: Workload, outbox: &Outbox) {
        let refuse = |refusal| {
            let reply_of = Reply::NotStarted(refusal);
            reply(
                outbox,
                ToServer::Reply {
                    request,
                    reply: reply_of,
                },
            );
        };
        if self.state().stopping {
            return refuse(Refusal::Stopping);
        }
        let key = workload.spool_dir.clone();
        let spool = match spool::Writer::create(&key) {
            Ok(spool) => spool,
            Err(error) => {
                return refuse(Refusal::Host {
                    doing: "making the spool".to_owned(),
                    code: error.raw_os_error(),
                    detail: error.to_string(),
                });
            }
        };
        let attempt = Attempt::new(key.clone(), outbox.clone());
        let known = Arc::clone(&attempt);
        self.state().attempts.insert(key.clone(), known);
        let drive = Drive {
            attempt,
            executor: Arc::clone(&self.executor),
            clock: self.clock.clone(),
            spool,
            request,
        };
        let (runner, name) = (Arc::clone(self), format!("attempt in {}", key.display()));
        let forget = Forget { runner, key };
        self.tasks.spawn(TaskKind::Attempt, name, async move {
            drive.run(workload).await;
            drop(forget);
            Ok::<(), io::Error>(())
        });
    }
}

/// An attempt under way is known; also when its task panics it is known no longer.
struct Forget {
    runner: Arc<Runner>,
    key: PathBuf,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.runner.state().attempts.remove(&self.key);
        self.runner.changed.notify_one();
    }
}

fn reply(outbox: &Outbox, message: ToServer) {
    // A server that is gone needs no answer.
    drop(outbox.send(Out::Message(message)));
}

async fn write_all(
    writer: OwnedWriteHalf,
    mut messages: mpsc::UnboundedReceiver<Out>,
) -> io::Result<()> {
    let mut writer = BufWriter::new(writer);
    let mut waiting = Vec::new();
    while messages.recv_many(&mut waiting, 64).await > 0 {
        for out in waiting.drain(..) {
            let message = match out {
                Out::Message(message) => message,
                Out::Grown(attempt) => attempt.notice(),
            };
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
