//! Scripts, wheels and libraries.

use std::io::Write;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use forebay_exec::{CellStatus, Executor, Library, Outcome, Program};

use crate::support::{Bench, RUNTIME, executor};

fn script(bench: &mut Bench, text: &str, args: &[&str]) {
    let file = bench.folder.path().join("Workspace/project/job.py");
    std::fs::write(file, text).unwrap();
    bench.workload.program = Program::Script {
        file: "/Workspace/project/job.py".to_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        source: None,
    };
}

#[test]
fn a_script_is_plain_python() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let text = "import sys, os, threading, time\n\
                    def late(): time.sleep(0.1); print('late')\n\
                    threading.Thread(target=late).start()\n\
                    print(__name__, sys.argv[1:], os.getcwd(), 'get_ipython' in globals())";
        script(&mut bench, text, &["--n", "5"]);
        let report = bench.run().await;
        let line = "__main__ ['--n', '5'] /Workspace/project False\n";
        assert_eq!(report.succeeded().stdout(), format!("{line}late\n"));
        assert_eq!(report.statuses(), [(0, CellStatus::Succeeded)]);
    });
}

#[test]
fn a_script_fails_with_its_own_traceback_only() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        script(&mut bench, "def f():\n    raise KeyError('k')\nf()\n", &[]);
        let report = bench.run().await;
        let Outcome::Failed { trace, .. } = report.failed("KeyError").outcome() else {
            unreachable!()
        };
        assert!(trace.contains("job.py\", line 3, in <module>"), "{trace}");
        assert!(
            !trace.contains("forebay_driver") && !trace.contains("runpy"),
            "{trace}"
        );
        script(&mut bench, "import sys; sys.exit('no luck')", &[]);
        let report = bench.run().await;
        assert_eq!(report.failed("SystemExit").stderr(), "no luck\n");
        script(&mut bench, "import sys; sys.exit(0)", &[]);
        bench.run().await.succeeded();
        script(&mut bench, "def broken(:\n", &[]);
        bench.run().await.failed("SyntaxError");
        bench.workload.program = Program::Script {
            file: "/Workspace/none.py".into(),
            args: vec![],
            source: None,
        };
        bench.run().await.failed("FileNotFoundError");
    });
}

#[test]
fn a_script_is_what_was_sent_whatever_lies_at_its_path_by_then() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        script(&mut bench, "print('another one')\n", &["a"]);
        let beside = bench.folder.path().join("Workspace/project/beside.py");
        std::fs::write(beside, "NAME = 'beside'\n").unwrap();
        let text = "# coding: latin-1\nimport sys, beside\nprint(beside.NAME, __file__, sys.argv, ascii('\u{e9}'))\n\
                    raise KeyError('k')  # here\n";
        let mut bytes = text.replace('\u{e9}', "?").into_bytes();
        *bytes.iter_mut().find(|byte| **byte == b'?').unwrap() = 0xe9;
        let Program::Script { file, source, .. } = &mut bench.workload.program else {
            unreachable!()
        };
        *source = Some(BASE64.encode(&bytes));
        let file = file.clone();
        for gone in [false, true] {
            if gone {
                std::fs::remove_file(bench.folder.path().join("Workspace/project/job.py")).unwrap();
            }
            let report = bench.run().await;
            let Outcome::Failed { trace, .. } = report.failed("KeyError").outcome() else {
                unreachable!()
            };
            assert!(trace.contains("raise KeyError('k')  # here"), "{trace}");
            let line = format!("beside {file} ['{file}', 'a'] '\\xe9'\n");
            assert_eq!(report.stdout(), line);
        }
    });
}

#[test]
fn a_script_gets_the_parent_that_suits_it() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.preload = true;
        executor()
            .await
            .prepare(&bench.workload.place)
            .await
            .unwrap();
        let light = "import sys; print('IPython' in sys.modules)";
        script(&mut bench, light, &[]);
        // The parent of scripts starts with the first one, which does not wait for it.
        let report = loop {
            let report = bench.run().await;
            if report.succeeded().ended.warm {
                break report;
            }
        };
        assert_eq!(report.stdout(), "False\n");
        let heavy = "import pandas, sys; print('IPython' in sys.modules)";
        let file = bench.folder.path().join("Workspace/project/heavy.py");
        std::fs::write(file, heavy).unwrap();
        bench.workload.program = Program::Script {
            file: "/Workspace/project/heavy.py".to_owned(),
            args: vec![],
            source: None,
        };
        for expected in ["False\n", "True\n", "True\n"] {
            let report = bench.run().await;
            assert_eq!(report.succeeded().stdout(), expected);
            assert!(report.ended.warm);
        }
    });
}

