//! Runs that are forked from a warm parent, and runs without any walls.

use std::time::Duration;

use forebay_exec::{Executor, IsolationLevel, Limits, Mounts, Outcome, StartError};
use forebay_exec_local::{LocalConfig, LocalExecutor};

use crate::support::{Bench, RUNTIME, config, executor, finish, leftovers, sleepers};

async fn warm_bench() -> Bench {
    let mut bench = Bench::new();
    bench.workload.preload = true;
    let prepared = executor()
        .await
        .prepare(&bench.workload.place)
        .await
        .unwrap();
    assert!(prepared.warm && !prepared.environment.is_empty());
    bench
}

#[test]
fn warm_runs_are_like_fresh_ones_but_draw_other_numbers() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let cells = [
            "[n for n in dir() if not n.startswith('_')]",
            "import sys; 'pandas' in sys.modules",
            "import random, numpy as np\nrandom.random(), np.random.rand()",
            "import os; os.getpid()",
            "1/0",
        ];
        let (one, two) = (bench.cells(&cells).await, bench.cells(&cells).await);
        for report in [&one, &two] {
            assert!(report.failed("ZeroDivisionError").ended.warm);
            assert_eq!(leftovers(), Vec::<String>::new());
            let shown = report.shown();
            assert_eq!((shown[1].as_str(), shown[3].as_str()), ("True", "2"));
        }
        assert_ne!(one.shown()[2], two.shown()[2]);
        bench.workload.preload = false;
        let fresh = bench.cells(&cells[..1]).await;
        assert!(!fresh.ended.warm);
        assert_eq!(fresh.shown()[0], one.shown()[0]);
    });
}

#[test]
fn runs_of_one_parent_do_not_meet() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let report = bench
            .cells(&[
                "import os\nfor p in ('/tmp/x', '/dev/shm/x', '/root/x', '/local_disk0/x'):\n    \
                 open(p, 'w').write('1')",
                "os.environ['LEAK'] = '1'",
            ])
            .await;
        report.succeeded();
        let report = bench
            .cells(&[
                "import os\n[os.listdir(p) for p in ('/tmp', '/dev/shm', '/root')], os.listdir('/local_disk0')",
                "os.environ.get('LEAK')",
            ])
            .await;
        let shown = report.succeeded().shown();
        assert!(!shown[0].contains("'x'"), "{shown:?}");
        assert_eq!(shown.len(), 1);
    });
}

#[test]
fn a_harmful_run_does_not_hurt_its_parent() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let bad = [
            "import os; os.kill(os.getppid(), 9); os.kill(os.getpid(), 9)",
            "import os; os.closerange(0, 1000)",
            "import ctypes; ctypes.string_at(0)",
        ];
        for source in bad {
            let report = bench.cells(&[source]).await;
            assert!(
                matches!(report.outcome(), Outcome::Crashed { .. }),
                "{report:#?}"
            );
        }
        assert!(bench.cells(&["1"]).await.succeeded().ended.warm);
    });
}

#[test]
fn many_warm_runs_side_by_side() {
    RUNTIME.block_on(async {
        let bench = warm_bench().await;
        let mut running = Vec::new();
        for number in 0..12 {
            let mut bench = Bench {
                folder: tempfile::tempdir().unwrap(),
                host: bench.host.clone(),
                workload: bench.workload.clone(),
            };
            let source = format!("import pandas as pd\nint(pd.Series([{number}] * 3).sum())");
            // Its channel and the event loop's own pair: nothing of its parent's or its neighbours'.
            let connections = "import os\n\
                 links = [os.readlink(e.path) for e in os.scandir('/proc/self/fd') if e.is_symlink()]\n\
                 sum(l.startswith('socket:') for l in links), sum('pidfd' in l for l in links)";
            let first = "try: open('/proc/1/mem', 'rb')\nexcept PermissionError: print('refused')";
            let cells = [source.as_str(), connections, first].map(str::to_owned);
            running.push(RUNTIME.spawn(async move {
                bench.cells(&cells.each_ref().map(String::as_str)).await
            }));
        }
        for (number, run) in running.into_iter().enumerate() {
            let report = run.await.unwrap();
            let shown = [(number * 3).to_string(), "(3, 0)".to_owned()];
            assert_eq!(report.succeeded().shown(), shown);
            assert_eq!(report.stdout(), "refused\n");
        }
    });
}

