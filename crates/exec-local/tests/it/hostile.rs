//! Programs that mean harm, or do it by accident. After each of them the executor goes on.

use std::time::{Duration, Instant};

use forebay_exec::{CancelReason, Executor, Outcome};

use crate::support::{Bench, RUNTIME, Report, data_dir, executor, finish, leftovers, sleepers};

/// Nothing of the run is left, and the next one works.
async fn aftermath(report: &Report) {
    assert_eq!(leftovers(), Vec::<String>::new(), "{report:#?}");
    let next = Bench::new().cells(&["1 + 1"]).await;
    assert_eq!(next.succeeded().shown(), ["2"]);
}

#[test]
fn a_flood_is_cut_and_the_run_goes_on() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.output_cell_bytes = 1 << 20;
        let flood = "for _ in range(1000):\n    print('x' * 99_999)";
        let raw = "import os\nfor _ in range(1000):\n    os.write(1, b'y' * 100_000)";
        let report = bench.cells(&[flood, raw, "print('after')"]).await;
        report.succeeded();
        assert_eq!(
            report.stderr().matches("output truncated").count(),
            2,
            "{}",
            report.stderr()
        );
        let out = report.stdout();
        assert!(
            out.len() < 3 << 20 && out.ends_with("after\n"),
            "{}",
            out.len()
        );
        aftermath(&report).await;
    });
}

#[test]
fn a_flood_over_the_limit_of_the_run_ends_it() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.output_cell_bytes = 1 << 20;
        bench.workload.limits.output_run_bytes = 1 << 19;
        let report = bench.cells(&["while True: print('x' * 1000)"]).await;
        assert_eq!(
            report.outcome(),
            &Outcome::OutputLimit {
                limit_bytes: 1 << 19
            }
        );
        aftermath(&report).await;
    });
}

async fn cancel_when_it_says_go(source: &str) -> Report {
    let mut bench = Bench::new();
    bench.workload.limits.grace = Duration::from_millis(500);
    bench.workload.program = crate::support::notebook(&[source]);
    let mut execution = bench.start().await;
    let canceler = execution.canceler();
    let mut events = Vec::new();
    while let Some(event) = execution.next_event().await {
        if serde_json::to_string(&event).unwrap().contains("go") {
            canceler.cancel(CancelReason::Requested);
        }
        events.push(event);
    }
    Report {
        events,
        ended: execution.finish().await,
    }
}

#[test]
fn an_endless_loop_is_interrupted() {
    RUNTIME.block_on(async {
        for source in [
            "print('go')\nwhile True: pass",
            "print('go')\nimport time; time.sleep(1000)",
            "print('go')\nimport asyncio; await asyncio.sleep(1000)",
            "!echo go; sleep 1000",
            "%sh echo go; sleep 1000",
        ] {
            let begun = Instant::now();
            let report = cancel_when_it_says_go(source).await;
            assert_eq!(
                report.outcome(),
                &Outcome::Canceled,
                "{source}: {report:#?}"
            );
            assert!(begun.elapsed() < Duration::from_secs(20), "{source}");
        }
        let report = cancel_when_it_says_go("print('go')\nwhile True: pass").await;
        let text = serde_json::to_string(&report.events).unwrap();
        assert!(text.contains("KeyboardInterrupt"), "{text}");
        aftermath(&report).await;
    });
}

#[test]
fn a_loop_that_ignores_the_interrupt_is_killed_after_the_grace() {
    RUNTIME.block_on(async {
        let stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n\
                        print('go')\nwhile True: pass";
        let report = cancel_when_it_says_go(stubborn).await;
        assert_eq!(report.outcome(), &Outcome::Canceled);
        aftermath(&report).await;
    });
}

#[test]
fn a_time_out_is_told_from_a_cancel() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.program = crate::support::notebook(&["while True: pass"]);
        let execution = bench.start().await;
        execution.canceler().cancel(CancelReason::TimedOut);
        execution.canceler().cancel(CancelReason::Requested);
        assert_eq!(finish(execution).await.outcome(), &Outcome::TimedOut);
    });
}

#[test]
fn all_memory_is_out_of_memory() {
    RUNTIME.block_on(async {
        if executor().await.isolation().accounting == "none" {
            return;
        }
        let mut bench = Bench::new();
        bench.workload.limits.memory_bytes = Some(200 << 20);
        let report = bench
            .cells(&["x = []\nwhile True: x.append(bytearray(1 << 20))"])
            .await;
        let limit_bytes = Some(200 << 20);
        assert_eq!(report.outcome(), &Outcome::OutOfMemory { limit_bytes });
        let peak = report.ended.usage.memory_peak_bytes.unwrap();
        assert!(peak > 150 << 20 && peak <= 200 << 20, "{peak}");
        aftermath(&report).await;
    });
}

#[test]
fn a_fork_bomb_meets_the_limit() {
    RUNTIME.block_on(async {
        if executor().await.isolation().accounting == "none" {
            return;
        }
        let mut bench = Bench::new();
        bench.workload.limits.pids_max = Some(64);
        let bomb = "import os, time\n\
                    try:\n    while True:\n        if os.fork() == 0: time.sleep(1000)\n\
                    except OSError as e: print('stopped', type(e).__name__)";
        let report = bench.cells(&[bomb]).await;
        assert_eq!(report.succeeded().stdout(), "stopped BlockingIOError\n");
        aftermath(&report).await;
    });
}