/// A wheel with a module, an entry point in a group of its own, and a plain function.
fn wheel(folder: &Path) {
    let info = "tally-1.0.dist-info";
    let files = [
        (
            "tally/__init__.py",
            "import sys\ndef main():\n    print('main', sys.argv)\ndef plain():\n    print('plain')\n",
        ),
        (
            &format!("{info}/METADATA"),
            "Metadata-Version: 2.1\nName: tally\nVersion: 1.0\n",
        ),
        (
            &format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (
            &format!("{info}/entry_points.txt"),
            "[jobs]\ncount = tally:main\n",
        ),
        (&format!("{info}/RECORD"), ""),
    ];
    let file = std::fs::File::create(folder.join("tally-1.0-py3-none-any.whl")).unwrap();
    let mut zip = zip::ZipWriter::new(file);
    for (name, text) in files {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn a_wheel_is_installed_for_the_run_and_its_entry_point_called() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        wheel(&bench.folder.path().join("dbfs"));
        bench.workload.libraries = vec![Library::Whl {
            path: "/dbfs/tally-1.0-py3-none-any.whl".to_owned(),
        }];
        let call = |entry_point: &str| Program::Wheel {
            package: "tally".to_owned(),
            entry_point: entry_point.to_owned(),
            args: vec!["a".to_owned()],
            named: [("n".to_owned(), "1".to_owned())].into(),
        };
        bench.workload.program = call("count");
        let report = bench.run().await;
        let line = "main ['tally', 'a', '--n=1']\n";
        assert!(
            report.succeeded().stdout().ends_with(line),
            "{}",
            report.stdout()
        );
        bench.workload.program = call("plain");
        let report = bench.run().await;
        assert!(
            report.succeeded().stdout().ends_with("plain\n"),
            "{}",
            report.stdout()
        );
        bench.workload.program = call("nothing");
        bench.run().await.failed("AttributeError");
        bench.workload.libraries.clear();
        bench.workload.program = call("count");
        bench.run().await.failed("ImportError");
    });
}

#[test]
fn pip_installs_into_the_run_alone() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        wheel(&bench.folder.path().join("dbfs"));
        let report = bench
            .cells(&[
                "%pip install /dbfs/tally-1.0-py3-none-any.whl",
                "import tally\ntally.plain()\ntally.__file__.startswith('/local_disk0')",
                "!python -c 'import tally; tally.plain()'",
                "%pip install /dbfs/none.whl",
            ])
            .await;
        report.failed("InstallError");
        assert_eq!(report.shown(), ["True"]);
        assert!(
            report.stdout().ends_with("plain\nplain\n"),
            "{}",
            report.stdout()
        );
        bench
            .cells(&["import tally"])
            .await
            .failed("ModuleNotFoundError");
    });
}

#[test]
fn a_file_beside_a_notebook_is_no_module_of_python() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let folder = bench.folder.path().join("dbfs/own");
        std::fs::create_dir_all(&folder).unwrap();
        // One of Python's that nobody imports before, one that is installed, and a plain one.
        for name in ["colorsys", "tabulate", "beside"] {
            std::fs::write(folder.join(format!("{name}.py")), "OWN = True\n").unwrap();
        }
        bench.workload.python_path = vec!["/dbfs/own".to_owned()];
        let cell = "import colorsys, tabulate, beside\n\
                    [hasattr(m, 'OWN') for m in (colorsys, tabulate, beside)]";
        let report = bench.cells(&[cell]).await;
        assert_eq!(report.succeeded().shown(), ["[False, True, True]"]);
    });
}

#[test]
fn after_a_restart_the_layer_wins_over_warm_modules() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.preload = true;
        executor()
            .await
            .prepare(&bench.workload.place)
            .await
            .unwrap();
        let root = bench.folder.path().join("dbfs/pyarrow");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("__init__.py"), "__version__ = 'private'\n").unwrap();
        let report = bench
            .cells(&[
                "import shutil, sys\nshutil.copytree('/dbfs/pyarrow', sys.path[0] + '/pyarrow')\n\
                 dbutils.library.restartPython()",
                "import pyarrow; pyarrow.__version__",
            ])
            .await;
        assert_eq!(report.succeeded().shown(), ["'private'"], "{report:#?}");
        assert!(report.ended.warm);
    });
}
