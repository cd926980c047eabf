//! One look at one trigger: what its kind says about the rows and the time, and what follows.

use forebay_engine::{DebouncePolicy, Next, Timer, Verdict, arrival, debounce, restart_delay_ms};
use forebay_store::{
    Consumed, EndedRun, Firing, Job, PendingEvent, Trigger, TriggerKind, TriggerNote,
};
use forebay_types::{Error, ErrorCode, Millis, Result};
use serde_json::{Map, Value, json};

use super::arrival::{changes, scan};
use super::{Fired, Triggers, trigger_info};
use crate::jobs::{After, Brake, JobDocument, OnEvent, with_retries};

/// What a job may do unless its settings say otherwise: more than that is a storm.
const BRAKE: Brake = Brake {
    runs: 1000,
    minutes: 10,
};
/// New files that a run is told by name.
const FILES_TOLD_MAX: usize = 1000;
/// Events that become one run, unless the settings say fewer.
const EVENTS_MAX: u32 = 100;

/// A trigger with the job it belongs to, as both are at this moment.
pub(super) struct Look {
    pub(super) job: Job,
    pub(super) document: JobDocument,
    pub(super) now: Millis,
}

impl Triggers {
    /// # Errors
    /// `INVALID_STATE` when the trigger has moved meanwhile; what keeps it from firing.
    pub(super) async fn look(&self, trigger: &Trigger, now: Millis) -> Result<()> {
        let job = self.0.store.job_get(trigger.job_id).await?;
        let document = JobDocument::of_normal(job.settings.clone())?;
        let look = Look { job, document, now };
        let Some(room) = self.room(trigger, &look).await? else {
            return Ok(());
        };
        match trigger.kind {
            TriggerKind::Schedule | TriggerKind::Periodic => self.timed(trigger, &look).await,
            TriggerKind::FileArrival => self.arrived(trigger, &look).await,
            TriggerKind::Continuous => self.continued(trigger, &look).await,
            TriggerKind::AfterJob => self.after(trigger.clone(), &look, room).await,
            TriggerKind::Event => self.events(trigger.clone(), &look, room).await,
        }
    }

    /// How many runs the trigger may still make for now. One whose job had as many by triggers as it
    /// may is paused, and makes none.
    async fn room(&self, trigger: &Trigger, look: &Look) -> Result<Option<usize>> {
        let brake = look.document.spec.own.brake.unwrap_or(BRAKE);
        let since = look.now.plus_ms(-i64::from(brake.minutes) * 60_000);
        // Firings before the trigger was unpaused are forgiven.
        let since = since.max(moment(trigger, "forgiven").unwrap_or(since));
        let store = &self.0.store;
        let fired = store.trigger_firings_since(trigger.job_id, since).await?;
        if fired < brake.runs {
            return Ok(Some((brake.runs - fired) as usize));
        }
        let message = format!(
            "Paused by the storm brake: it made {fired} of {} allowed runs within {} minutes. \
             To go on, unpause it: on its job's page, or by an update of the job.",
            brake.runs, brake.minutes
        );
        tracing::warn!(job.id = %trigger.job_id, "job {}: {message}", trigger.job_id);
        store.trigger_brake(trigger, message).await?;
        Ok(None)
    }

    async fn wait(&self, trigger: &Trigger, due_at: Option<Millis>) -> Result<()> {
        let note = TriggerNote {
            due_at,
            state: trigger.state.clone(),
            error: None,
        };
        self.0.store.trigger_note(trigger, note).await
    }

    async fn timed(&self, trigger: &Trigger, look: &Look) -> Result<()> {
        let Some(timer) = timer(trigger, look)? else {
            return self.wait(trigger, None).await;
        };
        let since = moment(trigger, "since").unwrap_or(look.now);
        let Some(due) = moment(trigger, "next").or_else(|| timer.next_after(since)) else {
            return self.wait(trigger, None).await;
        };
        let step = timer.step(due, look.now, look.document.spec.own.missed);
        let mut state = trigger.state.clone();
        state.insert("next".to_owned(), json!(step.next));
        let Some(at) = step.fire else {
            let note = TriggerNote {
                due_at: step.next,
                state,
                error: None,
            };
            return self.0.store.trigger_note(trigger, note).await;
        };
        let firing = Firing {
            due_at: step.next,
            state: state.clone(),
            ..Firing::of(trigger, at.0.to_string())
        };
        let fired = Fired {
            firing,
            trigger: "PERIODIC",
            info: trigger_info("periodic", at, json!({})),
            job_parameters: Map::new(),
        };
        match self.fire(look, fired).await {
            // The clock went back, and the schedule was made anew: this time had its run.
            Err(e) if e.code == ErrorCode::ResourceAlreadyExists => {
                let note = TriggerNote {
                    due_at: step.next,
                    state,
                    error: None,
                };
                self.0.store.trigger_note(trigger, note).await
            }
            made => made.map(drop),
        }
    }

