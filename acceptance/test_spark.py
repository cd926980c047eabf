"""Spark in notebooks, scripts and SQL: the default engine, for real."""

import base64
import json
from pathlib import Path

import pytest
import requests
from databricks.sdk.service.jobs import NotebookTask, Source, SparkPythonTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat, Language

from harness import wait
from harness.api import TERMINAL, cells, new_cluster, refused, text_of


def imported(w, path, text, language=Language.PYTHON):
    w.workspace.mkdirs(path.rsplit("/", 1)[0])
    content = base64.b64encode(text.encode()).decode()
    w.workspace.import_(path, content=content, format=ImportFormat.SOURCE, language=language, overwrite=True)
    return path


def submitted(w, **task):
    """The finished run of one task, whatever became of it, and its output."""
    submitted = w.jobs.submit(run_name="spark", tasks=[SubmitTask(task_key="t", **task)])

    def ended():
        run = w.jobs.get_run(submitted.run_id)
        return run if run.state.life_cycle_state.value in TERMINAL else None

    run = wait.until(f"run {submitted.run_id} to end", ended, timeout=240, interval=0.2)
    return run, w.jobs.get_run_output(run.tasks[0].run_id)


def succeeded(w, **task):
    run, output = submitted(w, **task)
    assert run.state.result_state.value == "SUCCESS", [run.state.state_message, output.error, output.error_trace]
    return run, output


def test_spark_and_sql_in_a_notebook_on_the_default_cluster(w, api, home, cluster_id):
    path = imported(
        w,
        f"{home}/etl",
        cells(
            "from pyspark.sql import functions as F\nsales = spark.createDataFrame([('a', 1), ('b', 2), ('a', 3)], 'shop string, sold int')",
            "sales.createOrReplaceTempView('sales')\ndisplay(sales)",
            "# MAGIC %sql\n# MAGIC select shop, sum(sold) as sold from sales where sold >= :least group by shop order by shop",
            "dbutils.notebook.exit(str([tuple(row) for row in _sqldf.collect()]))",
        ),
    )
    run, output = succeeded(
        w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=path, base_parameters={"least": "1"})
    )
    assert output.notebook_output.result == "[('a', 4), ('b', 2)]"
    shown = api.executed(run.run_id)["cells"]
    tables = ["".join(out["data"].get("text/html", "")) for cell in shown for out in cell.get("outputs", []) if "data" in out]
    assert sum("<table" in table for table in tables) == 2 and "<td>4</td>" in tables[-1], tables


def test_python_sql_and_r_share_a_notebook_and_scala_is_refused_by_name(w, home, cluster_id):
    sources = [
        "# MAGIC %sql\n# MAGIC select 41 as n",
        "n = _sqldf.first()[0] + 1\ndbutils.fs.put('dbfs:/tmp/n-of-three.txt', str(n), True)",
        "# MAGIC %r\n# MAGIC dbutils.notebook.exit(paste('R has', readLines('/dbfs/tmp/n-of-three.txt')))",
    ]
    task = NotebookTask(notebook_path=imported(w, f"{home}/three", cells(*sources)))
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=task)
    assert output.notebook_output.result == "R has 42"
    scala = [
        (cells("x = 1", "# MAGIC %scala\n# MAGIC println(1)"), Language.PYTHON),
        ("// Databricks notebook source\nprintln(1)\n", Language.SCALA),
    ]
    for number, (text, language) in enumerate(scala):
        task = NotebookTask(notebook_path=imported(w, f"{home}/scala{number}", text, language))
        run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=task)
        assert run.state.result_state.value == "FAILED"
        assert "Scala cells cannot run on this cluster: it has Python, SQL and R" in output.error, output.error


def test_spark_in_a_script(w, api, home, cluster_id):
    script = "from pyspark.sql import SparkSession\nprint('rows:', SparkSession.builder.getOrCreate().range(7).count())\n"
    w.workspace.mkdirs(home)
    w.workspace.upload(f"{home}/job.py", script.encode(), format=ImportFormat.AUTO)
    task = SparkPythonTask(python_file=f"{home}/job.py", source=Source.WORKSPACE)
    _, output = succeeded(w, existing_cluster_id=cluster_id, spark_python_task=task)
    assert "rows: 7" in output.logs


def test_a_sql_notebook_is_a_notebook(w, api, home, cluster_id):
    text = "-- Databricks notebook source\ncreate widget text shop default 'a'\n\n-- COMMAND ----------\n\nselect concat('shop ', :shop) as shown\n"
    path = imported(w, f"{home}/report", text, Language.SQL)
    run, _ = succeeded(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=path, base_parameters={"shop": "b"}))
    assert "shop b" in text_of(api.executed(run.run_id))


def test_an_error_of_sql_says_which_statement_and_what_the_engine_lacks_which_setting(w, home, cluster_id):
    wrong = imported(w, f"{home}/wrong", cells("# MAGIC %sql\n# MAGIC select 1;\n# MAGIC select * from nowhere"))
    run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=wrong))
    assert run.state.result_state.value == "FAILED"
    assert "nowhere" in output.error and "line 2" in output.error, output.error
    lacks = imported(w, f"{home}/lacks", cells("spark.range(3).rdd.map(lambda row: row[0]).collect()"))
    run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=lacks))
    assert run.state.result_state.value == "FAILED"
    assert "forebay.engine" in output.error, output.error


