//! The scale of a timeline: where between its two edges a moment stands.

use std::fmt;

use forebay_types::Millis;

/// As many ticks as a phone has room for.
const TICKS_MAX: i64 = 4;
/// Steps that read well, up to a day; longer runs take whole days.
const STEPS_MS: [i64; 26] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
    120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 28_800_000,
    DAY_MS,
];
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    start: Millis,
    length_ms: i64,
    step_ms: i64,
}

impl Axis {
    /// From `start` to `end`. While a run goes on, the scale reaches to the next tick, so that
    /// what has ended keeps its place for a while.
    pub(super) fn new(start: Millis, end: Millis, goes_on: bool) -> Self {
        let span = end.since(start).max(1);
        let step_ms = STEPS_MS
            .into_iter()
            .find(|step| span <= step * TICKS_MAX)
            .unwrap_or_else(|| (span / TICKS_MAX / DAY_MS + 1) * DAY_MS);
        let length_ms = if goes_on {
            (span / step_ms + 1) * step_ms
        } else {
            span
        };
        Self {
            start,
            length_ms,
            step_ms,
        }
    }

    pub(super) fn place(&self, at: Millis) -> Percent {
        let from_start = at.since(self.start).clamp(0, self.length_ms);
        self.part(from_start)
    }

    /// The distance between two ticks.
    pub(super) fn step(&self) -> Percent {
        self.part(self.step_ms)
    }

    /// Each tick's place and how long after the start it is, in milliseconds.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (Percent, i64)> {
        let last = self.length_ms / self.step_ms;
        (0..=last).map(|tick| (self.part(tick * self.step_ms), tick * self.step_ms))
    }

    fn part(&self, ms: i64) -> Percent {
        let hundredths = i128::from(ms) * 10_000 / i128::from(self.length_ms);
        Percent(i64::try_from(hundredths).unwrap_or(i64::MAX))
    }
}

/// A share in hundredths of a percent, as style sheets write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Percent(i64);

impl Percent {
    pub(super) fn minus(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(ms: i64, goes_on: bool) -> Axis {
        Axis::new(Millis(1000), Millis(1000 + ms), goes_on)
    }

    #[test]
    fn an_ended_run_fills_the_width_and_a_living_one_reaches_to_the_next_tick() {
        let ended = axis(7_500, false);
        assert_eq!(ended.place(Millis(1000)).to_string(), "0.00%");
        assert_eq!(ended.place(Millis(8500)).to_string(), "100.00%");
        assert_eq!(ended.place(Millis(4000)).to_string(), "40.00%");
        let living = [7_500, 7_900].map(|ms| axis(ms, true));
        assert_eq!(living[0], living[1]);
        assert_eq!(living[0].place(Millis(9000)).to_string(), "100.00%");
    }

    #[test]
    fn ticks_are_few_and_round() {
        for (ms, expected) in [
            (0, vec![0, 1]),
            (7_500, vec![0, 2_000, 4_000, 6_000]),
            (3_600_000, vec![0, 900_000, 1_800_000, 2_700_000, 3_600_000]),
            (9 * DAY_MS, vec![0, 3 * DAY_MS, 6 * DAY_MS, 9 * DAY_MS]),
        ] {
            let ticks: Vec<i64> = axis(ms, false).ticks().map(|(_, ms)| ms).collect();
            assert_eq!(ticks, expected);
        }
        for ms in [1, 999, 4_001, 61_000, 86_400_001, 400 * DAY_MS] {
            assert!((1..=5).contains(&axis(ms, false).ticks().count()), "{ms}");
        }
    }

    #[test]
    fn what_lies_outside_stands_at_the_edge() {
        let axis = axis(1_000, false);
        assert_eq!(axis.place(Millis(0)).to_string(), "0.00%");
        assert_eq!(axis.place(Millis(99_000)).to_string(), "100.00%");
    }
}
