//! What runs and what waits, and why: the rows of the store, explained by the engine, as far as
//! the caller may see them.

use forebay_engine::Phase;
use forebay_engine::admission::{Held, Use, attempt_held, run_held};
use forebay_store::{DueEntry, QueueEntry, RoomUse, Run, RunPlace, Viewer};
use forebay_types::{Millis, PermissionLevel, Result, RunId};

use super::{RunView, Runs};
use crate::Ctx;

/// One page of the queue.
#[derive(Debug, Clone)]
pub struct QueuePage {
    pub now: Millis,
    pub server: Use,
    pub workspace: Use,
    /// Caps of jobs and keys that somebody waits for; only for an administrator.
    pub rooms: Vec<RoomUse>,
    pub running: Vec<QueueEntry>,
    pub running_total: usize,
    pub waiting: Vec<Waiting>,
    pub waiting_total: usize,
    /// Entries of this page that the caller may not see.
    pub hidden: usize,
    /// Whether there is a page after this one.
    pub more: bool,
}

/// Something that waits, with the reason.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub entry: QueueEntry,
    /// From 1: attempts in line for a slot come first, then runs in line for their job or key.
    pub place: usize,
    /// Nothing when it is about to start.
    pub held: Option<Held>,
}

/// Why one run waits.
#[derive(Debug, Clone)]
pub struct Reason {
    pub held: Option<Held>,
    /// How many are before it in its line.
    pub before: usize,
    /// Runs that hold what it waits for, as far as the caller may see them; some when they are many.
    pub holders: Vec<RunId>,
}

impl Reason {
    /// Such as `Waits: the job has 1 of 1 concurrent runs; 3 are before it.`
    #[must_use]
    pub fn message(&self) -> String {
        let held = self
            .held
            .map_or_else(|| "about to start".to_owned(), Held::message);
        match self.before {
            0 => format!("Waits: {held}; it is next."),
            1 => format!("Waits: {held}; 1 is before it."),
            before => format!("Waits: {held}; {before} are before it."),
        }
    }
}

impl Runs {
    /// What runs and what waits in the workspace, each from `skip` on, at most `take`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn queue(&self, ctx: &Ctx, skip: usize, take: usize) -> Result<QueuePage> {
        let inner = &self.0;
        let queue = inner.store.queue(viewer(ctx), skip, take).await?;
        let (server, workspace) = inner.slots.in_use();
        let slot = attempt_held(server, workspace);
        let in_line = queue.waiting.into_iter().enumerate();
        let mut waiting: Vec<Waiting> = in_line
            .map(|(index, entry)| Waiting {
                entry,
                place: skip + index + 1,
                held: slot,
            })
            .collect();
        let in_queue = queue.queued.into_iter().enumerate();
        waiting.extend(in_queue.map(|(index, entry)| Waiting {
            place: queue.waiting_total.max(skip) + index + 1,
            held: run_held(entry.rooms.0, entry.rooms.1),
            entry,
        }));
        let mut running = queue.running;
        let all = running.len() + waiting.len();
        running.retain(|entry| entry.visible);
        waiting.retain(|waiting| waiting.entry.visible);
        let rooms = if ctx.is_admin() {
            inner.store.queue_rooms().await?
        } else {
            Vec::new()
        };
        let waiting_total = queue.waiting_total + queue.queued_total;
        Ok(QueuePage {
            now: inner.clock.now(),
            server,
            workspace,
            rooms,
            hidden: all - running.len() - waiting.len(),
            running,
            running_total: queue.running_total,
            waiting,
            waiting_total,
            more: queue.running_total.max(waiting_total) > skip + take,
        })
    }

    /// What waits for its time, a retry or a run that a budget holds, as far as the caller may see
    /// it; the earliest first, of the first `take`.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn due(&self, ctx: &Ctx, take: usize) -> Result<Vec<DueEntry>> {
        let mut due = self.0.store.queue_due(viewer(ctx), take).await?;
        due.retain(|due| due.entry.visible);
        Ok(due)
    }

    /// Why a run that the caller may see waits; nothing when it does not.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn why_waiting(&self, ctx: &Ctx, view: &RunView) -> Result<Option<Reason>> {
        if !may_wait(view) {
            return Ok(None);
        }
        let inner = &self.0;
        let Some(place) = inner.store.run_place(view.run.id).await? else {
            return Ok(None);
        };
        let (held, before, holders) = match place {
            RunPlace::Slot { before } => {
                let (server, workspace) = inner.slots.in_use();
                let holders = inner.store.slot_holders().await?;
                (attempt_held(server, workspace), before, holders)
            }
            RunPlace::Room {
                before,
                job,
                key,
                holders,
            } => (run_held(job, key), before, holders),
        };
        Ok(Some(Reason {
            held,
            before,
            holders: self.seen(ctx, holders).await?,
        }))
    }

    async fn seen(&self, ctx: &Ctx, ids: Vec<RunId>) -> Result<Vec<RunId>> {
        if ctx.is_admin() {
            return Ok(ids);
        }
        let mut seen = Vec::new();
        for id in ids {
            let run: Option<Run> = self.0.store.run_get(id).await.ok().map(|(run, _)| run);
            if let Some(run) = run
                && self
                    .require(ctx, &run, PermissionLevel::CanView)
                    .await
                    .is_ok()
            {
                seen.push(id);
            }
        }
        Ok(seen)
    }
}

/// Whether something of the run may wait for a cap; most runs do not, and need no look.
fn may_wait(view: &RunView) -> bool {
    let waits = |phase| matches!(phase, Phase::Queued | Phase::Pending);
    let lives = |phase| matches!(phase, Phase::Running | Phase::Terminating);
    let mut attempts = view.attempts.iter().map(|attempt| attempt.phase);
    waits(view.run.phase) || (attempts.clone().any(waits) && !attempts.any(lives))
}

fn viewer(ctx: &Ctx) -> Viewer {
    (!ctx.is_admin()).then(|| ctx.creator())
}
