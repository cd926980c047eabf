//! Time limits of runs that began before the clock was turned: counted from their start, which is a
//! time on the old clock, a limit would come late or early by as much as that had been wrong.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use forebay_runtime::{Clock, Reading};
use forebay_store::RunLimit;
use forebay_types::{Millis, RunId};

/// A clock that is a little wrong is set right in small steps, which are no turns.
const SLACK_MS: u64 = 1_000;

/// How a clock was turned between two readings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// What it would say now.
    unturned: Millis,
    now: Millis,
    between_ms: i64,
}

impl Turn {
    pub(super) fn between(before: Reading, later: Reading) -> Option<Self> {
        let between = later.elapsed.saturating_sub(before.elapsed);
        let between_ms = i64::try_from(between.as_millis()).unwrap_or(i64::MAX);
        let unturned = before.now.plus_ms(between_ms);
        (later.now.0.abs_diff(unturned.0) >= SLACK_MS).then_some(Self {
            unturned,
            now: later.now,
            between_ms,
        })
    }

    /// What is left of a limit; `None` of a run that began when the clock had been turned already.
    fn left_ms(self, limit: &RunLimit) -> Option<i64> {
        let is_new = (0..=self.between_ms).contains(&(self.now.0 - limit.began.0));
        (!is_new).then(|| limit.due().since(self.unturned))
    }
}

/// Such runs. What they have left is slept through, so the clock may be turned as often as it will. A
/// run that is not here has the limit that its row tells.
pub(super) struct Limits {
    clock: Clock,
    waiting: HashMap<RunId, Waiting>,
}

