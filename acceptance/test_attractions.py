"""The Java example: two versions of a library built with Maven, side by side in jobs and notebooks."""

import json
from pathlib import Path

import pytest
from databricks.sdk.errors import NotFound
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.jobs import NotebookTask, SparkJarTask
from test_spark import imported, succeeded

from harness import wait
from harness.api import cells, new_cluster
from harness.maven import built

pytestmark = pytest.mark.timeout(900)

PROJECT = Path(__file__).parent.parent / "examples/attractions"
MAIN = "org.example.attractions.Train"
VERSIONS = ("1.4.0", "1.5.0")


@pytest.fixture(scope="module")
def library(tmp_path_factory, w):
    """By version: where its JAR is on DBFS."""
    folder = tmp_path_factory.mktemp("maven")
    paths = {}
    for version in VERSIONS:
        jar = built(PROJECT, folder / version, f"-Drevision={version}")
        assert jar.name == f"attractions-{version}.jar"
        with jar.open("rb") as file:
            w.dbfs.upload(f"/FileStore/jars/{jar.name}", file, overwrite=True)
        paths[version] = f"dbfs:/FileStore/jars/{jar.name}"
    again = built(PROJECT, folder / "again", f"-Drevision={VERSIONS[-1]}", "-DskipTests")
    assert again.read_bytes() == jar.read_bytes(), "two builds of one source differ"
    return paths


def job_settings(jar, *parameters):
    task = SparkJarTask(main_class_name=MAIN, parameters=list(parameters))
    return {"spark_jar_task": task, "libraries": [compute.Library(jar=jar)]}


def lines_of(output):
    return [line for line in output.logs.splitlines() if line.startswith(("attractions ", "rmse ", "best of "))]


def test_both_versions_train_alike_and_a_notebook_compares_them(w, library, home, dbfs_home, cluster_id):
    said = {}
    for version, jar in library.items():
        _, output = succeeded(w, **job_settings(jar, f"/dbfs{dbfs_home}"))
        name, *said[version] = lines_of(output)
        assert name == f"attractions {version}"
    assert said["1.4.0"] == said["1.5.0"]
    rmse, *best = said["1.5.0"]
    rmse = float(rmse.removeprefix("rmse "))
    # A guess of the mean would be off by more than 1.2.
    assert 0.3 < rmse < 0.9
    best = dict(line.removeprefix("best of ").split(" ", 1) for line in best)
    # Nobody whom it does not know, and what the others prefer.
    assert best.keys() == {"0", "7", "13"}
    for visitor, found in best.items():
        assert len(json.loads(found)) == 3 and {attraction % 3 for attraction in json.loads(found)} == {int(visitor) % 3}, best
    compare = f"rows = spark.read.json('/dbfs{dbfs_home}').orderBy('version').collect()"
    path = imported(w, f"{home}/compare", cells(compare, "dbutils.notebook.exit(str([(row.version, row.rmse) for row in rows]))"))
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=path))
    assert output.notebook_output.result == str([(version, rmse) for version in VERSIONS])


def test_a_notebook_calls_the_library_of_the_version_it_was_given(w, api, library, home):
    apache = new_cluster(api, spark_conf={"forebay.engine": "apache"})
    path = imported(w, f"{home}/version", cells("dbutils.notebook.exit(spark._jvm.org.example.attractions.Library.version())"))
    for version, jar in library.items():
        task = NotebookTask(notebook_path=path)
        _, output = succeeded(w, existing_cluster_id=apache, notebook_task=task, libraries=[compute.Library(jar=jar)])
        assert output.notebook_output.result == version


WAITING = """
import os, time
print("attached", spark._jvm.org.example.attractions.Library.version(), flush=True)
open("/dbfs{folder}/started", "w").close()
while not os.path.exists("/dbfs{folder}/go"):
    time.sleep(0.05)
dbutils.notebook.exit(spark._jvm.org.example.attractions.Town(1, 3).visits().getClass().getName() + " "
                      + spark._jvm.org.example.attractions.Library.version())
"""


def test_a_run_keeps_the_version_it_started_with_and_the_next_has_the_new_one(w, api, library, home, dbfs_home):
    apache = new_cluster(api, spark_conf={"forebay.engine": "apache"})
    path = imported(w, f"{home}/long", cells(WAITING.format(folder=dbfs_home)))

    def settings(version):
        task = jobs.Task(
            task_key="t",
            existing_cluster_id=apache,
            notebook_task=NotebookTask(notebook_path=path),
            libraries=[compute.Library(jar=library[version])],
        )
        return jobs.JobSettings(name="long", tasks=[task])

    def result(run):
        return w.jobs.get_run_output(run.result().tasks[0].run_id).notebook_output.result

    job = w.jobs.create(name="long", tasks=settings("1.4.0").tasks)
    running = w.jobs.run_now(job.job_id)
    wait.until("the run to have begun", lambda: exists(w, f"{dbfs_home}/started"), timeout=240, interval=0.2)
    w.jobs.reset(job.job_id, settings("1.5.0"))
    w.dbfs.put(f"{dbfs_home}/go", contents="", overwrite=True)
    assert result(running) == "java.util.ArrayList 1.4.0"
    assert result(w.jobs.run_now(job.job_id)) == "java.util.ArrayList 1.5.0"


def exists(w, path):
    try:
        return bool(w.dbfs.get_status(path))
    except NotFound:
        return False
