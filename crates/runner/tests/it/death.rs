//! A runner that dies under its server, and one that has nothing left to do.

use forebay_exec::{Executor, Outcome};
use forebay_runner::inspect;

use crate::support::{Answers, Bench, printed};

#[tokio::test]
async fn attempts_of_a_dead_runner_are_lost_with_their_output_kept_and_a_new_one_starts() {
    let bench = Bench::new();
    let server = bench.server().await;
    let workload = bench.workload("a", &["print before", "silence"]);
    let start = server.client.start(workload, Answers::open());
    let mut execution = start.await.unwrap();
    assert_eq!(printed(&mut *execution).await, "before\n");
    let folder = bench.setup().folder;
    let old = inspect(&folder).await.unwrap().unwrap();
    assert!(old.owned && old.attempts == [bench.spool("a")]);
    std::process::Command::new("kill")
        .args(["-9", &old.pid.to_string()])
        .status()
        .unwrap();
    assert_eq!(printed(&mut *execution).await, "the end");
    let ended = execution.finish().await;
    assert!(matches!(ended.outcome, Outcome::Lost { .. }), "{ended:?}");

    let workload = bench.workload("b", &["print again"]);
    let start = server.client.start(workload, Answers::open());
    assert_eq!(printed(&mut *start.await.unwrap()).await, "again\n");
    let new = inspect(&folder).await.unwrap().unwrap();
    assert_ne!(new.pid, old.pid);
    server.client.kill().await;
}

#[tokio::test]
async fn a_runner_left_with_nothing_to_do_ends_and_one_with_work_does_not() {
    let bench = Bench::new();
    let server = bench.server().await;
    let folder = bench.setup().folder;
    let workload = bench.workload("a", &["silence"]);
    let execution = server
        .client
        .start(workload, Answers::open())
        .await
        .unwrap();
    execution.leave();
    server.client.leave().await;
    drop(server);
    let left = inspect(&folder).await.unwrap().unwrap();
    assert_eq!(left.attempts, [bench.spool("a")]);

    let server = bench.server().await;
    let adoption = bench.adopt(&server.client, "a", 0, Answers::open());
    let forebay_exec::Adoption::Found(execution) = adoption.await else {
        panic!("it is not there");
    };
    execution.finish().await;
    server.client.leave().await;
    assert!(inspect(&folder).await.unwrap().is_none());
}
