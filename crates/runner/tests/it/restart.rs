//! Servers that die while attempts are under way.

use std::sync::Arc;

use forebay_exec::{Adoption, CallId, CancelReason, Ended, Event, Execution, Executor, Outcome};

use crate::support::{Answers, Bench, Server, printed};

async fn adopted(
    server: &Server,
    bench: &Bench,
    from: u64,
    host: Arc<Answers>,
) -> Box<dyn Execution> {
    match bench.adopt(&server.client, "a", from, host).await {
        Adoption::Found(execution) => execution,
        other => panic!("{other:?}"),
    }
}

async fn rest(mut execution: Box<dyn Execution>) -> (Vec<Event>, Ended) {
    let mut events = Vec::new();
    while let Some(event) = execution.next_event().await {
        assert!(
            execution.happened_at().is_some(),
            "an adopted event says when it was"
        );
        events.push(event);
    }
    (events, execution.finish().await)
}

fn succeeded() -> Outcome {
    Outcome::Succeeded { exit_value: None }
}

#[tokio::test]
async fn every_event_comes_once_whichever_server_takes_it() {
    let bench = Bench::new();
    let first = bench.server().await;
    let cells = [
        "print one",
        "sleep 300",
        "print two",
        "sleep 300",
        "print three",
    ];
    let workload = bench.workload("a", &cells);
    let mut execution = first.client.start(workload, Answers::open()).await.unwrap();
    let mut taken = 0;
    loop {
        taken += 1;
        let event = execution.next_event().await.unwrap();
        if matches!(event, Event::Stream { .. }) {
            break;
        }
    }
    std::mem::forget(execution);
    drop(first);

    let second = bench.server().await;
    assert_eq!(second.client.inherited(), [bench.spool("a")]);
    let mut execution = adopted(&second, &bench, taken, Answers::open()).await;
    assert_eq!(printed(&mut *execution).await, "two\n");
    execution.leave();
    drop(second);

    // By now it has ended without anybody.
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let third = bench.server().await;
    for _ in 0..2 {
        let (events, ended) = rest(adopted(&third, &bench, taken, Answers::open()).await).await;
        assert_eq!(ended.outcome, succeeded());
        let last = events.len() as u64 + taken;
        assert_eq!(last, 13, "three prints and two pauses: {events:?}");
    }
    third.client.forget(&bench.spool("a"));
    let (events, ended) = rest(adopted(&third, &bench, taken, Answers::open()).await).await;
    assert!(matches!(ended.outcome, Outcome::Lost { .. }), "{ended:?}");
    assert_eq!(events.len(), 0, "forgotten: {events:?}");
    let adoption = bench.adopt(&third.client, "never", 0, Answers::open());
    assert!(matches!(adoption.await, Adoption::NeverBegun));
    third.client.kill().await;
}

#[tokio::test]
async fn a_call_that_lost_its_server_is_asked_again_under_its_number() {
    let bench = Bench::new();
    let first = bench.server().await;
    let workload = bench.workload("a", &["call one {}", "call two {}"]);
    let silent = Answers::closed();
    let mut execution = first.client.start(workload, silent.clone()).await.unwrap();
    tokio::select! {
        () = silent.was_asked.notified() => {}
        event = execution.next_event() => panic!("{event:?}"),
    }
    std::mem::forget(execution);
    drop(first);

    let second = bench.server().await;
    let host = Answers::open();
    let (events, ended) = rest(adopted(&second, &bench, 0, host.clone()).await).await;
    assert_eq!(ended.outcome, succeeded(), "{events:?}");
    assert_eq!(silent.calls(), [CallId(1)]);
    assert_eq!(host.calls(), [CallId(1), CallId(2)]);
    second.client.kill().await;
}

#[tokio::test]
async fn a_cancel_reaches_an_attempt_that_was_taken_over() {
    let bench = Bench::new();
    let first = bench.server().await;
    let workload = bench.workload("a", &["silence"]);
    let execution = first.client.start(workload, Answers::open()).await.unwrap();
    std::mem::forget(execution);
    drop(first);
    let second = bench.server().await;
    let execution = adopted(&second, &bench, 0, Answers::open()).await;
    execution.canceler().cancel(CancelReason::TimedOut);
    assert_eq!(rest(execution).await.1.outcome, Outcome::TimedOut);
    second.client.kill().await;
}

#[tokio::test]
async fn a_runner_started_otherwise_is_replaced_and_one_of_another_build_only_when_idle() {
    let bench = Bench::new();
    let first = bench.server().await;
    let workload = bench.workload("a", &["silence"]);
    let execution = first.client.start(workload, Answers::open()).await.unwrap();
    std::mem::forget(execution);
    drop(first);
    let setup = |build: &str, options: &str| {
        let mut setup = bench.setup();
        setup.build = build.to_owned();
        setup.options = options.to_owned();
        setup
    };
    let open = async |setup| Bench::server_of(setup, forebay_runtime::Clock::system()).await;
    let newer = open(setup("newer", "none")).await;
    let adoption = bench.adopt(&newer.client, "a", 0, Answers::open()).await;
    let Adoption::Found(execution) = adoption else {
        panic!("{adoption:?}");
    };
    execution.leave();
    // A folder has one server, and this one would start a runner in place of the one that is ended.
    drop(newer);
    let other = open(setup("newer", "other")).await;
    let adoption = bench.adopt(&other.client, "a", 0, Answers::open()).await;
    let Adoption::Found(execution) = adoption else {
        panic!("{adoption:?}");
    };
    let (_, ended) = rest(execution).await;
    assert!(matches!(ended.outcome, Outcome::Lost { .. }), "{ended:?}");
    other.client.kill().await;
}
