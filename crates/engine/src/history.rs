//! The history of a run: what is written down each time something happens to it, and the state
//! that follows from it alone.
//!
//! A record tells what came of an event, not only the event: so an old history still gives the
//! state it led to when the rules of [`crate::Run::advance`] have changed since. It holds what
//! decides (phases, verdicts, codes, times, ids); the words for people stand in the rows only.

use std::collections::BTreeMap;
use std::fmt;

use forebay_types::Millis;
use serde::{Deserialize, Serialize};

use crate::run::{Effect, Event, Phase, StopReason};
use crate::verdict::Verdict;

mod compare;

/// The form of records; raised when a field is added.
const VERSION: u64 = 2;

/// One thing that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The run and the first attempt of each task. The plan itself is the run's settings, which
    /// only a repair changes, and never their tasks or order.
    Created {
        kind: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<i64>,
        tasks: Vec<String>,
        /// The id of each first attempt, in the order of the tasks.
        ids: Vec<i64>,
    },
    /// The run waits because its job or its key has as many runs as it may have.
    Queued,
    /// No attempt of the run starts before this time.
    Held {
        until: Millis,
        /// Whether the time of the run begins with its first slot; that of older ones began when
        /// they were admitted.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unstarted: bool,
    },
    /// Another run was asked for, and this one, which has not started, stands for it as well.
    Coalesced {
        by: String,
        /// What that run would have been given.
        parameters: serde_json::Value,
    },
    /// Nothing of the run starts: it ended before its first task.
    Refused { verdict: Verdict, code: String },
    /// An event went through the engine.
    Advanced {
        event: Event,
        effects: Vec<Effect>,
        /// Why an attempt ended, in the API's words; set when the event is that end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// The phase of the run, where it moved without ending.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<Phase>,
        /// The ids of the attempts that the effects made, in their order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ids: Vec<i64>,
    },
    /// An attempt got its slot.
    Claimed { task: usize, attempt: u32 },
    /// The program of an attempt began.
    Executing { task: usize, attempt: u32 },
    /// The run's definition cannot be read any more, so everything open was ended.
    Abandoned,
}

/// Why a stored record is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordError {
    /// Written before records told everything.
    Old,
    Newer(u64),
    Broken(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old => write!(f, "written before records told everything"),
            Self::Newer(version) => {
                write!(f, "has version {version}, this program knows {VERSION}")
            }
            Self::Broken(reason) => write!(f, "cannot be read: {reason}"),
        }
    }
}

impl std::error::Error for RecordError {}

impl Record {
    /// The stored form: `[version, record]` as JSON.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(&(VERSION, self)).unwrap_or_default()
    }

    /// Reads the stored form back.
    ///
    /// # Errors
    /// When it is of another version, or not what this program writes.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let broken = |e: serde_json::Error| RecordError::Broken(e.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(broken)?;
        let Some(version) = value.get(0).and_then(serde_json::Value::as_u64) else {
            return Err(if value.is_object() {
                RecordError::Old
            } else {
                RecordError::Broken("it has no version".to_owned())
            });
        };
        if version > VERSION {
            return Err(RecordError::Newer(version));
        }
        serde_json::from_value::<(u64, Self)>(value)
            .map(|(_, record)| record)
            .map_err(broken)
    }
}

/// What is known of a run: from its rows, or from its history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    pub phase: Phase,
    pub stopping: Option<StopReason>,
    pub started_at: Option<Millis>,
    pub ended_at: Option<Millis>,
    /// By task and number of the attempt.
    pub attempts: BTreeMap<(usize, u32), AttemptFacts>,
}

/// What is known of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFacts {
    pub id: i64,
    pub phase: Phase,
    /// `None` where it follows from the verdict.
    pub code: Option<String>,
    pub due_at: Option<Millis>,
    pub started_at: Option<Millis>,
    pub executed_at: Option<Millis>,
    pub ended_at: Option<Millis>,
}

impl AttemptFacts {
    fn new(id: i64, phase: Phase) -> Self {
        Self {
            id,
            phase,
            code: None,
            due_at: None,
            started_at: None,
            executed_at: None,
            ended_at: None,
        }
    }

    fn end(&mut self, verdict: Verdict, code: Option<&str>, at: Millis) {
        if !self.phase.is_ended() {
            self.phase = Phase::Ended(verdict);
            self.code = code.map(str::to_owned);
            self.ended_at = Some(at);
        }
    }
}

/// The state that a history leads to.
///
/// # Errors
/// In words, when the records do not follow from each other.
pub fn rebuild(history: &[(Millis, Record)]) -> Result<RunFacts, String> {
    let Some(((_, Record::Created { ids, .. }), rest)) = history.split_first() else {
        return Err("its history does not begin with its creation".to_owned());
    };
    let mut run = RunFacts {
        phase: Phase::Pending,
        stopping: None,
        started_at: None,
        ended_at: None,
        attempts: ids
            .iter()
            .enumerate()
            .map(|(task, id)| ((task, 0), AttemptFacts::new(*id, Phase::Blocked)))
            .collect(),
    };
    let held = |(_, record): &(Millis, Record)| matches!(record, Record::Held { unstarted, .. } if *unstarted);
    let held = rest.iter().any(held);
    for (at, record) in rest {
        run.take(record, *at, held)?;
    }
    Ok(run)
}

