//! Limits of CPU time and memory, and what a run shows of its use while it goes on.

use std::sync::Arc;

use forebay_exec::{Event, Execution, Executor, Outcome};
use forebay_exec_local::LocalExecutor;

use crate::support::{Bench, RUNTIME, config, executor, finish, notebook};

const BURN: &str = "while True: pass";

#[test]
fn a_run_shows_what_it_uses_and_nothing_after_its_end() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let cell = "held = bytearray(64 << 20)\n\
            open('/local_disk0/f', 'wb').write(bytes(1 << 20))\n\
            import time\n\
            while time.process_time() < 0.3: pass\n\
            print('now')";
        bench.workload.program = notebook(&[cell, BURN]);
        let mut execution = bench.start().await;
        let meter = execution.meter();
        loop {
            match execution.next_event().await.unwrap() {
                Event::Stream { .. } => break,
                _ => continue,
            }
        }
        let usage = meter.read().unwrap();
        assert!(usage.cpu_ms.unwrap() >= 200, "{usage:?}");
        assert!(usage.memory_bytes.unwrap() > 64 << 20, "{usage:?}");
        assert!(
            usage.memory_peak_bytes.unwrap() >= usage.memory_bytes.unwrap(),
            "{usage:?}"
        );
        let ended = execution.finish().await;
        assert!(ended.usage.cpu_ms >= usage.cpu_ms);
        assert_eq!((ended.usage.memory_bytes, meter.read()), (None, None));
    });
}

#[test]
fn what_a_run_used_is_not_counted_for_the_next_one() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        // No other test has these limits, so a cgroup that is kept is kept for this one.
        bench.workload.limits.memory_bytes = Some(300 << 20);
        let much = "held = bytearray(100 << 20)\n\
            import os, time\n\
            with open('/local_disk0/f', 'wb') as file:\n    \
                file.write(bytes(8 << 20))\n    \
                os.fsync(file.fileno())\n\
            while time.process_time() < 0.8: pass";
        let first = bench.cells(&[much]).await.ended;
        let second = bench.cells(&["1"]).await.ended;
        let too_much = bench.cells(&["held = bytearray(400 << 20)"]).await.ended;
        let last = bench.cells(&["1"]).await.ended;
        assert!(matches!(too_much.outcome, Outcome::OutOfMemory { .. }));
        assert!(first.usage.cpu_ms.unwrap() >= 700, "{first:?}");
        assert!(first.usage.memory_peak_bytes.unwrap() > 100 << 20);
        for small in [second, last] {
            assert!(matches!(small.outcome, Outcome::Succeeded { .. }));
            assert!(small.usage.cpu_ms.unwrap() < 400, "{small:?}");
            assert!(
                small.usage.memory_peak_bytes.unwrap() < 80 << 20,
                "{small:?}"
            );
            assert!(small.usage.write_bytes.unwrap_or(0) < 4 << 20, "{small:?}");
        }
    });
}

#[test]
fn the_cpu_time_of_what_a_program_started_counts() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.cpu_ms = Some(500);
        let cell =
            format!("import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN:?}])");
        bench.workload.program = notebook(&[&cell]);
        let ended = bench.run().await.ended;
        let Outcome::CpuLimit { limit_ms, used_ms } = ended.outcome else {
            panic!("{ended:?}");
        };
        assert!(limit_ms == 500 && used_ms >= 500, "{used_ms}");
    });
}

#[test]
fn a_program_may_clean_up_and_one_that_does_not_end_is_killed() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.cpu_ms = Some(300);
        let tidy = format!("try:\n  {BURN}\nfinally:\n  print('tidy')");
        let report = bench.cells(&[&tidy]).await;
        assert!(matches!(report.ended.outcome, Outcome::CpuLimit { .. }));
        assert!(format!("{:?}", report.events).contains("tidy"));
        let deaf = format!("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{BURN}");
        let report = bench.cells(&[&deaf]).await;
        assert!(matches!(report.ended.outcome, Outcome::CpuLimit { .. }));
    });
}

#[test]
fn without_cgroups_each_process_has_the_limit_for_itself() {
    RUNTIME.block_on(async {
        // Made ready by the one that all tests share.
        executor()
            .await
            .prepare(&Bench::new().workload.place)
            .await
            .unwrap();
        let local = LocalExecutor::open(config()).await.unwrap();
        let local = Arc::new(local.without_cgroups());
        let mut bench = Bench::new();
        bench.workload.limits.cpu_ms = Some(900);
        bench.workload.program = notebook(&["print('go')", BURN]);
        let execution = local.start(bench.workload.clone(), bench.host.clone());
        let execution: Box<dyn Execution> = execution.await.unwrap();
        assert_eq!(execution.meter().read(), None, "nobody counts");
        let ended = finish(execution).await.ended;
        // What `wait4` tells is a little off what the kernel's limit goes by.
        let told = matches!(ended.outcome, Outcome::CpuLimit { limit_ms: 900, .. });
        assert!(told, "{ended:?}");
    });
}
