//! Two accounts of one run side by side.

use std::fmt::Display;

use forebay_types::Millis;

use super::{AttemptFacts, RunFacts};
use crate::run::{Phase, StopReason};

impl RunFacts {
    /// What `rows` say otherwise than `self`, the state from the history: one line for each
    /// difference, in words.
    #[must_use]
    pub fn differences(&self, rows: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |what: &str, rows: String, history: String| {
            if rows != history {
                found.push(format!(
                    "{what}: the rows say {rows}, the history {history}"
                ));
            }
        };
        differ("its state", phase(rows.phase), phase(self.phase));
        differ(
            "a wish to stop it",
            stop(rows.stopping),
            stop(self.stopping),
        );
        differ("its start", time(rows.started_at), time(self.started_at));
        differ("its end", time(rows.ended_at), time(self.ended_at));
        for (key, history) in &self.attempts {
            let Some(row) = rows.attempts.get(key) else {
                let (task, attempt) = key;
                differ(
                    &format!("attempt {attempt} of task {task}"),
                    "nothing".to_owned(),
                    phase(history.phase),
                );
                continue;
            };
            attempt_differences(row, history, &mut differ);
        }
        for (key, row) in &rows.attempts {
            if !self.attempts.contains_key(key) {
                let what = format!("attempt {}", row.id);
                differ(&what, phase(row.phase), "nothing".to_owned());
            }
        }
        found
    }
}

fn attempt_differences(
    row: &AttemptFacts,
    history: &AttemptFacts,
    differ: &mut impl FnMut(&str, String, String),
) {
    let name = format!("attempt {}", row.id);
    differ(
        &name,
        format!("id {}", row.id),
        format!("id {}", history.id),
    );
    differ(&name, phase(row.phase), phase(history.phase));
    if history.code.is_some() {
        let code = |code: &Option<String>| code.clone().unwrap_or_else(|| "no code".to_owned());
        differ(&name, code(&row.code), code(&history.code));
    }
    let times = [
        ("due", row.due_at, history.due_at),
        ("slot", row.started_at, history.started_at),
        ("program's start", row.executed_at, history.executed_at),
        ("end", row.ended_at, history.ended_at),
    ];
    for (what, row, history) in times {
        differ(&format!("{name}, {what}"), time(row), time(history));
    }
}

fn phase(phase: Phase) -> String {
    match phase.verdict() {
        Some(verdict) => format!("ended as {}", verdict.as_str()),
        None => phase.as_str().to_owned(),
    }
}

fn stop(reason: Option<StopReason>) -> String {
    match reason {
        None => "none".to_owned(),
        Some(StopReason::Canceled) => "canceled".to_owned(),
        Some(StopReason::TimedOut) => "timed out".to_owned(),
    }
}

fn time(at: Option<Millis>) -> String {
    let shown: Option<&dyn Display> = at.as_ref().map(|at| &at.0 as &dyn Display);
    shown.map_or_else(|| "never".to_owned(), ToString::to_string)
}
