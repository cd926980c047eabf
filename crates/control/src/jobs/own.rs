//! The settings of a job that no Databricks client knows: the object `forebay` of its document.
//!
//! One struct, one field per setting, each checked in [`Own::check`]. A key that is not here is
//! refused by its name, because a setting without effect would look like one that has it.

pub use forebay_engine::Missed;
use forebay_engine::admission::PRIORITY_MAX;
use forebay_types::{Error, JobId, Result, RunId};
use serde::Deserialize;

use super::budget::Budget;
use super::spec::Spec;
use super::when::Pause;

/// Where these settings stand in the document.
pub const OWN_FIELD: &str = "forebay";

const TOPIC_CHARS_MAX: usize = 200;
/// A week: what waits longer is not a debounce but a schedule.
const DELAY_MS_MAX: i64 = 7 * 24 * 3_600_000;

/// `{"forebay": {"missed": "last", "after_job": {...}, ...}}`; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Own {
    /// What becomes of firings that came due while the server was down.
    pub missed: Missed,
    pub after_job: Option<AfterJob>,
    pub on_event: Option<OnEvent>,
    pub brake: Option<Brake>,
    pub debounce: Option<Debounce>,
    pub file_arrival: FileArrivalOwn,
    /// How long the runs of the job stay, where it differs from the workspace.
    pub retention: Option<Retention>,
    /// What the runs of the job may use.
    pub budget: Option<Budget>,
    /// What the programs of its runs begin their random numbers with; else each run has its own.
    pub seed: Option<u32>,
    /// Of the server's own making: the run that is done again.
    pub repeat: Option<RunId>,
    /// Runs of the same key share a cap and slots, whatever their job; may have references such as
    /// `{{job.parameters.customer}}`.
    pub key: Option<String>,
    /// Runs of the key that may be active at once.
    pub key_max: Option<u32>,
    /// A step is worth a minute of waiting.
    pub priority: i64,
    /// Share of the workspace's slots in relation to other keys, jobs and users.
    pub weight: Option<u32>,
    /// Runs of the job, or of the key, that may wait.
    pub queue_max: Option<u32>,
    /// A run whose key has a run of this job that has not started becomes one with that run.
    pub coalesce: bool,
}

/// A run starts when a run of another job has ended.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AfterJob {
    pub job_id: JobId,
    #[serde(default)]
    pub on: After,
    #[serde(default)]
    pub pause_status: Pause,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    #[default]
    Success,
    Failure,
    Any,
}

/// A run starts for each event of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnEvent {
    pub topic: String,
    /// The job parameter that gets the event's body as JSON.
    #[serde(default = "event_parameter")]
    pub parameter: String,
    /// The job parameter that gets the event's key.
    pub key_parameter: Option<String>,
    #[serde(default)]
    pub pause_status: Pause,
}

fn event_parameter() -> String {
    "event".to_owned()
}

/// What a file arrival trigger does beside what Databricks clients can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileArrivalOwn {
    /// The job parameter that gets the paths of the new files as a JSON list.
    pub parameter: Option<String>,
    /// Allows the two waits to be under 60 s.
    pub short_waits: bool,
}

/// How long the runs of a job stay. What is left out is as in the workspace, 0 is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    pub days: Option<u32>,
    /// Ended runs that stay, the newest ones.
    pub runs: Option<u32>,
    pub output_days: Option<u32>,
}

/// A trigger that makes more than `runs` runs within `minutes` is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brake {
    pub runs: u32,
    pub minutes: u32,
}

/// Events of one key that come close together make one run, which gets all of them as a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debounce {
    /// The run waits until no event came for this long.
    pub delay_ms: i64,
    /// It waits no longer than this after the first event.
    #[serde(default)]
    pub max_delay_ms: Option<i64>,
    /// It waits for no more events than this.
    #[serde(default)]
    pub max_events: Option<u32>,
}

