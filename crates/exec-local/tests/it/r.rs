//! Notebooks with R cells: what they show, what they ask of the server, and other languages beside.

use forebay_exec::{CellStatus, Event, Library, Outcome, Program};
use serde_json::json;

use crate::support::{Bench, RUNTIME, Report};

fn r(sources: &[&str]) -> Vec<String> {
    sources
        .iter()
        .map(|source| format!("%r\n{source}"))
        .collect()
}

async fn run(bench: &mut Bench, sources: &[&str]) -> Report {
    let cells = r(sources);
    bench
        .cells(&cells.iter().map(String::as_str).collect::<Vec<_>>())
        .await
}

#[test]
fn visible_values_are_printed_and_state_is_kept() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &[
                "x <- 6\nx * 7",
                "invisible(x); x <- x + 1; c(a = x)",
                "f <- function(y) y\nf('last')",
                "print.mine <- function(x, ...) cat('mine\\n')\nstructure(1, class = 'mine')",
            ],
        )
        .await;
        report.succeeded();
        assert_eq!(report.stdout(), "[1] 42\na \n7 \n[1] \"last\"\nmine\n");
        assert!(
            report
                .statuses()
                .iter()
                .all(|(_, s)| *s == CellStatus::Succeeded)
        );
    });
}

#[test]
fn messages_and_warnings_go_where_the_prompt_puts_them() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &["message('told'); f <- function() warning('careful'); f(); warning('top')\ncat('after\\n')"],
        )
        .await;
        report.succeeded();
        assert_eq!(
            report.stderr(),
            "told\nWarning message:\nIn f() : careful\nWarning message:\ntop\n"
        );
        assert_eq!(report.stdout(), "after\n");
    });
}

#[test]
fn a_traceback_names_cells_and_lines() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &[
                "f <- function(x) {\n  y <- x + 1\n  stop('too large: ', y)\n}",
                "1\nf(41)",
                "cat('never')",
            ],
        )
        .await;
        report.failed("Error");
        let Outcome::Failed {
            message,
            trace,
            cell,
            ..
        } = report.outcome()
        else {
            unreachable!()
        };
        assert_eq!((message.as_str(), *cell), ("too large: 42", Some(1)));
        assert_eq!(
            trace,
            "Error in f(41): too large: 42\n  \
             at /project/notebook#cell 2, line 2: f(41)\n  \
             at /project/notebook#cell 1, line 3: stop(\"too large: \", y)"
        );
        assert_eq!(report.stdout(), "[1] 1\n");
    });
}

#[test]
fn a_syntax_error_names_its_line() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(&mut bench, &["x <- 1\ny <- (2 +\nz z"]).await;
        report.failed("SyntaxError");
        let text = format!("{:?}", report.outcome());
        assert!(text.contains("#cell 1:3:3: unexpected symbol"), "{text}");
    });
}

#[test]
fn tables_html_and_plots_are_shown() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &[
                "display(data.frame(a = 1:2, b = c('x', '<y>')))",
                "displayHTML('<b>bold</b>')",
                "plot(1:3); lines(3:1)\nhist(c(1, 2, 2))",
                "png('own.png'); plot(1); invisible(dev.off()); file.exists('own.png')",
            ],
        )
        .await;
        report.succeeded();
        let shown: Vec<_> = report
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Display { cell, data, .. } => Some((*cell, data)),
                _ => None,
            })
            .collect();
        assert_eq!(
            shown.iter().map(|(cell, _)| *cell).collect::<Vec<_>>(),
            [0, 1, 2, 2]
        );
        let html = shown[0].1["text/html"].as_str().unwrap();
        assert!(
            html.contains("<th>b</th>") && html.contains("&lt;y&gt;"),
            "{html}"
        );
        assert_eq!(shown[1].1["text/html"], "<b>bold</b>");
        for (_, plot) in &shown[2..] {
            let png = plot["image/png"].as_str().unwrap();
            assert!(png.starts_with("iVBORw0KGgo"), "a PNG in base64");
        }
        assert_eq!(report.stdout(), "[1] TRUE\n");
    });
}

