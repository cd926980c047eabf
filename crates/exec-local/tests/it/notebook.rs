//! What cells can do.

use forebay_exec::{CellKind, CellStatus, Event, Outcome, Program};
use serde_json::json;

use crate::support::{Bench, RUNTIME, cell};

const DONE: CellStatus = CellStatus::Succeeded;

#[test]
fn cells_run_in_order_and_show_their_values() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&["x = 20", "print('hello')\nx + 1", "# a comment\n_ * 2"])
            .await;
        report.succeeded();
        assert_eq!(report.stdout(), "hello\n");
        assert_eq!(report.shown(), ["21", "42"]);
        assert_eq!(report.statuses(), [(0, DONE), (1, DONE), (2, DONE)]);
        assert!(matches!(report.events[0], Event::CellStarted { cell: 0 }));
        assert_eq!(report.outcome(), &Outcome::Succeeded { exit_value: None });
    });
}

#[test]
fn a_failing_cell_stops_the_rest_and_points_at_its_line() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let failing = "\n\ndef f(x):\n    return 1 / x\nf(0)";
        let report = bench
            .cells(&["print('before')", failing, "print('never')"])
            .await;
        report.failed("ZeroDivisionError");
        let Outcome::Failed {
            message,
            trace,
            cell,
            ..
        } = report.outcome()
        else {
            unreachable!()
        };
        assert_eq!((message.as_str(), *cell), ("division by zero", Some(1)));
        assert!(
            trace.contains("/project/notebook#cell 2, line 5"),
            "{trace}"
        );
        assert!(trace.contains("----> 4     return 1 / x"), "{trace}");
        assert!(!trace.contains("forebay_driver"), "{trace}");
        assert_eq!(report.stdout(), "before\n");
        assert_eq!(report.statuses(), [(0, DONE), (1, CellStatus::Failed)]);
        let errors = report
            .events
            .iter()
            .filter(|event| matches!(event, Event::Error { .. }));
        assert_eq!(errors.count(), 1);
    });
}

#[test]
fn lines_count_as_an_editor_counts_them() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let mut broken = cell(0, "x = 1\nx = = 2");
        broken.lines_before = 3;
        bench.workload.program = Program::Notebook {
            path: "/n".to_owned(),
            cells: vec![broken],
            parameters: [].into(),
            wants_data: false,
        };
        let report = bench.run().await;
        report.failed("SyntaxError");
        let Outcome::Failed { trace, .. } = report.outcome() else {
            unreachable!()
        };
        assert!(
            trace.contains("/n#cell 1") && trace.contains('5'),
            "{trace}"
        );
    });
}

#[test]
fn top_level_await_tasks_and_a_running_loop() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 7\nawait f()",
                "task = asyncio.create_task(f())",
                "await task + 1",
            ])
            .await;
        assert_eq!(report.succeeded().shown(), ["7", "8"]);
    });
}

#[test]
fn magics_and_shell_escapes() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "!echo from the shell",
                "names = !ls /Workspace\nlist(names)",
                "%%bash\necho in bash",
                "%%time\nsum(range(10))",
                "%env GREETING=hi\nimport os; os.environ['GREETING']",
                "%sh pwd; echo err >&2; false",
            ])
            .await;
        report.succeeded();
        let out = report.stdout();
        assert!(
            out.contains("from the shell\n") && out.contains("in bash\n"),
            "{out}"
        );
        assert!(
            out.contains("Wall time") && out.contains("/Workspace/project\n"),
            "{out}"
        );
        assert!(
            report.stderr().contains("err\n[exit code 1"),
            "{}",
            report.stderr()
        );
        assert_eq!(report.shown(), ["['project']", "45", "'hi'"]);
    });
}

#[test]
fn output_of_subprocesses_and_c_code_stays_in_its_cell() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "import os, sys, subprocess, ctypes\n\
                 print('one', flush=True); os.system('echo two'); print('three')\n\
                 subprocess.run(['sh', '-c', 'echo four'])\n\
                 ctypes.CDLL(None).puts(b'five'); ctypes.CDLL(None).fflush(None)",
                "print('next', end='')",
                "import multiprocessing as mp\n\
                 def child(): print('forked')\n\
                 p = mp.get_context('fork').Process(target=child); p.start(); p.join(); p.exitcode",
            ])
            .await;
        report.succeeded();
        let mut of_cell = [String::new(), String::new(), String::new()];
        for event in &report.events {
            if let Event::Stream { cell, text, .. } = event {
                of_cell[*cell].push_str(text);
            }
        }
        for word in ["one", "two", "three", "four", "five"] {
            assert!(of_cell[0].contains(word), "{of_cell:?}");
        }
        assert_eq!(of_cell[1], "next");
        assert_eq!(of_cell[2], "forked\n");
    });
}

