//! Tasks that wait for runs of their own: a for-each for its iterations, a run-job for its one run.
//!
//! Such a task's attempt holds no slot, and no process of the server remembers it: what to do next
//! follows from the rows of its children alone, so it can be asked at any time and after any crash.

use std::ops::Range;

use crate::run::StopReason;
use crate::verdict::Verdict;

/// The most elements that a for-each may have.
pub const ITERATIONS_MAX: usize = 5_000;
/// The most iterations of a for-each that may be active at once.
pub const CONCURRENCY_MAX: usize = 100;

/// The children of one attempt, counted. They are started in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Children {
    /// How many there shall be.
    pub planned: usize,
    /// How many were started, ended ones included.
    pub started: usize,
    pub active: usize,
    /// Ended ones that neither succeeded nor were cancelled.
    pub failed: usize,
    pub canceled: usize,
}

/// What a container does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start the children with these numbers.
    Start(Range<usize>),
    /// Stop every active child.
    Stop(StopReason),
    /// Nothing is left to wait for.
    End(Verdict),
    /// Until a child ends.
    Wait,
}

/// Decides from the children, the most that may be active at once, and whether the container was
/// asked to stop.
#[must_use]
pub fn next_step(children: Children, concurrency: usize, stop: Option<StopReason>) -> Step {
    let over = children.started == children.planned && children.active == 0;
    // What was done well before the stop came stays done.
    let done = over && children.failed == 0 && children.canceled == 0;
    if let Some(reason) = stop.filter(|_| !done) {
        return if children.active > 0 {
            Step::Stop(reason)
        } else {
            Step::End(reason.verdict())
        };
    }
    let left = children.planned.saturating_sub(children.started);
    let free = concurrency.max(1).saturating_sub(children.active).min(left);
    if free > 0 {
        return Step::Start(children.started..children.started + free);
    }
    if children.active > 0 {
        return Step::Wait;
    }
    Step::End(if children.failed > 0 {
        Verdict::Failed
    } else if children.canceled > 0 {
        Verdict::Canceled
    } else {
        Verdict::Succeeded
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_container_ends_as_its_children_did() {
        let ended = |failed, canceled| Children {
            planned: 3,
            started: 3,
            active: 0,
            failed,
            canceled,
        };
        let end = |children| next_step(children, 2, None);
        assert_eq!(end(ended(0, 0)), Step::End(Verdict::Succeeded));
        assert_eq!(end(ended(1, 1)), Step::End(Verdict::Failed));
        assert_eq!(end(ended(0, 1)), Step::End(Verdict::Canceled));
        assert_eq!(end(Children::default()), Step::End(Verdict::Succeeded));
    }

    #[test]
    fn a_stop_reaches_the_children_first() {
        let reason = Some(StopReason::TimedOut);
        let mut children = Children {
            planned: 9,
            started: 3,
            active: 2,
            ..Children::default()
        };
        let stop = next_step(children, 4, reason);
        assert_eq!(stop, Step::Stop(StopReason::TimedOut));
        children.active = 0;
        assert_eq!(next_step(children, 4, reason), Step::End(Verdict::TimedOut));
        children.started = 9;
        assert_eq!(
            next_step(children, 4, reason),
            Step::End(Verdict::Succeeded)
        );
    }

    proptest! {
        /// Whatever the order in which children end: never more at once than allowed, every one
        /// started once, and the end comes exactly when nothing is left.
        #[test]
        fn every_child_runs_once_and_never_too_many(
            planned in 0..40usize,
            concurrency in 1..8usize,
            ends in prop::collection::vec(any::<bool>(), 40),
        ) {
            let mut children = Children { planned, ..Children::default() };
            let mut ends = ends.into_iter();
            loop {
                match next_step(children, concurrency, None) {
                    Step::Start(numbers) => {
                        prop_assert_eq!(numbers.start, children.started);
                        children.started = numbers.end;
                        children.active += numbers.len();
                        prop_assert!(children.active <= concurrency && children.started <= planned);
                    }
                    Step::Wait => {
                        prop_assert!(children.active > 0);
                        children.active -= 1;
                        children.failed += usize::from(ends.next() == Some(true));
                    }
                    Step::End(verdict) => {
                        prop_assert_eq!((children.started, children.active), (planned, 0));
                        prop_assert_eq!(verdict == Verdict::Failed, children.failed > 0);
                        break;
                    }
                    Step::Stop(_) => prop_assert!(false, "nobody asked"),
                }
            }
        }
    }
}
