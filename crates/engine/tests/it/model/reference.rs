//! What should happen, in the plainest way there is: every question is a scan over everything.

use forebay_engine::StopReason;

use super::{Caps, LEASE_MS, Piece, Step, Submission, tenant};

/// A minute of waiting is worth a step of priority.
const STEP_MS: i64 = 60_000;
/// Whole numbers for shares: a multiple of every weight in use.
const COMMON: u64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Blocked,
    Waits { attempt: u32, due: i64 },
    Lives { attempt: u32 },
    Good,
    Bad,
    Interrupted,
    Never,
}

/// An attempt that waits for a slot, with what decides about it.
struct Ready {
    /// Slots of its tenant.
    live: usize,
    claim: u64,
    /// The place of the last slot its tenant was given.
    served: Option<usize>,
    rank: i64,
    piece: Piece,
}

struct Run {
    of: Submission,
    tasks: Vec<Task>,
    /// The attempt that each task's next tries are counted from.
    first: Vec<u32>,
    /// The number of each task's newest attempt.
    newest: Vec<u32>,
    /// When each task's attempt under way was last heard of.
    heard: Vec<i64>,
    created: i64,
    queued: bool,
    skipped: bool,
    stop: Option<StopReason>,
}

impl Run {
    fn over(&self) -> bool {
        let over = |task: &Task| {
            matches!(
                task,
                Task::Good | Task::Bad | Task::Interrupted | Task::Never
            )
        };
        self.skipped || self.tasks.iter().all(over)
    }

    fn active(&self) -> bool {
        !self.queued && !self.over()
    }
}

pub(crate) struct Reference {
    caps: Caps,
    now: i64,
    runs: Vec<Run>,
    /// To whom slots were given, by workspace.
    given: Vec<Vec<(usize, usize)>>,
}

impl Reference {
    pub(crate) fn new(caps: Caps) -> Self {
        let given = vec![Vec::new(); caps.workspaces.len()];
        Self {
            caps,
            now: 1_000_000,
            runs: Vec::new(),
            given,
        }
    }

    pub(crate) fn live(&self) -> Vec<Piece> {
        let mut live = Vec::new();
        for (run, entry) in self.runs.iter().enumerate() {
            for (task, state) in entry.tasks.iter().enumerate() {
                if let Task::Lives { attempt } = state {
                    live.push((run, task, *attempt));
                }
            }
        }
        live
    }

    pub(crate) fn verdict(&self, run: usize) -> String {
        let run = &self.runs[run];
        let has = |wanted| run.tasks.contains(&wanted);
        let verdict = match run.stop {
            _ if !run.over() => "not over",
            _ if run.skipped => "skipped",
            Some(StopReason::Canceled) => "canceled",
            Some(StopReason::TimedOut) => "timed_out",
            None if has(Task::Interrupted) => "internal_error",
            None if has(Task::Bad) => "failed",
            None => "succeeded",
        };
        verdict.to_owned()
    }

    pub(crate) fn check_caps(&self) {
        let live = |workspace| {
            let live = self.live().into_iter();
            live.filter(|piece| self.runs[piece.0].of.workspace == workspace)
                .count()
        };
        assert!(self.live().len() <= self.caps.server, "server");
        for (workspace, (max, _)) in self.caps.workspaces.iter().enumerate() {
            assert!(live(workspace) <= *max, "workspace {workspace}");
            for name in 0..3 {
                let runs = || {
                    self.runs
                        .iter()
                        .filter(|run| run.of.workspace == workspace && run.active())
                };
                let of_job = runs().filter(|run| run.of.job == Some(name)).count();
                let of_key = runs().filter(|run| run.of.key == Some(name)).count();
                assert!(of_job <= self.caps.job, "job {name}");
                assert!(of_key <= self.caps.key, "key {name}");
            }
        }
    }

