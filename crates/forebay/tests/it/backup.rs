use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay::Server;
use forebay_config::Config;
use forebay_control::{Ctx, Services};
use forebay_engine::{Plan, TaskPlan, Verdict};
use forebay_store::{
    Attempt, AttemptEnd, Created, NewRun, RunFilter, RunKind, Slots, history_check,
};
use forebay_types::{Millis, RunId, UserId};
use serde_json::Value;

use crate::program::{Ran, free_ports, served, start};

fn plan() -> Plan {
    Plan::new(vec![TaskPlan::new("only")], &[Vec::new()]).unwrap()
}

fn succeeded() -> AttemptEnd {
    AttemptEnd {
        verdict: Verdict::Succeeded,
        code: "SUCCESS",
        message: String::new(),
        error: None,
        trace: None,
        exit_value: None,
        facts: Value::Null,
        retry: false,
    }
}

/// A run that holds a slot and has put something out.
async fn begun(services: &Services) -> (RunId, Attempt) {
    let creator = (UserId(1), "a@b.c".to_owned());
    let new = NewRun::new(RunKind::Submit, creator, "t", serde_json::Map::new());
    let store = &services.store;
    let slots = Some(Slots::of_one(1000));
    let created = store.run_create(new, plan(), slots, Millis(1));
    let Created {
        id, mut claimed, ..
    } = created.await.unwrap();
    let attempt = claimed.pop().unwrap();
    let folder = services.dirs.runs.join(attempt.id.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("output.jsonl"), "{}\n".repeat(100)).unwrap();
    (id, attempt)
}

/// Runs begin, end and are deleted until somebody says stop.
async fn load(services: Arc<Services>, stop: Arc<AtomicBool>) {
    let mut count = 0;
    let mut before = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (id, attempt) = begun(&services).await;
        let folder = services.dirs.runs.join(attempt.id.to_string());
        let end = services
            .store
            .attempt_end(attempt, plan(), succeeded(), None, Millis(2));
        end.await.unwrap();
        before.push((id, folder));
        count += 1;
        if count % 3 == 0 {
            let (id, folder) = before.remove(0);
            services.store.run_delete(id).await.unwrap();
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

async fn secret(services: &Services, admin: &Ctx) -> Vec<u8> {
    let value = services.secrets.get(admin, "scope", "key").await;
    value.unwrap().1
}

async fn server(data: &Path) -> Server {
    let config = Config {
        data: data.to_owned(),
        port: free_ports(3),
        port_80: Some(false),
        ..Config::default()
    };
    start(config).await
}

#[tokio::test]
async fn what_was_backed_up_under_load_comes_back_whole() {
    let (program, running) = served().await;
    let services = Arc::clone(&running.apps[0].services);
    let admin = Ctx::new(services.identity.first_admin().await.unwrap());
    let secrets = &services.secrets;
    secrets.scope_create(&admin, "scope", false).await.unwrap();
    let put = secrets.put(&admin, "scope", "key", b"opensesame");
    put.await.unwrap();
    let odd = program.path().join(".forebay/dev/dbfs/line\nend");
    std::fs::write(&odd, "x").unwrap();
    std::os::unix::fs::symlink("FileStore", odd.with_file_name("link")).unwrap();
    let (live, _) = begun(&services).await;

    let stop = Arc::new(AtomicBool::new(false));
    let working = {
        let (services, stop) = (Arc::clone(&services), Arc::clone(&stop));
        async move { load(services, stop).await }
    };
    let backing = async {
        let ran = program
            .run(&["backup", "backup.tar", "--output", "json"])
            .await;
        stop.store(true, Ordering::Relaxed);
        ran
    };
    let ((), ran) = tokio::join!(working, backing);
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!(report["workspaces"][0]["name"], "dev");
    assert_eq!(report["notes"], serde_json::json!([]));

    program
        .run(&["restore", "backup.tar", "--data", "new"])
        .await
        .ok();
    let data = program.path().join("new");
    assert!(data.join("dev/dbfs/line\nend").is_file());
    assert!(data.join("dev/dbfs/link").is_symlink());
    let report = history_check(&data.join("dev/forebay.db")).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    let again = server(&data).await;
    let services = &again.apps[0].services;
    let admin = Ctx::new(services.identity.first_admin().await.unwrap());
    assert_eq!(secret(services, &admin).await, b"opensesame");
    let runs = services.store.run_list(RunFilter {
        limit: 100_000,
        ..RunFilter::default()
    });
    let runs = runs.await.unwrap();
    assert!(!runs.is_empty());
    for (run, attempts) in runs {
        let folder = services.dirs.runs.join(attempts[0].id.to_string());
        assert!(folder.join("output.jsonl").is_file(), "{run:?}");
    }
    // What was under way then cannot go on now, and says so.
    let mut phase = services.store.run_get(live).await.unwrap().0.phase;
    for _ in 0..500 {
        if phase.is_ended() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        phase = services.store.run_get(live).await.unwrap().0.phase;
    }
    assert_eq!(phase.verdict(), Some(Verdict::InternalError));
    again.stop(std::time::Duration::from_secs(10)).await;
}

fn refused(ran: &Ran, why: &str) {
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains(why), "{why}: {ran:?}");
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let (program, running) = served().await;
    let content = "content that can be damaged".repeat(100);
    program.write(".forebay/dev/dbfs/FileStore/x.txt", &content);
    program.run(&["backup", "good.tar"]).await.ok();
    running.stop(std::time::Duration::from_secs(10)).await;
    let good = std::fs::read(program.path().join("good.tar")).unwrap();
    let restore = async |bytes: &[u8]| {
        std::fs::write(program.path().join("bad.tar"), bytes).unwrap();
        let ran = program.run(&["restore", "bad.tar", "--data", "new"]).await;
        let left = std::fs::read_dir(program.path()).unwrap();
        let left = left.filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().contains("new")
        });
        assert_eq!(left.count(), 0, "{ran:?}");
        ran
    };
    let needle = content.as_bytes();
    let place = good
        .windows(needle.len())
        .position(|w| w == needle)
        .unwrap();

    let mut flipped = good.clone();
    flipped[place + 10] ^= 1;
    refused(
        &restore(&flipped).await,
        "dev/dbfs/FileStore/x.txt is not what was backed up",
    );
    refused(&restore(&good[..place + 10]).await, "is damaged");
    // Cut at the end of an entry, where tar itself sees nothing wrong.
    let header = place - 512;
    refused(
        &restore(&good[..header]).await,
        "its list of digests is missing",
    );
    refused(&restore(b"no tar at all").await, "is no backup of Forebay");
    let text = String::from_utf8_lossy(&good[..2048]).into_owned();
    let at = text.find("\"format\": 1").unwrap();
    let mut newer = good.clone();
    newer[at + 10] = b'9';
    refused(&restore(&newer).await, "a newer Forebay made this backup");
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let (program, _running) = served().await;
    program.write("there.tar", "mine");
    refused(
        &program.run(&["backup", "there.tar"]).await,
        "exists already",
    );
    let inside = program.run(&["backup", ".forebay/b.tar"]).await;
    refused(&inside, "lies in the data folder itself");
    program.write("empty/x", "");
    let none = program.run(&["backup", "b.tar", "--data", "empty"]).await;
    refused(&none, "no workspace is in it");
    program.run(&["backup", "b.tar"]).await.ok();
    let full = program.run(&["restore", "b.tar", "--data", "empty"]).await;
    refused(&full, "is not empty");
    use std::os::unix::fs::MetadataExt;
    let mode = program.path().join("b.tar").metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o600, "keys are in it");
}