#[test]
fn figures_show_in_warm_runs_too() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let report = bench
            .cells(&["import matplotlib.pyplot as plt\nplt.plot([1, 2]);"])
            .await;
        report.succeeded();
        let events = serde_json::to_string(&report.events).unwrap();
        assert!(events.contains("image/png"), "{events}");
    });
}

#[test]
fn without_walls_a_run_is_refused_unless_the_policy_allows_it() {
    RUNTIME.block_on(async {
        let strict = LocalExecutor::open(config()).await.unwrap().without_walls();
        let mut bench = Bench::new();
        let refused = strict
            .start(bench.workload.clone(), bench.host.clone())
            .await;
        let Err(StartError::Isolation(message)) = refused else {
            panic!("it started");
        };
        assert!(message.contains("isolation level none"), "{message}");

        let lax = LocalConfig {
            isolation_min: IsolationLevel::None,
            ..config()
        };
        let lax = LocalExecutor::open(lax).await.unwrap().without_walls();
        bench.workload.place.mounts = Mounts::default();
        bench.workload.working_dir = bench.folder.path().to_string_lossy().into_owned();
        bench.workload.program = crate::support::notebook(&[
            "import os, subprocess\nos.getcwd()",
            "subprocess.Popen(['sleep', '12347'], start_new_session=True).pid > 0",
            "%pip list",
            "%r\ncat(dir.exists(tempdir()), basename(.libPaths()[1]), '\\n')",
            "import time\ncache, old = os.environ['UV_CACHE_DIR'], time.time() - 20 * 86400\n\
             os.utime(cache, (old, old))",
        ]);
        let run = lax
            .start(bench.workload.clone(), bench.host.clone())
            .await
            .unwrap();
        let report = finish(run).await;
        report.succeeded();
        assert!(report.stdout().ends_with("TRUE r \n"), "{report:#?}");
        assert_eq!(report.ended.isolation, "none");
        assert_eq!(leftovers(), Vec::<String>::new());
        assert_eq!(sleepers(&["12347"]), Vec::<String>::new());

        // Its cache of packages has been used, and will stay.
        bench.workload.program = crate::support::notebook(&["import os, time\n\
            time.time() - os.stat(os.environ['UV_CACHE_DIR']).st_mtime < 86400"]);
        let run = lax
            .start(bench.workload.clone(), bench.host.clone())
            .await
            .unwrap();
        assert_eq!(finish(run).await.succeeded().shown(), ["True"]);

        bench.workload.limits = Limits {
            grace: Duration::from_millis(300),
            ..Limits::default()
        };
        bench.workload.program = crate::support::notebook(&["import signal\n\
            signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"]);
        let mut run = lax
            .start(bench.workload.clone(), bench.host.clone())
            .await
            .unwrap();
        run.next_event().await.unwrap();
        run.canceler().cancel(forebay_exec::CancelReason::Requested);
        let report = finish(run).await;
        assert_eq!(report.outcome(), &Outcome::Canceled);
    });
}

#[test]
fn mounts_that_would_cover_the_system_are_refused() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        for at in ["/usr", "/dbfs/../usr", "/", "/dbfsx"] {
            bench.workload.place.mounts.0[0].at = at.to_owned();
            let refused = executor()
                .await
                .start(bench.workload.clone(), bench.host.clone())
                .await;
            assert!(matches!(refused, Err(StartError::Invalid(_))), "{at}");
        }
        bench.workload.place.runtime = "none".to_owned();
        bench.workload.place.mounts = Mounts::default();
        let refused = executor()
            .await
            .start(bench.workload.clone(), bench.host.clone())
            .await;
        assert!(matches!(refused, Err(StartError::UnknownRuntime { .. })));
    });
}

#[test]
fn a_mount_below_another_and_a_read_only_one() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let raw = bench.folder.path().join("raw");
        std::fs::create_dir_all(&raw).unwrap();
        std::fs::write(raw.join("a"), "1").unwrap();
        let mount = forebay_exec::Mount::read_only(&raw, "/dbfs/mnt/raw");
        bench.workload.place.mounts.0.push(mount);
        let report = bench
            .cells(&[
                "dbutils.fs.ls('/mnt/raw')[0].path",
                "try: open('/dbfs/mnt/raw/b', 'w')\nexcept OSError as e: print(e.strerror)",
            ])
            .await;
        assert_eq!(report.succeeded().shown(), ["'dbfs:/mnt/raw/a'"]);
        assert_eq!(report.stdout(), "Read-only file system\n");
    });
}

