use proptest::prelude::*;

use super::*;
use crate::plan::TaskPlan;

const NOW: Millis = Millis(1_000);

fn plan(edges: &[(&str, &[&str])]) -> Plan {
    let tasks = edges.iter().map(|(key, _)| TaskPlan::new(*key)).collect();
    let on: Vec<Vec<String>> = edges
        .iter()
        .map(|(_, on)| on.iter().map(ToString::to_string).collect())
        .collect();
    Plan::new(tasks, &on).unwrap()
}

fn ended(task: usize, attempt: u32, verdict: Verdict) -> Event {
    Event::AttemptEnded {
        task,
        attempt,
        verdict,
        retry: true,
    }
}

#[test]
fn a_diamond_runs_in_order_and_succeeds() {
    let plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]);
    let mut run = Run::new(&plan);
    let start = |task| Effect::Start { task, attempt: 0 };
    let close = |task| Effect::Close {
        task,
        verdict: Verdict::Succeeded,
    };
    assert_eq!(run.advance(&plan, Event::Admitted, NOW), [start(0)]);
    let mut end = |task| run.advance(&plan, ended(task, 0, Verdict::Succeeded), NOW);
    assert_eq!(end(0), [close(0), start(1), start(2)]);
    assert_eq!(end(2), [close(2)]);
    assert_eq!(end(1), [close(1), start(3)]);
    assert_eq!(end(3), [close(3), Effect::Finish(Verdict::Succeeded)]);
}

#[test]
fn a_failed_task_closes_what_depends_on_it() {
    let plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    let mut run = Run::new(&plan);
    run.advance(&plan, Event::Admitted, NOW);
    let effects = run.advance(&plan, ended(0, 0, Verdict::Failed), NOW);
    assert_eq!(
        effects,
        [
            Effect::Close {
                task: 0,
                verdict: Verdict::Failed
            },
            Effect::Close {
                task: 1,
                verdict: Verdict::UpstreamFailed
            },
            Effect::Close {
                task: 2,
                verdict: Verdict::UpstreamFailed
            },
            Effect::Finish(Verdict::Failed),
        ]
    );
}

#[test]
fn retries_are_new_attempts_and_old_ones_are_fenced() {
    let mut plan = plan(&[("a", &[])]);
    plan.tasks[0].retries_max = Some(1);
    plan.tasks[0].retry_interval_ms = 500;
    let mut run = Run::new(&plan);
    run.advance(&plan, Event::Admitted, NOW);
    let retry = run.advance(&plan, ended(0, 0, Verdict::Failed), NOW);
    assert_eq!(
        retry,
        [Effect::StartAt {
            task: 0,
            attempt: 1,
            due: Millis(1_500)
        }]
    );
    assert_eq!(run.advance(&plan, ended(0, 0, Verdict::Succeeded), NOW), []);
    let last = run.advance(&plan, ended(0, 1, Verdict::Failed), NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::Failed)));
}

#[test]
fn a_cancel_stops_what_runs_and_closes_what_waits() {
    let plan = plan(&[("a", &[]), ("b", &["a"])]);
    let mut run = Run::new(&plan);
    run.advance(&plan, Event::Admitted, NOW);
    run.tasks[0].phase = Phase::Running;
    let reason = StopReason::Canceled;
    let effects = run.advance(&plan, Event::StopRequested(reason), NOW);
    assert_eq!(
        effects,
        [
            Effect::Stop {
                task: 0,
                attempt: 0,
                reason
            },
            Effect::Close {
                task: 1,
                verdict: Verdict::UpstreamCanceled
            },
        ]
    );
    assert_eq!(run.phase, Phase::Terminating);
    let last = run.advance(&plan, ended(0, 0, Verdict::Canceled), NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::Canceled)));
}

#[test]
fn a_run_that_waits_can_be_canceled_before_it_was_admitted() {
    let plan = plan(&[("a", &[])]);
    let mut run = Run::new(&plan);
    let effects = run.advance(&plan, Event::StopRequested(StopReason::Canceled), NOW);
    assert_eq!(effects.last(), Some(&Effect::Finish(Verdict::Canceled)));
}

#[test]
fn a_failed_inner_task_with_fine_leaves_is_success_with_failures() {
    let mut plan = plan(&[("a", &[]), ("b", &["a"])]);
    plan.tasks[1].run_if = crate::RunIf::AllDone;
    let mut run = Run::new(&plan);
    run.advance(&plan, Event::Admitted, NOW);
    run.advance(&plan, ended(0, 0, Verdict::Failed), NOW);
    let last = run.advance(&plan, ended(1, 0, Verdict::Succeeded), NOW);
    assert_eq!(
        last.last(),
        Some(&Effect::Finish(Verdict::SucceededWithFailures))
    );
}

