use std::str::FromStr;

use crate::verdict::Verdict;

/// When a task may start, given how the tasks before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunIf {
    AllSuccess,
    AtLeastOneSuccess,
    NoneFailed,
    AllDone,
    AtLeastOneFailed,
    AllFailed,
}

impl RunIf {
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::AllSuccess, "ALL_SUCCESS"),
        (Self::AtLeastOneSuccess, "AT_LEAST_ONE_SUCCESS"),
        (Self::NoneFailed, "NONE_FAILED"),
        (Self::AllDone, "ALL_DONE"),
        (Self::AtLeastOneFailed, "AT_LEAST_ONE_FAILED"),
        (Self::AllFailed, "ALL_FAILED"),
    ];
}

impl FromStr for RunIf {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(run_if, _)| *run_if)
            .ok_or(())
    }
}

/// What becomes of a task whose dependencies have all ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Start,
    /// It will not run, and this is its verdict.
    Close(Verdict),
}

/// Decides once every dependency has ended.
#[must_use]
pub fn readiness(run_if: RunIf, disabled: bool, before: &[Verdict]) -> Readiness {
    if disabled {
        return Readiness::Close(Verdict::Disabled);
    }
    if before.is_empty() {
        return Readiness::Start;
    }
    let left_out = before
        .iter()
        .filter(|verdict| verdict.is_left_out())
        .count();
    // With nothing before it that was meant to run, the task is not meant to run either.
    if left_out == before.len() {
        return Readiness::Close(Verdict::Excluded);
    }
    let fine = before
        .iter()
        .filter(|v| v.is_fine() && !v.is_left_out())
        .count();
    let bad = before.len() - fine - left_out;
    let met = match run_if {
        RunIf::AllSuccess | RunIf::NoneFailed => bad == 0,
        RunIf::AtLeastOneSuccess => fine > 0,
        RunIf::AllDone => true,
        RunIf::AtLeastOneFailed => bad > 0,
        RunIf::AllFailed => bad > 0 && fine == 0,
    };
    if met {
        return Readiness::Start;
    }
    Readiness::Close(match run_if {
        RunIf::AtLeastOneFailed | RunIf::AllFailed => Verdict::Excluded,
        _ if before.iter().all(|v| v.is_fine() || v.is_canceled()) => Verdict::UpstreamCanceled,
        _ => Verdict::UpstreamFailed,
    })
}

#[cfg(test)]
mod tests {
    use Verdict::{Canceled, Excluded, Failed, Succeeded, UpstreamCanceled, UpstreamFailed};

    use super::*;

    #[test]
    fn each_condition_against_each_outcome() {
        let start = Readiness::Start;
        let close = Readiness::Close;
        let table = [
            (RunIf::AllSuccess, vec![Succeeded, Succeeded], start),
            (
                RunIf::AllSuccess,
                vec![Succeeded, Failed],
                close(UpstreamFailed),
            ),
            (
                RunIf::AllSuccess,
                vec![Succeeded, Canceled],
                close(UpstreamCanceled),
            ),
            (RunIf::AllSuccess, vec![Succeeded, Excluded], start),
            (RunIf::AllSuccess, vec![Excluded, Excluded], close(Excluded)),
            (RunIf::AtLeastOneSuccess, vec![Failed, Succeeded], start),
            (
                RunIf::AtLeastOneSuccess,
                vec![Failed, Failed],
                close(UpstreamFailed),
            ),
            (RunIf::NoneFailed, vec![Succeeded, Excluded], start),
            (
                RunIf::NoneFailed,
                vec![Succeeded, Failed],
                close(UpstreamFailed),
            ),
            (RunIf::AllDone, vec![Failed, Canceled], start),
            (RunIf::AtLeastOneFailed, vec![Succeeded, Failed], start),
            (
                RunIf::AtLeastOneFailed,
                vec![Succeeded, Succeeded],
                close(Excluded),
            ),
            (RunIf::AllFailed, vec![Failed, Failed], start),
            (RunIf::AllFailed, vec![Failed, Succeeded], close(Excluded)),
        ];
        for (run_if, before, expected) in table {
            assert_eq!(
                readiness(run_if, false, &before),
                expected,
                "{run_if:?} {before:?}"
            );
        }
        assert_eq!(
            readiness(RunIf::AllDone, true, &[]),
            close(Verdict::Disabled)
        );
    }
}
