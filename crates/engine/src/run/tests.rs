use proptest::prelude::*;

use super::*;
use crate::plan::TaskPlan;

const NOW: Millis = Millis(1_000);

fn plan(edges: &[(&str, &[&str])]) -> Plan {
    let tasks = edges.iter().map(|(key, _)| TaskPlan::new(*key)).collect();
    let on: Vec<Vec<(String, Option<bool>)>> = edges
        .iter()
        .map(|(_, on)| on.iter().map(|key| ((*key).to_owned(), None)).collect())
        .collect();
    Plan::new(tasks, &on).unwrap()
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

#[test]
fn a_diamond_runs_in_order_and_succeeds() {
    let plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]);
    let mut run = Run::new(&plan);
    let start = |task| Effect::Start { task, attempt: 0 };
    let close = |task| Effect::Close {
        task,
        verdict: Verdict::Succeeded,
    };
    assert_eq!(run.advance(&plan, &Event::Admitted, NOW), [start(0)]);
    let mut end = |task| run.advance(&plan, &ended(task, 0, Verdict::Succeeded), NOW);
    assert_eq!(end(0), [close(0), start(1), start(2)]);
    assert_eq!(end(2), [close(2)]);
    assert_eq!(end(1), [close(1), start(3)]);
    assert_eq!(end(3), [close(3), Effect::Finish(Verdict::Succeeded)]);
}

#[test]
fn a_failed_task_closes_what_depends_on_it() {
    let plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    let effects = run.advance(&plan, &ended(0, 0, Verdict::Failed), NOW);
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
    run.advance(&plan, &Event::Admitted, NOW);
    let retry = run.advance(&plan, &ended(0, 0, Verdict::Failed), NOW);
    assert_eq!(
        retry,
        [Effect::StartAt {
            task: 0,
            attempt: 1,
            due: Millis(1_500)
        }]
    );
    assert_eq!(
        run.advance(&plan, &ended(0, 0, Verdict::Succeeded), NOW),
        []
    );
    let last = run.advance(&plan, &ended(0, 1, Verdict::Failed), NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::Failed)));
}

#[test]
fn a_cancel_stops_what_runs_and_closes_what_waits() {
    let plan = plan(&[("a", &[]), ("b", &["a"])]);
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    run.tasks[0].phase = Phase::Running;
    let reason = StopReason::Canceled;
    let effects = run.advance(&plan, &Event::StopRequested(reason), NOW);
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
    let last = run.advance(&plan, &ended(0, 0, Verdict::Canceled), NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::Canceled)));
}

#[test]
fn a_run_that_waits_can_be_canceled_before_it_was_admitted() {
    let plan = plan(&[("a", &[])]);
    let mut run = Run::new(&plan);
    let effects = run.advance(&plan, &Event::StopRequested(StopReason::Canceled), NOW);
    assert_eq!(effects.last(), Some(&Effect::Finish(Verdict::Canceled)));
}

#[test]
fn a_failed_inner_task_with_fine_leaves_is_success_with_failures() {
    let mut plan = plan(&[("a", &[]), ("b", &["a"])]);
    plan.tasks[1].run_if = crate::RunIf::AllDone;
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    run.advance(&plan, &ended(0, 0, Verdict::Failed), NOW);
    let last = run.advance(&plan, &ended(1, 0, Verdict::Succeeded), NOW);
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
    run.advance(&plan, &Event::Admitted, NOW);
    for attempt in 0..3 {
        let again = run.advance(&plan, &ended(0, attempt, Verdict::Failed), NOW);
        assert_eq!(
            again,
            [Effect::Start {
                task: 0,
                attempt: attempt + 1
            }]
        );
    }
    let later = run.advance(&plan, &ended(0, 3, Verdict::Failed), NOW);
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
        outcome: None,
        retry: false,
    };
    let last = run.advance(&plan, &hopeless, NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::InternalError)));
}

/// Conditions come out as asked; whoever depends on the other branch is left out.
#[test]
fn a_condition_chooses_the_branch() {
    let tasks = ["if", "yes", "no", "after_no", "join"].map(TaskPlan::new);
    let on = |key: &str, outcome| (key.to_owned(), outcome);
    let edges = [
        vec![],
        vec![on("if", Some(true))],
        vec![on("if", Some(false))],
        vec![on("no", None)],
        vec![on("yes", None), on("no", None)],
    ];
    let plan = Plan::new(tasks.to_vec(), &edges).unwrap();
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    let decided = Event::AttemptEnded {
        task: 0,
        attempt: 0,
        verdict: Verdict::Succeeded,
        outcome: Some(true),
        retry: false,
    };
    run.advance(&plan, &decided, NOW);
    let phases: Vec<Phase> = run.tasks.iter().map(|task| task.phase).collect();
    let excluded = Phase::Ended(Verdict::Excluded);
    let done = Phase::Ended(Verdict::Succeeded);
    assert_eq!(
        phases,
        [done, Phase::Pending, excluded, excluded, Phase::Blocked]
    );
    run.advance(&plan, &ended(1, 0, Verdict::Succeeded), NOW);
    let last = run.advance(&plan, &ended(4, 0, Verdict::Succeeded), NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::Succeeded)));
}

