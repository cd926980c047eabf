//! Which ended runs go, and when what they put out goes before them.

use forebay_types::Millis;

/// How long the runs of a job, or of a workspace, stay. `None` is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepRules {
    pub keep_ms: Option<i64>,
    /// Of each job, the newest so many ended runs.
    pub runs_max: Option<u64>,
    /// Output goes with the run at the latest.
    pub output_ms: Option<i64>,
}

/// What is known of a run that might go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptRun {
    /// `None` while it is active.
    pub ended_at: Option<Millis>,
    pub pinned: bool,
    /// Another run that is still there points at it: it waited for this one. What it put out may go.
    pub needed: bool,
    /// Ended runs of the same job that are newer; `None` for a run without a job.
    pub newer: Option<u64>,
    /// Whether anything of its output is left.
    pub has_output: bool,
}

/// Why something goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Age,
    /// There are enough newer runs of its job.
    Count,
}

impl Why {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
        }
    }
}

/// What becomes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    /// The run stays and what it put out goes.
    OutputGoes,
    Goes(Why),
}

/// Decides about one run at the time `now`.
#[must_use]
pub fn fate(rules: &KeepRules, run: &KeptRun, now: Millis) -> Fate {
    let Some(ended_at) = run.ended_at else {
        return Fate::Stays;
    };
    if run.pinned {
        return Fate::Stays;
    }
    let age = now.since(ended_at);
    let over = |limit: Option<i64>| limit.is_some_and(|limit| age > limit);
    if !run.needed && over(rules.keep_ms) {
        return Fate::Goes(Why::Age);
    }
    let enough = |max: u64| run.newer.is_some_and(|newer| newer >= max);
    if !run.needed && rules.runs_max.is_some_and(enough) {
        return Fate::Goes(Why::Count);
    }
    if run.has_output && over(rules.output_ms) {
        return Fate::OutputGoes;
    }
    Fate::Stays
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: KeepRules = KeepRules {
        keep_ms: Some(100),
        runs_max: Some(3),
        output_ms: Some(50),
    };

    fn run(ended_at: i64) -> KeptRun {
        KeptRun {
            ended_at: Some(Millis(ended_at)),
            pinned: false,
            needed: false,
            newer: Some(0),
            has_output: true,
        }
    }

    fn at_200(run: KeptRun) -> Fate {
        fate(&RULES, &run, Millis(200))
    }

    #[test]
    fn age_and_count_end_a_run_and_output_goes_before_it() {
        assert_eq!(at_200(run(99)), Fate::Goes(Why::Age));
        assert_eq!(at_200(run(100)), Fate::OutputGoes);
        assert_eq!(at_200(run(150)), Fate::Stays);
        let newer = |newer| KeptRun { newer, ..run(190) };
        assert_eq!(at_200(newer(Some(2))), Fate::Stays);
        assert_eq!(at_200(newer(Some(3))), Fate::Goes(Why::Count));
        assert_eq!(at_200(newer(None)), Fate::Stays);
        let without_output = KeptRun {
            has_output: false,
            ..run(120)
        };
        assert_eq!(at_200(without_output), Fate::Stays);
    }

    #[test]
    fn what_is_pinned_or_active_stays_however_old() {
        for stays in [
            KeptRun {
                pinned: true,
                ..run(1)
            },
            KeptRun {
                ended_at: None,
                ..run(1)
            },
        ] {
            assert_eq!(at_200(stays), Fate::Stays);
        }
    }

    #[test]
    fn a_run_that_another_points_at_stays_without_its_output() {
        let needed = KeptRun {
            needed: true,
            ..run(1)
        };
        assert_eq!(at_200(needed), Fate::OutputGoes);
        let newer = Some(3);
        let young = KeptRun {
            needed: true,
            newer,
            ..run(190)
        };
        assert_eq!(at_200(young), Fate::Stays);
    }

    #[test]
    fn without_rules_everything_stays_and_a_clock_that_went_back_ends_nothing() {
        assert_eq!(
            fate(&KeepRules::default(), &run(1), Millis(i64::MAX)),
            Fate::Stays
        );
        assert_eq!(fate(&RULES, &run(500), Millis(200)), Fate::Stays);
    }
}
