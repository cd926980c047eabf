"""The JVM that has started before its run."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from databricks.sdk.service.jobs import NotebookTask, SparkSubmitTask
from test_jar import built, jar_task, jars, libraries  # noqa: F401 - fixtures
from test_spark import facts, imported, submitted, succeeded

from harness import wait
from harness.api import cells, new_cluster

# What a JVM that waits executes; one that was started for its run executes `SparkSubmit`.
GATEWAY = "org.apache.spark.api.python.PythonGatewayServer"
MACHINE = "machine = spark._jvm.java.lang.System.getProperty('sun.java.command').split()[0]"

pytestmark = pytest.mark.timeout(900)


def waiting_jvms(server):
    """Those in the control groups that the server's runner made."""
    runner, found = server.runner(), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            waits = GATEWAY.encode() in (path / "cmdline").read_bytes()
            if waits and f"/run-{runner}-" in (path / "cgroup").read_text():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def followed(server, run):
    """What `run()` gives, and the number of the JVM that waits after it: not one that an earlier run had started."""
    before = waiting_jvms(server)
    result = run()
    since = time.time() - 1
    new = wait.until(
        "a JVM to wait",
        lambda: [pid for pid in waiting_jvms(server) if pid not in before and started(pid) > since],
        timeout=60,
        interval=0.1,
    )
    return result, new[0]


def started(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    up = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def had_waited(output):
    return f"machine {GATEWAY} " in output.logs


def number(name, output):
    return int(re.search(rf"{name} (-?\d+)", output.logs)[1])


@pytest.fixture
def jar(w, server, jars):  # noqa: F811
    """Runs the JAR with one word, until the next JVM waits."""

    def run(word, runner=succeeded):
        return followed(server, lambda: runner(w, spark_jar_task=jar_task(word), libraries=libraries(*jars)))

    return run


def test_a_jar_finds_a_jvm_that_has_started_and_is_as_alone_in_it_as_in_its_own(jar):
    jar("first")
    (run, output), _ = jar("second")
    assert had_waited(output)
    assert "args second helper second jar" in output.logs and "sum 499500" in output.logs and "said to stderr" in output.logs
    # The variables are this run's, and there is no input.
    assert number("attempt", output) == run.tasks[0].run_id and number("input", output) == -1
    (_, third), _ = jar("third")
    assert had_waited(third) and number("started", third) > number("started", output)
    for word, shown in [("exit", "exit code 3"), ("throw", "on purpose")]:
        (run, output), _ = jar(word, submitted)
        assert run.state.result_state.value == "FAILED" and shown in output.error, output.error


def test_what_a_jvm_used_before_its_run_is_not_the_runs(api, jar):
    _, waiting = jar("first")
    until_idle(waiting)
    (run, output), _ = jar("second")
    assert had_waited(output)
    assert 0 < facts(api, run)["usage"]["cpu_ms"] < number("used", output)


def until_idle(pid):
    used = [None]

    def is_idle():
        used.append(cpu_ticks(pid))
        return used[-1] == used[-2] and used[-1]

    wait.until("the JVM to have done what it does before its run", is_idle, timeout=120, interval=1)


def test_a_run_starts_its_own_jvm_when_the_waiting_one_hangs(jar):
    _, waiting = jar("first")
    until_idle(waiting)
    os.kill(waiting, signal.SIGSTOP)
    (_, output), _ = jar("second")
    assert not had_waited(output) and "args second helper second jar" in output.logs
    assert str(waiting) not in os.listdir("/proc")


def test_a_run_starts_its_own_jvm_when_the_waiting_one_is_gone_or_does_not_fit(w, jars, jar):  # noqa: F811
    _, waiting = jar("first")
    os.kill(waiting, signal.SIGKILL)
    (_, output), _ = jar("second")
    assert not had_waited(output)
    words = ["--driver-memory=600m", "--class", "org.example.Main", "--jars", jars[1], jars[0]]
    _, output = succeeded(w, spark_submit_task=SparkSubmitTask(parameters=words))
    assert not had_waited(output)


def test_a_notebook_on_apache_finds_one_too(w, api, server, home):
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache", "spark.sql.shuffle.partitions": "3"})
    source = cells(
        MACHINE,
        "found = spark.range(10).groupBy('id').count().count()",
        "dbutils.notebook.exit(f\"{machine} {found} {spark.conf.get('spark.sql.shuffle.partitions')}\")",
    )
    task = NotebookTask(notebook_path=imported(w, f"{home}/session", source))
    for is_warm in (False, True):
        (_, output), _ = followed(server, lambda: succeeded(w, existing_cluster_id=cluster_id, notebook_task=task))
        machine, *rest = output.notebook_output.result.split()
        assert rest == ["10", "3"]
        assert (machine == GATEWAY) is is_warm


def test_a_cluster_can_do_without(w, api, server, home):
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache", "forebay.warm": "false"})
    source = cells(MACHINE, "dbutils.notebook.exit(machine)")
    task = NotebookTask(notebook_path=imported(w, f"{home}/cold", source))
    for _ in range(2):
        _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=task)
        assert output.notebook_output.result != GATEWAY


