//! The words of a notification, in the form of each kind of receiver.

use forebay_engine::Moment;
use forebay_store::Notification;
use serde_json::{Value, json};

use super::destination::Config;

/// What a message is about, from the row of the outbox.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) notification: &'a Notification,
    pub(super) workspace_id: i64,
    /// The page of the run.
    pub(super) url: String,
}

impl Message<'_> {
    fn fact(&self, name: &str) -> Option<&str> {
        self.notification.facts[name]
            .as_str()
            .filter(|text| !text.is_empty())
    }

    fn run_name(&self) -> &str {
        self.fact("run_name").unwrap_or("a run")
    }

    /// One line: `Task train of the run nightly failed`.
    pub(super) fn title(&self) -> String {
        let what = match self.fact("task_key") {
            Some(key) => format!("Task {key} of the run {}", self.run_name()),
            None => format!("The run {}", self.run_name()),
        };
        let how = match (self.notification.moment, self.fact("verdict")) {
            (Moment::Start, _) => "started",
            (Moment::Success, _) => "succeeded",
            (Moment::Slow, _) => "takes longer than it should",
            (Moment::Failure, Some("canceled")) => "was canceled",
            (Moment::Failure, Some("timed_out")) => "exceeded its time limit",
            (Moment::Failure, Some("skipped")) => "was skipped",
            (Moment::Failure, _) => "failed",
        };
        format!("{what} {how}")
    }

    /// Title, the run's own words and the address of its page.
    pub(super) fn text(&self) -> String {
        let mut text = self.title();
        if let Some(message) = self.fact("message") {
            text.push('\n');
            text.push_str(message);
        }
        format!("{text}\n{}", self.url)
    }

    /// The body for a receiver of this kind. The same at each try, so that a receiver can tell a
    /// repetition.
    pub(super) fn body(&self, config: &Config) -> Value {
        match config {
            Config::Slack { .. } => json!({"text": self.text()}),
            Config::MicrosoftTeams { .. } => json!({
                "@type": "MessageCard",
                "@context": "https://schema.org/extensions",
                "summary": self.title(),
                "title": self.title(),
                "text": self.text(),
            }),
            Config::Pagerduty { integration_key } => self.pagerduty(integration_key),
            Config::GenericWebhook { .. } | Config::Email { .. } => self.generic(),
        }
    }

    /// As Databricks' generic webhook: ids are numbers in text, and all events are of `jobs`.
    fn generic(&self) -> Value {
        let Notification {
            run_id,
            attempt_id,
            moment,
            facts,
            ..
        } = self.notification;
        let job = facts["job_id"].as_i64().unwrap_or(run_id.0);
        let mut body = json!({
            "event_type": format!("jobs.{}", moment.as_str()),
            "workspace_id": self.workspace_id.to_string(),
            "run": {"run_id": run_id.to_string()},
            "job": {"job_id": job.to_string(), "name": self.run_name()},
        });
        if let Some(key) = self.fact("task_key") {
            body["task"] = json!({"task_key": key});
        }
        // Beyond what Databricks sends: enough to act on without asking back.
        body["forebay"] = json!({
            "verdict": facts["verdict"],
            "message": facts["message"],
            "run_page_url": self.url,
            "task_run_id": attempt_id.map(|id| id.to_string()),
            "at": self.notification.created_at,
        });
        body
    }

    fn pagerduty(&self, key: &str) -> Value {
        let severity = match self.notification.moment {
            Moment::Failure => "error",
            Moment::Slow => "warning",
            Moment::Start | Moment::Success => "info",
        };
        json!({
            "routing_key": key,
            "event_action": "trigger",
            "dedup_key": self.notification.id,
            "payload": {
                "summary": self.title(),
                "source": format!("forebay workspace {}", self.workspace_id),
                "severity": severity,
                "custom_details": self.generic(),
            },
            "links": [{"href": self.url, "text": "the run"}],
        })
    }
}
