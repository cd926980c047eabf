//! Time limits of runs that began before the clock was put back: their start is then a time that is
//! to come, and counted from there the limit would be late by as much as the clock had been wrong.

use std::collections::HashMap;

use forebay_store::RunLimit;
use forebay_types::{Millis, RunId};

/// When such runs reach their limits, by the clock as it goes now. A run that is not here has the
/// limit that its row tells.
#[derive(Debug, Default)]
pub(super) struct Limits(HashMap<RunId, Millis>);

impl Limits {
    /// The clock says `now` and said `last` a moment ago; `None` when nobody knows, at the start of a
    /// server: then what cannot have begun yet begins now.
    pub(super) fn put_back(&mut self, runs: Vec<RunLimit>, last: Option<Millis>, now: Millis) {
        let before = std::mem::take(&mut self.0);
        let anew = runs.into_iter().filter_map(|run| {
            let due = match (last, before.get(&run.id)) {
                (Some(last), due) => {
                    let due = due.copied().unwrap_or_else(|| run.due());
                    due.plus_ms(now.0.saturating_sub(last.0))
                }
                (None, _) if run.began > now => now.plus_ms(run.timeout_ms),
                (None, _) => return None,
            };
            Some((run.id, due))
        });
        self.0 = anew.collect();
    }

    pub(super) fn due(&self, now: Millis) -> Vec<RunId> {
        let due = self.0.iter().filter(|(_, due)| **due <= now);
        due.map(|(id, _)| *id).collect()
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.0.values().min().copied()
    }

    pub(super) fn forget(&mut self, run: RunId) {
        self.0.remove(&run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_as_far_away_as_it_was() {
        let run = |id: i64, began: i64| RunLimit {
            id: RunId(id),
            began: Millis(began),
            timeout_ms: 100,
        };
        let mut limits = Limits::default();
        // 40 of the 100 have passed when the clock goes back by 940.
        limits.put_back(vec![run(1, 900)], Some(Millis(940)), Millis(0));
        assert_eq!(limits.next(), Some(Millis(60)));
        // Again, by 10, with one that began in between.
        let runs = vec![run(1, 900), run(2, 15)];
        limits.put_back(runs, Some(Millis(20)), Millis(10));
        assert_eq!(limits.due(Millis(49)), []);
        assert_eq!(limits.due(Millis(50)), [RunId(1)]);
        limits.forget(RunId(1));
        assert_eq!(limits.next(), Some(Millis(105)));
        let mut limits = Limits::default();
        limits.put_back(vec![run(1, 900), run(2, 15)], None, Millis(20));
        assert_eq!(limits.next(), Some(Millis(120)));
        limits.forget(RunId(1));
        assert_eq!(limits.next(), None);
    }
}