#[test]
fn a_failed_condition_takes_neither_branch() {
    let tasks = ["if", "yes", "no"].map(TaskPlan::new).to_vec();
    let on = |outcome| vec![("if".to_owned(), Some(outcome))];
    let plan = Plan::new(tasks, &[vec![], on(true), on(false)]).unwrap();
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    run.advance(&plan, &ended(0, 0, Verdict::Failed), NOW);
    for task in &run.tasks[1..] {
        assert_eq!(task.phase, Phase::Ended(Verdict::UpstreamFailed));
    }
}

#[test]
fn a_task_stopped_by_itself_is_not_tried_again_and_what_is_beside_goes_on() {
    let mut plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &[])]);
    plan.tasks[0].retries_max = Some(5);
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    run.tasks[0].phase = Phase::Running;
    let stop = Event::TaskStopRequested { task: 0 };
    let reason = StopReason::Canceled;
    let (task, attempt) = (0, 0);
    let asked = [Effect::Stop {
        task,
        attempt,
        reason,
    }];
    assert_eq!(run.advance(&plan, &stop, NOW), asked);
    run.advance(&plan, &ended(0, 0, Verdict::Failed), NOW);
    assert_eq!(run.tasks[0].phase, Phase::Ended(Verdict::Failed));
    assert_eq!(run.tasks[2].phase, Phase::Pending);
    run.advance(&plan, &Event::TaskStopRequested { task: 2 }, NOW);
    assert_eq!(run.phase, Phase::Ended(Verdict::Failed));
}