struct Waiting {
    limit: RunLimit,
    sleep: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            waiting: HashMap::new(),
        }
    }

    /// The clock was turned and says `now`. Nobody knows how at the start of a server: then what cannot
    /// have begun yet begins now. Of the same turn this may be told twice.
    pub(super) fn turned(&mut self, runs: Vec<RunLimit>, turn: Option<Turn>, now: Millis) {
        let mut before = std::mem::take(&mut self.waiting);
        for limit in runs {
            let known = before.remove(&limit.id);
            if let Some(known) = known.filter(|known| known.limit.repair == limit.repair) {
                self.waiting.insert(limit.id, known);
                continue;
            }
            let left = match turn {
                Some(turn) => turn.left_ms(&limit),
                None => (limit.began > now).then_some(limit.timeout_ms),
            };
            if let Some(left) = left {
                self.wait(limit, left);
            }
        }
    }

    /// Whether the limit of this run is among these, and its row tells a wrong one.
    pub(super) fn has(&self, run: RunId) -> bool {
        self.waiting.contains_key(&run)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The limit is `left_ms` away; none or less is now.
    pub(super) fn wait(&mut self, limit: RunLimit, left_ms: i64) {
        let clock = self.clock.clone();
        let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        // It begins with the first look, so no turn of the clock comes between.
        let sleep = Box::pin(async move { clock.sleep(left).await });
        self.waiting.insert(limit.id, Waiting { limit, sleep });
    }

    /// The next one that reaches its limit, and is then none of these any more; never comes back
    /// without any.
    pub(super) async fn next(&mut self) -> RunLimit {
        poll_fn(|context| {
            let reached = self.waiting.values_mut().find_map(|one| {
                let sleep = one.sleep.as_mut().poll(context);
                sleep.is_ready().then_some(one.limit)
            });
            let Some(limit) = reached else {
                return Poll::Pending;
            };
            self.waiting.remove(&limit.id);
            Poll::Ready(limit)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn run(id: i64, began: i64, repair: Option<i64>) -> RunLimit {
        RunLimit {
            id: RunId(id),
            repair: repair.map(RunId),
            began: Millis(began),
            timeout_ms: 100,
        }
    }

    fn reading(now: i64, elapsed_ms: u32) -> Reading {
        Reading {
            now: Millis(now),
            elapsed: elapsed_ms * MS,
        }
    }

    fn reached(limits: &mut Limits) -> Option<i64> {
        limits.next().now_or_never().map(|limit| limit.id.0)
    }

    /// Turns the clock by so many seconds, and tells of it.
    fn turn(clock: &Clock, limits: &mut Limits, seconds: i64, runs: &[RunLimit]) {
        let before = clock.reading();
        let by = Duration::from_secs(seconds.unsigned_abs());
        match seconds > 0 {
            true => clock.put_ahead(by),
            false => clock.put_back(by),
        }
        let turn = Turn::between(before, clock.reading());
        assert!(turn.is_some());
        limits.turned(runs.to_vec(), turn, clock.now());
    }

    #[test]
    fn a_limit_is_as_far_away_as_it_was_wherever_the_clock_goes() {
        for sign in [-1, 1] {
            let clock = Clock::manual(Millis(100_040));
            let mut limits = Limits::new(clock.clone());
            // 40 of the 100 have passed when the clock is turned.
            turn(&clock, &mut limits, 50 * sign, &[run(1, 100_000, None)]);
            assert_eq!(reached(&mut limits), None);
            clock.advance(20 * MS);
            // Again, with one that began in between; and told twice.
            let runs = [run(1, 100_000, None), run(2, clock.now().0 - 5, None)];
            turn(&clock, &mut limits, 30 * sign, &runs);
            limits.turned(runs.to_vec(), None, clock.now());
            assert_eq!(reached(&mut limits), None);
            // And once more, of which nobody has heard yet.
            clock.put_back(Duration::from_secs(5));
            clock.advance(39 * MS);
            assert_eq!(reached(&mut limits), None);
            clock.advance(MS);
            assert_eq!(reached(&mut limits), Some(1));
            clock.advance(54 * MS);
            assert_eq!(reached(&mut limits), None);
            assert!(limits.has(RunId(2)) && !limits.has(RunId(1)));
            clock.advance(MS);
            assert_eq!(reached(&mut limits), Some(2));
            assert_eq!(reached(&mut limits), None);
        }
    }

    #[test]
    fn what_began_after_the_turn_has_the_limit_that_its_row_tells() {
        for by in [5_000, -5_000] {
            let before = reading(100_000, 70);
            let later = reading(100_000 + by + 300, 370);
            let turn = Turn::between(before, later).unwrap();
            assert_eq!(turn.left_ms(&run(1, later.now.0 - 200, None)), None);
            // Had nobody turned it, it would be 100,300.
            assert_eq!(turn.left_ms(&run(1, 100_250, None)), Some(50));
        }
    }

    #[test]
    fn a_clock_that_goes_a_little_wrong_was_not_turned() {
        for by in [-999, -1, 0, 999] {
            let turn = Turn::between(reading(100_000, 70), reading(100_000 + 400 + by, 470));
            assert!(turn.is_none(), "{by}");
        }
    }

    #[test]
    fn nobody_knows_the_clock_before_a_start() {
        let clock = Clock::manual(Millis(20));
        let mut limits = Limits::new(clock.clone());
        limits.turned(vec![run(1, 900, None), run(2, 15, None)], None, Millis(20));
        assert_eq!(reached(&mut limits), None);
        clock.advance(99 * MS);
        assert_eq!(reached(&mut limits), None);
        clock.advance(MS);
        assert_eq!(reached(&mut limits), Some(1));
        clock.advance(1_000 * MS);
        assert_eq!(reached(&mut limits), None);
    }

    #[test]
    fn a_repaired_run_has_a_limit_of_its_own() {
        let clock = Clock::manual(Millis(100_040));
        let mut limits = Limits::new(clock.clone());
        turn(&clock, &mut limits, -50, &[run(1, 100_000, None)]);
        assert_eq!(reached(&mut limits), None);
        clock.advance(20 * MS);
        let repaired = run(1, clock.now().0 - 10, Some(7));
        turn(&clock, &mut limits, -9, &[repaired]);
        assert_eq!(reached(&mut limits), None);
        clock.advance(60 * MS);
        assert_eq!(reached(&mut limits), None);
        clock.advance(30 * MS);
        assert_eq!(reached(&mut limits), Some(1));
    }
}
