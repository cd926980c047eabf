use forebay_engine::{Plan, TaskPlan};
use forebay_store::{NewRun, RunKind, Slots, Store};
use forebay_types::{Millis, UserId};
use serde_json::Value;

use crate::program::{Program, Ran, free_ports, served};

fn checks(ran: &Ran) -> Vec<Value> {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

fn level<'a>(checks: &'a [Value], name: &str) -> &'a str {
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap()["level"].as_str().unwrap()
}

#[tokio::test]
async fn a_new_machine_is_told_what_is_there() {
    let port = free_ports(3).to_string();
    let ran = Program::new()
        .run(&["doctor", "--port", &port, "--output", "json"])
        .await;
    let checks = checks(&ran);
    for name in ["configuration", "data folder", "ports", "git"] {
        assert_eq!(level(&checks, name), "ok", "{checks:?}");
    }
}

#[tokio::test]
async fn a_running_server_is_not_disturbed() {
    let (program, _server) = served().await;
    let ran = program.run(&["doctor"]).await;
    assert!(ran.stdout.contains("in use by a running server"), "{ran:?}");
    assert!(ran.stdout.contains("dev: 0 runs agree"), "{ran:?}");
    program.run(&["token", "list"]).await.ok();
}

#[tokio::test]
async fn a_spoilt_database_fails_the_check_and_says_which() {
    let program = Program::new();
    program.write(".forebay/prod/forebay.db", "no database any more");
    program.write(".forebay/dev/key", "");
    let _sound = Store::open(&program.path().join(".forebay/dev/forebay.db")).unwrap();
    let port = free_ports(3).to_string();
    let ran = program.run(&["doctor", "--port", &port]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("ok") && l.contains("dev is sound")),
        "{ran:?}"
    );
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("fail  database") && l.contains("prod")),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_run_whose_rows_differ_from_its_history_is_named() {
    let program = Program::new();
    let path = program.path().join(".forebay/dev/forebay.db");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let store = Store::open(&path).unwrap();
    let creator = (UserId(1), "a@b.c".to_owned());
    let new = NewRun::new(RunKind::Submit, creator, "t", serde_json::Map::new());
    let plan = Plan::new(vec![TaskPlan::new("only")], &[Vec::new()]).unwrap();
    let slots = Some(Slots::of_one(1));
    let created = store.run_create(new, plan, slots, Millis(1)).await;
    let id = created.unwrap().id;
    let port = free_ports(3).to_string();
    let doctor = ["doctor", "--port", &port];
    let ran = program.run(&doctor).await;
    assert!(ran.ok().contains("dev: 1 runs agree with their 3 events"));

    store
        .run_abandon(id, "gone".to_owned(), Millis(2))
        .await
        .unwrap();
    let spoil = "UPDATE run SET phase = 'running', verdict = NULL";
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute(spoil, [])
        .unwrap();
    let ran = program.run(&doctor).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    let expected =
        format!("run {id}: its state: the rows say running, the history ended as internal_error");
    assert!(ran.stdout.contains(&expected), "{ran:?}");
}

#[tokio::test]
async fn a_taken_port_and_a_wrong_option_are_both_shown() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let program = Program::new();
    program.write("forebay.toml", "isolation = \"maybe\"\n");
    let ran = program
        .run(&["doctor", "--port", &port, "--output", "json"])
        .await;
    assert_eq!(ran.code, 1);
    let checks = checks(&ran);
    assert_eq!(level(&checks, "configuration"), "fail");
    assert_eq!(level(&checks, "ports"), "fail");
}
