//! The engine with the least around it: rows are in vectors, and effects are performed at once.

use std::collections::HashMap;

use forebay_engine::admission::{
    Admission, Claimant, Room, Tenant, Turn, Workspace, admit, next, rank, share,
};
use forebay_engine::{Effect, Event, Phase, Plan, RepairRequest, Run, TaskPlan, Verdict};
use forebay_types::Millis;

use super::{Caps, LEASE_MS, Piece, Step, Submission, tenant};

pub(crate) struct World {
    caps: Caps,
    now: Millis,
    runs: Vec<Entry>,
    waiting: Vec<(Piece, Option<Millis>)>,
    live: Vec<Piece>,
    /// When each of them was last heard of.
    heard: HashMap<Piece, Millis>,
    /// Slots each workspace gave away so far, and to whom when last.
    given: Vec<u64>,
    served: HashMap<(usize, (usize, usize)), u64>,
}

struct Entry {
    of: Submission,
    plan: Plan,
    state: Run,
    rank: i64,
}

impl World {
    pub(crate) fn new(caps: Caps) -> Self {
        let given = vec![0; caps.workspaces.len()];
        Self {
            caps,
            now: Millis(1_000_000),
            runs: Vec::new(),
            waiting: Vec::new(),
            live: Vec::new(),
            heard: HashMap::new(),
            given,
            served: HashMap::new(),
        }
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(crate) fn live(&self) -> Vec<Piece> {
        self.live.clone()
    }

    pub(crate) fn verdicts(&self) -> Vec<(usize, String)> {
        let runs = self.runs.iter().enumerate();
        runs.filter_map(|(index, run)| {
            Some((index, run.state.phase.verdict()?.as_str().to_owned()))
        })
        .collect()
    }

    /// Whether a run was repaired.
    pub(crate) fn play(&mut self, step: &Step, piece: Option<Piece>) -> bool {
        match step {
            Step::Submit(of) => self.submit(of.clone()),
            Step::Claim { workspace } => self.claim(*workspace),
            Step::End { good, .. } => {
                if let Some(piece) = piece {
                    self.end(
                        piece,
                        if *good {
                            Verdict::Succeeded
                        } else {
                            Verdict::Failed
                        },
                    );
                }
            }
            Step::Crash => self.lose(|_| true),
            Step::Stop { run, reason } => self.advance(*run, Event::StopRequested(*reason)),
            Step::Repair { run, tasks } => return self.repair(*run, tasks),
            Step::Heartbeat { .. } => {
                self.heard.extend(piece.map(|piece| (piece, self.now)));
            }
            Step::Expire => {
                let (now, heard) = (self.now, self.heard.clone());
                self.lose(|piece| now.since(heard[piece]) > LEASE_MS);
            }
            Step::Clock { ms } => self.now = self.now.plus_ms(*ms),
        }
        false
    }

    /// The processes of these attempts are gone, and nobody knows how far they came.
    fn lose(&mut self, lost: impl Fn(&Piece) -> bool) {
        let mut live = self.live.clone();
        live.sort_unstable();
        live.retain(lost);
        for piece in live {
            self.end(piece, Verdict::InternalError);
        }
    }

    /// One without room does not happen.
    fn repair(&mut self, run: usize, tasks: &[usize]) -> bool {
        let entry = &self.runs[run];
        let verdict = entry.state.phase.verdict();
        if verdict.is_none_or(|verdict| verdict == Verdict::Skipped) {
            return false;
        }
        let free = |room: Option<Room>| room.is_none_or(|room| room.active < room.max);
        if !free(self.job_room(&entry.of, None)) || !free(self.key_room(&entry.of, None)) {
            return false;
        }
        let known = tasks.iter().copied();
        let request = RepairRequest {
            tasks: known.filter(|task| *task < entry.of.tasks.len()).collect(),
            all_failed: true,
            dependents: true,
        };
        let Ok(tasks) = request.tasks(&entry.plan, &entry.state) else {
            return false;
        };
        self.advance(run, Event::Repair { tasks });
        true
    }

    fn submit(&mut self, of: Submission) {
        let tasks = (0..of.tasks.len()).map(|task| TaskPlan {
            retries_max: Some(of.retries),
            retry_interval_ms: of.retry_ms,
            ..TaskPlan::new(format!("t{task}"))
        });
        let on = |task: &usize| (format!("t{task}"), None);
        let before: Vec<Vec<(String, Option<bool>)>> = (of.tasks.iter())
            .map(|before| before.iter().map(on).collect())
            .collect();
        let plan = Plan::new(tasks.collect(), &before).unwrap();
        let (job, key) = (self.job_room(&of, None), self.key_room(&of, None));
        let admission = admit(job, key, of.queue);
        let run = self.runs.len();
        self.runs.push(Entry {
            rank: rank(self.now.0, of.priority),
            state: Run::new(&plan),
            plan,
            of,
        });
        match admission {
            Admission::Now => self.advance(run, Event::Admitted),
            Admission::Queue => {
                self.runs[run].state.phase = Phase::Queued;
                self.admit_queued();
            }
            Admission::Skip => self.runs[run].state.phase = Phase::Ended(Verdict::Skipped),
        }
    }

    fn room(&self, max: usize, same: impl Fn(&Submission) -> bool, but: Option<usize>) -> Room {
        let count = |wanted: fn(Phase) -> bool| {
            let runs = self.runs.iter().enumerate();
            runs.filter(|(index, run)| {
                Some(*index) != but && same(&run.of) && wanted(run.state.phase)
            })
            .count()
        };
        Room {
            active: count(|phase| phase != Phase::Queued && !phase.is_ended()),
            max,
            queued: count(|phase| phase == Phase::Queued) > 0,
        }
    }

    fn job_room(&self, of: &Submission, but: Option<usize>) -> Option<Room> {
        let job = of.job?;
        let same = |other: &Submission| other.job == Some(job) && other.workspace == of.workspace;
        Some(self.room(self.caps.job, same, but))
    }

    fn key_room(&self, of: &Submission, but: Option<usize>) -> Option<Room> {
        let key = of.key?;
        let same = |other: &Submission| other.key == Some(key) && other.workspace == of.workspace;
        Some(self.room(self.caps.key, same, but))
    }

    fn admit_queued(&mut self) {
        loop {
            let queued = self.runs.iter().enumerate();
            let free = |room: Option<Room>| room.is_none_or(|room| room.active < room.max);
            let first = queued
                .filter(|(_, run)| run.state.phase == Phase::Queued)
                .filter(|(index, run)| {
                    free(self.job_room(&run.of, Some(*index)))
                        && free(self.key_room(&run.of, Some(*index)))
                })
                .min_by_key(|(index, run)| (run.rank, *index));
            let Some((index, _)) = first else {
                return;
            };
            self.advance(index, Event::Admitted);
        }
    }

    fn end(&mut self, piece: Piece, verdict: Verdict) {
        let (run, task, attempt) = piece;
        self.live.retain(|live| *live != piece);
        let retry = true;
        self.advance(
            run,
            Event::AttemptEnded {
                task,
                attempt,
                verdict,
                outcome: None,
                retry,
            },
        );
    }

    fn advance(&mut self, run: usize, event: Event) {
        let entry = &mut self.runs[run];
        for effect in entry.state.advance(&entry.plan, &event, self.now) {
            match effect {
                Effect::Start { task, attempt } => self.waiting.push(((run, task, attempt), None)),
                Effect::StartAt { task, attempt, due } => {
                    self.waiting.push(((run, task, attempt), Some(due)));
                }
                Effect::Close { task, .. } => {
                    self.waiting
                        .retain(|(piece, _)| (piece.0, piece.1) != (run, task));
                }
                Effect::Finish(_) => self.admit_queued(),
                // Its process will be seen to end.
                Effect::Stop { .. } | Effect::Reopen { .. } => {}
            }
        }
    }

    fn claim(&mut self, workspace: usize) {
        for (_, due) in &mut self.waiting {
            *due = due.filter(|due| *due > self.now);
        }
        let wishes: Vec<Workspace> = (0..self.caps.workspaces.len())
            .map(|one| self.wish(one))
            .collect();
        for _ in 0..share(self.caps.server, &wishes, workspace).mine {
            let ready = self.ready(workspace);
            let mut tenants: Vec<((usize, usize), Tenant, Piece)> = Vec::new();
            for piece in ready {
                let (name, weight) = tenant(&self.runs[piece.0].of);
                let head = (self.runs[piece.0].rank, self.order(piece));
                match tenants.iter_mut().find(|(known, ..)| *known == name) {
                    Some((_, known, _)) if known.head <= head => {}
                    Some((_, known, first)) => (known.head, *first) = (head, piece),
                    None => {
                        let live = self.live_of(workspace, Some(name));
                        let claimant = Claimant { live, weight };
                        let served = self.served.get(&(workspace, name)).copied().unwrap_or(0);
                        let tenant = Tenant {
                            claimant,
                            served,
                            head,
                        };
                        tenants.push((name, tenant, piece));
                    }
                }
            }
            let heads: Vec<Tenant> = tenants.iter().map(|(_, tenant, _)| *tenant).collect();
            let first = next(&heads, Turn::of(self.given[workspace])).unwrap();
            let piece = tenants[first].2;
            self.given[workspace] += 1;
            let name = tenants[first].0;
            self.served.insert((workspace, name), self.given[workspace]);
            self.waiting.retain(|(waiting, _)| *waiting != piece);
            self.live.push(piece);
            self.heard.insert(piece, self.now);
            self.runs[piece.0].state.tasks[piece.1].phase = Phase::Running;
        }
    }

    fn wish(&self, workspace: usize) -> Workspace {
        let (max, weight) = self.caps.workspaces[workspace];
        let live = self.live_of(workspace, None);
        let room = max.min(self.caps.server).saturating_sub(live);
        Workspace {
            claimant: Claimant { live, weight },
            wants: self.ready(workspace).len().min(room),
        }
    }

    fn ready(&self, workspace: usize) -> Vec<Piece> {
        let due = self.waiting.iter().filter(|(_, due)| due.is_none());
        due.map(|(piece, _)| *piece)
            .filter(|piece| self.runs[piece.0].of.workspace == workspace)
            .collect()
    }

    fn live_of(&self, workspace: usize, of: Option<(usize, usize)>) -> usize {
        let live = self.live.iter().map(|piece| &self.runs[piece.0].of);
        live.filter(|run| run.workspace == workspace)
            .filter(|run| of.is_none_or(|name| tenant(run).0 == name))
            .count()
    }

    /// A number for a piece that both sides make alike: the place of its id in the database.
    fn order(&self, (run, task, attempt): Piece) -> i64 {
        (run * 10_000 + task * 100) as i64 + i64::from(attempt)
    }
}
