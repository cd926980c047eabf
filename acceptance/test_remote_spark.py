"""Engines elsewhere: a Spark Connect server, and a standalone cluster of Spark's own; both from the server's own Spark, on loopback."""

import socket
import subprocess
from pathlib import Path

import pytest
from databricks.sdk.service import compute
from databricks.sdk.service.jobs import NotebookTask
from test_jar import built, folder_of_spark, jar_task, jars  # noqa: F401 - fixtures
from test_spark import facts, imported, submitted, succeeded

from harness import wait
from harness.api import cells, new_cluster
from harness.server import free_ports

pytestmark = pytest.mark.timeout(900)

# What Spark reaches into.
OPENED = [
    f"--add-opens=java.base/{name}=ALL-UNNAMED"
    for name in (
        *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
        *("java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref", "sun.nio.ch", "sun.nio.cs", "sun.util.calendar"),
    )
]


class Daemon:
    """One JVM of Spark's, which ends with the test."""

    def __init__(self, folder, name, jars, *words):  # noqa: F811
        self.log = folder / f"{name}.log"
        python = Path(jars).parents[4] / "bin/python"
        env = {
            "PYSPARK_PYTHON": str(python),
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "SPARK_HOME": str(Path(jars).parent),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_SCALA_VERSION": "2.13",
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["java", "-Xmx700m", *OPENED, "-cp", f"{jars}/*", *map(str, words)], cwd=folder, env=env, stdout=log, stderr=log
            )

    def until_it_says(self, *texts):
        def said():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return all(text in self.log.read_text() for text in texts)

        wait.until(f"{self.log.name}: {texts}", said, timeout=120, interval=0.1)
        return self

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def connect(tmp_path_factory, api):
    """The address of a Spark Connect server."""
    port = free_ports(1)
    server = Daemon(
        tmp_path_factory.mktemp("connect"),
        "connect",
        folder_of_spark(api),
        "org.apache.spark.deploy.SparkSubmit",
        *("--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.connect.grpc.binding.address=127.0.0.1"),
        *("--conf", "spark.ui.enabled=false", "--conf", "spark.master=local[1]"),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"),
    )
    try:
        wait.until("the Connect server to listen", lambda: is_open(port) or check(server), timeout=120, interval=0.2)
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.end()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check(daemon):
    assert daemon.process.poll() is None, daemon.log.read_text()[-3000:]


@pytest.fixture(scope="module")
def master(tmp_path_factory, api):
    """The address of a standalone master that has one worker."""
    folder, jars, port = tmp_path_factory.mktemp("standalone"), folder_of_spark(api), free_ports(1)  # noqa: F811
    address = f"spark://127.0.0.1:{port}"
    daemons = []
    try:
        words = ["--host", "127.0.0.1", "--webui-port", "0"]
        daemons.append(Daemon(folder, "master", jars, "org.apache.spark.deploy.master.Master", *words, "--port", port))
        daemons[0].until_it_says(f"Starting Spark master at {address}")
        words += ["--cores", "1", "--memory", "1g", "--work-dir", folder / "work", address]
        daemons.append(Daemon(folder, "worker", jars, "org.apache.spark.deploy.worker.Worker", *words))
        daemons[1].until_it_says("Successfully registered with master")
        yield address
    finally:
        for daemon in daemons:
            daemon.end()


def test_a_notebook_is_a_session_of_a_connect_server(w, api, connect, home):
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache", "spark.remote": connect, "spark.sql.shuffle.partitions": "2"})
    source = cells(
        "total = spark.range(100).groupBy().sum('id').first()[0]",
        "# MAGIC %sql\n# MAGIC select 40 + 2 as answer",
        "answer = _sqldf.first()[0]\nfrom pyspark.sql import functions as F\n"
        "double = F.udf(lambda n: n * 2, 'long')\ndoubled = spark.range(3).select(double('id')).collect()[2][0]",
        "dbutils.notebook.exit(f\"{total} {answer} {doubled} {spark.conf.get('spark.sql.shuffle.partitions')} {type(spark).__module__}\")",
    )
    task = NotebookTask(notebook_path=imported(w, f"{home}/remote", source))
    run, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=task)
    assert output.notebook_output.result == "4950 42 4 2 pyspark.sql.connect.session"
    assert facts(api, run)["engine"].endswith(f" at {connect}")


def test_a_connect_server_that_is_not_there_is_named(w, api, home):
    address = f"sc://127.0.0.1:{free_ports(1)}"
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache", "spark.remote": address})
    task = NotebookTask(notebook_path=imported(w, f"{home}/nobody", cells("spark.range(1).count()")))
    run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=task)
    assert run.state.result_state.value == "FAILED" and address.removeprefix("sc://") in output.error, output.error


def test_a_notebook_and_a_jar_have_a_standalone_cluster(w, api, master, jars, home):  # noqa: F811
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache", "spark.master": master, "spark.executor.memory": "512m"})
    source = cells(
        "import os\nhere = os.getpid()\nthere = sc.parallelize(range(4), 2).map(lambda n: (n, os.getcwd())).collect()",
        "dbutils.notebook.exit(f'{sc.master} {sum(n for n, _ in there)} {there[0][1]}')",
    )
    task = NotebookTask(notebook_path=imported(w, f"{home}/cluster", source))
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=task)
    address, total, place = output.notebook_output.result.split()
    # The worker's folder, which no run sees: it was executed there.
    assert (address, total) == (master, "6") and "/work/app-" in place
    libraries = [compute.Library(jar=path) for path in jars]
    _, output = succeeded(w, existing_cluster_id=cluster_id, spark_jar_task=jar_task("there"), libraries=libraries)
    assert "args there helper second jar" in output.logs and "sum 499500" in output.logs