#[test]
fn what_cannot_end_better_is_not_tried_again_and_endless_retries_slow_down() {
    let mut plan = plan(&[("a", &[])]);
    plan.tasks[0].retries_max = None;
    let mut run = Run::new(&plan);
    run.advance(&plan, Event::Admitted, NOW);
    for attempt in 0..3 {
        let again = run.advance(&plan, ended(0, attempt, Verdict::Failed), NOW);
        assert_eq!(
            again,
            [Effect::Start {
                task: 0,
                attempt: attempt + 1
            }]
        );
    }
    let later = run.advance(&plan, ended(0, 3, Verdict::Failed), NOW);
    assert_eq!(
        later,
        [Effect::StartAt {
            task: 0,
            attempt: 4,
            due: Millis(2_000)
        }]
    );
    let hopeless = Event::AttemptEnded {
        task: 0,
        attempt: 4,
        verdict: Verdict::InternalError,
        retry: false,
    };
    let last = run.advance(&plan, hopeless, NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::InternalError)));
}

/// A random DAG: each task depends on some of those before it.
fn plans() -> impl Strategy<Value = Plan> {
    prop::collection::vec(
        (
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            0..6usize,
            0..3u32,
        ),
        1..8,
    )
    .prop_map(|rows| {
        let tasks = rows
            .iter()
            .enumerate()
            .map(|(index, (_, run_if, retries))| TaskPlan {
                run_if: crate::RunIf::ALL[*run_if].0,
                retries_max: Some(*retries),
                ..TaskPlan::new(format!("t{index}"))
            })
            .collect();
        let on: Vec<Vec<String>> = rows
            .iter()
            .enumerate()
            .map(|(index, (picks, ..))| {
                picks
                    .iter()
                    .filter(|_| index > 0)
                    .map(|pick| format!("t{}", pick.index(index)))
                    .collect()
            })
            .collect();
        Plan::new(tasks, &on).unwrap()
    })
}

fn attempt_verdicts() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![
        Verdict::Succeeded,
        Verdict::Failed,
        Verdict::TimedOut,
        Verdict::InternalError,
    ])
}

proptest! {
    /// Whatever the order of ends, cancels and stale reports: every task closes once, every
    /// started attempt is of a task not yet closed, the run finishes once and stays finished.
    #[test]
    fn every_history_ends_exactly_once(
        plan in plans(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), attempt_verdicts(), 0..20u8), 0..80),
    ) {
        let mut run = Run::new(&plan);
        let mut closed = vec![0; plan.tasks.len()];
        let mut finished = 0;
        let mut live: Vec<(usize, u32)> = Vec::new();
        let mut apply = |run: &mut Run, live: &mut Vec<(usize, u32)>, event| {
            let effects = run.advance(&plan, event, NOW);
            for effect in effects {
                match effect {
                    Effect::Start { task, attempt } | Effect::StartAt { task, attempt, .. } => {
                        assert_eq!(closed[task], 0, "started after it closed");
                        live.push((task, attempt));
                    }
                    Effect::Stop { .. } => {}
                    Effect::Close { task, .. } => {
                        closed[task] += 1;
                        live.retain(|(other, _)| *other != task);
                    }
                    Effect::Finish(_) => finished += 1,
                }
            }
        };
        apply(&mut run, &mut live, Event::Admitted);
        for (pick, verdict, dice) in steps {
            if dice == 0 {
                apply(&mut run, &mut live, Event::StopRequested(StopReason::Canceled));
            } else if dice == 1 {
                let task = pick.index(plan.tasks.len());
                apply(&mut run, &mut live, ended(task, 99, verdict));
            } else if !live.is_empty() {
                let (task, attempt) = live.swap_remove(pick.index(live.len()));
                run.tasks[task].phase = Phase::Running;
                apply(&mut run, &mut live, ended(task, attempt, verdict));
            }
        }
        while let Some((task, attempt)) = live.pop() {
            apply(&mut run, &mut live, ended(task, attempt, Verdict::Succeeded));
        }
        let ended_as = run.phase;
        apply(&mut run, &mut live, Event::StopRequested(StopReason::TimedOut));
        prop_assert_eq!(run.phase, ended_as);
        prop_assert_eq!(finished, 1);
        prop_assert!(closed.iter().all(|count| *count == 1), "{:?}", closed);
    }
}