#[test]
fn dbutils_has_its_functions_in_r() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        std::fs::write(bench.folder.path().join("dbfs/in.txt"), "héllo").unwrap();
        bench.workload.run_id = forebay_types::RunId(1_000_001);
        let cells = r(&[
            "dbutils.widgets.text('given', 'x'); dbutils.widgets.text('left', 'default')",
            "cat(dbutils.widgets.get('given'), getArgument('left'), getArgument('none', 'd'), '\\n')",
            "rm(list = ls()); cat(dbutils.notebook.run('./other', 60, list(a = 1)), dbutils.notebook.run('x'), '\\n')",
            "cat(dbutils.secrets.get('main', 'password'), '\\n')",
            "dbutils.jobs.taskValues.set('k', list(a = 1L, b = c('x', 'y')))\nstr(dbutils.jobs.taskValues.get('t', 'k'))",
            "cat(dbutils.fs.head('/in.txt'), dbutils.fs.ls('/')[[1]]$path, readLines('/dbfs/in.txt', warn = FALSE), '\\n')",
            "r <- tryCatch(dbutils.secrets.get('main', 'no'), SecretNotFound = function(e) conditionMessage(e)); r",
            "dbutils.notebook.exit('the \"end\"\\n')",
            "cat('never')",
        ]);
        bench.workload.program = crate::support::notebook(&cells.iter().map(String::as_str).collect::<Vec<_>>());
        if let Program::Notebook { parameters, .. } = &mut bench.workload.program {
            parameters.insert("given".to_owned(), "värde \"1\"".to_owned());
        }
        let report = bench.run().await;
        assert!(
            matches!(report.outcome(), Outcome::Succeeded { exit_value: Some(value) } if value == "the \"end\"\n"),
            "{report:#?}"
        );
        let out = report.stdout();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[0], "värde \"1\" default d ");
        assert_eq!(lines[1], "ran ./other {\"a\":\"1\"} ran x {} ");
        assert_eq!(lines[2], "[REDACTED] ");
        assert!(out.contains(" $ a: int 1") && out.contains("$ b:List of 2"), "{out}");
        assert!(out.contains("héllo dbfs:/in.txt héllo"), "{out}");
        assert!(out.contains("there is no such secret"), "{out}");
    });
}

#[test]
fn languages_share_one_notebook() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.host.notebooks.lock().unwrap().insert(
            "./lib".to_owned(),
            vec!["%r\ntwice <- function(x) 2 * x\nname <- dbutils.widgets.get('name')".to_owned()],
        );
        let report = bench
            .cells(&[
                "%run ./lib $name=\"fb\"",
                "%r\ncat(name, twice(21), '\\n'); saveRDS(1:3, '/dbfs/x.rds'); dbutils.widgets.text('w', 'from R')",
                "print(dbutils.widgets.get('w'), dbutils.notebook.run('p'))",
                "%sh\nls /dbfs; Rscript -e 'cat(sum(readRDS(\"/dbfs/x.rds\")))'",
                "dbutils.library.restartPython()",
                "%r\ncat('still', twice(1), '\\n')",
                "%md\n# text",
            ])
            .await;
        report.succeeded();
        let out = report.stdout();
        for expected in ["fb 42 \n", "from R ran p {}\n", "x.rds\n6", "still 2 \n"] {
            assert!(out.contains(expected), "{expected} in {out}");
        }
    });
}

#[test]
fn a_script_is_a_program_of_its_own() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let file = bench.folder.path().join("Workspace/project/score.R");
        std::fs::write(&file, "cat(commandArgs(TRUE), sep = '|')\nif (length(commandArgs(TRUE)) > 1) quit(status = 3)\n").unwrap();
        let script = |args: &[&str]| Program::Script {
            file: "/Workspace/project/score.R".to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            source: None,
        };
        bench.workload.program = script(&["a b"]);
        let report = bench.run().await;
        assert_eq!(report.succeeded().stdout(), "a b");
        bench.workload.program = script(&["a", "b"]);
        let report = bench.run().await;
        report.failed("RError");
        assert!(format!("{:?}", report.outcome()).contains("exit code 3"));
    });
}

