"""Spark in notebooks, scripts and SQL: the default engine, for real."""

import base64

from databricks.sdk.service.jobs import NotebookTask, Source, SparkPythonTask, SubmitTask
from databricks.sdk.service.workspace import ImportFormat, Language

from harness import wait
from harness.api import TERMINAL, cells, text_of


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
        "import glob, os, signal\nfor path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    if 'sail_server' in open(path).read():\n        os.kill(int(path.split('/')[2]), signal.SIGKILL)"
    )
    path = imported(w, f"{home}/killed", cells("spark.range(3).count()", kill, "spark.range(3).count()"))
    run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=path))
    assert run.state.result_state.value == "FAILED"
    assert "engine" in output.error and "log" in output.error, output.error
    fine = imported(w, f"{home}/fine", cells("dbutils.notebook.exit(str(spark.range(3).count()))"))
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=fine))
    assert output.notebook_output.result == "3"
