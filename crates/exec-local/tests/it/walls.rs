//! What a run gets to see and may ask for: its mounts, its share of the server, its parent.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use forebay_exec::{CallId, Executor, Host, HostError, Mount, Outcome, StartError};
use forebay_exec_local::{LocalConfig, LocalExecutor};
use serde_json::{Value, json};

use crate::support::{Bench, RUNTIME, config, executor, finish, notebook};

/// A bench of a user who sees only some folders of the tree.
fn plain_user() -> Bench {
    let mut bench = Bench::new();
    let tree = bench.folder.path().join("Workspace");
    for folder in ["Shared", "Users/me", "Users/other", "Repos/me"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    std::fs::write(tree.join("Users/other/theirs"), "theirs").unwrap();
    std::fs::write(tree.join("Users/me/mine"), "mine").unwrap();
    let mounts = &mut bench.workload.place.mounts.0;
    mounts.retain(|mount| mount.at != "/Workspace");
    for folder in ["Shared", "Users/me", "Repos/me"] {
        mounts.push(Mount::writable(&tree, format!("/Workspace/{folder}")).only(folder));
    }
    bench.workload.working_dir = "/Workspace/Users/me".to_owned();
    bench
}

#[test]
fn folders_of_a_tree_without_the_tree() {
    RUNTIME.block_on(async {
        let mut bench = plain_user();
        let report = bench
            .cells(&[
                "import os; [sorted(os.listdir('/Workspace' + d)) for d in ('', '/Users', '/Repos')]",
                "open('mine').read(), open('new', 'w').write('1')",
                "open('/Workspace/Shared/a', 'w').write('1'), open('/Workspace/Repos/me/a', 'w').write('1')",
                "os.path.exists('/Workspace/Users/other/theirs')",
                "for p in ('/Workspace/x', '/Workspace/Users/other'):\n    \
                 try: os.mkdir(p)\n    except OSError as e: print(e.strerror)",
                "os.symlink('../other', 'link'); os.path.exists('link/theirs')",
            ])
            .await;
        assert_eq!(
            report.succeeded().shown(),
            [
                "[['Repos', 'Shared', 'Users'], ['me'], ['me']]",
                "('mine', 1)",
                "(1, 1)",
                "False",
                "False",
            ]
        );
        assert_eq!(report.stdout().matches("Read-only file system").count(), 2);
        let tree = bench.folder.path().join("Workspace");
        assert!(tree.join("Users/me/new").exists() && tree.join("Shared/a").exists());
        assert!(!tree.join("x").exists());
    });
}

#[test]
fn of_a_private_mount_a_run_sees_its_own_folder_only() {
    RUNTIME.block_on(async {
        let mut bench = plain_user();
        let own = bench.folder.path().join("own");
        for name in ["1", "2"] {
            std::fs::create_dir_all(own.join(name)).unwrap();
            std::fs::write(own.join(name).join("code"), name).unwrap();
        }
        let mounts = &mut bench.workload.place.mounts.0;
        mounts.push(Mount::private(&own, "/Workspace/Repos/.own"));
        bench.workload.preload = true;
        let place = &bench.workload.place;
        executor().await.prepare(place).await.unwrap();
        let look = "import os, glob; [open(p).read() for p in glob.glob('/Workspace/Repos/.own/**', recursive=True) if os.path.isfile(p)]";
        let write = "try: open('/Workspace/Repos/.own/new', 'w')\nexcept OSError as e: print(e.strerror)";
        for (name, seen) in [(Some("1"), "['1']"), (None, "[]"), (Some("2"), "['2']")] {
            bench.workload.private = name.map(str::to_owned);
            let report = bench.cells(&[look, write]).await;
            assert_eq!(report.succeeded().shown(), [seen]);
            assert_eq!(report.stdout(), "Read-only file system\n");
            assert!(report.ended.warm, "a folder of its own costs no parent");
        }
        bench.workload.private = Some("../own".to_owned());
        let executor = executor().await;
        let started = executor.start(bench.workload.clone(), bench.host.clone());
        assert!(matches!(started.await, Err(StartError::Invalid(_))));
    });
}

#[test]
fn a_folder_made_anew_is_seen_by_the_next_run() {
    RUNTIME.block_on(async {
        let mut bench = plain_user();
        bench.workload.preload = true;
        let repos = bench.folder.path().join("Workspace/Repos/me");
        for number in 0..2 {
            std::fs::remove_dir_all(&repos).unwrap();
            std::fs::create_dir(&repos).unwrap();
            std::fs::write(repos.join("number"), number.to_string()).unwrap();
            let place = &bench.workload.place;
            executor().await.prepare(place).await.unwrap();
            let cell = "open('/Workspace/Repos/me/number').read()";
            let report = bench.cells(&[cell]).await;
            assert_eq!(report.succeeded().shown(), [format!("'{number}'")]);
            assert!(report.ended.warm);
        }
    });
}

#[test]
fn a_link_in_the_place_of_a_folder_is_not_followed() {
    RUNTIME.block_on(async {
        let bench = plain_user();
        let tree = bench.folder.path().join("Workspace");
        std::fs::remove_dir(tree.join("Repos/me")).unwrap();
        symlink("/etc", tree.join("Repos/me")).unwrap();
        let refused = start(&bench).await;
        assert!(matches!(refused, StartError::Invalid(_)), "{refused:?}");
    });
}

#[test]
fn a_mount_point_is_not_made_through_a_link() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let folder = bench.folder.path();
        let (raw, outside) = (folder.join("raw"), folder.join("outside"));
        for made in [&raw, &outside] {
            std::fs::create_dir(made).unwrap();
        }
        symlink(&outside, folder.join("dbfs/mnt")).unwrap();
        let mount = Mount::writable(&raw, "/dbfs/mnt/raw");
        bench.workload.place.mounts.0.push(mount);
        let StartError::Host { source, .. } = start(&bench).await else {
            panic!("not as expected");
        };
        assert!(source.to_string().contains("/dbfs/mnt/raw"), "{source}");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    });
}