    /// Whether a run was repaired.
    pub(crate) fn play(&mut self, step: &Step, piece: Option<Piece>) -> bool {
        let mut repaired = false;
        match step {
            Step::Submit(of) => self.submit(of),
            Step::Claim { workspace } => self.claim(*workspace),
            Step::End { good, .. } => {
                if let Some((run, task, _)) = piece {
                    self.end(run, task, if *good { Task::Good } else { Task::Bad });
                }
            }
            Step::Crash => {
                for (run, task, _) in self.live() {
                    self.end(run, task, Task::Interrupted);
                }
            }
            Step::Stop { run, reason } => self.stop(*run, *reason),
            Step::Repair { run, tasks } => repaired = self.repair(*run, tasks),
            Step::Heartbeat { .. } => {
                if let Some((run, task, _)) = piece {
                    self.runs[run].heard[task] = self.now;
                }
            }
            Step::Expire => {
                for (run, task, _) in self.live() {
                    if self.now - self.runs[run].heard[task] > LEASE_MS {
                        self.end(run, task, Task::Interrupted);
                    }
                }
            }
            Step::Clock { ms } => self.now += ms,
        }
        self.settle();
        repaired
    }

    fn repair(&mut self, run: usize, wanted: &[usize]) -> bool {
        let entry = &self.runs[run];
        if entry.skipped || !entry.over() || !self.has_room(&entry.of) {
            return false;
        }
        let mut again: Vec<usize> = Vec::new();
        // Tasks stand behind those that they wait for.
        for (task, state) in entry.tasks.iter().enumerate() {
            let behind = entry.of.tasks[task].iter().any(|on| again.contains(on));
            if behind || *state != Task::Good || wanted.contains(&task) {
                again.push(task);
            }
        }
        let entry = &mut self.runs[run];
        for task in &again {
            entry.tasks[*task] = Task::Blocked;
            entry.newest[*task] += 1;
            entry.first[*task] = entry.newest[*task];
        }
        if !again.is_empty() {
            entry.stop = None;
        }
        !again.is_empty()
    }

    fn submit(&mut self, of: &Submission) {
        let queue_before = self.runs.iter().any(|run| {
            let shared = (of.job.is_some() && run.of.job == of.job)
                || (of.key.is_some() && run.of.key == of.key);
            run.queued && run.of.workspace == of.workspace && shared
        });
        let job_taken = queue_before_job(self, of) || !self.job_has_room(of);
        let fits = self.has_room(of) && !queue_before;
        let skipped = !fits && job_taken && !of.queue;
        self.runs.push(Run {
            of: of.clone(),
            tasks: vec![Task::Blocked; of.tasks.len()],
            first: vec![0; of.tasks.len()],
            newest: vec![0; of.tasks.len()],
            heard: vec![0; of.tasks.len()],
            created: self.now,
            queued: !fits && !skipped,
            skipped,
            stop: None,
        });
    }

    fn job_has_room(&self, of: &Submission) -> bool {
        let same =
            |run: &&Run| run.of.workspace == of.workspace && run.of.job == of.job && run.active();
        of.job.is_none() || self.runs.iter().filter(same).count() < self.caps.job
    }

    fn has_room(&self, of: &Submission) -> bool {
        let same =
            |run: &&Run| run.of.workspace == of.workspace && run.of.key == of.key && run.active();
        let key = of.key.is_none() || self.runs.iter().filter(same).count() < self.caps.key;
        key && self.job_has_room(of)
    }

    fn stop(&mut self, run: usize, reason: StopReason) {
        let run = &mut self.runs[run];
        if run.stop.is_some() || run.over() {
            return;
        }
        run.stop = Some(reason);
        run.queued = false;
        for task in &mut run.tasks {
            if matches!(task, Task::Blocked | Task::Waits { .. }) {
                *task = Task::Never;
            }
        }
    }

    fn end(&mut self, run: usize, task: usize, how: Task) {
        let run = &mut self.runs[run];
        let Task::Lives { attempt } = run.tasks[task] else {
            panic!("run has no such attempt");
        };
        let tried = attempt - run.first[task];
        let again = how != Task::Good && run.stop.is_none() && tried < run.of.retries;
        run.newest[task] += u32::from(again);
        run.tasks[task] = if again {
            let due = if run.of.retry_ms == 0 {
                i64::MIN
            } else {
                self.now + run.of.retry_ms
            };
            Task::Waits {
                attempt: attempt + 1,
                due,
            }
        } else {
            how
        };
    }