#[test]
fn figures_tables_and_html() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);",
                "import pandas as pd\ndf = pd.DataFrame({'a': [1]})\ndisplay(df)",
                "displayHTML('<b>bold</b>')",
                "from IPython.display import display as show, update_display, clear_output\n\
                 handle = show('first', display_id='d'); update_display('second', display_id='d')\n\
                 clear_output(wait=True)",
            ])
            .await;
        report.succeeded();
        let bundle = |wanted: usize, mime: &str| {
            report.events.iter().any(|event| match event {
                Event::Display { cell, data, .. } => *cell == wanted && data.contains_key(mime),
                _ => false,
            })
        };
        assert!(bundle(0, "image/png"), "{report:#?}");
        assert!(bundle(1, "text/html") && bundle(1, "text/plain"));
        assert!(bundle(2, "text/html"));
        let update = |event: &Event| {
            matches!(event, Event::UpdateDisplay { display_id, .. } if display_id == "d")
        };
        assert!(report.events.iter().any(update));
        let clear = |event: &Event| matches!(event, Event::ClearOutput { wait: true, .. });
        assert!(report.events.iter().any(clear));
    });
}

#[test]
fn cells_without_python() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench.cells(&["%md # Title", "%skip 1/0", "spark"]).await;
        let skipped = CellStatus::Skipped;
        report.succeeded();
        assert_eq!(report.statuses(), [(0, DONE), (1, skipped), (2, DONE)]);
        assert_eq!(cell(0, "%sql x").kind, CellKind::Sql);
    });
}

#[test]
fn exit_ends_the_notebook_well_and_system_exit_does_not() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "try:\n    dbutils.notebook.exit({'a': 1})\nexcept Exception:\n    print('caught')",
                "1/0",
            ])
            .await;
        let exit_value = Some("{'a': 1}".to_owned());
        assert_eq!(report.outcome(), &Outcome::Succeeded { exit_value });
        assert_eq!(report.statuses(), [(0, DONE)]);
        assert_eq!(report.stdout(), "");
        bench
            .cells(&["import sys; sys.exit(3)"])
            .await
            .failed("SystemExit");
    });
}

#[test]
fn a_notebook_run_inline_shares_its_names() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        {
            let mut notebooks = bench.host.notebooks.lock().unwrap();
            let cells = [
                "print('in setup')\nvalue = dbutils.widgets.get('n')",
                "%run ./deeper",
            ];
            notebooks.insert("./setup".into(), cells.map(str::to_owned).into());
            notebooks.insert("./deeper".into(), vec!["deep = value + '!'".into()]);
            notebooks.insert("./circle".into(), vec!["%run ./circle".into()]);
            notebooks.insert("./broken".into(), vec!["pass".into(), "1/0".into()]);
        }
        let report = bench.cells(&["%run ./setup $n=\"5\"", "deep"]).await;
        assert_eq!(report.succeeded().shown(), ["'5!'"]);
        assert_eq!(report.stdout(), "in setup\n");
        assert_eq!(report.statuses(), [(0, DONE), (1, DONE)]);
        bench
            .cells(&["%run ./circle"])
            .await
            .failed("RecursionError");
        bench
            .cells(&["%run ./missing"])
            .await
            .failed("FileNotFoundError");
        let report = bench.cells(&["%run ./broken"]).await;
        let Outcome::Failed { trace, .. } = report.failed("ZeroDivisionError").outcome() else {
            unreachable!()
        };
        assert!(trace.contains("./broken#cell 2"), "{trace}");
        assert_eq!(report.statuses(), [(0, CellStatus::Failed)]);
    });
}