def test_an_engine_that_is_killed_fails_the_run_and_the_next_has_a_new_one(w, home, cluster_id):
    kill = (
        # With one of them the other goes, too.
        "import contextlib, glob, os, signal\nfor path in glob.glob('/proc/[0-9]*/cmdline'):\n    with contextlib.suppress(OSError):\n"
        "        if 'sail_server' in open(path).read():\n            os.kill(int(path.split('/')[2]), signal.SIGKILL)"
    )
    path = imported(w, f"{home}/killed", cells("spark.range(3).count()", kill, "spark.range(3).count()"))
    run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=path))
    assert run.state.result_state.value == "FAILED"
    assert "engine" in output.error and "log" in output.error, output.error
    fine = imported(w, f"{home}/fine", cells("dbutils.notebook.exit(str(spark.range(3).count()))"))
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=fine))
    assert output.notebook_output.result == "3"


# --- engines ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apache_id(api):
    return new_cluster(api, spark_conf={"forebay.engine": "apache"})


def notebook(w, path, cluster_id, *sources, parameters=None):
    imported(w, path, cells(*sources))
    task = NotebookTask(notebook_path=path, base_parameters=parameters or {})
    return succeeded(w, existing_cluster_id=cluster_id, notebook_task=task)


def facts(api, run):
    return api.run(run.run_id)["tasks"][0]["forebay"]


def test_tables_of_one_run_are_there_in_the_next(w, home, cluster_id):
    notebook(
        w,
        f"{home}/make",
        cluster_id,
        "spark.sql('create database if not exists kept')\nspark.range(3).write.mode('overwrite').saveAsTable('kept.numbers')",
        "# MAGIC %sql\n# MAGIC create or replace table squares as select id, id * id as squared from kept.numbers;\n"
        "# MAGIC create or replace view odd as select * from squares where id % 2 = 1",
        "spark.range(2).write.mode('overwrite').parquet('dbfs:/tmp/kept.parquet')",
    )
    _, output = notebook(
        w,
        f"{home}/use",
        cluster_id,
        "spark.sql('insert into squares values (3, 9)')",
        "odd = sorted(row[1] for row in spark.table('odd').collect())",
        "files = spark.read.parquet('/dbfs/tmp/kept.parquet').count()",
        "names = sorted(row.name for row in spark.catalog.listTables())",
        "spark.sql('drop table squares')\nspark.sql('drop view odd')\nspark.sql('drop database kept cascade')",
        "dbutils.notebook.exit(str([odd, files, 'squares' in names and 'odd' in names]))",
    )
    assert output.notebook_output.result == "[[1, 9], 2, True]"
    _, output = notebook(
        w,
        f"{home}/gone",
        cluster_id,
        "import os\nleft = [name for name in os.listdir('/dbfs/user/hive/warehouse') if name.startswith(('squares', 'kept'))]",
        "dbutils.notebook.exit(str([left, spark.catalog.tableExists('squares')]))",
    )
    assert output.notebook_output.result == "[[], False]"


def test_runs_name_the_engine_that_did_the_work(w, api, home, cluster_id):
    run, _ = notebook(w, f"{home}/with", cluster_id, "spark.range(1).count()")
    assert facts(api, run)["engine"].startswith("sail ")
    run, _ = notebook(w, f"{home}/without", cluster_id, "print('no spark')")
    assert facts(api, run)["engine"] is None


@pytest.mark.timeout(900)
def test_the_engine_apache_runs_what_sail_does_not(w, api, home, apache_id, cluster_id):
    assert api.get("/api/2.0/clusters/get", cluster_id=apache_id)["forebay"]["engine"] == "apache"
    run, output = notebook(
        w,
        f"{home}/rdd",
        apache_id,
        "from pyspark.sql import SparkSession\nassert SparkSession.builder.master('local').getOrCreate() is spark",
        "total = sc.parallelize(range(10)).map(lambda n: n * n).sum()",
        "spark.createDataFrame([(1, 'a')], 'n int, t string').write.mode('overwrite').saveAsTable('made_by_apache')",
        "from pyspark.ml.linalg import Vectors\nfrom pyspark.ml.regression import LinearRegression\n"
        "points = spark.createDataFrame([(float(2 * x + 1), Vectors.dense(x)) for x in range(5)], ['label', 'features'])\n"
        "slope = round(LinearRegression().fit(points).coefficients[0], 3)",
        "dbutils.notebook.exit(f'{total} {slope}')",
    )
    assert output.notebook_output.result == "285 2.0"
    assert facts(api, run)["engine"].startswith("apache ")
    # What one engine keeps the other finds.
    _, output = notebook(w, f"{home}/other", cluster_id, "dbutils.notebook.exit(str(spark.table('made_by_apache').collect()[0].t))")
    assert output.notebook_output.result == "a"
    path = imported(w, f"{home}/delta", cells("spark.range(1).write.format('delta').saveAsTable('no_delta')"))
    run, output = submitted(w, existing_cluster_id=apache_id, notebook_task=NotebookTask(notebook_path=path))
    assert run.state.result_state.value == "FAILED" and "parquet" in output.error, output.error