    async fn arrived(&self, trigger: &Trigger, look: &Look) -> Result<()> {
        let wanted = look.document.spec.trigger.as_ref();
        let Some(wanted) = wanted.and_then(|trigger| trigger.file_arrival.as_ref()) else {
            return self.wait(trigger, None).await;
        };
        let poll = look.now.plus_ms(self.0.poll_ms);
        let folder = wanted.folder()?;
        let there = match scan(&self.0.dbfs, &folder, self.0.watch.files_max()).await {
            Ok(there) => there,
            Err(e) => {
                let note = TriggerNote {
                    due_at: Some(poll),
                    state: trigger.state.clone(),
                    error: Some(e.message),
                };
                return self.0.store.trigger_note(trigger, note).await;
            }
        };
        let known = self.0.store.trigger_files(trigger.job_id).await?;
        let baseline = !trigger.state.contains_key("seen");
        let found = changes(&known, there, baseline);
        if baseline || !found.changed.is_empty() || !found.gone.is_empty() {
            // The row has moved by that; it is still due, and the next look sees what was found.
            return self
                .0
                .store
                .trigger_files_note(trigger, found, look.now)
                .await;
        }
        let waiting: Vec<_> = known.into_iter().filter(|file| file.waiting).collect();
        let Some(changed) = waiting.iter().map(|file| file.changed_at).max() else {
            return self.wait(trigger, Some(poll)).await;
        };
        match arrival(wanted.policy(), changed, moment(trigger, "fired"), look.now) {
            Next::Wait(until) => self.wait(trigger, Some(until.min(poll))).await,
            Next::Fire(()) => {
                let url = wanted.url.trim_end_matches('/');
                let files = waiting.iter().map(|file| format!("{url}/{}", file.path));
                let files: Vec<String> = files.take(FILES_TOLD_MAX).collect();
                self.fire_files(trigger, look, poll, &wanted.url, files, waiting.len())
                    .await
            }
        }
    }

    async fn fire_files(
        &self,
        trigger: &Trigger,
        look: &Look,
        poll: Millis,
        url: &str,
        files: Vec<String>,
        count: usize,
    ) -> Result<()> {
        let mut firing = Firing {
            due_at: Some(poll),
            consumed: Consumed::Files,
            ..Firing::of(trigger, cause_of(trigger, look))
        };
        firing.state.insert("fired".to_owned(), json!(look.now));
        let mut job_parameters = Map::new();
        if let Some(name) = &look.document.spec.own.file_arrival.parameter {
            job_parameters.insert(name.clone(), json!(json!(files).to_string()));
        }
        let more = json!({"file_arrival": {"location": url, "files": files, "count": count}});
        let fired = Fired {
            firing,
            trigger: "FILE_ARRIVAL",
            info: trigger_info("file_arrival", look.now, more),
            job_parameters,
        };
        self.fire(look, fired).await.map(drop)
    }

    async fn continued(&self, trigger: &Trigger, look: &Look) -> Result<()> {
        let last = self.0.store.trigger_last_runs(trigger.job_id).await?;
        if last.active {
            // Its end makes the trigger due.
            return self.wait(trigger, None).await;
        }
        let delay_ms = restart_delay_ms(last.failures, last.ran_ms);
        // An end that is to come says that the clock was put back.
        let ended_at = last.ended_at.filter(|ended| *ended <= look.now);
        let start = ended_at.map_or(look.now, |ended| ended.plus_ms(delay_ms));
        if start > look.now {
            return self.wait(trigger, Some(start)).await;
        }
        let mut firing = Firing::of(trigger, cause_of(trigger, look));
        // A run that its job has no room for is no active run whose end would be told.
        firing.due_at = Some(look.now.plus_ms(self.0.poll_ms));
        let fired = Fired {
            firing,
            trigger: "CONTINUOUS",
            info: trigger_info("continuous", look.now, json!({})),
            job_parameters: Map::new(),
        };
        let look = Look {
            job: look.job.clone(),
            document: with_retries(look.document.clone())?,
            now: look.now,
        };
        self.fire(&look, fired).await.map(drop)
    }

    async fn after(&self, mut trigger: Trigger, look: &Look, mut room: usize) -> Result<()> {
        let Some(after) = &look.document.spec.own.after_job else {
            return self.wait(&trigger, None).await;
        };
        let ended = self.0.store.trigger_ended_runs(trigger.job_id).await?;
        let more = !ended.is_empty();
        for EndedRun {
            run,
            verdict,
            repair,
        } in ended
        {
            if room == 0 {
                break;
            }
            if !wants(after.on, verdict) {
                let store = &self.0.store;
                store.trigger_ended_run_forget(trigger.job_id, run).await?;
                continue;
            }
            let mut cause = format!("{run}/{}", verdict.as_str());
            if let Some(repair) = repair {
                // A run that was repaired ends again, and may fire again.
                cause = format!("{cause}/{repair}");
            }
            let firing = Firing {
                due_at: Some(look.now),
                consumed: Consumed::EndedRun(run),
                ..Firing::of(&trigger, cause)
            };
            let result = verdict.as_str();
            let more = json!({"run_id": run, "job_id": after.job_id, "result": result});
            let fired = Fired {
                firing,
                trigger: "AFTER_JOB",
                info: trigger_info("after_job", look.now, more),
                job_parameters: Map::new(),
            };
            match self.fire(look, fired).await {
                Err(e) if e.code == ErrorCode::ResourceAlreadyExists => {
                    let store = &self.0.store;
                    store.trigger_ended_run_forget(trigger.job_id, run).await?;
                    continue;
                }
                made => made?,
            };
            trigger.version += 1;
            room -= 1;
        }
        self.wait(&trigger, more.then_some(look.now)).await
    }