OPTIONS = """
import glob
spark.range(10).count()
def read(path):
    with open(path, "rb") as file:
        return file.read()
machine = next(path for path in glob.glob("/proc/[0-9]*/cmdline") if b"SparkSubmit" in read(path))
words = read(machine).decode().split("\\0")
threads = {read(path).decode().split(" ")[0] for path in glob.glob(machine.replace("cmdline", "task/*/comm"))}
given = [word for word in words if word.startswith("-XX:Tier4BackEdgeThreshold=")]
"""


@pytest.mark.parametrize("where", ["conf", "env"])
def test_options_that_a_cluster_gives_its_jvm_win(w, api, home, where):
    collector, threshold = "-XX:+UseG1GC", "-XX:Tier4BackEdgeThreshold=40000"
    conf = {"forebay.engine": "apache", "spark.driver.extraJavaOptions": f"{collector} {threshold}" if where == "conf" else threshold}
    cluster_id = new_cluster(api, spark_conf=conf, spark_env_vars={"JAVA_TOOL_OPTIONS": collector} if where == "env" else {})
    source = cells(OPTIONS, "dbutils.notebook.exit(f\"{'G1' in threads} {given[-1]}\")")
    task = NotebookTask(notebook_path=imported(w, f"{home}/options", source))
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=task)
    assert output.notebook_output.result == "True -XX:Tier4BackEdgeThreshold=40000"


def cpu_ticks(pid):
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def test_no_jvm_outlives_its_server_and_runner(own_server):
    api = own_server.api()
    cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache"})
    _, waiting = followed(own_server, lambda: api.run_cells("/Shared/spark", ["spark.range(1).count()"], cluster_id, timeout=600))
    own_server.kill()
    own_server.kill_runner()
    wait.until("the JVM to be gone", lambda: not is_java(waiting), timeout=30, interval=0.1)


def is_java(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "java\n"
    except OSError:
        return False


def test_secrets_of_the_cluster_are_those_of_the_run_and_of_none_after_it(w, api, server, home):
    w.secrets.create_scope("warm-jvm")
    reference = "{{secrets/warm-jvm/key}}"
    apache = {"forebay.engine": "apache"}
    cluster = new_cluster(api, spark_conf={**apache, "spark.hadoop.own.key": reference}, spark_env_vars={"OWN_KEY": reference})
    other = new_cluster(api, spark_conf=apache)
    look = [
        MACHINE,
        "java = spark._jvm.java.lang.System",
        "env, conf = java.getenv('OWN_KEY') or '', spark.conf.get('spark.hadoop.own.key', '')",
        "dbutils.notebook.exit(f'{machine} {len(env)} {len(conf)} {env or conf}')",
    ]
    path = api.notebook(f"{home}/secret", ["\n".join(look)])

    def run(cluster_id):
        ended = api.finished(api.submit(path, cluster_id), 180)
        assert ended["state"]["result_state"] == "SUCCESS", api.output(ended["run_id"])
        return api.output(ended["run_id"])["notebook_output"]["result"]

    followed(server, lambda: run(other))
    for value in ("first-value", "a-second-value"):
        w.secrets.put_secret("warm-jvm", "key", string_value=value)
        result, _ = followed(server, lambda: run(cluster))
        assert result == f"{GATEWAY} {len(value)} {len(value)} [REDACTED]"
    # The JVM that waited beside the secret has nothing of it.
    assert run(other) == f"{GATEWAY} 0 0 "
    w.secrets.delete_scope("warm-jvm")