    /// Admits whom there is room for and unblocks what can go, until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for run in self
                .runs
                .iter_mut()
                .filter(|run| !run.queued && !run.skipped && run.stop.is_none())
            {
                for task in 0..run.tasks.len() {
                    if run.tasks[task] != Task::Blocked {
                        continue;
                    }
                    let before: Vec<Task> =
                        run.of.tasks[task].iter().map(|on| run.tasks[*on]).collect();
                    let open = |task: &Task| {
                        matches!(
                            task,
                            Task::Blocked | Task::Waits { .. } | Task::Lives { .. }
                        )
                    };
                    if before.iter().any(open) {
                        continue;
                    }
                    let good = before.iter().all(|task| *task == Task::Good);
                    let start = Task::Waits {
                        attempt: run.newest[task],
                        due: i64::MIN,
                    };
                    run.tasks[task] = if good { start } else { Task::Never };
                    moved = true;
                }
            }
            let queued = (0..self.runs.len()).filter(|run| self.runs[*run].queued);
            let first = queued
                .filter(|run| self.has_room(&self.runs[*run].of))
                .min_by_key(|run| (self.rank(*run), *run));
            if let Some(first) = first {
                self.runs[first].queued = false;
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    fn rank(&self, run: usize) -> i64 {
        self.runs[run].created - self.runs[run].of.priority * STEP_MS
    }

    /// What waits for a slot in a workspace, each with what decides about it.
    fn ready(&self, workspace: usize) -> Vec<Ready> {
        let mut ready = Vec::new();
        for (index, run) in self.runs.iter().enumerate() {
            for (task, state) in run.tasks.iter().enumerate() {
                let Task::Waits { attempt, due } = *state else {
                    continue;
                };
                if due <= self.now && run.of.workspace == workspace {
                    let (name, weight) = tenant(&run.of);
                    let live = self.live().into_iter().filter(|piece| {
                        let of = &self.runs[piece.0].of;
                        of.workspace == workspace && tenant(of).0 == name
                    });
                    let live = live.count();
                    let given = &self.given[workspace];
                    ready.push(Ready {
                        live,
                        served: given.iter().rposition(|to| *to == name),
                        claim: (2 * live as u64 + 1) * COMMON / u64::from(weight),
                        rank: self.rank(index),
                        piece: (index, task, attempt),
                    });
                }
            }
        }
        ready
    }

    fn claim(&mut self, workspace: usize) {
        // Time does not pass in here, so what is due for one is seen to be due by all.
        let now = self.now;
        for task in self.runs.iter_mut().flat_map(|run| &mut run.tasks) {
            if let Task::Waits { due, .. } = task
                && *due <= now
            {
                *due = i64::MIN;
            }
        }
        let live = |one: usize| {
            let live = self.live().into_iter();
            live.filter(|piece| self.runs[piece.0].of.workspace == one)
                .count()
        };
        let mut taken: Vec<usize> = (0..2).map(live).collect();
        let mut wants: Vec<usize> = (0..2)
            .map(|one| {
                self.ready(one)
                    .len()
                    .min(self.caps.workspaces[one].0.saturating_sub(taken[one]))
            })
            .collect();
        while taken.iter().sum::<usize>() < self.caps.server {
            let claim = |one: &usize| {
                (2 * taken[*one] as u64 + 1) * COMMON / u64::from(self.caps.workspaces[*one].1)
            };
            let Some(first) = (0..2).filter(|one| wants[*one] > 0).min_by_key(claim) else {
                return;
            };
            taken[first] += 1;
            wants[first] -= 1;
            if first == workspace {
                self.start(workspace);
            }
        }
    }

    fn start(&mut self, workspace: usize) {
        let ready = self.ready(workspace);
        let mut idle: Vec<&Ready> = ready.iter().filter(|ready| ready.live == 0).collect();
        idle.sort_by_key(|ready| (ready.rank, ready.piece));
        let mut all: Vec<&Ready> = ready.iter().collect();
        all.sort_by_key(|ready| (ready.claim, ready.served, ready.rank, ready.piece));
        // Every eighth slot is for the eldest of those that have none.
        let first = if self.given[workspace].len() % 8 == 7 && !idle.is_empty() {
            idle[0]
        } else {
            all[0]
        };
        let (run, task, attempt) = first.piece;
        self.given[workspace].push(tenant(&self.runs[run].of).0);
        self.runs[run].tasks[task] = Task::Lives { attempt };
        self.runs[run].heard[task] = self.now;
    }
}

fn queue_before_job(reference: &Reference, of: &Submission) -> bool {
    let same = |run: &Run| run.queued && run.of.workspace == of.workspace && run.of.job == of.job;
    of.job.is_some() && reference.runs.iter().any(same)
}
