use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// How a task or a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Succeeded,
    /// A run whose leaves are fine although an inner task failed.
    SucceededWithFailures,
    /// The user's code failed.
    Failed,
    TimedOut,
    Canceled,
    UpstreamFailed,
    UpstreamCanceled,
    /// Not meant to run this time; counts as fine downstream.
    Excluded,
    Disabled,
    /// Not started, because the job already had as many runs as it may have.
    Skipped,
    /// The platform failed: no cluster, no environment, a lost server.
    InternalError,
}

impl Verdict {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Succeeded, "succeeded"),
        (Self::SucceededWithFailures, "succeeded_with_failures"),
        (Self::Failed, "failed"),
        (Self::TimedOut, "timed_out"),
        (Self::Canceled, "canceled"),
        (Self::UpstreamFailed, "upstream_failed"),
        (Self::UpstreamCanceled, "upstream_canceled"),
        (Self::Excluded, "excluded"),
        (Self::Disabled, "disabled"),
        (Self::Skipped, "skipped"),
        (Self::InternalError, "internal_error"),
    ];

    /// The stored form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(verdict, _)| *verdict == self)
            .map_or("", |(_, text)| text)
    }

    /// Whether dependents may count this task as done well.
    #[must_use]
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Succeeded | Self::SucceededWithFailures) || self.is_left_out()
    }

    /// Neither good nor bad: the task was not meant to run.
    #[must_use]
    pub fn is_left_out(self) -> bool {
        matches!(self, Self::Excluded | Self::Disabled)
    }

    #[must_use]
    pub fn is_canceled(self) -> bool {
        matches!(self, Self::Canceled | Self::UpstreamCanceled)
    }
}

impl FromStr for Verdict {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(verdict, _)| *verdict)
            .ok_or(())
    }
}

/// The verdict of a run from those of its tasks: its leaves decide.
#[must_use]
pub fn run_verdict(plan: &Plan, tasks: &[Verdict]) -> Verdict {
    let leaves: Vec<Verdict> = (0..plan.tasks.len())
        .filter(|task| plan.dependents(*task).is_empty())
        .filter_map(|task| tasks.get(task).copied())
        .collect();
    let any =
        |wanted: &dyn Fn(Verdict) -> bool, among: &[Verdict]| among.iter().any(|v| wanted(*v));
    if any(&|v| v == Verdict::InternalError, tasks) && any(&|v| !v.is_fine(), &leaves) {
        return Verdict::InternalError;
    }
    if any(
        &|v| matches!(v, Verdict::Failed | Verdict::UpstreamFailed),
        &leaves,
    ) {
        return Verdict::Failed;
    }
    if any(&|v| v == Verdict::TimedOut, &leaves) {
        // A task that ran out of its own time fails the run; only the run's own time-out is one.
        return Verdict::Failed;
    }
    if any(&Verdict::is_canceled, &leaves) {
        return Verdict::Canceled;
    }
    if any(&|v| !v.is_fine(), tasks) {
        return Verdict::SucceededWithFailures;
    }
    Verdict::Succeeded
}