async fn start(bench: &Bench) -> StartError {
    let executor = executor().await;
    let started = executor
        .start(bench.workload.clone(), bench.host.clone())
        .await;
    let Err(error) = started else {
        panic!("it started");
    };
    error
}

#[test]
fn users_do_not_share_a_package_cache() {
    RUNTIME.block_on(async {
        let cache = ["import os; os.environ['UV_CACHE_DIR']"];
        let (mut one, mut two) = (plain_user(), plain_user());
        let (first, again) = (one.cells(&cache).await, one.cells(&cache).await);
        assert_eq!(first.succeeded().shown(), again.shown());
        assert_ne!(first.shown(), two.cells(&cache).await.succeeded().shown());
    });
}

#[test]
fn a_data_folder_that_programs_can_read_is_refused() {
    RUNTIME.block_on(async {
        let folder = tempfile::tempdir_in("/usr/local/share").unwrap();
        let refused = LocalExecutor::open(LocalConfig {
            data_dir: folder.path().to_owned(),
            ..config()
        });
        let message = refused.await.unwrap_err().to_string();
        assert!(message.contains("choose another data folder"), "{message}");
    });
}

/// Counts how many calls are under way.
#[derive(Default)]
struct BusyHost {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

#[async_trait]
impl Host for BusyHost {
    async fn call(&self, _: CallId, _: &str, _: Value) -> Result<Value, HostError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        Ok(json!({"mounts": []}))
    }
}

#[test]
fn a_flood_of_calls_waits_outside() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.program = notebook(&[
            "import gc\nch = next(o for o in gc.get_objects() if type(o).__name__ == 'Channel')",
            "for i in range(5000): ch.send('call', id=10**6 + i, method='fs.mounts', args={})",
            "dbutils.fs.mounts()",
        ]);
        let host = Arc::new(BusyHost::default());
        let run = executor()
            .await
            .start(bench.workload.clone(), host.clone())
            .await
            .unwrap();
        finish(run).await.succeeded();
        assert_eq!(host.all.load(Ordering::SeqCst), 5001);
        assert_eq!(host.most.load(Ordering::SeqCst), 64);
    });
}

