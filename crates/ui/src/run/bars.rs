//! Attempts as bars on a timeline: where they stand, and the same in words.

use forebay_engine::{Phase, Plan};
use forebay_store::{Attempt, Run};
use forebay_types::Millis;
use maud::{Markup, html};

use super::axis::Axis;
use crate::show::{duration, phase_words};

/// When a task could first have begun: it was there, and all before it had ended. With `None` as
/// plan, only that it was there.
pub(super) fn ready_at(attempt: &Attempt, plan: Option<&Plan>, attempts: &[Attempt]) -> Millis {
    let before = plan
        .and_then(|plan| plan.tasks.get(attempt.task))
        .map_or(&[][..], |task| &task.depends_on);
    let limit = attempt.started_at.unwrap_or(Millis(i64::MAX));
    attempts
        .iter()
        .filter(|one| before.iter().any(|edge| edge.task == one.task))
        .filter_map(|one| one.ended_at.filter(|at| *at <= limit))
        .fold(attempt.created_at, Millis::max)
}

/// One stretch of time in its parts. The parts are shares of the stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    from: Millis,
    /// When the wait for a slot was over.
    started: Option<Millis>,
    /// When the program began.
    executed: Option<Millis>,
    to: Millis,
}

impl Stretch {
    /// Nothing for a task that has not come to its turn, or never did.
    pub(super) fn of_attempt(attempt: &Attempt, ready: Millis, now: Millis) -> Option<Self> {
        let waits = matches!(attempt.phase, Phase::Pending | Phase::WaitingForRetry);
        if attempt.started_at.is_none() && !waits {
            return None;
        }
        Some(Self {
            from: ready.min(attempt.started_at.unwrap_or(ready)),
            started: attempt.started_at,
            // What only waits for its children has nothing to set up.
            executed: attempt
                .executed_at
                .or(attempt.started_at.filter(|_| !attempt.takes_slot)),
            to: attempt.ended_at.unwrap_or(now),
        })
    }

    pub(super) fn of_run(run: &Run, now: Millis) -> Self {
        let to = run.ended_at.unwrap_or(now);
        let began = run.started_at.or(run.ended_at);
        Self {
            from: run.created_at,
            started: began,
            executed: began,
            to,
        }
    }

    fn waited_ms(&self) -> i64 {
        self.started.unwrap_or(self.to).since(self.from)
    }

    fn setup_ms(&self) -> i64 {
        let end = self.executed.unwrap_or(self.to);
        self.started.map_or(0, |started| end.since(started))
    }

    fn ran_ms(&self) -> i64 {
        self.executed.map_or(0, |executed| self.to.since(executed))
    }

    /// `waited 2 s, set up 300 ms, ran 12 s`, without the parts that took nothing.
    fn words(&self) -> String {
        let parts = [
            ("waited", self.waited_ms()),
            ("set up", self.setup_ms()),
            ("ran", self.ran_ms()),
        ];
        let told = parts.into_iter().filter(|(_, ms)| *ms > 0);
        let told: Vec<_> = told
            .map(|(word, ms)| format!("{word} {}", duration(ms)))
            .collect();
        told.join(", ")
    }
}

/// A bar that leads to `link`. `name` is what it stands for, such as `Try 2`.
pub(super) fn bar(axis: &Axis, stretch: &Stretch, phase: Phase, link: &str, name: &str) -> Markup {
    let (word, tone) = phase_words(phase);
    let words = match stretch.words() {
        words if words.is_empty() => format!("{name}: {word}"),
        words => format!("{name}: {word}; {words}"),
    };
    let (left, right) = (axis.place(stretch.from), axis.place(stretch.to));
    let total = (stretch.waited_ms() + stretch.setup_ms() + stretch.ran_ms()).max(1);
    let share = |ms: i64| format!("flex-grow:{}", ms * 1000 / total);
    html! {
        a class={ "try " (tone) } href=(link) title=(words) aria-label=(words)
            style=(format!("left:min({left},100% - 4px);width:{}", right.minus(left))) {
            @if stretch.waited_ms() > 0 { i class="waits" style=(share(stretch.waited_ms())) {} }
            @if stretch.setup_ms() > 0 { i class="sets-up" style=(share(stretch.setup_ms())) {} }
            @if stretch.ran_ms() > 0 { i class="runs" style=(share(stretch.ran_ms())) {} }
        }
    }
}

/// The heads of the scale: how long after the start.
pub(super) fn scale(axis: &Axis) -> Markup {
    html! {
        div class="scale" {
            @for (place, ms) in axis.ticks() {
                span style=(format!("left:{place}")) { (if ms == 0 { "0".to_owned() } else { brief(ms) }) }
            }
        }
    }
}

/// `500 ms`, `5 s`, `2 min`, `1.5 h`, `3 d`: for round times.
fn brief(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        60_000..3_600_000 => format!("{}:{:02} min", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        3_600_000..86_400_000 => format!("{}:{:02} h", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{} d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_tells_its_parts() {
        let stretch = Stretch {
            from: Millis(0),
            started: Some(Millis(2_000)),
            executed: Some(Millis(2_300)),
            to: Millis(14_300),
        };
        assert_eq!(stretch.words(), "waited 2.0 s, set up 300 ms, ran 12.0 s");
        let waits = Stretch {
            started: None,
            executed: None,
            ..stretch
        };
        assert_eq!(waits.words(), "waited 14.3 s");
    }

    #[test]
    fn round_times_are_brief() {
        let times = [
            500,
            1_500,
            5_000,
            90_000,
            120_000,
            5_400_000,
            7_200_000,
            172_800_000,
        ]
        .map(brief);
        let expected = [
            "500 ms", "1.5 s", "5 s", "1:30 min", "2 min", "1:30 h", "2 h", "2 d",
        ];
        assert_eq!(times, expected);
    }
}
