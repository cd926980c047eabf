//! Own calls around triggers: schedules, events, and what became of a job's triggers.

use serde::{Deserialize, Serialize};

use crate::endpoints::{
    Endpoint,
    Method::{Get, Post},
    works,
};

const TEST: &str = "crates/http/tests/it/triggers.rs";
const V: &[&str] = &["forebay/v1"];

pub const PREVIEW: &str = "/schedule/preview";
pub const OF_JOB: &str = "/jobs/{job_id}/trigger";
pub const EVENTS: &str = "/events/{topic}";

pub const ENDPOINTS: &[Endpoint] = &[
    works(Get, V, PREVIEW, TEST),
    works(Get, V, OF_JOB, TEST),
    works(Post, V, EVENTS, TEST),
];

#[derive(Debug, Deserialize)]
pub struct PreviewSchedule {
    /// Quartz cron.
    pub expression: String,
    /// `UTC` when absent.
    pub timezone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulePreview {
    /// The next ten; fewer when there are no more.
    pub firings: Vec<ScheduleFiring>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleFiring {
    /// Milliseconds since the epoch.
    pub time: i64,
    /// On the clocks of the zone, such as `2027-03-28T03:00:00+02:00`.
    pub local: String,
}

#[derive(Debug, Deserialize)]
pub struct SendEvent {
    pub key: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobTriggers {
    pub job_id: i64,
    /// Empty for a job that somebody has to start.
    pub triggers: Vec<JobTrigger>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobTrigger {
    /// `schedule`, `periodic`, `file_arrival`, `continuous`, `after_job` or `event`.
    pub kind: String,
    pub paused: bool,
    /// Why the storm brake paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_by_brake: Option<String>,
    /// Milliseconds since the epoch, as the times below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_firing: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_firing: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_id: Option<i64>,
    /// What keeps it from firing at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_known: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_waiting: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_waiting: Option<u32>,
}