#[test]
fn a_repair_does_failed_tasks_again_with_new_retries() {
    let mut plan = plan(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
    plan.tasks[1].retries_max = Some(1);
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    run.advance(&plan, &ended(0, 0, Verdict::Succeeded), NOW);
    run.advance(&plan, &ended(1, 0, Verdict::Failed), NOW);
    run.advance(&plan, &ended(1, 1, Verdict::Failed), NOW);
    assert_eq!(run.phase, Phase::Ended(Verdict::Failed));
    let request = RepairRequest {
        all_failed: true,
        ..RepairRequest::default()
    };
    let tasks = request.tasks(&plan, &run).unwrap();
    assert_eq!(tasks, [1, 2]);
    let effects = run.advance(&plan, &Event::Repair { tasks }, NOW);
    let reopen = |task, attempt| Effect::Reopen { task, attempt };
    let start = |task, attempt| Effect::Start { task, attempt };
    assert_eq!(effects, [reopen(1, 2), reopen(2, 1), start(1, 2)]);
    assert_eq!(run.phase, Phase::Running);
    // The old attempt is fenced, and the budget counts from the repair.
    assert_eq!(
        run.advance(&plan, &ended(1, 1, Verdict::Succeeded), NOW),
        []
    );
    let again = run.advance(&plan, &ended(1, 2, Verdict::Failed), NOW);
    assert_eq!(again, [start(1, 3)]);
    run.advance(&plan, &ended(1, 3, Verdict::Succeeded), NOW);
    let last = run.advance(&plan, &ended(2, 1, Verdict::Succeeded), NOW);
    assert_eq!(last.last(), Some(&Effect::Finish(Verdict::Succeeded)));
    assert_eq!(request.tasks(&plan, &run), Err(NothingToRepair));
    let dependents = RepairRequest {
        tasks: vec![1],
        dependents: true,
        ..RepairRequest::default()
    };
    assert_eq!(dependents.tasks(&plan, &run), Ok(vec![1, 2]));
}

#[test]
fn a_thousand_tasks_advance_in_linear_steps() {
    let keys: Vec<String> = (0..1_000).map(|n| format!("t{n}")).collect();
    let edges = keys.iter().enumerate().map(|(n, _)| {
        let before = n.checked_sub(1).map(|before| (keys[before].clone(), None));
        before.into_iter().collect()
    });
    let edges: Vec<_> = edges.collect();
    let plan = Plan::new(keys.iter().map(TaskPlan::new).collect(), &edges).unwrap();
    let mut run = Run::new(&plan);
    run.advance(&plan, &Event::Admitted, NOW);
    // One failure at the head closes all the rest in one event.
    let effects = run.advance(&plan, &ended(0, 0, Verdict::Failed), NOW);
    assert_eq!(effects.len(), 1_001);
}

/// A random DAG: each task depends on some of those before it.
fn plans() -> impl Strategy<Value = Plan> {
    prop::collection::vec(
        (
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            0..6usize,
            0..3u32,
            prop::option::of(any::<bool>()),
        ),
        1..8,
    )
    .prop_map(|rows| {
        let tasks = rows
            .iter()
            .enumerate()
            .map(|(index, (_, run_if, retries, _))| TaskPlan {
                run_if: crate::RunIf::ALL[*run_if].0,
                retries_max: Some(*retries),
                ..TaskPlan::new(format!("t{index}"))
            })
            .collect();
        let on: Vec<Vec<(String, Option<bool>)>> = rows
            .iter()
            .enumerate()
            .map(|(index, (picks, _, _, outcome))| {
                picks
                    .iter()
                    .filter(|_| index > 0)
                    .map(|pick| (format!("t{}", pick.index(index)), *outcome))
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

/// What a history did to each task, checked as it goes.
struct Watch {
    plan: Plan,
    run: Run,
    open: Vec<bool>,
    live: Vec<(usize, u32)>,
    ended: std::collections::HashSet<(usize, u32)>,
    finished: usize,
}

impl Watch {
    fn apply(&mut self, event: &Event) {
        for effect in self.run.advance(&self.plan, event, NOW) {
            match effect {
                Effect::Reopen { task, attempt } => {
                    assert!(!self.open[task], "reopened while open");
                    assert!(
                        !self.ended.contains(&(task, attempt)),
                        "an old attempt reopened"
                    );
                    self.open[task] = true;
                }
                Effect::Start { task, attempt } | Effect::StartAt { task, attempt, .. } => {
                    assert!(self.open[task], "started after it closed");
                    assert!(
                        !self.ended.contains(&(task, attempt)),
                        "an ended attempt started"
                    );
                    self.live.push((task, attempt));
                }
                Effect::Stop { .. } => {}
                Effect::Close { task, .. } => {
                    assert!(self.open[task], "closed twice");
                    self.open[task] = false;
                    let attempt = self.run.tasks[task].attempt;
                    self.ended.insert((task, attempt));
                    self.live.retain(|(other, _)| *other != task);
                }
                Effect::Finish(_) => {
                    assert!(!self.open.contains(&true), "finished with open tasks");
                    self.finished += 1;
                }
            }
        }
    }

    fn end(&mut self, pick: usize, verdict: Verdict, outcome: bool) {
        let (task, attempt) = self.live.swap_remove(pick);
        if self.run.tasks[task].phase != Phase::Terminating {
            self.run.tasks[task].phase = Phase::Running;
        }
        self.ended.insert((task, attempt));
        let outcome = Some(outcome);
        self.apply(&Event::AttemptEnded {
            task,
            attempt,
            verdict,
            outcome,
            retry: true,
        });
    }
}

proptest! {
    /// Whatever the order of ends, cancels, stale reports and repairs: an open task closes once,
    /// no finished attempt starts or opens again, and the run finishes once for its start and once
    /// for each repair.
    #[test]
    fn every_history_ends_exactly_once(
        plan in plans(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), attempt_verdicts(), 0..20u8), 0..80),
    ) {
        let count = plan.tasks.len();
        let mut watch = Watch {
            run: Run::new(&plan),
            open: vec![true; count],
            live: Vec::new(),
            ended: std::collections::HashSet::new(),
            finished: 0,
            plan,
        };
        let mut begun = 1;
        watch.apply(&Event::Admitted);
        for (pick, verdict, dice) in steps {
            let task = pick.index(count);
            match dice {
                0 => watch.apply(&Event::StopRequested(StopReason::Canceled)),
                1 => watch.apply(&ended(task, 99, verdict)),
                2 => watch.apply(&Event::TaskStopRequested { task }),
                3 => {
                    begun += usize::from(watch.run.phase.is_ended());
                    watch.apply(&Event::Repair { tasks: vec![task] });
                }
                _ if watch.live.is_empty() => {}
                _ => watch.end(pick.index(watch.live.len()), verdict, dice % 2 == 0),
            }
        }
        while !watch.live.is_empty() {
            watch.end(0, Verdict::Succeeded, true);
        }
        let ended_as = watch.run.phase;
        prop_assert!(ended_as.is_ended());
        watch.apply(&Event::StopRequested(StopReason::TimedOut));
        prop_assert_eq!(watch.run.phase, ended_as);
        prop_assert_eq!(watch.finished, begun);
    }
}
