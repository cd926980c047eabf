//! One attempt in the runner: drives it, writes its spool, and carries its calls to the server.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use forebay_exec::{
    CallId, CancelReason, Ended, Event, Execution, Executor, Host, HostError, Meter, Outcome,
    Usage, Workload,
};
use forebay_runtime::Clock;
use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::protocol::{Refusal, Reply, ToServer};
use crate::spool::{self, Line};

/// Events written to the spool in one go.
const BATCH_MAX: usize = 1000;

/// Something for a server's connection. The server may be gone; then it goes nowhere.
#[derive(Debug)]
pub(crate) enum Out {
    Message(ToServer),
    Grown(Arc<Attempt>),
}

pub(crate) type Outbox = mpsc::UnboundedSender<Out>;

/// What the server wants of an attempt, each stronger than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Go,
    Cancel(CancelReason),
    Kill,
    Abandon,
}

impl Wish {
    fn strength(self) -> u8 {
        match self {
            Self::Go => 0,
            Self::Cancel(_) => 1,
            Self::Kill => 2,
            Self::Abandon => 3,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) key: PathBuf,
    wish: watch::Sender<Wish>,
    state: Mutex<State>,
    /// A notice of growth is in the outbox; another would say the same.
    told: AtomicBool,
    /// Once its program has begun.
    meter: OnceLock<Meter>,
}

#[derive(Debug, Default)]
struct State {
    server: Option<Outbox>,
    calls: BTreeMap<CallId, OpenCall>,
}

#[derive(Debug)]
struct OpenCall {
    method: String,
    args: Value,
    answer: oneshot::Sender<Result<Value, HostError>>,
}

impl Attempt {
    pub(crate) fn new(key: PathBuf, server: Outbox) -> Arc<Self> {
        Arc::new(Self {
            key,
            wish: watch::Sender::new(Wish::Go),
            state: Mutex::new(State {
                server: Some(server),
                calls: BTreeMap::new(),
            }),
            told: AtomicBool::new(false),
            meter: OnceLock::new(),
        })
    }

    pub(crate) fn used(&self) -> Option<Usage> {
        self.meter.get()?.read()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wish(&self, wish: Wish) {
        self.wish.send_if_modified(|current| {
            let stronger = wish.strength() > current.strength();
            if stronger {
                *current = wish;
            }
            stronger
        });
    }

    fn say(&self, message: ToServer) {
        if let Some(server) = &self.state().server {
            // A server that is gone is not told; the next one asks.
            drop(server.send(Out::Message(message)));
        }
    }

    fn tell_growth(self: &Arc<Self>) {
        if !self.told.swap(true, Ordering::AcqRel)
            && let Some(server) = &self.state().server
        {
            drop(server.send(Out::Grown(Arc::clone(self))));
        }
    }

    /// The notice to write. What grows from now on needs another one.
    pub(crate) fn notice(&self) -> ToServer {
        self.told.store(false, Ordering::Release);
        ToServer::Grown {
            attempt: self.key.clone(),
        }
    }

    /// From now on it belongs to this server, which is asked again what the last one left open.
    pub(crate) fn attach(self: &Arc<Self>, server: Outbox) {
        let mut state = self.state();
        for (call, open) in &state.calls {
            drop(server.send(Out::Message(self.question(*call, open))));
        }
        state.server = Some(server);
        drop(state);
        self.told.store(false, Ordering::Release);
        self.tell_growth();
    }

    fn question(&self, call: CallId, open: &OpenCall) -> ToServer {
        ToServer::Call {
            attempt: self.key.clone(),
            call,
            method: open.method.clone(),
            args: open.args.clone(),
        }
    }

    pub(crate) fn answer(&self, call: CallId, result: Result<Value, HostError>) {
        let open = self.state().calls.remove(&call);
        if let Some(open) = open {
            // The program may not wait any more.
            drop(open.answer.send(result));
        }
    }
}

/// The server's part of the host, as the program sees it: it waits, also for the next server.
struct FarHost(Arc<Attempt>);

/// Takes a question back when the program does not wait for its answer.
struct Question<'a> {
    attempt: &'a Attempt,
    call: CallId,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let open = self.attempt.state().calls.remove(&self.call);
        if open.is_some() {
            self.attempt.say(ToServer::Withdraw {
                attempt: self.attempt.key.clone(),
                call: self.call,
            });
        }
    }
}

