use forebay_engine::{Plan, TaskPlan};
use forebay_types::{ErrorCode, UserId};
use serde_json::json;

use super::*;
use crate::jobs::JobSettings;
use crate::runs::{NewRun, RunFilter, RunKind};

const NOW: Millis = Millis(1_000);

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    job: JobId,
}

/// A job with a schedule that is due.
async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("forebay.db")).unwrap();
    let trigger = NewTrigger {
        kind: TriggerKind::Schedule,
        spec: json!("daily"),
        paused: false,
        due_at: Some(NOW),
        state: Map::new(),
        watches: None,
        files: None,
    };
    let settings = JobSettings {
        name: "j".to_owned(),
        document: Map::new(),
        triggers: vec![trigger],
    };
    let creator = (UserId(1), "a".to_owned());
    let create = store.job_create(creator, settings, Vec::new(), NOW);
    let job = create.await.unwrap();
    World {
        _dir: dir,
        store,
        job,
    }
}

impl World {
    async fn trigger(&self) -> Trigger {
        self.store.trigger_list(self.job).await.unwrap().remove(0)
    }

    async fn fire(&self, trigger: &Trigger, cause: &str) -> Result<RunId> {
        let creator = (UserId(1), "a".to_owned());
        let new = NewRun {
            job_id: Some(self.job),
            concurrency_max: 10,
            firing: Some(Firing::of(trigger, cause)),
            ..NewRun::new(RunKind::Job, creator, "j", Map::new())
        };
        let plan = Plan::new(vec![TaskPlan::new("a")], &[Vec::new()]).unwrap();
        let created = self.store.run_create(new, plan, None, NOW).await;
        created.map(|created| created.id)
    }

    async fn runs(&self) -> usize {
        let filter = RunFilter {
            limit: 100,
            ..RunFilter::default()
        };
        self.store.run_list(filter).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_firing_and_its_run_are_recorded_together_or_not_at_all() {
    let world = world().await;
    let seen = world.trigger().await;
    let run = world.fire(&seen, "06:00").await.unwrap();
    let after = world.trigger().await;
    assert_eq!((after.last_run_id, after.due_at), (Some(run), None));

    // Who decided on the row as it was decides again.
    let stale = world.fire(&seen, "07:00").await.unwrap_err();
    assert_eq!(stale.code, ErrorCode::InvalidState);
    // The same cause has had its run, and the row stays as it is.
    let again = world.fire(&after, "06:00").await.unwrap_err();
    assert_eq!(again.code, ErrorCode::ResourceAlreadyExists);
    assert_eq!(world.trigger().await.version, after.version);
    assert_eq!(world.runs().await, 1);
}

#[tokio::test]
async fn a_braked_trigger_is_paused_in_the_settings_too_and_does_not_fire() {
    let world = world().await;
    let seen = world.trigger().await;
    let brake = world.store.trigger_brake(&seen, "too many".to_owned());
    brake.await.unwrap();
    let braked = world.trigger().await;
    assert_eq!(
        (braked.paused, braked.brake.as_deref()),
        (true, Some("too many"))
    );
    let refused = world.fire(&braked, "06:00").await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidState);
    assert!(world.store.trigger_due(NOW).await.unwrap().0.is_empty());
    assert_eq!(world.runs().await, 0);
}