impl Own {
    /// # Errors
    /// The first setting that is wrong, by its name.
    pub(super) fn check(&self, spec: &Spec) -> Result<()> {
        if let Some(event) = &self.on_event {
            check_topic("forebay.on_event.topic", &event.topic)?;
        }
        if let Some(budget) = &self.budget {
            budget.check(spec)?;
        }
        self.check_standing()?;
        if let Some(seed) = self.seed {
            within("seed", i64::from(seed), 0, i64::from(i32::MAX))?;
        }
        if let Some(brake) = self.brake {
            within("brake.runs", i64::from(brake.runs), 1, 1_000_000)?;
            within("brake.minutes", i64::from(brake.minutes), 1, 7 * 24 * 60)?;
        }
        if let Some(debounce) = self.debounce {
            within("debounce.delay_ms", debounce.delay_ms, 0, DELAY_MS_MAX)?;
            if let Some(max) = debounce.max_delay_ms {
                within(
                    "debounce.max_delay_ms",
                    max,
                    debounce.delay_ms,
                    DELAY_MS_MAX,
                )?;
            }
            if let Some(max) = debounce.max_events {
                within("debounce.max_events", i64::from(max), 1, 1000)?;
            }
            if self.on_event.is_none() {
                return Err(Error::invalid(
                    "Field 'forebay.debounce' needs 'forebay.on_event': only events are gathered.",
                ));
            }
        }
        Ok(())
    }

    fn check_standing(&self) -> Result<()> {
        let needs_key = [
            ("key_max", self.key_max.is_some()),
            ("coalesce", self.coalesce),
        ];
        if let Some((field, _)) = needs_key.into_iter().find(|(_, given)| *given)
            && self.key.is_none()
        {
            return Err(Error::invalid(format!(
                "Field 'forebay.{field}' needs 'forebay.key'."
            )));
        }
        if self.key.as_ref().is_some_and(|key| key.trim().is_empty()) {
            return Err(Error::invalid("Field 'forebay.key' is empty."));
        }
        within("priority", self.priority, -PRIORITY_MAX, PRIORITY_MAX)?;
        let whole = [
            ("key_max", self.key_max, 1000),
            ("weight", self.weight, 1000),
            ("queue_max", self.queue_max, 1_000_000),
        ];
        for (field, value, max) in whole {
            within(field, value.map_or(1, i64::from), 1, max)?;
        }
        Ok(())
    }

    fn has_day_budget(&self) -> bool {
        let budget = self.budget.as_ref();
        budget.is_some_and(|budget| budget.cpu_seconds_per_day.is_some())
    }

    /// A one-time run has no trigger, so settings of one would do nothing.
    ///
    /// # Errors
    /// The first setting that only a job can have.
    pub(crate) fn check_one_time(&self) -> Result<()> {
        let given = [
            ("after_job", self.after_job.is_some()),
            ("on_event", self.on_event.is_some()),
            ("brake", self.brake.is_some()),
            (
                "file_arrival",
                self.file_arrival != FileArrivalOwn::default(),
            ),
            ("retention", self.retention.is_some()),
            ("budget.cpu_seconds_per_day", self.has_day_budget()),
            ("debounce", self.debounce.is_some()),
            ("missed", self.missed != Missed::default()),
            (
                "file_arrival",
                self.file_arrival != FileArrivalOwn::default(),
            ),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((field, _)) => Err(Error::invalid(format!(
                "Field 'forebay.{field}' is for jobs; a one-time run has none."
            ))),
        }
    }
}

/// # Errors
/// When `topic` cannot be one, with the name of the field.
pub(crate) fn check_topic(field: &str, topic: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !(1..=TOPIC_CHARS_MAX).contains(&topic.len()) || !topic.chars().all(plain) {
        return Err(Error::invalid(format!(
            "Field '{field}' is '{topic}'; 1 to {TOPIC_CHARS_MAX} letters, digits, '_', '-' and \
             '.' are allowed."
        )));
    }
    Ok(())
}

pub(super) fn within(field: &str, value: i64, min: i64, max: i64) -> Result<()> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Field 'forebay.{field}' is {value}; {min} to {max} is allowed."
    )))
}
