use forebay_store::{KnownFile, NewTrigger, TriggerKind};
use forebay_types::{Error, Millis, Result};
use serde_json::{Map, Value, json};

use super::Wake;
use super::arrival::scan;
use crate::dbfs::Dbfs;
use crate::jobs::{FileArrivalSpec, Pause, Spec, TriggerSpec};

/// From a job's settings to the triggers it should have, and the bell that has them looked at.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    dbfs: Dbfs,
    wake: Wake,
    files_max: usize,
}

impl Watch {
    pub(crate) fn new(dbfs: Dbfs, wake: Wake, files_max: usize) -> Self {
        Self {
            dbfs,
            wake,
            files_max,
        }
    }

    pub(crate) fn files_max(&self) -> usize {
        self.files_max
    }

    /// Something has become due.
    pub(crate) fn look(&self) {
        self.wake.wake();
    }

    pub(super) async fn woken(&self) {
        self.wake.woken().await;
    }

    /// The triggers that `spec` asks for. A folder that it names anew must be there; what is in it
    /// is not new.
    ///
    /// # Errors
    /// What cannot ever fire, by field.
    pub(crate) async fn wanted(
        &self,
        spec: &Spec,
        before: Option<&Spec>,
        now: Millis,
    ) -> Result<Vec<NewTrigger>> {
        let mut wanted = wanted(spec, now)?;
        let Some(arrival) = arrival_of(spec) else {
            return Ok(wanted);
        };
        if before
            .and_then(arrival_of)
            .is_some_and(|old| old.url == arrival.url)
        {
            return Ok(wanted);
        }
        let folder = arrival.folder()?;
        let named =
            |e: Error| Error::invalid(format!("Field 'trigger.file_arrival.url': {}", e.message));
        let files = scan(&self.dbfs, &folder, self.files_max)
            .await
            .map_err(named)?;
        for trigger in &mut wanted {
            if trigger.kind == TriggerKind::FileArrival {
                trigger.files = Some(files.clone());
                trigger.state.insert("seen".to_owned(), json!(true));
            }
        }
        Ok(wanted)
    }

    /// The same for settings that may have changed since; what was found in a folder holds for
    /// the same folder only.
    ///
    /// # Errors
    /// As for [`Watch::wanted`].
    pub(crate) fn again(
        spec: &Spec,
        found: Vec<NewTrigger>,
        now: Millis,
    ) -> Result<Vec<NewTrigger>> {
        let mut wanted = wanted(spec, now)?;
        for trigger in &mut wanted {
            let same =
                |other: &NewTrigger| other.kind == trigger.kind && other.spec == trigger.spec;
            if let Some(found) = found.iter().find(|found| same(found)) {
                *trigger = found.clone();
            }
        }
        Ok(wanted)
    }
}

fn arrival_of(spec: &Spec) -> Option<&FileArrivalSpec> {
    spec.trigger.as_ref()?.file_arrival.as_ref()
}

fn wanted(spec: &Spec, now: Millis) -> Result<Vec<NewTrigger>> {
    let mut wanted = Vec::new();
    if let Some(schedule) = &spec.schedule {
        if schedule.timer()?.next_after(now).is_none() {
            return Err(Error::invalid(
                "Field 'schedule.quartz_cron_expression' fires never again.",
            ));
        }
        let is = json!([schedule.quartz_cron_expression, schedule.timezone_id]);
        wanted.push(new(TriggerKind::Schedule, is, schedule.pause_status, now));
    }
    if let Some(trigger) = &spec.trigger {
        wanted.extend(of_trigger(trigger, now));
    }
    if let Some(continuous) = &spec.continuous {
        wanted.push(new(
            TriggerKind::Continuous,
            json!({}),
            continuous.pause_status,
            now,
        ));
    }
    if let Some(after) = &spec.own.after_job {
        let mut trigger = new(
            TriggerKind::AfterJob,
            json!(after.job_id),
            after.pause_status,
            now,
        );
        trigger.watches = Some(after.job_id.to_string());
        wanted.push(trigger);
    }
    if let Some(event) = &spec.own.on_event {
        let mut trigger = new(
            TriggerKind::Event,
            json!(event.topic),
            event.pause_status,
            now,
        );
        trigger.watches = Some(event.topic.clone());
        wanted.push(trigger);
    }
    Ok(wanted)
}

fn of_trigger(trigger: &TriggerSpec, now: Millis) -> Option<NewTrigger> {
    let (kind, is) = match (&trigger.periodic, &trigger.file_arrival) {
        (Some(periodic), _) => {
            let is = json!([periodic.interval, format!("{:?}", periodic.unit)]);
            (TriggerKind::Periodic, is)
        }
        (_, Some(arrival)) => (TriggerKind::FileArrival, json!(arrival.url)),
        _ => return None,
    };
    Some(new(kind, is, trigger.pause_status, now))
}

/// A trigger to be looked at now.
fn new(kind: TriggerKind, spec: Value, pause: Pause, now: Millis) -> NewTrigger {
    let state = json!({"since": now, "anchor": now});
    NewTrigger {
        kind,
        spec,
        paused: pause == Pause::Paused,
        due_at: Some(now),
        state: state.as_object().cloned().unwrap_or_else(Map::new),
        watches: None,
        files: None::<Vec<KnownFile>>,
    }
}
