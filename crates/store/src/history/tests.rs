use forebay_engine::{Plan, TaskPlan, Verdict};
use forebay_types::UserId;
use serde_json::{Map, Value};

use super::*;
use crate::runs::{AttemptEnd, AttemptStart, Created, NewRun, RunKind};
use crate::slots::Slots;
use crate::store::Store;

fn plan() -> Plan {
    let mut task = TaskPlan::new("only");
    task.retries_max = Some(1);
    Plan::new(vec![task], &[Vec::new()]).unwrap()
}

fn new_run() -> NewRun {
    let creator = (UserId(1), "a@b.c".to_owned());
    NewRun::new(RunKind::Submit, creator, "t", Map::new())
}

fn failed() -> AttemptEnd {
    AttemptEnd {
        verdict: Verdict::Failed,
        code: "RUN_EXECUTION_ERROR",
        message: "no".to_owned(),
        error: None,
        trace: None,
        exit_value: None,
        facts: Value::Null,
        retry: true,
    }
}

/// A run that failed, was tried again and failed once more.
async fn failed_twice(store: &Store) -> RunId {
    let slots = Some(Slots::of_one(1));
    let Created { id, claimed, .. } = store
        .run_create(new_run(), plan(), slots.clone(), Millis(10))
        .await
        .unwrap();
    let first = &claimed[0];
    store
        .attempt_executing(first.id, AttemptStart::default(), Millis(11))
        .await
        .unwrap();
    let second = store
        .attempt_end(first.clone(), plan(), failed(), slots.clone(), Millis(12))
        .await
        .unwrap();
    store
        .attempt_end(second[0].clone(), plan(), failed(), slots, Millis(13))
        .await
        .unwrap();
    id
}

#[tokio::test]
async fn rows_and_histories_agree_until_somebody_changes_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let store = Store::open(&path).unwrap();
    let id = failed_twice(&store).await;
    let report = history_check(&path).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.runs, report.events), (1, 7));

    store
        .write(move |tx| {
            tx.execute("UPDATE run SET verdict = 'succeeded'", [])
                .map_err(|e| sql("spoil", e))?;
            tx.execute("DELETE FROM attempt WHERE attempt = 1", [])
                .map_err(|e| sql("spoil", e))
        })
        .await
        .unwrap();
    let report = history_check(&path).unwrap();
    assert_eq!(report.differing, 1);
    assert_eq!(
        report.problems,
        [
            format!(
                "run {id}: its state: the rows say ended as succeeded, the history ended as failed"
            ),
            format!(
                "run {id}: attempt 1 of task 0: the rows say nothing, the history ended as failed"
            ),
        ]
    );
}

/// A slot that is never given back would lower a cap for ever.
#[tokio::test]
async fn places_that_do_not_fit_their_runs_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let store = Store::open(&path).unwrap();
    let ended = failed_twice(&store).await;
    let slots = Some(Slots::of_one(1));
    let create = async || {
        let created = store.run_create(new_run(), plan(), slots.clone(), Millis(20));
        created.await.unwrap()
    };
    let (live, waiting) = (create().await, create().await);
    assert_eq!(history_check(&path).unwrap().problems, Vec::<String>::new());

    let spoil = format!(
        "INSERT INTO line SELECT max(id), 'user:1', 1, 1, NULL, 'live' FROM attempt WHERE run_id = {ended};
         UPDATE run_admission SET stage = 'started' WHERE run_id = {ended};
         DELETE FROM line WHERE state = 'live' AND attempt_id = {};
         DELETE FROM run_admission WHERE run_id = {}",
        live.claimed[0].id, waiting.id
    );
    store
        .write(move |tx| tx.execute_batch(&spoil).map_err(|e| sql("spoil", e)))
        .await
        .unwrap();
    let report = history_check(&path).unwrap();
    let last = attempts_of(&store, ended).await.last().copied().unwrap();
    let expected = [
        format!("run {ended}: its place: the line says started, the rows ended"),
        format!("run {ended}: attempt {last}: the line says a slot, the rows nothing"),
        format!(
            "run {}: attempt {}: the line says nothing, the rows a slot",
            live.id, live.claimed[0].id
        ),
        format!(
            "run {}: its place: the line says nothing, the rows running",
            waiting.id
        ),
    ];
    assert_eq!(report.problems, expected);
    assert_eq!(report.differing, 3);
}

async fn attempts_of(store: &Store, run: RunId) -> Vec<RunId> {
    let (_, attempts) = store.run_get(run).await.unwrap();
    attempts.into_iter().map(|attempt| attempt.id).collect()
}

#[tokio::test]
async fn runs_of_an_older_program_are_counted_and_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forebay.db");
    let store = Store::open(&path).unwrap();
    failed_twice(&store).await;
    store
        .write(|tx| {
            let old = r#"{"event":"created"}"#;
            tx.execute("UPDATE run_event SET event = ?1 WHERE seq = 1", [old])
                .map_err(|e| sql("age", e))
        })
        .await
        .unwrap();
    let report = history_check(&path).unwrap();
    assert_eq!((report.old, report.differing), (1, 0));
}
