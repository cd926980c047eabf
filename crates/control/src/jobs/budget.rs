//! What the runs of a job may use: the object `forebay.budget` of its settings.

use std::collections::BTreeMap;

use forebay_config::AttemptLimits;
use forebay_engine::{AttemptBudget, OverBudget};
use forebay_types::{Error, Result};
use serde::Deserialize;

use super::own::{OWN_FIELD, within};
use super::spec::Spec;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Of all its runs in a day (UTC).
    pub cpu_seconds_per_day: Option<u32>,
    /// What becomes of a run after that.
    pub action: Option<OverBudget>,
    /// Each attempt of each task.
    pub attempt: AttemptBudget,
    /// Each attempt of a single task, by its key, where it differs from `attempt`. That of a
    /// for-each holds for each of its iterations.
    pub tasks: BTreeMap<String, AttemptBudget>,
}

impl Budget {
    /// What an attempt of a task may use, by the job's own word.
    #[must_use]
    pub fn of_task(&self, task_key: &str) -> AttemptBudget {
        let own = self.tasks.get(task_key).copied().unwrap_or_default();
        own.or(self.attempt)
    }

    /// The limits of single attempts, with the names of where they stand.
    fn attempts(&self) -> impl Iterator<Item = (String, &AttemptBudget)> {
        let tasks = self.tasks.iter();
        let tasks = tasks.map(|(key, budget)| (format!("budget.tasks.{key}"), budget));
        std::iter::once(("budget.attempt".to_owned(), &self.attempt)).chain(tasks)
    }

    pub(super) fn check(&self, spec: &Spec) -> Result<()> {
        let day = self.cpu_seconds_per_day.map_or(1, i64::from);
        within("budget.cpu_seconds_per_day", day, 1, i64::from(u32::MAX))?;
        if self.action.is_some() && self.cpu_seconds_per_day.is_none() {
            return Err(Error::invalid(format!(
                "Field '{OWN_FIELD}.budget.action' needs '{OWN_FIELD}.budget.cpu_seconds_per_day'."
            )));
        }
        let known = |key: &String| spec.tasks.iter().any(|task| task.task_key == *key);
        if let Some(key) = self.tasks.keys().find(|key| !known(key)) {
            return Err(Error::invalid(format!(
                "Field '{OWN_FIELD}.budget.tasks.{key}': there is no task '{key}'."
            )));
        }
        for (place, budget) in self.attempts() {
            for (name, value) in budget.fields() {
                let least = if name == "memory_mib" {
                    MEMORY_MIB_MIN
                } else {
                    1
                };
                let value = value.map_or(least, i64::from);
                within(
                    &format!("{place}.{name}"),
                    value,
                    least,
                    i64::from(i32::MAX),
                )?;
            }
        }
        Ok(())
    }

    /// # Errors
    /// The first limit that is above what the workspace allows.
    pub(super) fn check_ceiling(&self, ceiling: &AttemptBudget) -> Result<()> {
        let mut above = self
            .attempts()
            .filter_map(|(place, budget)| Some((place, budget.above(ceiling)?)));
        match above.next() {
            None => Ok(()),
            Some((place, (name, value, most))) => Err(Error::invalid(format!(
                "Field '{OWN_FIELD}.{place}.{name}' is {value}; this workspace allows {most} at most."
            ))),
        }
    }
}

/// With less an interpreter cannot begin.
const MEMORY_MIB_MIN: i64 = 64;

/// The operator's words, in which 0 is no limit.
pub(crate) fn of_config(limits: &AttemptLimits) -> AttemptBudget {
    let given = |value: u32| Some(value).filter(|value| *value > 0);
    AttemptBudget {
        cpu_seconds: given(limits.cpu_seconds),
        memory_mib: given(limits.memory_mib),
        wall_seconds: given(limits.wall_seconds),
    }
}
