use forebay_engine::{Plan, TaskPlan};
use serde_json::json;

use super::*;
use crate::slots::Slots;

pub(super) struct World {
    _folder: tempfile::TempDir,
    pub(super) store: Store,
    slots: Slots,
}

impl World {
    pub(super) fn new(slots: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("forebay.db")).unwrap();
        Self {
            _folder: folder,
            store,
            slots: Slots::of_one(slots),
        }
    }

    pub(super) async fn create(&self, new: NewRun, at: i64) -> Created {
        let slots = Some(self.slots.clone());
        let created = self.store.run_create(new, plan(true), slots, Millis(at));
        created.await.unwrap()
    }

    async fn number(&self, query: &'static str, of: RunId) -> i64 {
        let count = self.store.read(move |conn| {
            conn.query_row(query, [of.0], |row| row.get(0))
                .map_err(|e| sql("count", e))
        });
        count.await.unwrap()
    }
}

fn plan(takes_slot: bool) -> Plan {
    let mut task = TaskPlan::new("only");
    task.takes_slot = takes_slot;
    Plan::new(vec![task], &[Vec::new()]).unwrap()
}

pub(super) fn new_run(kind: RunKind) -> NewRun {
    let creator = (UserId(1), "a@b.c".to_owned());
    NewRun::new(kind, creator, "t", Map::new())
}

fn ended_with(facts: Value) -> AttemptEnd {
    AttemptEnd {
        verdict: Verdict::Succeeded,
        code: "SUCCESS",
        message: String::new(),
        error: None,
        trace: None,
        exit_value: None,
        facts,
        retry: false,
    }
}

