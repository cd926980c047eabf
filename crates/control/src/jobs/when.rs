//! When a job runs by itself, as Databricks clients say it: `schedule`, `trigger`, `continuous`.

use forebay_engine::{ArrivalPolicy, Cron, Timer, Zone};
use forebay_types::{DbfsPath, Error, Millis, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::JobDocument;
use super::own::FileArrivalOwn;
use super::spec::Spec;

/// The shortest period of a schedule.
const PERIOD_SECONDS_MIN: u32 = 10;
/// The shortest wait that clients may ask of a file arrival trigger.
const WAIT_SECONDS_MIN: i64 = 60;
const WAIT_SECONDS_MAX: i64 = 7 * 24 * 3600;
const INTERVAL_MAX: i64 = 10_000;
/// Retries of a task of a continuous job that retries on failure.
const RETRIES: u32 = 3;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Pause {
    #[default]
    Unpaused,
    Paused,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ScheduleSpec {
    pub quartz_cron_expression: String,
    pub timezone_id: String,
    #[serde(default)]
    pub pause_status: Pause,
}

/// Exactly one of the kinds is given.
#[derive(Debug, Clone, Deserialize)]
pub struct TriggerSpec {
    #[serde(default)]
    pub pause_status: Pause,
    pub periodic: Option<PeriodicSpec>,
    pub file_arrival: Option<FileArrivalSpec>,
    pub table_update: Option<Value>,
    pub table: Option<Value>,
    pub model: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct PeriodicSpec {
    pub interval: i64,
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Unit {
    Minutes,
    Hours,
    Days,
    Weeks,
}

#[derive(Debug, Clone, Deserialize)]
pub struct FileArrivalSpec {
    pub url: String,
    pub min_time_between_triggers_seconds: Option<i64>,
    pub wait_after_last_change_seconds: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ContinuousSpec {
    #[serde(default)]
    pub pause_status: Pause,
    #[serde(default)]
    pub task_retry_mode: TaskRetryMode,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskRetryMode {
    #[default]
    Never,
    OnFailure,
}

impl ScheduleSpec {
    /// # Errors
    /// What is wrong with the expression or the zone, by field.
    pub fn timer(&self) -> Result<Timer> {
        let cron = Cron::parse(&self.quartz_cron_expression).map_err(|e| {
            Error::invalid(format!("Field 'schedule.quartz_cron_expression': {e}."))
        })?;
        let zone = Zone::find(&self.timezone_id)
            .map_err(|e| Error::invalid(format!("Field 'schedule.timezone_id': {e}.")))?;
        let period = cron.shortest_period_seconds();
        if period < PERIOD_SECONDS_MIN {
            return Err(Error::invalid(format!(
                "Field 'schedule.quartz_cron_expression' fires after {period} s; \
                 {PERIOD_SECONDS_MIN} s is the shortest period."
            )));
        }
        Ok(Timer::Cron(Box::new(cron), zone))
    }
}

impl PeriodicSpec {
    #[must_use]
    pub fn timer(&self, anchor: Millis) -> Timer {
        let unit_ms = match self.unit {
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
            Unit::Days => 24 * 3_600_000,
            Unit::Weeks => 7 * 24 * 3_600_000,
        };
        Timer::Every {
            period_ms: self.interval * unit_ms,
            anchor,
        }
    }
}

impl FileArrivalSpec {
    /// The folder that is looked at.
    ///
    /// # Errors
    /// When the address is not one of this workspace's file system.
    pub fn folder(&self) -> Result<DbfsPath> {
        let wrong =
            |reason: String| Error::invalid(format!("Field 'trigger.file_arrival.url': {reason}"));
        if !self.url.starts_with("dbfs:/") && !self.url.starts_with('/') {
            return Err(wrong(format!(
                "'{}' is not dbfs:/..., /Volumes/... or the path of a mount.",
                self.url
            )));
        }
        DbfsPath::parse(&self.url).map_err(|e| wrong(e.to_string()))
    }

    #[must_use]
    pub fn policy(&self) -> ArrivalPolicy {
        let ms = |seconds: Option<i64>| seconds.unwrap_or(0) * 1000;
        ArrivalPolicy {
            between_ms: ms(self.min_time_between_triggers_seconds),
            quiet_ms: ms(self.wait_after_last_change_seconds),
        }
    }
}

/// What a run of a job that retries on failure runs: its tasks that say nothing of retries have
/// some, so that one that fails does not end the others' work at once. A single task is begun anew
/// with its run.
///
/// # Errors
/// When the document is not one of ours.
pub(crate) fn with_retries(document: JobDocument) -> Result<JobDocument> {
    let continuous = document.spec.continuous.as_ref();
    if continuous.map(|wanted| wanted.task_retry_mode) != Some(TaskRetryMode::OnFailure) {
        return Ok(document);
    }
    let mut settings = document.settings;
    if let Some(Value::Array(tasks)) = settings.get_mut("tasks")
        && tasks.len() > 1
    {
        for task in tasks.iter_mut().filter_map(Value::as_object_mut) {
            task.entry("max_retries").or_insert(json!(RETRIES));
        }
    }
    JobDocument::of_normal(settings)
}

/// # Errors
/// The first thing that is wrong, by field.
pub(super) fn check(spec: &Spec) -> Result<()> {
    let given = [
        ("schedule", spec.schedule.is_some()),
        ("trigger", spec.trigger.is_some()),
        ("continuous", spec.continuous.is_some()),
    ];
    let given: Vec<&str> = given
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect();
    if let [first, second, ..] = given[..] {
        return Err(Error::invalid(format!(
            "Fields '{first}' and '{second}' exclude each other."
        )));
    }
    if let Some(schedule) = &spec.schedule {
        schedule.timer()?;
    }
    if let Some(trigger) = &spec.trigger {
        check_trigger(trigger, spec.own.file_arrival.short_waits)?;
    }
    if spec.continuous.is_some() && spec.max_concurrent_runs.is_some_and(|max| max != 1) {
        return Err(Error::invalid(
            "Field 'max_concurrent_runs' must be 1 for a continuous job.",
        ));
    }
    Ok(())
}

/// Of what a caller gave, not of what is stored: a client that takes a trigger away may not know
/// that there are settings of it.
///
/// # Errors
/// When the settings say something of a trigger that the job does not have.
pub(super) fn check_given(spec: &Spec) -> Result<()> {
    let own = &spec.own;
    let arrives = spec.trigger.as_ref();
    let arrives = arrives.is_some_and(|trigger| trigger.file_arrival.is_some());
    if !arrives && own.file_arrival != FileArrivalOwn::default() {
        return Err(Error::invalid(
            "Field 'forebay.file_arrival' needs 'trigger.file_arrival': without it no file is \
             looked for.",
        ));
    }
    let fires = spec.schedule.is_some() || spec.trigger.is_some() || spec.continuous.is_some();
    if own.brake.is_some() && !fires && own.after_job.is_none() && own.on_event.is_none() {
        return Err(Error::invalid(
            "Field 'forebay.brake' needs a trigger: 'schedule', 'trigger', 'continuous', \
             'forebay.after_job' or 'forebay.on_event'.",
        ));
    }
    Ok(())
}

/// # Errors
/// When the settings say when a job runs: a one-time run starts at once.
pub(crate) fn check_one_time(spec: &Spec) -> Result<()> {
    let given = [
        ("schedule", spec.schedule.is_some()),
        ("trigger", spec.trigger.is_some()),
        ("continuous", spec.continuous.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        None => spec.own.check_one_time(),
        Some((field, _)) => Err(Error::invalid(format!(
            "Field '{field}' is for jobs; a one-time run starts at once."
        ))),
    }
}

fn check_trigger(trigger: &TriggerSpec, short_waits: bool) -> Result<()> {
    let unknown = [
        ("table_update", &trigger.table_update),
        ("table", &trigger.table),
        ("model", &trigger.model),
    ];
    if let Some((field, _)) = unknown.into_iter().find(|(_, value)| value.is_some()) {
        return Err(Error::not_implemented(format!(
            "Field 'trigger.{field}' of a job"
        )));
    }
    match (&trigger.periodic, &trigger.file_arrival) {
        (Some(periodic), None) if (1..=INTERVAL_MAX).contains(&periodic.interval) => Ok(()),
        (Some(periodic), None) => Err(Error::invalid(format!(
            "Field 'trigger.periodic.interval' is {}; 1 to {INTERVAL_MAX} is allowed.",
            periodic.interval
        ))),
        (None, Some(arrival)) => check_arrival(arrival, short_waits),
        _ => Err(Error::invalid(
            "Field 'trigger' has exactly one of periodic, file_arrival, table_update, model.",
        )),
    }
}

fn check_arrival(arrival: &FileArrivalSpec, short_waits: bool) -> Result<()> {
    arrival.folder()?;
    let min = if short_waits { 0 } else { WAIT_SECONDS_MIN };
    let waits = [
        (
            "min_time_between_triggers_seconds",
            arrival.min_time_between_triggers_seconds,
        ),
        (
            "wait_after_last_change_seconds",
            arrival.wait_after_last_change_seconds,
        ),
    ];
    for (field, value) in waits {
        // Clients send 0 for "not set".
        let Some(value) = value.filter(|value| *value != 0) else {
            continue;
        };
        if !(min..=WAIT_SECONDS_MAX).contains(&value) {
            return Err(Error::invalid(format!(
                "Field 'trigger.file_arrival.{field}' is {value}; {min} to {WAIT_SECONDS_MAX} is \
                 allowed."
            )));
        }
    }
    Ok(())
}
