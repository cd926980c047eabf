use forebay_types::Millis;
use serde::Deserialize;

use crate::cron::{Cron, Zone};

/// A firing that is noticed later than this was missed.
const LATE_MS: i64 = 60_000;
/// Of missed firings that all run, only so many do: the newest.
const MISSED_MAX: usize = 100;

/// What becomes of firings that came due while nobody looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// None of them runs.
    Skip,
    /// Only the newest one runs.
    #[default]
    Last,
    /// Each of them runs, oldest first, the newest hundred at most.
    All,
}

/// What is due at fixed times.
#[derive(Debug, Clone, PartialEq)]
pub enum Timer {
    Cron(Box<Cron>, Zone),
    /// Each whole period after the anchor.
    Every {
        period_ms: i64,
        anchor: Millis,
    },
}

/// What one look at a timer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerStep {
    /// The due time that runs now.
    pub fire: Option<Millis>,
    /// The due time after that, which may have passed as well; none when there is none any more.
    pub next: Option<Millis>,
}

impl Timer {
    /// The first due time after `after`.
    #[must_use]
    pub fn next_after(&self, after: Millis) -> Option<Millis> {
        match self {
            Self::Cron(cron, zone) => cron.next_after(after, zone),
            Self::Every { period_ms, anchor } => {
                let periods = after.since(*anchor) / period_ms + 1;
                Some(anchor.plus_ms(periods.checked_mul(*period_ms)?))
            }
        }
    }

    /// Decides on what came due from `due` to `now`; `due` is a due time that was not handled yet.
    #[must_use]
    pub fn step(&self, due: Millis, now: Millis, missed: Missed) -> TimerStep {
        if due > now {
            return TimerStep {
                fire: None,
                next: Some(due),
            };
        }
        let passed = self.newest(due, now);
        let fire = match missed {
            Missed::All => passed.first(),
            Missed::Last => passed.last(),
            Missed::Skip => passed.last().filter(|at| now.since(**at) <= LATE_MS),
        };
        let fire = fire.copied();
        let handled = fire.or_else(|| passed.last().copied()).unwrap_or(due);
        TimerStep {
            fire,
            next: self.next_after(handled),
        }
    }

    /// The newest due times from `due` to `now`, oldest first. Looks back from `now` in growing
    /// steps, so that years without a server cost no walk through years of seconds.
    fn newest(&self, due: Millis, now: Millis) -> Vec<Millis> {
        let mut back_ms = LATE_MS;
        loop {
            let from = due.max(now.plus_ms(-back_ms));
            let next = |at: &Millis| self.next_after(*at);
            let first = if from == due {
                Some(due)
            } else {
                self.next_after(from)
            };
            let mut found: Vec<Millis> = std::iter::successors(first, next)
                .take_while(|at| *at <= now)
                .collect();
            if from == due || found.len() >= MISSED_MAX {
                let extra = found.len().saturating_sub(MISSED_MAX);
                return found.split_off(extra);
            }
            back_ms = back_ms.saturating_mul(4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;
    /// 2027-03-26T00:00:00Z, two days before clocks go forward in Berlin.
    const START: Millis = Millis(1_806_019_200_000);

    fn daily(expression: &str) -> Timer {
        let zone = Zone::find("Europe/Berlin").unwrap();
        Timer::Cron(Box::new(Cron::parse(expression).unwrap()), zone)
    }

    /// The firings when somebody looks at each of these times.
    fn fired(timer: &Timer, looks: impl Iterator<Item = Millis>, missed: Missed) -> Vec<Millis> {
        let mut due = timer.next_after(START);
        let mut fired = Vec::new();
        for now in looks {
            while let Some(at) = due.filter(|at| *at <= now) {
                let step = timer.step(at, now, missed);
                fired.extend(step.fire);
                due = step.next;
            }
        }
        fired
    }

    #[test]
    fn each_day_fires_once_also_across_a_change_of_clocks() {
        let hours = || (0..10 * 24).map(|hour| START.plus_ms(hour * 3_600_000));
        for missed in [Missed::Skip, Missed::Last, Missed::All] {
            assert_eq!(fired(&daily("0 0 6 * * ?"), hours(), missed).len(), 10);
            // The wall time that does not exist on one day does not fire on it.
            assert_eq!(fired(&daily("0 0 2 * * ?"), hours(), missed).len(), 9);
        }
    }

    #[test]
    fn what_was_missed_goes_by_the_policy() {
        let timer = daily("0 0 6 * * ?");
        let once = || std::iter::once(START.plus_ms(10 * DAY));
        assert_eq!(fired(&timer, once(), Missed::Skip), []);
        assert_eq!(fired(&timer, once(), Missed::Last).len(), 1);
        assert_eq!(fired(&timer, once(), Missed::All).len(), 10);
        let seconds = daily("0/10 * * * * ?");
        let years = std::iter::once(START.plus_ms(2 * 365 * DAY));
        assert_eq!(fired(&seconds, years, Missed::All).len(), MISSED_MAX);
    }

    #[test]
    fn a_clock_that_goes_backwards_fires_nothing_again() {
        let timer = Timer::Every {
            period_ms: DAY,
            anchor: START,
        };
        let looks = [DAY, 2 * DAY, DAY, 0, 2 * DAY, 3 * DAY].map(|ms| START.plus_ms(ms));
        let days = fired(&timer, looks.into_iter(), Missed::All);
        assert_eq!(days, [DAY, 2 * DAY, 3 * DAY].map(|ms| START.plus_ms(ms)));
    }
}