#[test]
fn utilities_ask_the_host() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "dbutils.notebook.run('child', 60, {'a': 1})",
                "from concurrent.futures import ThreadPoolExecutor\n\
                 with ThreadPoolExecutor(4) as pool:\n    \
                 ran = list(pool.map(lambda n: dbutils.notebook.run(f'c{n}', 0), range(8)))\n\
                 [r.split()[1] for r in ran] == [f'c{n}' for n in range(8)]",
                "dbutils.jobs.taskValues.set('k', [1, 2])\n\
                 dbutils.jobs.taskValues.get('t', 'k'), \
                 dbutils.jobs.taskValues.get('t', 'none', default='d')",
                "dbutils.fs.mounts()[0].mountPoint, dbutils.secrets.listScopes()[0].name",
                "try:\n    dbutils.secrets.get('main', 'none')\nexcept Exception as e:\n    \
                 print(type(e).__name__, e)",
                "dbutils.notebook.run('broken', 0)",
            ])
            .await;
        report.failed("WorkflowException");
        assert_eq!(
            report.shown(),
            [
                "'ran child {\"a\":\"1\"}'",
                "True",
                "([1, 2], 'd')",
                "('/mnt/raw', 'main')"
            ]
        );
        assert_eq!(report.stdout(), "SecretNotFound there is no such secret\n");
    });
}

#[test]
fn a_fetched_secret_is_hidden_wherever_it_appears() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "s = dbutils.secrets.get('main', 'password')\nprint(s, len(s))",
                "import sys\nsys.stdout.write(s[:5]); sys.stdout.flush()\nsys.stdout.write(s[5:])",
                "import os; os.system(f'echo {s}')",
                "s",
                "import base64, urllib.parse\nprint(base64.b64encode(s.encode()).decode())",
                "raise ValueError(s)",
            ])
            .await;
        report.failed("ValueError");
        let everything = serde_json::to_string(&(&report.events, &report.ended)).unwrap();
        for form in ["hunter2-long", "aHVudGVyMi1sb25n"] {
            assert!(!everything.contains(form), "{everything}");
        }
        assert!(
            report.stdout().contains("[REDACTED] 12\n"),
            "{}",
            report.stdout()
        );
        let report = bench
            .cells(&["dbutils.notebook.exit(dbutils.secrets.get('main', 'password'))"])
            .await;
        let exit_value = Some("[REDACTED]".to_owned());
        assert_eq!(report.outcome(), &Outcome::Succeeded { exit_value });
    });
}

#[test]
fn widgets_take_parameters_first() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let cells = [
            "dbutils.widgets.text('a', 'default', 'A')\ndbutils.widgets.dropdown('b', '1', ['1', '2'])",
            "dbutils.widgets.combobox('c', 'x', ['y'])\n\
             dbutils.widgets.multiselect('d', '1', ['1', '2'])",
            "[dbutils.widgets.get(n) for n in 'abcd'], getArgument('z', 'fallback')",
            "dbutils.widgets.getAll()['p'], dbutils.widgets.get('p')",
            "dbutils.widgets.remove('b')\ntry:\n    dbutils.widgets.get('b')\n\
             except Exception as e:\n    print(type(e).__name__)",
            "dbutils.widgets.dropdown('e', '3', ['1', '2'])",
        ];
        bench.workload.program = Program::Notebook {
            path: "/n".to_owned(),
            cells: cells.iter().enumerate().map(|(index, source)| cell(index, source)).collect(),
            parameters: [("a".to_owned(), "given".to_owned()), ("p".to_owned(), "only".to_owned())]
                .into(),
            wants_data: false,
        };
        let report = bench.run().await;
        report.failed("ValueError");
        assert_eq!(
            report.shown(),
            ["(['given', '1', 'x', '1'], 'fallback')", "('only', 'only')"]
        );
        assert_eq!(report.stdout(), "InputWidgetNotDefined\n");
    });
}

