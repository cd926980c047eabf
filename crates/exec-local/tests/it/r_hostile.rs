//! R programs that end, eat, flood or hang. The run fails with a cause, and the next one works.

use std::time::Duration;

use forebay_exec::{CancelReason, Outcome};

use crate::support::{Bench, RUNTIME, Report, leftovers, notebook};

async fn run(bench: &mut Bench, sources: &[&str]) -> Report {
    let cells: Vec<String> = sources
        .iter()
        .map(|source| format!("%r\n{source}"))
        .collect();
    let report = bench
        .cells(&cells.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    assert_eq!(leftovers(), Vec::<String>::new());
    report
}

fn said(report: &Report) -> String {
    format!("{:?}", report.outcome())
}

#[test]
fn quitting_is_refused_and_a_forced_end_is_told() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(&mut bench, &["quit(status = 3)"]).await;
        report.failed("QuitError");
        let report = run(
            &mut bench,
            &["cat('before\\n'); base::quit(status = 3)", "1"],
        )
        .await;
        report.failed("RError");
        assert!(said(&report).contains("R ended by itself, with exit code 3"));
        assert_eq!(report.stdout(), "before\n");
        let report = run(
            &mut bench,
            &["tools::pskill(Sys.getpid(), tools::SIGKILL); Sys.sleep(1)"],
        )
        .await;
        report.failed("RKilled");
        run(&mut bench, &["1 + 1"]).await.succeeded();
    });
}

#[test]
fn memory_beyond_the_limit_fails_the_run() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.memory_bytes = Some(256 << 20);
        let report = run(
            &mut bench,
            &["x <- list(); for (i in 1:1000) x[[i]] <- rnorm(1e6); cat('never')"],
        )
        .await;
        let text = said(&report);
        // Without cgroups it is the address space that is limited, and R says so itself.
        let refused = text.contains("cannot allocate");
        let killed = matches!(report.outcome(), Outcome::OutOfMemory { .. });
        assert!(killed || refused, "{report:#?}");
        assert_eq!(report.stdout(), "");
        run(&mut Bench::new(), &["1 + 1"]).await.succeeded();
    });
}

#[test]
fn endless_output_is_cut_and_the_program_goes_on() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.limits.output_cell_bytes = 1 << 20;
        let flood = "line <- strrep('x', 99999); for (i in 1:200) cat(line, '\\n')";
        let report = run(&mut bench, &[flood, "cat('after\\n')"]).await;
        report.succeeded();
        assert_eq!(report.stderr().matches("output truncated").count(), 1);
        assert!(report.stdout().len() < 3 << 20 && report.stdout().ends_with("after\n"));
    });
}

#[test]
fn bytes_that_are_no_text_do_not_stop_anything() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &[
                "cat('\\xff\\xfe latin\\n'); x <- 'caf\\xe9'; Encoding(x) <- 'latin1'; cat(x, '\\n')",
                "writeBin(as.raw(c(0:31, 128:255)), pipe('cat', 'wb')); closeAllConnections()",
                "display(data.frame(x = 'bad \\xe9'))",
                "stop('caf\\xe9 closed')",
            ],
        )
        .await;
        report.failed("Error");
        assert!(report.stdout().contains("\u{fffd}\u{fffd} latin\ncafé"), "{report:#?}");
        assert!(report.shown()[0].contains("bad"), "{report:#?}");
    });
}

#[test]
fn recursion_without_end_is_an_error() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(&mut bench, &["f <- function(n) f(n + 1)\nf(1)"]).await;
        let text = said(&report);
        assert!(
            text.contains("stack") || text.contains("infinite recursion"),
            "{text}"
        );
    });
}

async fn canceled(source: &str) -> Report {
    let mut bench = Bench::new();
    bench.workload.limits.grace = Duration::from_millis(1500);
    bench.workload.program = notebook(&[source]);
    let mut execution = bench.start().await;
    let canceler = execution.canceler();
    let mut events = Vec::new();
    while let Some(event) = execution.next_event().await {
        if serde_json::to_string(&event).unwrap().contains("go!") {
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
fn a_cancel_interrupts_r() {
    RUNTIME.block_on(async {
        let report =
            canceled("%r\ncat('go!\\n'); tryCatch(Sys.sleep(60), finally = cat('cleaned up\\n'))")
                .await;
        assert_eq!(report.outcome(), &Outcome::Canceled, "{report:#?}");
        assert_eq!(report.stdout(), "go!\ncleaned up\n");
        assert!(report.ended.usage.wall_ms < 20_000);
        // What does not listen is killed.
        let report = canceled("%r\nsuspendInterrupts({cat('go!\\n'); repeat 1})").await;
        assert_eq!(report.outcome(), &Outcome::Canceled, "{report:#?}");
        assert_eq!(leftovers(), Vec::<String>::new());
    });
}

#[test]
fn connections_of_the_driver_survive_a_program_that_closes_all() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &[
                "closeAllConnections()",
                "cat(getArgument('x', 'still'), '\\n')",
            ],
        )
        .await;
        assert_eq!(report.succeeded().stdout(), "still \n");
    });
}