#[test]
fn what_is_too_large_is_cut_and_the_run_goes_on() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.memory_bytes = Some(2 << 30);
        let report = bench
            .cells(&[
                "print('\\0' * (30 << 20))",
                "displayHTML('x' * (50 << 20))",
                "try: dbutils.jobs.taskValues.set('k', 'x' * (50 << 20))\n\
                 except ValueError as e: print('refused')",
                "print('on')",
            ])
            .await;
        report.succeeded();
        assert!(
            report.stderr().contains("output truncated"),
            "{}",
            report.stderr()
        );
        assert!(
            report.stderr().contains("output left out"),
            "{}",
            report.stderr()
        );
        assert!(report.stdout().ends_with("refused\non\n"));
        let failed = bench.cells(&["raise ValueError('é' * (30 << 20))"]).await;
        let Outcome::Failed { message, trace, .. } = failed.failed("ValueError").outcome() else {
            unreachable!();
        };
        assert_eq!(message.len(), 64 << 10);
        assert!(trace.len() <= 1 << 20);
    });
}

#[test]
fn an_idle_parent_ends_and_the_next_run_does_not_mind() {
    RUNTIME.block_on(async {
        let local = LocalConfig {
            warm_idle: Duration::from_millis(50),
            ..config()
        };
        let local = LocalExecutor::open(local).await.unwrap();
        let mut bench = Bench::new();
        bench.workload.preload = true;
        bench.workload.program = notebook(&["1"]);
        for _ in 0..3 {
            local.prepare(&bench.workload.place).await.unwrap();
            let run = local.start(bench.workload.clone(), bench.host.clone());
            let report = finish(run.await.unwrap()).await;
            report.succeeded();
            let tree = bench.folder.path().to_string_lossy().into_owned();
            crate::support::until("the parent is gone", || parents(&tree) == 0).await;
        }
        local.stop().await;
    });
}

/// Processes that see this folder and have not ended.
fn parents(folder: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    processes
        .filter(|process| process.file_name() != own.as_str())
        .filter_map(|process| std::fs::read_to_string(process.path().join("mountinfo")).ok())
        .filter(|mounts| mounts.contains(folder))
        .count()
}

/// Plays the server to a zygote whose first fork fails.
const FAILING_FORK: &str = r"
import errno, json, os, socket, sys
sys.path.append(sys.argv[1])
from forebay_driver import zygote
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if os.fork() == 0:
    ours.close()
    fork = os.fork
    def once():
        os.fork = fork
        raise OSError(errno.EAGAIN, 'no processes left')
    os.fork = once
    pidfd_open = os.pidfd_open
    def without_descriptors(pid):
        os.pidfd_open = pidfd_open
        raise OSError(errno.EMFILE, 'no descriptors left')
    os.pidfd_open = without_descriptors
    settings = {'control_fd': theirs.detach(), 'sandbox': False, 'warm': None, 'preload': [],
                'idle_seconds': 60, 'env': {}}
    sys.argv = ['', json.dumps(settings)]
    zygote.main()
theirs.close()
assert ours.recv(16) == b'ready'
def ask():
    status, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.send(json.dumps({'do': 'prepare', 'name': 'a', 'sandbox': False, 'rlimits': {}}).encode())
    request = json.dumps({'do': 'run', 'name': 'a'}).encode()
    socket.send_fds(ours, [request], [other.fileno()] * 4)
    other.close()
    return status.recv(4096)
assert ask() == b''
assert ask() == b''
assert b'begun' in ask()
";

#[test]
fn a_parent_that_cannot_fork_lives_on() {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python");
    let mut python = Command::new("python3.11");
    let done = python.args(["-B", "-I", "-c", FAILING_FORK]).arg(&driver);
    let output = done.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("no processes left"), "{errors}");
    assert!(errors.contains("no descriptors left"), "{errors}");
}