#[test]
fn files_are_where_the_platform_has_them() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let root = bench.folder.path().to_owned();
        std::fs::create_dir_all(root.join("dbfs/data/deep")).unwrap();
        std::fs::write(root.join("dbfs/data/a.csv"), "x\n1\n").unwrap();
        std::fs::write(root.join("Workspace/project/helper.py"), "answer = 42\n").unwrap();
        let report = bench
            .cells(&[
                "open('/dbfs/data/a.csv').read()",
                "import helper\nhelper.answer",
                "[(f.path, f.name, f.size) for f in dbutils.fs.ls('/data')]",
                "dbutils.fs.put('dbfs:/data/b.txt', 'héllo'), dbutils.fs.head('/data/b.txt')",
                "dbutils.fs.cp('/data', '/copy', recurse=True); dbutils.fs.mv('/copy/b.txt', '/c.txt')\n\
                 dbutils.fs.rm('/data/b.txt'), dbutils.fs.rm('/nothing'), dbutils.fs.mkdirs('/new/x')",
                "%fs ls /",
                "dbutils.fs.cp('file:/Workspace/project/helper.py', '/Volumes/h.py')",
                "dbutils.fs.ls('/missing')",
            ])
            .await;
        report.failed("FileNotFoundError");
        let shown = report.shown();
        assert_eq!(shown[0], "'x\\n1\\n'");
        assert_eq!(shown[1], "42");
        assert_eq!(
            shown[2],
            "[('dbfs:/data/a.csv', 'a.csv', 4), ('dbfs:/data/deep/', 'deep/', 0)]"
        );
        assert_eq!(shown[3], "(True, 'héllo')");
        assert_eq!(shown[4], "(True, False, True)");
        assert!(shown[5].contains("dbfs:/c.txt"), "{shown:?}");
        assert_eq!(std::fs::read_to_string(root.join("dbfs/c.txt")).unwrap(), "héllo");
        assert!(root.join("Volumes/h.py").exists() && root.join("dbfs/new/x").is_dir());
    });
}

#[test]
fn the_context_is_there_in_both_spellings() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.workload.context = forebay_exec::Context {
            api_url: Some("http://127.0.0.1:7071".to_owned()),
            api_token: Some("dapi0123456789".to_owned()),
            user: Some("ada@example.com".to_owned()),
            ..forebay_exec::Context::default()
        };
        let report = bench
            .cells(&[
                "c = dbutils.notebook.entry_point.getDbutils().notebook().getContext()\n\
                 c.apiUrl().get(), c.notebookPath().get(), c.tags().apply('user')",
                "import json; json.loads(c.toJson())['extraContext']['notebook_path']",
                "print(c.apiToken().get())",
                "dbutils.notebook.getContext().currentRunId().isDefined()",
            ])
            .await;
        report.succeeded();
        assert_eq!(
            report.shown(),
            [
                "('http://127.0.0.1:7071', '/project/notebook', 'ada@example.com')",
                "'/project/notebook'",
                "True"
            ]
        );
        assert_eq!(report.stdout(), "[REDACTED]\n");
    });
}

#[test]
fn restarting_python_keeps_the_rest_of_the_notebook() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        bench.host.notebooks.lock().unwrap().insert(
            "./setup".into(),
            vec!["dbutils.library.restartPython()".into(), "after = 1".into()],
        );
        let report = bench
            .cells(&[
                "import os\nx = 1\nprint(os.getpid())\ndbutils.library.restartPython()\nprint('no')",
                "print('x' in globals(), os.getpid() if 'os' in globals() else 'fresh')",
                "%run ./setup",
                "after, dbutils.widgets.getAll()",
            ])
            .await;
        report.succeeded();
        assert!(report.stdout().ends_with("False fresh\n"), "{}", report.stdout());
        assert_eq!(report.shown(), ["(1, {})"]);
        assert_eq!(report.statuses(), [(0, DONE), (1, DONE), (2, DONE), (3, DONE)]);
    });
}

#[test]
fn awkward_values_do_not_break_the_channel() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "print('\\udc80 lone surrogate')",
                "class R:\n    def _repr_mimebundle_(self, **_):\n        \
                 return {'application/json': {'x': float('nan'), 'y': {1, 2}}, 'text/plain': 'r'}\nR()",
                "class Bad:\n    def __repr__(self): raise ValueError('no repr')\nBad()",
            ])
            .await;
        assert!(report.stdout().contains("? lone surrogate"), "{report:#?}");
        let result = |event: &Event| match event {
            Event::Result { data, .. } => data.get("application/json").cloned(),
            _ => None,
        };
        let json = report.events.iter().find_map(result).unwrap();
        assert_eq!(json["x"], json!("nan"));
    });
}

#[test]
fn errors_that_ipython_would_only_print_are_errors() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let group = "raise ExceptionGroup('both', [ValueError(1), KeyError('k')])";
        let report = bench.cells(&[group]).await;
        let Outcome::Failed { trace, .. } = report.failed("ExceptionGroup").outcome() else {
            unreachable!()
        };
        assert!(
            trace.contains("ValueError: 1") && trace.contains("notebook#cell 1"),
            "{trace}"
        );
        assert!(!trace.contains("interactiveshell"), "{trace}");
        bench.cells(&["%nosuchmagic"]).await.failed("UsageError");
        bench.cells(&["exit()"]).await.failed("SystemExit");
    });
}