FIRST = [
    "from pyspark.sql import SparkSession, Window, functions as F, types as T\n"
    "@F.udf('bigint')\ndef twice(n):\n    return 2 * n\n"
    "@F.pandas_udf('double')\ndef half(n):\n    return n / 2",
    "over = F.row_number().over(Window.orderBy('id'))\neven = F.col('id') % 2 == F.lit(0)",
    "import threading\nseen = []\n"
    "thread = threading.Thread(target=lambda: seen.append(SparkSession.getActiveSession()))\nthread.start()\nthread.join()",
    "row = spark.range(3).select(twice('id'), half('id'), over, even).collect()[1]\n"
    "dbutils.notebook.exit(f'{tuple(row)} {SparkSession.active() is spark}')",
]


@pytest.mark.parametrize("engine", ["sail", "apache"])
def test_functions_and_types_need_no_use_of_spark_before_them(w, home, cluster_id, apache_id, engine):
    _, output = notebook(w, f"{home}/first", {"sail": cluster_id, "apache": apache_id}[engine], *FIRST)
    assert output.notebook_output.result == "(2, 0.5, 2, False) True"


@pytest.mark.parametrize("engine", ["sail", "apache"])
@pytest.mark.parametrize("read", ["format('mlflow-experiment').load('1')", "load('1', format='mlflow-experiment')"])
def test_experiments_are_no_data_source_yet_and_that_is_said(w, home, cluster_id, apache_id, engine, read):
    path = imported(w, f"{home}/reserved", cells(f"spark.read.{read}"))
    cluster = {"sail": cluster_id, "apache": apache_id}[engine]
    run, output = submitted(w, existing_cluster_id=cluster, notebook_task=NotebookTask(notebook_path=path))
    assert run.state.result_state.value == "FAILED"
    assert "'mlflow-experiment'" in output.error and "no experiment tracking yet" in output.error, output.error
    assert "forebay.engine" not in output.error


def test_an_unknown_engine_is_refused_by_name(api):
    body = {"spark_version": "15.4.x-scala2.12", "spark_conf": {"forebay.engine": "flink"}}
    message = refused(api.call("POST", "/api/2.0/clusters/create", json=body), 400, "INVALID_PARAMETER_VALUE")
    assert "forebay.engine" in message and "apache, sail" in message


@pytest.mark.timeout(900)
def test_the_example_gives_the_same_on_both_engines(w, home, cluster_id, apache_id):
    source = (Path(__file__).parent.parent / "examples/orders/notebooks/etl.py").read_text()
    path = imported(w, f"{home}/etl", source)
    results = []
    for cluster, tables in [(cluster_id, "orders_sail"), (apache_id, "orders_apache")]:
        task = NotebookTask(notebook_path=path, base_parameters={"tables": tables, "drop": "yes"})
        _, output = succeeded(w, existing_cluster_id=cluster, notebook_task=task)
        results.append(json.loads(output.notebook_output.result))
    assert results[0] == results[1]
    assert len(results[0]["figures"]) > 6 and len(results[0]["best"]) == 12, results[0]


def test_a_job_is_warned_of_what_its_engine_lacks(w, api, server, forebay, home, cluster_id, tmp_path):
    source = cells(
        "x = 1",
        "# about df.rdd\nprint('sc.parallelize')\nrows = df.rdd.collect()",
        "# MAGIC %sql\n# MAGIC select * from t pivot (sum(a) for b in (1))",
    )
    path = imported(w, f"{home}/n", source)
    apache = new_cluster(api, spark_conf={"forebay.engine": "apache"})

    def job(cluster):
        definition = {"name": "j", "tasks": [{"task_key": "t", "notebook_task": {"notebook_path": path}, "existing_cluster_id": cluster}]}
        file = tmp_path / "job.json"
        file.write_text(json.dumps(definition))
        return forebay.run("jobs", "create", "--file", file, "--data", server.data)

    made = job(cluster_id)
    assert made.status == 0
    assert f"warning: {path}, cell 2, line 3: the engine sail does not have .rdd, or only in part" in made.stderr
    assert '{"spark_conf": {"forebay.engine": "apache"}}' in made.stderr
    job_id = int(made.stdout)
    found = api.get(f"/api/forebay/v1/jobs/{job_id}/warnings")["warnings"]
    assert [(one["task_key"], one["cell"], one["line"], one["feature"]) for one in found] == [("t", 2, 3, ".rdd"), ("t", 3, 2, "PIVOT")]
    with requests.Session() as browser:
        browser.trust_env = False
        browser.post(f"{server.direct()}/login", data={"token": server.profile().token})
        page = browser.get(f"{server.direct()}/jobs/{job_id}").text
    assert f"<code>.rdd</code> in {path}, cell 2, line 3" in page
    other = job(apache)
    assert "warning" not in other.stderr
    assert api.get(f"/api/forebay/v1/jobs/{int(other.stdout)}/warnings")["warnings"] == []
