//! Time limits of runs that began before the clock was put back: their start is then a time that is
//! to come, and counted from there the limit would be late by as much as the clock had been wrong.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use forebay_runtime::Clock;
use forebay_store::RunLimit;
use forebay_types::{Millis, RunId};

/// Such runs. What they have left is slept through, so the clock may be turned as often as it will. A
/// run that is not here has the limit that its row tells.
pub(super) struct Limits {
    clock: Clock,
    waiting: HashMap<RunId, Waiting>,
}

struct Waiting {
    limit: RunLimit,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Limits {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            waiting: HashMap::new(),
        }
    }

    /// The clock says `now` and said `last` a moment ago; `None` when nobody knows, at the start of a
    /// server: then what cannot have begun yet begins now. Of the same turn this may be told twice.
    pub(super) fn put_back(&mut self, runs: Vec<RunLimit>, last: Option<Millis>, now: Millis) {
        let mut before = std::mem::take(&mut self.waiting);
        for limit in runs {
            let known = before.remove(&limit.id);
            if let Some(known) = known.filter(|known| known.limit.repair == limit.repair) {
                self.waiting.insert(limit.id, known);
                continue;
            }
            match last {
                Some(last) => self.wait(limit, limit.due().since(last)),
                None if limit.began > now => self.wait(limit, limit.timeout_ms),
                None => {}
            }
        }
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

    fn reached(limits: &mut Limits) -> Option<i64> {
        limits.next().now_or_never().map(|limit| limit.id.0)
    }

    #[test]
    fn a_limit_is_as_far_away_as_it_was_wherever_the_clock_goes() {
        let clock = Clock::manual(Millis(940));
        let mut limits = Limits::new(clock.clone());
        // 40 of the 100 have passed when the clock goes back by 940.
        clock.put_back(940 * MS);
        limits.put_back(vec![run(1, 900, None)], Some(Millis(940)), Millis(0));
        assert_eq!(reached(&mut limits), None);
        clock.advance(20 * MS);
        // Again, by 10, with one that began in between; and told twice.
        clock.put_back(10 * MS);
        for _ in 0..2 {
            let runs = vec![run(1, 900, None), run(2, 15, None)];
            limits.put_back(runs, Some(Millis(20)), Millis(10));
            assert_eq!(reached(&mut limits), None);
        }
        // And once more, of which nobody has heard yet.
        clock.put_back(5_000 * MS);
        clock.advance(39 * MS);
        assert_eq!(reached(&mut limits), None);
        clock.advance(MS);
        assert_eq!(reached(&mut limits), Some(1));
        clock.advance(54 * MS);
        assert_eq!(reached(&mut limits), None);
        clock.advance(MS);
        assert_eq!(reached(&mut limits), Some(2));
        assert_eq!(reached(&mut limits), None);
    }

    #[test]
    fn nobody_knows_the_clock_before_a_start() {
        let clock = Clock::manual(Millis(20));
        let mut limits = Limits::new(clock.clone());
        limits.put_back(vec![run(1, 900, None), run(2, 15, None)], None, Millis(20));
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
        let clock = Clock::manual(Millis(0));
        let mut limits = Limits::new(clock.clone());
        limits.put_back(vec![run(1, 900, None)], Some(Millis(940)), Millis(0));
        assert_eq!(reached(&mut limits), None);
        limits.put_back(vec![run(1, 10, Some(7))], Some(Millis(20)), Millis(0));
        assert_eq!(reached(&mut limits), None);
        clock.advance(60 * MS);
        assert_eq!(reached(&mut limits), None);
        clock.advance(30 * MS);
        assert_eq!(reached(&mut limits), Some(1));
    }
}
