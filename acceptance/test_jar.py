"""JARs and spark-submit, and files of SQL: tasks of jobs, with the Python SDK."""

import subprocess

import pytest
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.jobs import SparkJarTask, SparkSubmitTask, SqlTask, SqlTaskFile
from databricks.sdk.service.workspace import ImportFormat
from test_spark import facts, submitted, succeeded

from harness.api import new_cluster, refused, text_of

pytestmark = pytest.mark.timeout(900)

MAIN = """
package org.example;

public class Main {
    public static void main(String[] args) throws Exception {
        System.out.println("args " + String.join(",", args) + " helper " + Helper.word());
        if (args.length > 0 && args[0].equals("exit")) System.exit(3);
        if (args.length > 0 && args[0].equals("throw")) throw new IllegalStateException("on purpose");
        System.err.println("said to stderr");
        var machine = java.lang.management.ManagementFactory.getRuntimeMXBean();
        System.out.println("machine " + System.getProperty("sun.java.command").split(" ")[0] + " started " + machine.getStartTime());
        System.out.println("attempt " + System.getenv("FOREBAY_ATTEMPT_ID") + " input " + System.in.read());
        try (var spark = org.apache.spark.sql.SparkSession.builder().getOrCreate()) {
            System.out.println("sum " + spark.range(1000).selectExpr("sum(id)").first().get(0));
        }
        System.out.println("used " + ProcessHandle.current().info().totalCpuDuration().get().toMillis());
    }
}
"""
HELPER = 'package org.example; public class Helper { public static String word() { return "second jar"; } }'


@pytest.fixture(scope="module")
def built(tmp_path_factory, api):
    """(main JAR, helper JAR), compiled here against the server's own Spark."""
    folder = tmp_path_factory.mktemp("jars")
    spark = folder_of_spark(api)
    for name, source in {"Main": MAIN, "Helper": HELPER}.items():
        (folder / f"{name}.java").write_text(source)
    subprocess.run(["javac", "-cp", f"{spark}/*", "-d", folder / "classes", folder / "Main.java", folder / "Helper.java"], check=True)
    found = []
    for name in ("Main", "Helper"):
        jar = folder / f"{name.lower()}.jar"
        subprocess.run(["jar", "cf", jar, "-C", folder / "classes", f"org/example/{name}.class"], check=True)
        found.append(jar)
    return found


@pytest.fixture(scope="module")
def jars(built, w):
    """The same on DBFS."""
    for jar in built:
        with jar.open("rb") as file:
            w.dbfs.upload(f"/FileStore/jars/{jar.name}", file, overwrite=True)
    return [f"dbfs:/FileStore/jars/{jar.name}" for jar in built]


def folder_of_spark(api):
    """Where Spark's own JARs are, which a run sees at the place where they are on the machine."""
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache", "forebay.warm": "false"})
    cells = ["import pyspark\ndbutils.notebook.exit(pyspark.__path__[0])"]
    _, output = api.run_cells("/Shared/acceptance/where_spark_is", cells, cluster_id, timeout=600)
    return output["notebook_output"]["result"] + "/jars"


def libraries(*paths):
    return [compute.Library(jar=path) for path in paths]


def jar_task(*args, main="org.example.Main"):
    return SparkJarTask(main_class_name=main, parameters=list(args))


def test_a_jar_runs_with_its_arguments_and_its_output_is_kept(w, api, jars):
    run, output = succeeded(w, spark_jar_task=jar_task("a", "b c"), libraries=libraries(*jars))
    assert "args a,b c helper second jar" in output.logs and "sum 499500" in output.logs and "said to stderr" in output.logs
    assert facts(api, run)["engine"].startswith("apache ")


@pytest.mark.parametrize("word, shown", [("exit", "exit code 3"), ("throw", "on purpose")])
def test_a_jar_fails_with_its_exit_code_or_exception(w, jars, word, shown):
    run, output = submitted(w, spark_jar_task=jar_task(word), libraries=libraries(*jars))
    assert run.state.result_state.value == "FAILED"
    assert shown in output.error, output.error


def test_what_is_wrong_with_a_jar_is_said_before_anything_runs(w, jars, dbfs_home):
    w.dbfs.put(f"{dbfs_home}/text.jar", contents="bm90IGEgamFy", overwrite=True)
    for task, files, words in [
        (jar_task(main="org.other.Main"), jars, ["org.other.Main", "did you mean org.example.Main"]),
        (jar_task(), [f"dbfs:{dbfs_home}/text.jar"], ["text.jar is not a JAR"]),
        (jar_task(), [f"dbfs:{dbfs_home}/none.jar"], ["none.jar"]),
        (jar_task(), [], ["libraries"]),
    ]:
        run, output = submitted(w, spark_jar_task=task, libraries=libraries(*files))
        assert run.state.result_state.value == "FAILED"
        assert all(word in output.error for word in words), output.error


def test_spark_submit_takes_the_command_line_of_a_jar(w, jars, dbfs_home):
    words = ["--class", "org.example.Main", "--jars", jars[1], jars[0], "submitted"]
    _, output = succeeded(w, spark_submit_task=SparkSubmitTask(parameters=words))
    assert "args submitted" in output.logs and "sum 499500" in output.logs


def test_parameters_of_run_now_replace_those_of_the_task(w, jars):
    task = jobs.Task(task_key="t", spark_jar_task=jar_task("own"), libraries=libraries(*jars))
    job = w.jobs.create(name="jar", tasks=[task])
    run = w.jobs.run_now(job.job_id, jar_params=["given"]).result()
    assert "args given" in w.jobs.get_run_output(run.tasks[0].run_id).logs
    run, _ = succeeded(w, run_job_task=jobs.RunJobTask(job_id=job.job_id, jar_params=["passed on"]))
    child = w.jobs.get_run(w.jobs.get_run_output(run.tasks[0].run_id).run_job_output.run_id)
    assert "args passed on" in w.jobs.get_run_output(child.tasks[0].run_id).logs


def test_a_file_of_sql_runs_with_parameters(w, api, home):
    statements = "create or replace table report_of_sql as select 1 as n;\n-- then\nselect n, :word as word from report_of_sql;\ndrop table report_of_sql"
    w.workspace.mkdirs(home)
    w.workspace.upload(f"{home}/report.sql", statements.encode(), format=ImportFormat.AUTO)
    task = SqlTask(warehouse_id="", file=SqlTaskFile(path=f"{home}/report.sql"), parameters={"word": "hello"})
    run, output = succeeded(w, sql_task=task)
    assert output.sql_output.query_output.output_link
    assert "hello" in text_of(api.executed(run.run_id))


def test_other_forms_of_sql_are_refused_by_name(api):
    for name, value in [("query", {"query_id": "q"}), ("dashboard", {"dashboard_id": "d"}), ("alert", {"alert_id": "a"})]:
        body = {"tasks": [{"task_key": "t", "sql_task": {"warehouse_id": "", name: value}}]}
        assert f"'{name}'" in refused(api.call("POST", "/api/2.1/jobs/create", json=body), 501, "NOT_IMPLEMENTED")
    body = {"tasks": [{"task_key": "t", "sql_task": {"warehouse_id": "w", "file": {"path": "/x.sql"}}}]}
    assert "'warehouse_id'" in refused(api.call("POST", "/api/2.1/jobs/create", json=body), 501, "NOT_IMPLEMENTED")
