//! The Spark engine of a run.

use forebay_exec::{Executor, Outcome, Program};

use crate::support::{Bench, RUNTIME, executor};

#[test]
fn a_notebook_has_spark_and_sql_cells() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "n = spark.range(5).count()\nn",
                "from pyspark.sql import SparkSession\nassert SparkSession.builder.getOrCreate() is spark",
                "%sql\n-- a comment; with an end\nselect 1 as one, 'a;b' as two, null as none;\nselect 2 as last",
                "_sqldf.collect()[0][0]",
                "dbutils.widgets.text('least', '3')\nspark.range(5).createOrReplaceTempView('numbers')",
                "%sql select * from numbers where id >= cast(:least as int) or id = ${least} order by id",
                "display(table('numbers').filter('id < 2'))",
                "%sql select named_struct('a', 1, 'b', array('x', null)) as s",
            ])
            .await;
        report.succeeded();
        assert_eq!(
            report.shown(),
            [
                "5",
                "one  two  none\n  1  a;b  null",
                "last\n   2",
                "2",
                "id\n 3\n 4",
                "id\n 0\n 1",
                "                         s\n{\"a\": 1, \"b\": [\"x\", null]}",
            ]
        );
    });
}

#[test]
fn errors_of_sql_name_the_line_and_what_the_engine_lacks_names_the_setting() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&["%sql select 1;\n\nselect * from nowhere"])
            .await;
        let Outcome::Failed { message, .. } = report.outcome() else {
            panic!("{report:#?}")
        };
        assert!(message.contains("nowhere"), "{message}");
        assert!(message.contains("line 3"), "{message}");
        let report = bench.cells(&["spark.range(3).rdd.count()"]).await;
        let Outcome::Failed { message, .. } = report.outcome() else {
            panic!("{report:#?}")
        };
        assert!(message.contains("forebay.engine"), "{message}");
        let report = bench.cells(&["sc.parallelize([1])"]).await;
        report.failed("SparkNotAvailable");
        let report = bench.cells(&["%sql select :nobody"]).await;
        report.failed("SqlError");
    });
}

#[test]
fn an_engine_that_dies_fails_the_run_with_its_log() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "spark.range(3).count()",
                "import contextlib, glob, os, signal\nfor path in glob.glob('/proc/[0-9]*/cmdline'):\n    \
                 with contextlib.suppress(OSError):\n        \
                 if 'sail_server' in open(path).read():\n            os.kill(int(path.split('/')[2]), signal.SIGKILL)",
                "spark.range(3).count()",
            ])
            .await;
        report.failed("SparkEngineDied");
        let Outcome::Failed { message, .. } = report.outcome() else {
            unreachable!()
        };
        assert!(message.contains("log"), "{message}");
        bench.cells(&["spark.range(3).count()"]).await.succeeded();
    });
}

#[test]
fn an_engine_that_needs_more_memory_than_its_run_has_is_out_of_memory() {
    RUNTIME.block_on(async {
        if executor().await.isolation().accounting == "none" {
            return;
        }
        let mut bench = Bench::new();
        bench.workload.limits.memory_bytes = Some(600 << 20);
        let report = bench
            .cells(&[
                "def greedy(x):\n    kept = []\n    while True: kept.append(bytearray(1 << 20))",
                "spark.range(3).select(udf(greedy, 'bigint')('id')).collect()",
            ])
            .await;
        let limit_bytes = Some(600 << 20);
        assert_eq!(report.outcome(), &Outcome::OutOfMemory { limit_bytes });
    });
}

#[test]
fn a_script_has_spark_too_and_a_python_function_runs_in_the_engine() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let folder = bench.folder.path().join("Workspace/project");
        std::fs::write(folder.join("helper.py"), "def double(x):\n    return 2 * x\n").unwrap();
        let script = "from pyspark.sql import SparkSession, functions as F\n\
             import helper\n\
             s = SparkSession.builder.appName('etl').config('spark.sql.shuffle.partitions', '2').getOrCreate()\n\
             double = F.udf(helper.double, 'bigint')\n\
             print(s.range(4).select(F.sum(double('id'))).collect()[0][0], spark.range(2).count())\n";
        std::fs::write(folder.join("etl.py"), script).unwrap();
        bench.workload.program = Program::Script {
            file: "/Workspace/project/etl.py".to_owned(),
            args: Vec::new(),
            source: None,
        };
        let report = bench.run().await;
        report.succeeded();
        assert_eq!(report.stdout(), "12 2\n");
    });
}

/// Runs share the loopback: the engine of one must not answer another.
#[test]
fn another_run_finds_the_engine_shut() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "spark.range(3).count()",
                "import socket\nlines = open('/proc/net/tcp').read().splitlines()[1:]\n\
                 inodes = [line.split() for line in lines]\n\
                 import os, glob\n\
                 sail = [p for p in glob.glob('/proc/[0-9]*/fd/*') if os.path.exists(p)]\n\
                 ours = set()\n\
                 for path in sail:\n    \
                     try:\n        ours.add(os.readlink(path))\n    \
                     except OSError:\n        pass\n\
                 mine = {int(row[1].split(':')[1], 16) for row in inodes if row[3] == '0A' and f'socket:[{row[9]}]' in ours}\n\
                 assert len(mine) == 1, mine\n\
                 caller = socket.socket()\n\
                 caller.settimeout(2)\n\
                 try:\n    caller.connect(('127.0.0.1', mine.pop()))\n    print('let in')\n\
                 except TimeoutError:\n    print('shut')",
                "spark.range(3).count()",
            ])
            .await;
        report.succeeded();
        assert_eq!(report.stdout(), "shut\n");
    });
}

#[test]
fn tables_stay_and_one_that_is_broken_disturbs_nobody() {
    RUNTIME.block_on(async {
        let mut bench = Bench::new();
        let report = bench
            .cells(&[
                "spark.range(3).write.saveAsTable('Mixed')\nspark.sql('create database more')\n\
                 spark.sql('create table more.t as select 1 as a')\n\
                 spark.sql('create view v as select max(a) as top from more.t')",
                "spark.sql('create table broken as select 1 as a')",
                "import os, shutil\nfolder = '/dbfs/user/hive/warehouse'\n\
                 [shutil.rmtree(f'{folder}/{name}') for name in os.listdir(folder) if name.startswith('broken')]",
            ])
            .await;
        report.succeeded();
        let report = bench
            .cells(&[
                "spark.table('Mixed').count(), spark.table('v').collect()[0].top, spark.sql('select 1 as broken').count()",
                "spark.sql('drop table Mixed')\nspark.sql('use more')\nspark.sql('drop table t')",
                "spark.sql('create or replace table broken as select 2 as a')",
            ])
            .await;
        report.failed("TableError");
        assert_eq!(report.shown()[0], "(3, 1, 1)");
        let left = bench.folder.path().join("dbfs/user/hive/warehouse");
        let left = std::fs::read_dir(left).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert!(!left.iter().any(|name| name.starts_with("Mixed")), "{left:?}");
        let report = bench.cells(&["spark.table('broken').count()"]).await;
        let Outcome::Failed { message, .. } = report.outcome() else {
            panic!("{report:#?}")
        };
        assert!(message.contains("there is nothing at"), "{message}");
    });
}