impl RunFacts {
    /// `held`: being admitted does not yet start the run.
    fn take(&mut self, record: &Record, at: Millis, held: bool) -> Result<(), String> {
        match record {
            Record::Created { .. } => return Err("it was created twice".to_owned()),
            Record::Queued => self.phase = Phase::Queued,
            Record::Held { until, .. } => {
                for attempt in self.attempts.values_mut() {
                    attempt.due_at = Some(*until);
                }
            }
            Record::Coalesced { .. } => {}
            Record::Refused { verdict, code } => {
                self.started_at = Some(at);
                self.end_all(*verdict, Some(code), at);
            }
            Record::Advanced {
                event,
                effects,
                code,
                phase,
                ids,
            } => {
                self.event(event, code.as_deref(), at)?;
                let mut ids = ids.iter().copied();
                for effect in effects {
                    self.effect(*effect, &mut ids, at)?;
                }
                if let Some(phase) = phase {
                    self.phase = *phase;
                    if *phase == Phase::Running && !held {
                        self.started_at.get_or_insert(at);
                    }
                }
            }
            Record::Claimed { task, attempt } => {
                let attempt = self.attempt(*task, *attempt)?;
                attempt.phase = Phase::Running;
                attempt.started_at = Some(at);
                self.started_at.get_or_insert(at);
            }
            Record::Executing { task, attempt } => {
                self.attempt(*task, *attempt)?.executed_at = Some(at);
            }
            Record::Abandoned => self.end_all(Verdict::InternalError, None, at),
        }
        Ok(())
    }

    fn attempt(&mut self, task: usize, attempt: u32) -> Result<&mut AttemptFacts, String> {
        self.attempts
            .get_mut(&(task, attempt))
            .ok_or_else(|| format!("attempt {attempt} of task {task} was never made"))
    }

    fn event(&mut self, event: &Event, code: Option<&str>, at: Millis) -> Result<(), String> {
        match event {
            Event::Admitted | Event::TaskStopRequested { .. } => {}
            Event::AttemptEnded {
                task,
                attempt,
                verdict,
                ..
            } => self.attempt(*task, *attempt)?.end(*verdict, code, at),
            Event::StopRequested(reason) => {
                self.stopping.get_or_insert(*reason);
            }
            Event::Repair { .. } => {
                self.stopping = None;
                self.ended_at = None;
            }
        }
        Ok(())
    }

    fn effect(
        &mut self,
        effect: Effect,
        ids: &mut impl Iterator<Item = i64>,
        at: Millis,
    ) -> Result<(), String> {
        match effect {
            Effect::Start { task, attempt } => {
                self.start((task, attempt), (Phase::Pending, None), ids)?;
            }
            Effect::StartAt { task, attempt, due } => {
                let waiting = (Phase::WaitingForRetry, Some(due));
                self.start((task, attempt), waiting, ids)?;
            }
            Effect::Reopen { task, attempt } => {
                self.start((task, attempt), (Phase::Blocked, None), ids)?;
            }
            Effect::Stop { task, attempt, .. } => {
                self.attempt(task, attempt)?.phase = Phase::Terminating;
            }
            Effect::Close { task, verdict } => {
                let attempts = self.attempts.range_mut((task, 0)..=(task, u32::MAX));
                for (_, attempt) in attempts {
                    attempt.end(verdict, None, at);
                }
            }
            Effect::Finish(verdict) => {
                self.phase = Phase::Ended(verdict);
                self.ended_at = Some(at);
            }
        }
        Ok(())
    }

    fn start(
        &mut self,
        (task, attempt): (usize, u32),
        (phase, due): (Phase, Option<Millis>),
        ids: &mut impl Iterator<Item = i64>,
    ) -> Result<(), String> {
        if let Some(known) = self.attempts.get_mut(&(task, attempt)) {
            known.phase = phase;
            return Ok(());
        }
        let id = ids
            .next()
            .ok_or_else(|| format!("attempt {attempt} of task {task} has no id"))?;
        let mut new = AttemptFacts::new(id, phase);
        new.due_at = due;
        self.attempts.insert((task, attempt), new);
        Ok(())
    }

    fn end_all(&mut self, verdict: Verdict, code: Option<&str>, at: Millis) {
        for attempt in self.attempts.values_mut() {
            attempt.end(verdict, code, at);
        }
        self.phase = Phase::Ended(verdict);
        self.ended_at = Some(at);
    }
}

#[cfg(test)]
mod tests;
