//! R that is forked from a warm parent does what a new one does.

use forebay_exec::{Event, Outcome};
use forebay_types::RunId;

use crate::support::{Bench, RUNTIME, Report, leftovers};

/// A place whose parent has R in it.
async fn warm_bench() -> Bench {
    let mut bench = Bench::new();
    bench.workload.preload = true;
    for _ in 0..100 {
        // The first finds that there is no parent yet, and has one started.
        if bench.cells(&["%r\n1"]).await.ended.warm {
            return bench;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no parent with R became ready");
}

async fn run(bench: &mut Bench, sources: &[&str]) -> Report {
    let cells: Vec<String> = sources.iter().map(|s| format!("%r\n{s}")).collect();
    let report = bench
        .cells(&cells.iter().map(String::as_str).collect::<Vec<_>>())
        .await;
    assert_eq!(leftovers(), Vec::<String>::new());
    report
}

#[test]
fn a_forked_r_is_like_a_new_one_and_draws_other_numbers() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        bench.workload.env.insert("OWN".to_owned(), "värde".to_owned());
        let cells = [
            "cat(runif(1), '\\n')",
            "cat(Sys.getenv('OWN'), Sys.getenv('R_HOME') == R.home(), .libPaths()[1], getwd(), '\\n')",
            "cat(l10n_info()$`UTF-8`, dir.exists(tempdir()), interactive(), length(ls()), '\\n')",
            "f <- function(n) f(n + 1); cat(class(tryCatch(f(1), error = identity))[1] != '', '\\n')",
            "x <- unlist(parallel::mclapply(1:4, function(i) i^2, mc.cores = 2)); cat(x, '\\n')",
            "cat(system('Rscript -e \"cat(6 * 7)\"', intern = TRUE), nchar(readLines(textConnection('é'))), '\\n')",
            // What R reads and settles at its start.
            "cat(Sys.getenv('R_LIBS_SITE'), R.home('share'), unlist(options('papersize', 'keep.source', 'echo')), '\\n')",
            "plot(1:3); coef(lm(speed ~ dist, cars))[['dist']] > 0",
        ];
        let warm = run(&mut bench, &cells).await;
        let again = run(&mut bench, &cells).await;
        bench.workload.preload = false;
        let fresh = run(&mut bench, &cells).await;
        let lines = |report: &Report| -> Vec<String> {
            report.succeeded();
            assert_eq!(report.shown(), ["<plot>"]);
            report.stdout().lines().map(str::to_owned).collect()
        };
        let (one, two, new) = (lines(&warm), lines(&again), lines(&fresh));
        assert!(warm.ended.warm && again.ended.warm && !fresh.ended.warm);
        assert_ne!(one[0], two[0]);
        assert_eq!(one[1..], two[1..]);
        assert_eq!(one[1..], new[1..]);
        assert_eq!(
            [&one[1..6], &one[7..]].concat(),
            [
                "värde TRUE /local_disk0/r /Workspace/project ",
                "TRUE TRUE FALSE 0 ",
                "TRUE ",
                "1 4 9 16 ",
                "42 1 ",
                "[1] TRUE"
            ]
        );
    });
}

#[test]
fn it_is_a_fork_and_its_end_hurts_nobody() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let report = run(&mut bench, &["basename(Sys.readlink('/proc/self/exe'))"]).await;
        assert!(
            report.succeeded().stdout().contains("python"),
            "{report:#?}"
        );
        let bad = [
            (
                "base::quit(status = 3)",
                "R ended by itself, with exit code 3",
            ),
            (
                "tools::pskill(Sys.getpid(), 9); Sys.sleep(9)",
                "R was killed",
            ),
            (
                "system('sleep 61 &'); tools::pskill(Sys.getpid(), 11); Sys.sleep(9)",
                "R ",
            ),
        ];
        for (source, expected) in bad {
            let report = run(&mut bench, &["cat('before\\n')", source, "cat('never')"]).await;
            let text = format!("{:?}", report.outcome());
            assert!(text.contains(expected), "{expected} in {text}");
            assert_eq!(report.stdout(), "before\n");
        }
        let report = run(&mut bench, &["y <- 2", "exists('y') && !exists('x')"]).await;
        assert!(report.succeeded().ended.warm);
        assert_eq!(report.stdout(), "[1] TRUE\n");
    });
}

#[test]
fn sql_comes_first_beside_an_r_that_waits() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        let cells = [
            "%sql select 41 as n",
            "_sqldf.first()[0] + 1",
            "%r\ncat('R')",
        ];
        let report = bench.cells(&cells).await;
        assert!(report.succeeded().ended.warm);
        assert_eq!(report.shown().last().unwrap(), "42");
    });
}

#[test]
fn a_warm_r_is_interrupted() {
    RUNTIME.block_on(async {
        let mut bench = warm_bench().await;
        bench.workload.run_id = RunId(bench.workload.run_id.0 + 500_000);
        bench.workload.program = crate::support::notebook(&[
            "%r\ncat('go!\\n'); tryCatch(Sys.sleep(60), finally = cat('done\\n'))",
        ]);
        let mut execution = bench.start().await;
        let canceler = execution.canceler();
        let mut out = String::new();
        while let Some(event) = execution.next_event().await {
            if let Event::Stream { text, .. } = &event {
                out.push_str(text);
                canceler.cancel(forebay_exec::CancelReason::Requested);
            }
        }
        let ended = execution.finish().await;
        assert_eq!(
            (ended.outcome, out.as_str()),
            (Outcome::Canceled, "go!\ndone\n")
        );
    });
}