#[tokio::test]
async fn a_start_that_is_noted_late_takes_nothing_from_the_end() {
    let world = World::new(2);
    let start = || AttemptStart {
        resolved: Some(json!({"a": 1})),
        facts: json!({"inputs": 1}),
        ..AttemptStart::default()
    };
    let facts = async |id: RunId| {
        let (_, attempts) = world.store.run_get(id).await.unwrap();
        assert!(attempts[0].executed_at.is_some());
        attempts[0].facts.clone()
    };
    let whole = json!({"inputs": 1, "usage": 2});
    for (late, end, expected) in [
        (true, whole.clone(), whole.clone()),
        (false, whole.clone(), whole.clone()),
        (false, Value::Null, json!({"inputs": 1})),
    ] {
        let created = world.create(new_run(RunKind::Submit), 1).await;
        let attempt = created.claimed[0].clone();
        let (store, id) = (&world.store, attempt.id);
        if !late {
            store
                .attempt_executing(id, start(), Millis(2))
                .await
                .unwrap();
        }
        let ended = store.attempt_end(attempt, plan(true), ended_with(end), None, Millis(3));
        ended.await.unwrap();
        if late {
            store
                .attempt_executing(id, start(), Millis(4))
                .await
                .unwrap();
        }
        assert_eq!(facts(created.id).await, expected);
        let resolved = store.attempt_list_resolved(created.id).await.unwrap();
        assert_eq!(resolved, [(id, json!({"a": 1}))]);
        // The run was deleted meanwhile.
        store.run_delete(created.id).await.unwrap();
        store.run_purge(10).await.unwrap();
        store
            .attempt_executing(id, start(), Millis(5))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn files_of_libraries_are_known_while_a_run_and_its_output_are_there() {
    let world = World::new(2);
    let store = &world.store;
    let file = |kind: &str, sha256: &str| json!({"kind": kind, "sha256": sha256});
    let noted = json!({"inputs": {"files": [
        file("library", "one"), file("installed", "two"), file("notebook", "three"),
    ]}});
    let known = async || {
        let all = ["one", "two", "three"].map(str::to_owned).to_vec();
        let found = store.attempt_files_of(all).await.unwrap();
        let mut found: Vec<String> = found.into_iter().collect();
        found.sort_unstable();
        found
    };
    let mut runs = Vec::new();
    for at_end in [false, true] {
        let created = world.create(new_run(RunKind::Submit), 1).await;
        let attempt = created.claimed[0].clone();
        let start = AttemptStart {
            facts: if at_end { Value::Null } else { noted.clone() },
            ..AttemptStart::default()
        };
        let started = store.attempt_executing(attempt.id, start, Millis(2));
        started.await.unwrap();
        let end = ended_with(if at_end { noted.clone() } else { Value::Null });
        let ended = store.attempt_end(attempt, plan(true), end, None, Millis(3));
        ended.await.unwrap();
        assert_eq!(known().await, ["one", "two"]);
        runs.push(created.id);
    }
    let removed = store.retention_remove_output(vec![runs[0]], Millis(4));
    assert_eq!(removed.await.unwrap(), 1);
    assert_eq!(known().await, ["one", "two"]);
    store.run_delete(runs[1]).await.unwrap();
    while store.run_purge(10).await.unwrap().is_some() {}
    assert!(known().await.is_empty());
}

#[tokio::test]
async fn a_call_that_became_one_with_a_waiting_run_may_be_repeated() {
    let world = World::new(1);
    let keyed = |token: &str| NewRun {
        idempotency_token: Some(token.to_owned()),
        standing: Standing {
            key: "k".to_owned(),
            key_max: 1,
            coalesce: true,
            ..Standing::default()
        },
        ..new_run(RunKind::Submit)
    };
    let first = world.create(keyed("a"), 1).await;
    let waiting = world.create(keyed("b"), 2).await.id;
    assert_eq!(world.create(keyed("c"), 3).await.id, waiting);
    let Created { claimed, .. } = first;
    let (store, slots) = (&world.store, Some(world.slots.clone()));
    let end = ended_with(Value::Null);
    let ended = store.attempt_end(claimed[0].clone(), plan(true), end, slots, Millis(4));
    ended.await.unwrap();
    store
        .run_admit(waiting, plan(true), Millis(5))
        .await
        .unwrap();
    let claimed = store.attempt_claim(world.slots.clone(), Millis(5)).await;
    assert_eq!(claimed.unwrap().len(), 1, "it waits no more");
    assert_eq!(world.create(keyed("c"), 6).await.id, waiting);
    store.retention_tokens(Millis(6), 10).await.unwrap();
    assert_ne!(world.create(keyed("c"), 7).await.id, waiting);
}

#[tokio::test]
async fn an_iteration_stands_in_line_where_its_run_does() {
    let world = World::new(1);
    let (store, slots) = (&world.store, world.slots.clone());
    let above = NewRun {
        standing: Standing {
            key: "k".to_owned(),
            key_max: 1,
            priority: 7,
            weight: 5,
            ..Standing::default()
        },
        ..new_run(RunKind::Submit)
    };
    let above = store.run_create(above, plan(false), Some(slots), Millis(1_000));
    let above = above.await.unwrap();
    let parent = above.claimed[0].id;
    store.container_plan(parent, vec![None]).await.unwrap();
    let child = NewRun {
        parent_attempt: Some(parent),
        child_number: Some(0),
        ..new_run(RunKind::Iteration)
    };
    let child = world.create(child, 900_000).await.id;
    for column in [
        "SELECT rank = (SELECT min(rank) FROM run_admission) FROM run_admission WHERE run_id = ?1",
        "SELECT weight = 5 FROM run_admission WHERE run_id = ?1",
        "SELECT tenant = 'key:k' FROM run_admission WHERE run_id = ?1",
        "SELECT key = '' FROM run_admission WHERE run_id = ?1",
    ] {
        assert_eq!(world.number(column, child).await, 1, "{column}");
    }
}

#[tokio::test]
async fn a_run_is_given_up_once_and_those_who_want_to_know_are_told() {
    let world = World::new(1);
    let mails = json!({"email_notifications": {"on_failure": ["a@b.c"]}});
    let new = NewRun {
        settings: mails.as_object().unwrap().clone(),
        ..new_run(RunKind::Submit)
    };
    let id = world.create(new, 1).await.id;
    for at in 2..4 {
        let given_up = world.store.run_abandon(id, format!("no {at}"), Millis(at));
        given_up.await.unwrap();
    }
    let (run, attempts) = world.store.run_get(id).await.unwrap();
    assert_eq!(
        (run.message.as_str(), run.ended_at),
        ("no 2", Some(Millis(2)))
    );
    assert_eq!(attempts[0].message, "no 2");
    let records = "SELECT count(*) FROM run_event WHERE run_id = ?1 AND event LIKE '%abandoned%'";
    assert_eq!(world.number(records, id).await, 1);
    let told = world.store.notification_list(id).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].facts["message"], "no 2");
}