/// A repository of one package, as a folder; it is compiled from source.
fn repository(bench: &Bench, name: &str, code: &str) {
    let folder = bench.folder.path().join("dbfs/cran/src/contrib");
    std::fs::create_dir_all(&folder).unwrap();
    let package = tempfile::tempdir().unwrap();
    let root = package.path().join(name);
    std::fs::create_dir_all(root.join("src")).unwrap();
    std::fs::create_dir_all(root.join("R")).unwrap();
    let description =
        format!("Package: {name}\nVersion: 1.0\nTitle: T\nDescription: D.\nLicense: GPL\n");
    std::fs::write(root.join("DESCRIPTION"), &description).unwrap();
    std::fs::write(
        root.join("NAMESPACE"),
        format!("useDynLib({name})\nexport(answer)\n"),
    )
    .unwrap();
    std::fs::write(
        root.join("R/a.R"),
        format!("answer <- function() .C('answer', x = 0L, PACKAGE = '{name}')$x\n"),
    )
    .unwrap();
    std::fs::write(root.join("src/a.c"), code).unwrap();
    let archive = folder.join(format!("{name}_1.0.tar.gz"));
    let tar = std::process::Command::new("tar")
        .args([
            "-C",
            &package.path().to_string_lossy(),
            "-czf",
            &archive.to_string_lossy(),
            name,
        ])
        .status()
        .unwrap();
    assert!(tar.success());
    std::fs::write(folder.join("PACKAGES"), format!("{description}\n")).unwrap();
}

fn cran(package: &str) -> Library {
    Library::Cran {
        package: package.to_owned(),
        repo: Some("file:///dbfs/cran".to_owned()),
    }
}

#[test]
fn packages_are_installed_once_for_a_set() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        repository(&bench, "answers", "void answer(int *x) { *x = 42; }\n");
        bench.workload.libraries = vec![cran("answers")];
        let report = run(&mut bench, &["answers::answer()"]).await;
        assert!(report.succeeded().stdout().ends_with("[1] 42\n"));
        assert!(
            report
                .stdout()
                .starts_with("Installing the R package answers.")
        );
        // The second run takes what is there: the repository could be gone.
        std::fs::remove_dir_all(bench.folder.path().join("dbfs/cran")).unwrap();
        let report = run(&mut bench, &["answers::answer()"]).await;
        assert_eq!(report.succeeded().stdout(), "[1] 42\n");
    });
}

#[test]
fn a_package_that_does_not_compile_says_why() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        repository(&bench, "broken", "void answer(int *x) { this is no C }\n");
        bench.workload.libraries = vec![cran("broken")];
        let report = run(&mut bench, &["1"]).await;
        report.failed("LibraryInstallationError");
        let Outcome::Failed { message, .. } = report.outcome() else {
            unreachable!()
        };
        assert!(
            message.contains("the R package broken was not installed"),
            "{message}"
        );
        assert!(message.contains("a.c:1:23: error"), "{message}");
        bench.workload.libraries = vec![cran("absent")];
        let report = run(&mut bench, &["1"]).await;
        let text = format!("{:?}", report.outcome());
        assert!(
            text.contains("package absent is not in file:///dbfs/cran"),
            "{text}"
        );
    });
}

#[test]
fn a_machine_without_r_says_what_to_install() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench
            .workload
            .env
            .insert("PATH".to_owned(), "/nowhere".to_owned());
        let report = bench.cells(&["print('python')", "%r\n1"]).await;
        report.failed("RNotInstalled");
        assert!(format!("{:?}", report.outcome()).contains("Debian package r-base-core"));
        assert_eq!(report.stdout(), "python\n");
    });
}

#[test]
fn values_of_all_kinds_come_through() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = run(
            &mut bench,
            &["dbutils.jobs.taskValues.set('k', list(i = 3L, n = 0.1, big = 1e15, t = TRUE, none = NULL, na = NA, s = 'a\\\\b\\\"\\n\\t\\u0001é', v = 1:3, e = list()))"],
        )
        .await;
        report.succeeded();
        let value = bench.host.values.lock().unwrap()["k"].clone();
        assert_eq!(
            value,
            json!({"i": 3, "n": 0.1, "big": 1e15, "t": true, "none": null, "na": null, "s": "a\\b\"\n\t\u{1}é", "v": [1, 2, 3], "e": []})
        );
    });
}