#[test]
fn killing_the_parent_or_oneself() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "import os\nfor n in (9, 15, 2): os.kill(1, n)\nprint('still here', os.getppid())",
            ])
            .await;
        // The parent is outside of the namespace: it has no number that a signal could go to.
        assert_eq!(report.succeeded().stdout(), "still here 0\n");
        let report = bench.cells(&["import os; os.kill(os.getpid(), 9)"]).await;
        assert!(
            matches!(
                report.outcome(),
                Outcome::Crashed {
                    signal: Some(9),
                    ..
                }
            ),
            "{report:#?}"
        );
        let report = bench.cells(&["import ctypes; ctypes.string_at(0)"]).await;
        assert!(
            matches!(
                report.outcome(),
                Outcome::Crashed {
                    signal: Some(11),
                    ..
                }
            ),
            "{report:#?}"
        );
        let report = bench.cells(&["import os; os._exit(7)"]).await;
        assert!(
            matches!(report.outcome(), Outcome::Crashed { exit: Some(7), .. }),
            "{report:#?}"
        );
        let report = bench.cells(&["import os; os.kill(-1, 9)"]).await;
        // Neither the first process nor anything outside can be reached.
        report.failed("ProcessLookupError");
        aftermath(&report).await;
    });
}

#[test]
fn closing_or_spoiling_the_descriptors() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&["import os; os.closerange(0, 1000)", "1"])
            .await;
        assert!(
            matches!(report.outcome(), Outcome::Crashed { .. }),
            "{report:#?}"
        );
        let garbage = "import os\nfor fd in range(3, 50):\n    \
                       try: os.write(fd, b'\\xff' * 100)\n    except OSError: pass";
        let report = bench.cells(&[garbage, "1"]).await;
        let Outcome::Crashed { message, .. } = report.outcome() else {
            panic!("{report:#?}");
        };
        assert!(message.contains("driver's own connection"), "{message}");
        aftermath(&report).await;
    });
}

#[test]
fn threads_and_processes_do_not_outlive_the_run() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "import threading, time, subprocess\n\
                 threading.Thread(target=time.sleep, args=(1000,)).start()\n\
                 subprocess.Popen(['sleep', '12345'], start_new_session=True).pid > 0",
                "!(setsid sleep 12346 &) ; echo started",
            ])
            .await;
        assert_eq!(report.succeeded().shown(), ["True"]);
        assert!(report.ended.usage.wall_ms < 10_000);
        assert_eq!(sleepers(&["12345", "12346"]), Vec::<String>::new());
        aftermath(&report).await;
    });
}

#[test]
fn nothing_of_the_host_is_visible() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let secret = data_dir().join("secret.txt");
        std::fs::write(&secret, "secret").unwrap();
        let report = bench
            .cells(&[
                &format!("import os; os.path.exists({secret:?})"),
                "os.listdir('/root'), os.path.exists('/etc/shadow'), os.path.exists('/sys')",
                "sorted(p for p in os.listdir('/proc') if p.isdigit())",
                "try: open('/usr/x', 'w')\nexcept OSError as e: print(e.strerror)",
                "try: open('/proc/sys/kernel/core_pattern', 'w')\nexcept OSError as e: print(e.strerror)",
                "try: open('/x', 'w')\nexcept OSError as e: print(e.strerror)",
                "!unshare -Ur true; mount -t tmpfs x /tmp; dmesg | head -1",
                "open('/proc/self/status').read().split('CapEff:')[1].split()[0]",
                "os.listdir('/.scratch'), os.listdir('/tmp')",
                "open('/tmp/x', 'w').write('1'), open('/local_disk0/y', 'w').write('1')",
            ])
            .await;
        report.succeeded();
        let shown = report.shown();
        assert_eq!(shown[0], "False");
        assert!(shown[1].ends_with("False, False)"), "{shown:?}");
        assert_eq!(shown[2], "['1', '2']");
        assert_eq!(shown[3], "'0000000000000000'");
        assert!(shown[4].starts_with("([], "), "{shown:?}");
        assert_eq!(report.stdout().matches("Read-only file system").count(), 3, "{report:#?}");
        let errors = report.stderr();
        assert!(errors.contains("unshare") && errors.contains("mount"), "{errors}");
        aftermath(&report).await;
    });
}

#[test]
fn what_a_run_left_would_be_seen() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(parent.path().join("0/r")).unwrap();
    assert_eq!(
        crate::support::left_below(parent.path()),
        Vec::<String>::new()
    );
    let left = parent.path().join("1/left");
    std::fs::create_dir_all(&left).unwrap();
    let folder = left.parent().unwrap().display().to_string();
    assert_eq!(crate::support::left_below(parent.path()), [folder]);
}

#[test]
fn a_dropped_execution_leaves_nothing() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.program = crate::support::notebook(&["while True: pass"]);
        let mut execution = bench.start().await;
        execution.next_event().await.unwrap();
        drop(execution);
        crate::support::until("the run is gone", || leftovers().is_empty()).await;
    });
}
