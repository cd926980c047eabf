//! What may be used: whether a new run may still use something today, and how much one attempt.

mod attempt;

use forebay_types::Millis;
use serde::{Deserialize, Serialize};

pub use self::attempt::AttemptBudget;

const DAY_MS: i64 = 86_400_000;

/// What becomes of a run whose job or workspace has used its day up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverBudget {
    /// It waits for the next day.
    #[default]
    Queue,
    /// It is skipped.
    Stop,
}

/// What may be used in a day (UTC), and what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayBudget {
    /// Who has it, such as `the job`.
    pub whose: &'static str,
    pub cpu_ms: i64,
    pub used_cpu_ms: i64,
    pub action: OverBudget,
}

/// What a new run has to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Not before `until`.
    Wait {
        until: Millis,
        message: String,
    },
    Closed {
        message: String,
    },
}

/// Decides about a run that is to be created at `now`; the strictest budget counts.
#[must_use]
pub fn gate(budgets: &[DayBudget], now: Millis) -> Gate {
    let mut gate = Gate::Open;
    for budget in budgets.iter().filter(|b| b.used_cpu_ms >= b.cpu_ms) {
        let used = format!(
            "{} used {} of its {} CPU-seconds of today",
            budget.whose,
            seconds(budget.used_cpu_ms),
            seconds(budget.cpu_ms)
        );
        match budget.action {
            OverBudget::Stop => {
                return Gate::Closed {
                    message: format!("Skipped: {used}."),
                };
            }
            OverBudget::Queue => {
                gate = Gate::Wait {
                    until: Millis((now.0.div_euclid(DAY_MS) + 1) * DAY_MS),
                    message: format!("Waits for the next day (UTC): {used}."),
                };
            }
        }
    }
    gate
}

/// Whole seconds, or tenths below ten.
fn seconds(ms: i64) -> String {
    if ms % 1000 == 0 || ms >= 10_000 {
        (ms / 1000).to_string()
    } else {
        format!("{}.{}", ms / 1000, ms % 1000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(used_cpu_ms: i64, action: OverBudget) -> DayBudget {
        DayBudget {
            whose: "the job",
            cpu_ms: 2_000,
            used_cpu_ms,
            action,
        }
    }

    #[test]
    fn a_day_that_is_used_up_holds_or_refuses_and_says_why() {
        let now = Millis(3 * DAY_MS + 5);
        let decide = |budgets: &[DayBudget]| gate(budgets, now);
        assert_eq!(decide(&[]), Gate::Open);
        assert_eq!(decide(&[budget(1_999, OverBudget::Stop)]), Gate::Open);
        let wait = Gate::Wait {
            until: Millis(4 * DAY_MS),
            message:
                "Waits for the next day (UTC): the job used 2.1 of its 2 CPU-seconds of today."
                    .to_owned(),
        };
        assert_eq!(decide(&[budget(2_100, OverBudget::Queue)]), wait);
        let both = [
            budget(2_000, OverBudget::Queue),
            budget(2_000, OverBudget::Stop),
        ];
        assert!(matches!(decide(&both), Gate::Closed { .. }));
    }
}