#[async_trait]
impl Host for FarHost {
    async fn call(&self, call: CallId, method: &str, args: Value) -> Result<Value, HostError> {
        let attempt = &*self.0;
        let (answer, answered) = oneshot::channel();
        let open = OpenCall {
            method: method.to_owned(),
            args,
            answer,
        };
        let question = Question { attempt, call };
        {
            let mut state = attempt.state();
            if let Some(server) = &state.server {
                drop(server.send(Out::Message(attempt.question(call, &open))));
            }
            state.calls.insert(call, open);
        }
        let result = answered.await;
        drop(question);
        result.unwrap_or_else(|_| Err(HostError::new("RuntimeError", "the server went away")))
    }
}

/// One attempt from its start to the last line of its spool.
pub(crate) struct Drive {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) clock: Clock,
    pub(crate) spool: spool::Writer,
    /// The server's question that the start answers.
    pub(crate) request: u64,
}

impl Drive {
    pub(crate) async fn run(mut self, workload: Workload) {
        let host = Arc::new(FarHost(Arc::clone(&self.attempt)));
        let mut wishes = self.attempt.wish.subscribe();
        let started = tokio::select! {
            started = self.executor.start(workload, host) => started,
            wish = wishes.wait_for(|wish| *wish != Wish::Go) => {
                let wish = wish.map_or(Wish::Kill, |wish| *wish);
                return self.not_begun(wish);
            }
        };
        match started {
            Ok(execution) => {
                drop(self.attempt.meter.set(execution.meter()));
                self.reply(Reply::Started);
                let ended = self.follow(execution, wishes).await;
                self.end(&Line::Ended {
                    events: self.spool.events(),
                    ended: Box::new(ended),
                });
            }
            Err(error) => {
                let refusal = Refusal::from(error);
                self.end(&Line::NotStarted(refusal.clone()));
                self.reply(Reply::NotStarted(refusal));
            }
        }
    }

    fn reply(&self, reply: Reply) {
        let request = self.request;
        self.attempt.say(ToServer::Reply { request, reply });
    }

    /// Stopped while its environment was made ready.
    fn not_begun(mut self, wish: Wish) {
        let outcome = match wish {
            Wish::Cancel(CancelReason::Requested) => Outcome::Canceled,
            Wish::Cancel(CancelReason::TimedOut) => Outcome::TimedOut,
            Wish::Go | Wish::Kill | Wish::Abandon => Outcome::Lost {
                message: "The run was ended before its program began.".to_owned(),
            },
        };
        let ended = Ended {
            outcome,
            usage: Usage::default(),
            isolation: self.executor.isolation().level.to_string(),
            environment: String::new(),
            warm: false,
            engine: None,
        };
        self.end(&Line::Ended {
            events: 0,
            ended: Box::new(ended),
        });
    }

    async fn follow(
        &mut self,
        mut execution: Box<dyn Execution>,
        mut wishes: watch::Receiver<Wish>,
    ) -> Ended {
        let canceler = execution.canceler();
        loop {
            tokio::select! {
                event = execution.next_event() => {
                    let Some(event) = event else { break };
                    if let Err(error) = self.keep(event, &mut *execution) {
                        self.broken(&error);
                        break;
                    }
                }
                changed = wishes.changed() => match *wishes.borrow_and_update() {
                    _ if changed.is_err() => break,
                    Wish::Go => {}
                    Wish::Cancel(reason) => canceler.cancel(reason),
                    Wish::Kill | Wish::Abandon => break,
                },
            }
        }
        execution.finish().await
    }

    /// Writes an event down, and with it what else is there already.
    fn keep(&mut self, event: Event, execution: &mut dyn Execution) -> io::Result<()> {
        let now = self.clock.now();
        self.spool.event(now, event)?;
        for _ in 0..BATCH_MAX {
            match execution.next_event().now_or_never() {
                Some(Some(event)) => self.spool.event(now, event)?,
                // Asked again, an execution that has ended says so again.
                Some(None) | None => break,
            }
        }
        self.spool.flush()?;
        self.attempt.tell_growth();
        Ok(())
    }

    fn broken(&self, error: &io::Error) {
        let message = if error.kind() == io::ErrorKind::StorageFull {
            "The server's disk is full: cannot write a run's output.".to_owned()
        } else {
            format!("The run's output cannot be written: {error}.")
        };
        tracing::error!(%error, "cannot write {}", self.attempt.key.display());
        self.attempt.say(ToServer::Broken {
            attempt: self.attempt.key.clone(),
            message,
        });
    }

    fn end(&mut self, line: &Line) {
        if *self.attempt.wish.borrow() == Wish::Abandon {
            spool::remove(&self.attempt.key);
            return;
        }
        if let Err(error) = self.spool.line(line).and_then(|()| self.spool.flush()) {
            self.broken(&error);
        }
        self.attempt.tell_growth();
    }
}