/// The processes that write to a log of this executor's parents, and have not been stopped.
fn parents_of(data_dir: &std::path::Path) -> Vec<String> {
    let logs = data_dir.canonicalize().unwrap().join("scratch");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let writes = |pid: &String| {
        let log = std::fs::read_link(format!("/proc/{pid}/fd/2"));
        log.is_ok_and(|log| log.starts_with(&logs) && log.extension().is_some())
    };
    processes
        .filter_map(|process| process.file_name().into_string().ok())
        .filter(writes)
        .collect()
}

#[test]
fn a_warm_parent_that_hangs_holds_up_no_run_for_ever_and_gets_no_more() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let own = tempfile::tempdir().unwrap();
        let impatient = LocalConfig {
            data_dir: own.path().to_owned(),
            environments: Some(crate::support::data_dir()),
            fork_max: Duration::from_millis(500),
            ..config()
        };
        let impatient = LocalExecutor::open(impatient).await.unwrap();
        assert!(impatient.prepare(&bench.workload.place).await.unwrap().warm);
        let start = async |bench: &Bench| {
            let started = impatient.start(bench.workload.clone(), bench.host.clone());
            started.await.unwrap()
        };
        bench.workload.program = crate::support::notebook(&[
            "import os, time\nwhile not os.path.exists('/dbfs/go'): time.sleep(0.01)\n'on'",
        ]);
        let neighbour = start(&bench).await;
        let hung = parents_of(own.path());
        assert!(!hung.is_empty());
        let signal = |name: &str, pids: &[String]| {
            let mut kill = std::process::Command::new("kill");
            assert!(kill.arg(name).args(pids).status().unwrap().success());
        };
        signal("-STOP", &hung);
        bench.workload.program = crate::support::notebook(&["'here'"]);
        for warm in [false, true] {
            if warm {
                let place = &bench.workload.place;
                assert!(impatient.prepare(place).await.unwrap().warm);
            }
            bench.workload.run_id = forebay_types::RunId(bench.workload.run_id.0 + 100_000);
            let report = finish(start(&bench).await).await;
            assert_eq!(report.succeeded().shown(), ["'here'"]);
            assert_eq!(
                report.ended.warm, warm,
                "of a new parent as soon as there is one"
            );
        }
        // What it had begun before goes on with it.
        signal("-CONT", &hung);
        std::fs::write(bench.folder.path().join("dbfs/go"), "").unwrap();
        let report = finish(neighbour).await;
        assert_eq!(report.succeeded().shown(), ["'on'"]);
    });
}

/// What was sent to a start that was given up is never read, so the parent sees a connection that
/// was reset.
#[test]
fn starts_that_are_given_up_leave_their_neighbours_alone() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let wait = "import os, time\nwhile not os.path.exists('/dbfs/go'): time.sleep(0.01)\n'on'";
        bench.workload.program = crate::support::notebook(&[wait]);
        let neighbour = bench.start().await;
        bench.workload.program = crate::support::notebook(&["1"]);
        for step in 0..60 {
            let patience = std::time::Duration::from_micros(250 * step);
            drop(tokio::time::timeout(patience, bench.start()).await);
        }
        std::fs::write(bench.folder.path().join("dbfs/go"), "").unwrap();
        let report = crate::support::finish(neighbour).await;
        assert_eq!(report.succeeded().shown(), ["'on'"]);
    });
}

#[test]
fn servers_of_one_machine_can_share_their_environments() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let own = tempfile::tempdir().unwrap();
        let beside = LocalConfig {
            data_dir: own.path().to_owned(),
            environments: Some(crate::support::data_dir()),
            ..config()
        };
        let beside = LocalExecutor::open(beside).await.unwrap();
        bench.workload.program = crate::support::notebook(&["import pandas\n'here'"]);
        let execution = beside.start(bench.workload.clone(), bench.host.clone());
        let execution = execution.await.unwrap();
        let report = crate::support::finish(execution).await;
        assert_eq!(report.succeeded().shown(), ["'here'"]);
        assert!(!own.path().join("envs").exists());

        let wrong = LocalConfig {
            data_dir: own.path().to_owned(),
            environments: Some("/usr/forebay".into()),
            ..config()
        };
        let error = LocalExecutor::open(wrong).await.unwrap_err().to_string();
        assert!(error.contains("folder of environments"), "{error}");
        assert!(!std::path::Path::new("/usr/forebay").exists());
    });
}