    async fn events(&self, mut trigger: Trigger, look: &Look, mut room: usize) -> Result<()> {
        let Some(wanted) = &look.document.spec.own.on_event else {
            return self.wait(&trigger, None).await;
        };
        let gathered = look.document.spec.own.debounce;
        let policy = gathered.map_or(AT_ONCE, |debounce| DebouncePolicy {
            delay_ms: debounce.delay_ms,
            max_delay_ms: debounce.max_delay_ms,
            max_events: debounce.max_events.unwrap_or(EVENTS_MAX) as usize,
        });
        let pending = self.0.store.event_pending(trigger.job_id).await?;
        let mut next: Option<Millis> = None;
        for batch in by_key(pending) {
            let arrivals: Vec<Millis> = batch.iter().map(|event| event.received_at).collect();
            let count = match debounce(policy, &arrivals, look.now) {
                Next::Fire(count) => count,
                Next::Wait(until) => {
                    next = Some(next.map_or(until, |next| next.min(until)));
                    continue;
                }
            };
            // There may be more of this key, or no room for it.
            next = Some(look.now);
            if room == 0 {
                break;
            }
            let events = &batch[..count];
            let fired = event_run(&trigger, look, wanted, events, gathered.is_some());
            self.fire(look, fired).await?;
            trigger.version += 1;
            room -= 1;
        }
        self.wait(&trigger, next).await
    }
}

/// The run that some events of one key become.
fn event_run(
    trigger: &Trigger,
    look: &Look,
    wanted: &OnEvent,
    events: &[PendingEvent],
    as_list: bool,
) -> Fired {
    let ids: Vec<i64> = events.iter().map(|event| event.id).collect();
    let bodies: Vec<&str> = events.iter().map(|event| event.body.as_str()).collect();
    let body = if as_list {
        format!("[{}]", bodies.join(","))
    } else {
        bodies.concat()
    };
    let key = events.first().and_then(|event| event.key.clone());
    let mut job_parameters = Map::new();
    job_parameters.insert(wanted.parameter.clone(), json!(body));
    if let Some(name) = &wanted.key_parameter {
        job_parameters.insert(name.clone(), json!(key.clone().unwrap_or_default()));
    }
    let cause = ids.first().map(ToString::to_string).unwrap_or_default();
    let firing = Firing {
        due_at: Some(look.now),
        consumed: Consumed::Events(ids.clone()),
        ..Firing::of(trigger, cause)
    };
    let more = json!({"event": {"topic": wanted.topic, "key": key, "ids": ids}});
    Fired {
        firing,
        trigger: "EVENT",
        info: trigger_info("event", look.now, more),
        job_parameters,
    }
}

/// Each event is a run of its own.
const AT_ONCE: DebouncePolicy = DebouncePolicy {
    delay_ms: 0,
    max_delay_ms: None,
    max_events: 1,
};

/// The events of each key, oldest first; those without one are single.
fn by_key(pending: Vec<PendingEvent>) -> Vec<Vec<PendingEvent>> {
    let mut batches: Vec<Vec<PendingEvent>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for event in pending {
        let place = *places.entry(event.key.clone()).or_insert(batches.len());
        if place == batches.len() {
            batches.push(Vec::new());
        }
        batches[place].push(event);
    }
    batches
}

fn wants(on: After, verdict: Verdict) -> bool {
    match on {
        After::Any => true,
        After::Success => verdict.is_fine(),
        After::Failure => {
            matches!(
                verdict,
                Verdict::Failed | Verdict::TimedOut | Verdict::InternalError
            )
        }
    }
}

fn timer(trigger: &Trigger, look: &Look) -> Result<Option<Timer>, Error> {
    let spec = &look.document.spec;
    if let Some(schedule) = &spec.schedule {
        return schedule.timer().map(Some);
    }
    let periodic = spec
        .trigger
        .as_ref()
        .and_then(|trigger| trigger.periodic.as_ref());
    let anchor = moment(trigger, "anchor").unwrap_or(look.now);
    Ok(periodic.map(|periodic| periodic.timer(anchor)))
}

/// For firings that nothing but their moment tells apart.
fn cause_of(trigger: &Trigger, look: &Look) -> String {
    format!("{}/{}", look.now.0, trigger.version)
}

fn moment(trigger: &Trigger, name: &str) -> Option<Millis> {
    trigger.state.get(name).and_then(Value::as_i64).map(Millis)
}
