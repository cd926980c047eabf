//! Who is to hear of what happens to a run, by the settings of its job and of its tasks.

use forebay_types::Millis;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::verdict::Verdict;

/// What somebody can be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    Start,
    Success,
    Failure,
    /// It takes longer than its health rule says.
    Slow,
}

impl Moment {
    pub const ALL: [Self; 4] = [Self::Start, Self::Success, Self::Failure, Self::Slow];

    /// The name of the list of those who want to hear of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "on_start",
            Self::Success => "on_success",
            Self::Failure => "on_failure",
            Self::Slow => "on_duration_warning_threshold_exceeded",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|moment| moment.as_str() == text)
    }
}

/// Whom to tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Recipient {
    /// A notification destination, by its id.
    Destination(String),
    /// An e-mail address.
    Mail(String),
}

/// The fields of a job, or of a task, that are about being told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Alerts {
    webhook_notifications: Option<Lists<Webhook>>,
    email_notifications: Option<Lists<String>>,
    notification_settings: Option<Settings>,
    health: Option<Health>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Lists<T> {
    on_start: Option<Vec<T>>,
    on_success: Option<Vec<T>>,
    on_failure: Option<Vec<T>>,
    on_duration_warning_threshold_exceeded: Option<Vec<T>>,
    /// Of e-mail notifications only, where it was before there were settings of their own.
    no_alert_for_skipped_runs: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Webhook {
    id: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Settings {
    no_alert_for_skipped_runs: Option<bool>,
    no_alert_for_canceled_runs: Option<bool>,
    alert_on_last_attempt: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Health {
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Rule {
    metric: String,
    op: String,
    value: i64,
}

impl<T> Lists<T> {
    fn of(&self, moment: Moment) -> &[T] {
        let list = match moment {
            Moment::Start => &self.on_start,
            Moment::Success => &self.on_success,
            Moment::Failure => &self.on_failure,
            Moment::Slow => &self.on_duration_warning_threshold_exceeded,
        };
        list.as_deref().unwrap_or_default()
    }
}

impl Alerts {
    const FIELDS: [&'static str; 4] = [
        "webhook_notifications",
        "email_notifications",
        "notification_settings",
        "health",
    ];

    /// Reads the fields out of a job's or a task's settings.
    ///
    /// # Errors
    /// The field that has the wrong form, and how.
    pub fn parse(settings: &Map<String, Value>) -> Result<Self, String> {
        let mut alerts = Map::new();
        for field in Self::FIELDS {
            let Some(value) = settings.get(field) else {
                continue;
            };
            let one = Map::from_iter([(field.to_owned(), value.clone())]);
            serde_json::from_value::<Self>(Value::Object(one))
                .map_err(|e| format!("Field '{field}': {e}."))?;
            alerts.insert(field.to_owned(), value.clone());
        }
        serde_json::from_value(Value::Object(alerts)).map_err(|e| e.to_string())
    }

    /// Those who are told of a moment, each once.
    #[must_use]
    pub fn recipients(&self, moment: Moment) -> Vec<Recipient> {
        let webhooks = self.webhook_notifications.iter();
        let webhooks = webhooks.flat_map(|lists| lists.of(moment));
        let mails = self.email_notifications.iter();
        let mails = mails.flat_map(|lists| lists.of(moment));
        let mut all: Vec<_> = webhooks
            .map(|webhook| Recipient::Destination(webhook.id.clone()))
            .chain(mails.map(|address| Recipient::Mail(address.clone())))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Everybody who may ever be told.
    #[must_use]
    pub fn everybody(&self) -> Vec<Recipient> {
        let mut all: Vec<_> = Moment::ALL
            .into_iter()
            .flat_map(|moment| self.recipients(moment))
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// What the start of an attempt is worth telling.
    #[must_use]
    pub fn start(&self, attempt: u32) -> Option<Moment> {
        (attempt == 0 || !self.only_last_attempt()).then_some(Moment::Start)
    }

    /// What an end is worth telling; `is_last` is false for an attempt that is followed by another.
    #[must_use]
    pub fn end(&self, verdict: Verdict, is_last: bool) -> Option<Moment> {
        let settings = self.notification_settings.unwrap_or_default();
        let of_mail = self.email_notifications.as_ref();
        let no_skipped = settings
            .no_alert_for_skipped_runs
            .or_else(|| of_mail.and_then(|lists| lists.no_alert_for_skipped_runs))
            .unwrap_or(false);
        match verdict {
            Verdict::Succeeded | Verdict::SucceededWithFailures => Some(Moment::Success),
            Verdict::Excluded | Verdict::Disabled => None,
            Verdict::Skipped if no_skipped => None,
            Verdict::Canceled | Verdict::UpstreamCanceled
                if settings.no_alert_for_canceled_runs.unwrap_or(false) =>
            {
                None
            }
            _ if !is_last && self.only_last_attempt() => None,
            _ => Some(Moment::Failure),
        }
    }

    fn only_last_attempt(&self) -> bool {
        let settings = self.notification_settings.unwrap_or_default();
        settings.alert_on_last_attempt.unwrap_or(false)
    }

    /// How long it may take before it is slow.
    #[must_use]
    pub fn slow_after_ms(&self) -> Option<i64> {
        let rules = self
            .health
            .iter()
            .flat_map(|health| health.rules.iter().flatten());
        let limits = rules
            .filter(|rule| rule.metric == DURATION)
            .map(|rule| rule.value.saturating_mul(1000));
        limits.min()
    }

    /// # Errors
    /// A health rule that cannot be kept: its metric when that is the reason, and words.
    pub fn check_health(&self) -> Result<(), (Option<String>, String)> {
        for rule in self
            .health
            .iter()
            .flat_map(|health| health.rules.iter().flatten())
        {
            if rule.metric != DURATION {
                let message = format!("health.rules.metric {}", rule.metric);
                return Err((Some(rule.metric.clone()), message));
            }
            if rule.op != "GREATER_THAN" || rule.value < 1 {
                let message = format!(
                    "Field 'health.rules' has {} {} {}; GREATER_THAN and a positive number of \
                     seconds is allowed.",
                    rule.metric, rule.op, rule.value
                );
                return Err((None, message));
            }
        }
        Ok(())
    }
}

const DURATION: &str = "RUN_DURATION_SECONDS";

/// Tries of one delivery, the first included.
const TRIES_MAX: u32 = 8;

/// When a delivery that failed `tries` times is tried again; `None` when it is given up. All tries
/// together take about a day.
#[must_use]
pub fn next_try(tries: u32, now: Millis) -> Option<Millis> {
    const WAITS_S: [i64; TRIES_MAX as usize - 1] = [10, 60, 300, 1_800, 7_200, 21_600, 43_200];
    let wait = WAITS_S.get(usize::try_from(tries).ok()?.checked_sub(1)?)?;
    Some(now.plus_ms(wait * 1000))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alerts(settings: Value) -> Alerts {
        Alerts::parse(settings.as_object().unwrap()).unwrap()
    }

    #[test]
    fn each_moment_has_its_recipients_once() {
        let alerts = alerts(json!({
            "webhook_notifications": {"on_failure": [{"id": "w"}, {"id": "w"}], "on_start": null},
            "email_notifications": {"on_failure": ["a@b.c"], "on_success": ["d@e.f"]},
            "name": 7,
        }));
        let destination = Recipient::Destination("w".to_owned());
        let mail = Recipient::Mail("a@b.c".to_owned());
        assert_eq!(alerts.recipients(Moment::Failure), [destination, mail]);
        assert!(alerts.recipients(Moment::Start).is_empty());
        assert_eq!(alerts.everybody().len(), 3);
        let wrong = json!({"webhook_notifications": {"on_start": ["w"]}});
        let error = Alerts::parse(wrong.as_object().unwrap()).unwrap_err();
        assert!(error.contains("'webhook_notifications'"), "{error}");
    }

    #[test]
    fn ends_are_told_as_the_settings_say() {
        let all = Alerts::default();
        assert_eq!(all.end(Verdict::Succeeded, true), Some(Moment::Success));
        for bad in [
            Verdict::Failed,
            Verdict::TimedOut,
            Verdict::Canceled,
            Verdict::Skipped,
        ] {
            assert_eq!(all.end(bad, false), Some(Moment::Failure));
        }
        assert_eq!(all.end(Verdict::Excluded, true), None);
        let quiet = alerts(json!({"notification_settings": {
            "no_alert_for_canceled_runs": true,
            "no_alert_for_skipped_runs": true,
            "alert_on_last_attempt": true,
        }}));
        assert_eq!(quiet.end(Verdict::Canceled, true), None);
        assert_eq!(quiet.end(Verdict::Skipped, true), None);
        assert_eq!(quiet.end(Verdict::Failed, false), None);
        assert_eq!(quiet.end(Verdict::Failed, true), Some(Moment::Failure));
        assert_eq!(
            (quiet.start(0), quiet.start(1)),
            (Some(Moment::Start), None)
        );
    }

    #[test]
    fn health_rules_give_a_limit_or_are_refused() {
        let rule = |metric: &str, op: &str, value: i64| {
            alerts(json!({"health": {"rules": [{"metric": metric, "op": op, "value": value}]}}))
        };
        let good = rule(DURATION, "GREATER_THAN", 60);
        assert_eq!(good.slow_after_ms(), Some(60_000));
        assert_eq!(good.check_health(), Ok(()));
        let other = rule("STREAMING_BACKLOG_BYTES", "GREATER_THAN", 60);
        assert!(other.check_health().unwrap_err().0.is_some());
        assert!(rule(DURATION, "LESS_THAN", 60).check_health().is_err());
        assert!(rule(DURATION, "GREATER_THAN", 0).check_health().is_err());
    }

    #[test]
    fn tries_are_further_and_further_apart_and_end() {
        let mut last = 0;
        for tries in 1..TRIES_MAX {
            let wait = next_try(tries, Millis(0)).unwrap().0;
            assert!(wait > last);
            last = wait;
        }
        assert_eq!(next_try(TRIES_MAX, Millis(0)), None);
        assert_eq!(next_try(0, Millis(0)), None);
    }
}
