//! Random histories, played to the engine and to a small reference that was written without it.
//! After each step both must have the same attempts under way, and no cap may be passed.

mod reference;
mod world;

use std::collections::HashMap;

use forebay_engine::StopReason;

use self::reference::Reference;
use self::world::World;
use crate::random::Random;

const SEEDS: u64 = 150;
const STEPS: usize = 120;

/// What a history consists of; both sides are told the same.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Submit(Submission),
    Claim {
        workspace: usize,
    },
    /// The `nth` attempt under way ends.
    End {
        nth: usize,
        good: bool,
    },
    /// The server dies: whatever was under way ends as interrupted, and may be tried again.
    Crash,
    Stop {
        run: usize,
        reason: StopReason,
    },
    /// An ended run does tasks again: these, those that did not end well, and all behind them.
    Repair {
        run: usize,
        tasks: Vec<usize>,
    },
    /// The `nth` attempt under way is heard of.
    Heartbeat {
        nth: usize,
    },
    /// Whatever was not heard of for [`LEASE_MS`] is given up as lost.
    Expire,
    /// May go back: clocks do.
    Clock {
        ms: i64,
    },
}

/// How long an attempt is believed in after its last heartbeat.
pub(crate) const LEASE_MS: i64 = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct Submission {
    pub(crate) workspace: usize,
    pub(crate) user: usize,
    pub(crate) job: Option<usize>,
    pub(crate) key: Option<usize>,
    pub(crate) queue: bool,
    pub(crate) priority: i64,
    /// For each task the tasks before it.
    pub(crate) tasks: Vec<Vec<usize>>,
    pub(crate) retries: u32,
    pub(crate) retry_ms: i64,
}

/// The numbers that a history happens under.
#[derive(Debug, Clone)]
pub(crate) struct Caps {
    pub(crate) server: usize,
    /// Slots and weight of each workspace.
    pub(crate) workspaces: Vec<(usize, u32)>,
    pub(crate) job: usize,
    pub(crate) key: usize,
}

/// `(run, task, attempt)`.
pub(crate) type Piece = (usize, usize, u32);

/// Whom an attempt shares slots with, and with which weight.
pub(crate) fn tenant(of: &Submission) -> ((usize, usize), u32) {
    match (of.key, of.job) {
        (Some(key), _) => ((2, key), 1),
        (None, Some(job)) => ((1, job), u32::try_from(job + 1).unwrap()),
        (None, None) => ((0, of.user), 2),
    }
}

fn submission(random: &mut Random) -> Submission {
    let count = 1 + random.below(4);
    let tasks = (0..count)
        .map(|task| (0..task).filter(|_| random.chance(40)).collect())
        .collect();
    Submission {
        workspace: random.below(2),
        user: random.below(3),
        job: random.chance(50).then(|| random.below(3)),
        key: random.chance(30).then(|| random.below(3)),
        queue: random.chance(80),
        priority: random.below(3) as i64,
        tasks,
        retries: random.below(3) as u32,
        retry_ms: if random.chance(50) { 0 } else { 5_000 },
    }
}

fn step(random: &mut Random, runs: usize) -> Step {
    match random.below(100) {
        0..=29 => Step::Submit(submission(random)),
        30..=59 => Step::Claim {
            workspace: random.below(2),
        },
        60..=87 => Step::End {
            nth: random.below(64),
            good: random.chance(70),
        },
        88 => Step::Crash,
        89 => Step::Expire,
        90..=91 => Step::Heartbeat {
            nth: random.below(64),
        },
        92..=94 if runs > 0 => Step::Repair {
            run: random.below(runs),
            tasks: (0..4).filter(|_| random.chance(50)).collect(),
        },
        95..=96 if runs > 0 => Step::Stop {
            run: random.below(runs),
            reason: if random.chance(50) {
                StopReason::Canceled
            } else {
                StopReason::TimedOut
            },
        },
        _ => Step::Clock {
            ms: random.below(9_000) as i64 - 1_500,
        },
    }
}

struct History {
    world: World,
    reference: Reference,
    /// The verdict that each ended run had when it was first seen ended, since its last repair.
    ended: HashMap<usize, String>,
    finished: Vec<Piece>,
    live: Vec<Piece>,
}

impl History {
    fn new(caps: &Caps) -> Self {
        Self {
            world: World::new(caps.clone()),
            reference: Reference::new(caps.clone()),
            ended: HashMap::new(),
            finished: Vec::new(),
            live: Vec::new(),
        }
    }

    fn play(&mut self, step: &Step) {
        // The same attempt for both, whatever order each keeps them in.
        let piece = match step {
            Step::End { nth, .. } | Step::Heartbeat { nth } if !self.live.is_empty() => {
                Some(self.live[nth % self.live.len()])
            }
            _ => None,
        };
        let repaired = self.world.play(step, piece);
        assert_eq!(repaired, self.reference.play(step, piece), "{step:?}");
        if let (true, Step::Repair { run, .. }) = (repaired, step) {
            self.ended.remove(run);
        }
        self.check(step);
    }

    fn check(&mut self, step: &Step) {
        let mut live = self.world.live();
        live.sort_unstable();
        assert_eq!(live, self.reference.live(), "after {step:?}");
        self.reference.check_caps();
        for piece in &self.live {
            if !live.contains(piece) {
                self.finished.push(*piece);
            }
        }
        for piece in &live {
            assert!(!self.finished.contains(piece), "{piece:?} began again");
        }
        self.live = live;
        for (run, verdict) in self.world.verdicts() {
            let first = self.ended.entry(run).or_insert_with(|| verdict.clone());
            assert_eq!(*first, verdict, "run {run} ended twice");
            assert_eq!(
                verdict,
                self.reference.verdict(run),
                "run {run} after {step:?}"
            );
        }
    }

    /// Time passes and everything goes well: each run must come to an end.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            if self.ended.len() == self.world.runs() {
                return;
            }
            self.play(&Step::Clock { ms: 5_000 });
            self.play(&Step::Claim { workspace: 0 });
            self.play(&Step::Claim { workspace: 1 });
            self.play(&Step::End { nth: 0, good: true });
        }
        panic!("{} of {} runs ended", self.ended.len(), self.world.runs());
    }
}

fn play(seed: u64) {
    let mut random = Random(seed);
    let caps = Caps {
        server: 1 + random.below(6),
        workspaces: (0..2)
            .map(|_| (1 + random.below(5), 1 + random.below(3) as u32))
            .collect(),
        job: 1 + random.below(3),
        key: 1 + random.below(2),
    };
    let mut history = History::new(&caps);
    for _ in 0..STEPS {
        let step = step(&mut random, history.world.runs());
        history.play(&step);
    }
    history.drain();
}

#[test]
fn engine_and_reference_agree_on_random_histories() {
    for seed in 0..SEEDS {
        let played = std::panic::catch_unwind(|| play(seed));
        assert!(played.is_ok(), "seed {seed}");
    }
}
