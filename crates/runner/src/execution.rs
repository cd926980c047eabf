//! An attempt as the server sees it: its spool, and the wishes that go to the runner.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use forebay_exec::{Canceler, Ended, Event, Execution, Meter, Outcome, StartError, Usage};
use forebay_types::Millis;

use crate::link::{Followed, LOST, Link};
use crate::protocol::ToRunner;
use crate::spool::{Line, Reader};

pub(crate) struct FarRun {
    attempt: PathBuf,
    spool: Reader,
    /// Events up to this one were taken before.
    from: u64,
    /// The runner that writes the spool; none when nobody does any more.
    writer: Option<Writer>,
    canceler: Canceler,
    cancel_sent: bool,
    happened_at: Option<Millis>,
    end: Option<Ended>,
    /// What it says when nobody writes any more and the spool has no end.
    lost: &'static str,
    isolation: String,
    left: bool,
}

pub(crate) struct Writer {
    pub(crate) link: Arc<Link>,
    pub(crate) followed: Arc<Followed>,
}

impl FarRun {
    pub(crate) fn new(
        attempt: PathBuf,
        spool: Reader,
        from: u64,
        writer: Option<Writer>,
        isolation: String,
    ) -> Self {
        Self {
            attempt,
            spool,
            from,
            writer,
            canceler: Canceler::new(),
            cancel_sent: false,
            happened_at: None,
            end: None,
            lost: LOST,
            isolation,
            left: false,
        }
    }

    /// The next line that is there; an end is kept.
    fn read(&mut self) -> Option<Event> {
        loop {
            match self.spool.next() {
                Ok(Some(Line::Event { seq, .. })) if seq <= self.from => {}
                Ok(Some(Line::Event { at, event, .. })) => {
                    self.happened_at = Some(at);
                    return Some(event);
                }
                Ok(Some(Line::Ended { ended, .. })) => self.end = Some(*ended),
                Ok(Some(Line::NotStarted(refusal))) => {
                    let error = StartError::from(refusal);
                    self.end = Some(self.lost(error.to_string()));
                }
                Ok(None) => return None,
                Err(error) => {
                    tracing::error!(%error, "cannot read {}", self.attempt.display());
                    // It must not go on when it counts as ended.
                    self.kill();
                    let message = format!("The run's record cannot be read: {error}.");
                    self.end = Some(self.lost(message));
                    return None;
                }
            }
        }
    }

    fn lost(&self, message: String) -> Ended {
        Ended {
            outcome: Outcome::Lost { message },
            usage: Usage::default(),
            isolation: self.isolation.clone(),
            environment: String::new(),
            warm: false,
            engine: None,
        }
    }

    fn say(&self, message: ToRunner) {
        if let Some(writer) = &self.writer {
            writer.link.say(message);
        }
    }

    fn kill(&self) {
        let attempt = self.attempt.clone();
        self.say(ToRunner::Kill { attempt });
    }
}

#[async_trait]
impl Execution for FarRun {
    async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.read() {
                return Some(event);
            }
            if self.end.is_some() {
                return None;
            }
            // Nobody writes any more, and everything that was written has been read.
            let Some(writer) = &self.writer else {
                self.end = Some(self.lost(self.lost.to_owned()));
                return None;
            };
            if let Some(message) = writer.followed.broken() {
                self.end = Some(self.lost(message));
                return None;
            }
            tokio::select! {
                () = writer.followed.grown.notified() => {}
                reason = self.canceler.canceled(), if !self.cancel_sent => {
                    self.cancel_sent = true;
                    let attempt = self.attempt.clone();
                    self.say(ToRunner::Cancel { attempt, reason });
                }
                () = writer.link.gone.cancelled() => {
                    self.lost = writer.link.reason();
                    self.writer = None;
                }
            }
        }
    }

    fn canceler(&self) -> Canceler {
        self.canceler.clone()
    }

    fn meter(&self) -> Meter {
        let Some(writer) = &self.writer else {
            return Meter::default();
        };
        let usage = Arc::clone(&writer.followed.usage);
        Meter::new(move || *usage.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn finish(mut self: Box<Self>) -> Ended {
        if self.end.is_none() {
            self.kill();
        }
        while self.next_event().await.is_some() {}
        let end = self.end.take();
        self.left = true;
        end.unwrap_or_else(|| self.lost(self.lost.to_owned()))
    }

    fn happened_at(&self) -> Option<Millis> {
        self.happened_at
    }

    fn leave(mut self: Box<Self>) {
        self.left = true;
    }
}

impl Drop for FarRun {
    fn drop(&mut self) {
        if self.end.is_none() && !self.left {
            self.kill();
        }
        if let Some(writer) = &self.writer {
            writer.link.unfollow(&self.attempt);
        }
    }
}
