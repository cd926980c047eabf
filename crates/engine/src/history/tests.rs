use super::*;
use crate::plan::{Plan, TaskPlan};
use crate::run::Run;

fn plan() -> Plan {
    let mut first = TaskPlan::new("a");
    first.retries_max = Some(1);
    first.retry_interval_ms = 1_000;
    let keys = [Vec::new(), vec![("a".to_owned(), None)]];
    Plan::new(vec![first, TaskPlan::new("b")], &keys).unwrap()
}

fn created() -> Record {
    Record::Created {
        kind: "SUBMIT_RUN".to_owned(),
        job: None,
        tasks: vec!["a".to_owned(), "b".to_owned()],
        ids: vec![2, 3],
    }
}

/// The record that the store would write of this event.
fn advanced(run: &mut Run, event: Event, now: i64, ids: &[i64]) -> (Millis, Record) {
    let before = run.phase;
    let effects = run.advance(&plan(), &event, Millis(now));
    let moved = run.phase != before && !run.phase.is_ended();
    let record = Record::Advanced {
        effects,
        code: matches!(event, Event::AttemptEnded { .. }).then(|| "CODE".to_owned()),
        event,
        phase: moved.then_some(run.phase),
        ids: ids.to_vec(),
    };
    (Millis(now), record)
}

fn ended(task: usize, attempt: u32, verdict: Verdict) -> Event {
    Event::AttemptEnded {
        task,
        attempt,
        verdict,
        outcome: None,
        retry: true,
    }
}

fn claimed(task: usize, attempt: u32, at: i64) -> (Millis, Record) {
    (Millis(at), Record::Claimed { task, attempt })
}

#[test]
fn a_history_gives_the_state_it_led_to() {
    let mut run = Run::new(&plan());
    let mut history = vec![(Millis(1), created())];
    history.push(advanced(&mut run, Event::Admitted, 2, &[]));
    history.push(claimed(0, 0, 3));
    history.push(advanced(&mut run, ended(0, 0, Verdict::Failed), 4, &[9]));
    let waiting = rebuild(&history).unwrap();
    assert_eq!(waiting.phase, Phase::Running);
    let retry = &waiting.attempts[&(0, 1)];
    assert_eq!((retry.id, retry.phase), (9, Phase::WaitingForRetry));
    assert_eq!(retry.due_at, Some(Millis(1_004)));

    history.push(claimed(0, 1, 1_005));
    history.push(advanced(
        &mut run,
        ended(0, 1, Verdict::Succeeded),
        1_006,
        &[],
    ));
    let stop = Event::StopRequested(StopReason::Canceled);
    history.push(advanced(&mut run, stop, 1_007, &[]));
    let over = rebuild(&history).unwrap();
    assert_eq!(over.phase, Phase::Ended(Verdict::Canceled));
    assert_eq!(over.phase, run.phase);
    assert_eq!(over.stopping, Some(StopReason::Canceled));
    assert_eq!(over.started_at, Some(Millis(2)));
    assert_eq!(over.attempts[&(0, 0)].code.as_deref(), Some("CODE"));
    assert_eq!(over.attempts[&(1, 0)].ended_at, Some(Millis(1_007)));

    let repair = Event::Repair { tasks: vec![1] };
    history.push(advanced(&mut run, repair, 1_008, &[10]));
    let again = rebuild(&history).unwrap();
    assert_eq!(
        (again.phase, again.stopping, again.ended_at),
        (Phase::Running, None, None)
    );
    assert_eq!(again.attempts[&(1, 1)].phase, Phase::Pending);
    assert_eq!(again.attempts[&(1, 0)].phase, over.attempts[&(1, 0)].phase);
}

#[test]
fn differences_are_told_in_words() {
    let mut run = Run::new(&plan());
    let history = vec![
        (Millis(1), created()),
        advanced(&mut run, Event::Admitted, 2, &[]),
    ];
    let rebuilt = rebuild(&history).unwrap();
    assert!(rebuilt.differences(&rebuilt).is_empty());
    let mut rows = rebuilt.clone();
    rows.phase = Phase::Ended(Verdict::Failed);
    rows.attempts.remove(&(1, 0));
    assert_eq!(
        rebuilt.differences(&rows),
        [
            "its state: the rows say ended as failed, the history running",
            "attempt 0 of task 1: the rows say nothing, the history blocked",
        ]
    );
}

#[test]
fn records_are_read_as_they_were_written() {
    let mut run = Run::new(&plan());
    for record in [
        created(),
        advanced(&mut run, Event::Admitted, 2, &[]).1,
        advanced(&mut run, ended(0, 0, Verdict::Failed), 4, &[9]).1,
        Record::Abandoned,
    ] {
        assert_eq!(Record::parse(&record.to_text()), Ok(record));
    }
    let claimed = Record::Claimed {
        task: 0,
        attempt: 0,
    };
    assert_eq!(
        claimed.to_text(),
        r#"[2,{"claimed":{"task":0,"attempt":0}}]"#
    );
    assert_eq!(
        Record::parse(r#"{"event":"created"}"#),
        Err(RecordError::Old)
    );
    assert_eq!(Record::parse("[3,null]"), Err(RecordError::Newer(3)));
    assert!(matches!(
        Record::parse("[1,7]"),
        Err(RecordError::Broken(_))
    ));
}

#[test]
fn a_held_run_begins_with_its_first_slot_unless_its_history_is_old() {
    let old = r#"[1,{"held":{"until":9}}]"#;
    let new = Record::Held {
        until: Millis(9),
        unstarted: true,
    };
    for (held, started) in [(Record::parse(old).unwrap(), 2), (new, 9)] {
        let mut run = Run::new(&plan());
        let history = [
            (Millis(1), created()),
            (Millis(1), held),
            advanced(&mut run, Event::Admitted, 2, &[]),
            claimed(0, 0, 9),
        ];
        let rebuilt = rebuild(&history).unwrap();
        assert_eq!(rebuilt.started_at, Some(Millis(started)));
    }
}

#[test]
fn a_history_with_a_hole_is_refused() {
    let lonely = [claimed(0, 0, 3)];
    assert!(rebuild(&lonely).unwrap_err().contains("creation"));
    let unknown = [(Millis(1), created()), claimed(7, 0, 3)];
    assert_eq!(
        rebuild(&unknown).unwrap_err(),
        "attempt 0 of task 7 was never made"
    );
}
