"""Command execution 1.2, as the Python SDK and its remote dbutils use it: cells from outside on a running cluster."""

import os

import pytest
from databricks.sdk.dbutils import RemoteDbUtils
from databricks.sdk.errors import DatabricksError
from databricks.sdk.service.compute import CommandStatus, ContextStatus, Language, ResultType

from harness import wait
from harness.api import new_cluster, refused, text_of

COMMANDS = "/api/1.2/commands"
CONTEXTS = "/api/1.2/contexts"


class Context:
    """One context, driven by the SDK."""

    def __init__(self, sdk, cluster, language=Language.PYTHON):
        self.commands, self.cluster, self.language = sdk.command_execution, cluster, language
        self.id = self.commands.create_and_wait(cluster_id=cluster, language=language).id

    def names(self, **more):
        return {"cluster_id": self.cluster, "context_id": self.id, **more}

    def start(self, source):
        wait_for = self.commands.execute(**self.names(language=self.language, command=source))
        return wait_for.command_id

    def run(self, source):
        return self.commands.execute_and_wait(**self.names(language=self.language, command=source))

    def text(self, source):
        done = self.run(source)
        assert done.status == CommandStatus.FINISHED, done
        assert done.results.result_type == ResultType.TEXT, done.results
        return done.results.data

    def status(self, command):
        return self.commands.command_status(**self.names(command_id=command))

    def destroy(self):
        self.commands.destroy(**self.names())


def running_cluster(api):
    cluster = new_cluster(api)
    wait.until("the cluster to run", lambda: api.get("/api/2.1/clusters/get", cluster_id=cluster)["state"] == "RUNNING")
    return cluster


@pytest.fixture(scope="module")
def cluster(api):
    return running_cluster(api)


@pytest.fixture
def context(w, cluster):
    """Makes contexts, which are destroyed after the test."""
    made = []

    def make(language=Language.PYTHON, on=cluster):
        made.append(Context(w, on, language))
        return made[-1]

    yield make
    for one in made:
        one.destroy()


def test_a_session_keeps_its_state_and_gives_each_kind_of_result(context):
    python = context()
    assert python.text("x = 20") == ""
    assert python.text("print('hello')\nx + 1") == "hello\n21"

    failed = python.run("def f():\n    return 1 / 0\nf()")
    assert failed.status == CommandStatus.FINISHED
    assert failed.results.result_type == ResultType.ERROR
    assert failed.results.summary == '<span class="ansi-red-fg">ZeroDivisionError</span>: division by zero'
    assert "context#cell 3" in failed.results.cause
    assert python.text("x") == "20", "a failure ends a command and nothing else"

    table = python.run("import pandas as pd\ndisplay(pd.DataFrame({'a': [1, 2], 'b': ['x', None]}))").results
    assert table.result_type == ResultType.TABLE
    assert table.data == [[1, "x"], [2, None]]
    assert [(column["name"], column["type"]) for column in table.schema] == [("a", '"long"'), ("b", '"string"')]
    assert table.truncated is False

    many = python.run("display(pd.DataFrame({'a': range(1500)}))").results
    assert (len(many.data), many.truncated) == (1000, True)

    image = python.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()").results
    assert image.result_type == ResultType.IMAGE
    assert image.file_name.startswith("data:image/png;base64,iVBOR")


def test_spark_and_sql(context):
    sql = context(Language.SQL)
    table = sql.run("SELECT id, id * 1.5 AS half FROM range(3) ORDER BY id").results
    assert table.result_type == ResultType.TABLE, table
    assert [row[0] for row in table.data] == [0, 1, 2]
    assert table.schema[0] == {"name": "id", "type": '"long"', "metadata": "{}"}
    sql.run("CREATE TEMP VIEW two AS SELECT 2 AS n")
    assert sql.run("SELECT * FROM two").results.data == [[2]]
    failed = sql.run("SELECT * FROM absent_table").results
    assert failed.result_type == ResultType.ERROR
    assert "absent_table" in failed.summary


def test_r(context):
    r = context(Language.R)
    assert r.text("x <- 41\nx + 1") == "[1] 42"
    failed = r.run("stop('deep')").results
    assert (failed.result_type, "deep" in failed.summary) == (ResultType.ERROR, True)
    assert r.text("x") == "[1] 41"
    table = r.run("display(data.frame(n = 1:2, half = c(0.5, NA), word = c('a', 'b')))").results
    assert table.result_type == ResultType.TABLE
    assert table.data == [[1, 0.5, "a"], [2, None, "b"]]
    assert [(column["name"], column["type"]) for column in table.schema] == [("n", '"long"'), ("half", '"double"'), ("word", '"string"')]
    command = r.start("Sys.sleep(600)")
    wait.until("the command to run", lambda: r.status(command).status == CommandStatus.RUNNING)
    r.commands.cancel_and_wait(**r.names(command_id=command))
    assert r.text("x") == "[1] 41", "an interrupt leaves the session as it was"


def test_scala_is_refused(api, cluster):
    answer = api.call("POST", f"{CONTEXTS}/create", json={"clusterId": cluster, "language": "scala"})
    assert "scala" in refused(answer, 501, "NOT_IMPLEMENTED")


def test_magics_and_a_package_that_stays(context, api, home):
    python = context()
    api.notebook(f"{home}/lib", ["def twice(x):\n    return 2 * x"])
    assert python.text(f"%run {home}/lib") == ""
    assert python.text("twice(4)") == "8"
    assert "here" in python.text("%sh echo here")
    make = (
        "import pathlib, zipfile\n"
        "wheel = zipfile.ZipFile('/tmp/tiny_thing-1.0-py3-none-any.whl', 'w')\n"
        "wheel.writestr('tiny_thing.py', 'VALUE = 7')\n"
        "wheel.writestr('tiny_thing-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny-thing\\nVersion: 1.0\\n')\n"
        "wheel.writestr('tiny_thing-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n"
        "wheel.writestr('tiny_thing-1.0.dist-info/RECORD', '')\n"
        "wheel.close()"
    )
    python.text(make)
    python.run("%pip install /tmp/tiny_thing-1.0-py3-none-any.whl")
    assert python.text("import tiny_thing\ntiny_thing.VALUE") == "7"
    python.run("dbutils.library.restartPython()")
    assert python.text("'twice' in globals()") == "False"
    assert python.text("import tiny_thing\ntiny_thing.VALUE") == "7", "a new interpreter has what was installed"
    command = python.start("import time\ntime.sleep(600)")
    wait.until("the command to run", lambda: python.status(command).status == CommandStatus.RUNNING)
    python.commands.cancel_and_wait(**python.names(command_id=command))
    assert python.text("1 + 1") == "2", "the new interpreter is interrupted like the first"


def test_dbutils_from_outside_a_run(w, server, api, cluster, home):
    config = server.sdk().config.copy()
    config.cluster_id = cluster
    dbutils = RemoteDbUtils(config)
    path = api.notebook(f"{home}/child", ["dbutils.widgets.text('who', '')\ndbutils.notebook.exit('hello ' + dbutils.widgets.get('who'))"])
    assert dbutils.notebook.run(path, 60, {"who": "you"}) == "hello you"
    assert isinstance(dbutils.fs.mounts(), list)
    with pytest.raises(DatabricksError, match="nowhere"):
        dbutils.notebook.run("/Shared/nowhere", 60)
    w.command_execution.destroy(cluster, dbutils._ctx.id)


def test_a_cancel_interrupts_what_runs_and_takes_back_what_waits(context):
    python = context()
    python.text("state = 'kept'")
    running = python.start("import time\nprint('began')\ntime.sleep(600)")
    waiting = python.start("state = 'lost'")
    wait.until("the command to run", lambda: python.status(running).status == CommandStatus.RUNNING)
    assert python.status(waiting).status == CommandStatus.QUEUED
    assert python.commands.cancel_and_wait(**python.names(command_id=waiting)).status == CommandStatus.CANCELLED
    done = python.commands.cancel_and_wait(**python.names(command_id=running))
    assert done.status == CommandStatus.CANCELLED
    assert "KeyboardInterrupt" in done.results.summary
    assert python.text("print(state)") == "kept"
    ended = python.start("1")
    wait.until("the command to end", lambda: python.status(ended).status == CommandStatus.FINISHED)
    with pytest.raises(DatabricksError, match="ended already"):
        python.commands.cancel(**python.names(command_id=ended))


def test_a_context_is_a_run_on_the_pages_and_ends_with_its_process(context, api):
    python = context()
    python.text("print('in the transcript')")
    pid = int(python.text("import os\nos.getpid()"))
    assert pid
    run = api.run(int(python.id))
    assert run["state"]["life_cycle_state"] == "RUNNING"
    assert run["run_type"] == "CONTEXT"
    assert "in the transcript" in text_of(api.executed(int(python.id)))
    listed = api.get("/api/2.1/jobs/runs/list").get("runs", [])
    assert run["run_id"] not in [one["run_id"] for one in listed], "clients of jobs do not expect it"
    python.destroy()
    ended = api.finished(int(python.id))
    assert ended["state"]["result_state"] == "CANCELED"
    assert "destroyed by" in ended["state"]["state_message"]
    status = python.commands.context_status(cluster_id=python.cluster, context_id=python.id)
    assert status.status == ContextStatus.ERROR
    answer = api.call(
        "POST", f"{COMMANDS}/execute", json={"clusterId": python.cluster, "contextId": python.id, "language": "python", "command": "1"}
    )
    assert "destroyed" in refused(answer, 400, "INVALID_STATE")


def test_a_context_ends_with_its_cluster(w, api, context):
    cluster = running_cluster(api)
    python = context(on=cluster)
    command = python.start("import time\ntime.sleep(600)")
    w.clusters.delete(cluster).result()
    api.finished(int(python.id))
    status = api.get(f"{CONTEXTS}/status", clusterId=cluster, contextId=python.id)
    assert status["status"] == "Error"
    assert status["message"] == f"The context ended with its cluster {cluster}."
    done = python.status(command)
    assert done.status == CommandStatus.ERROR
    assert "with its cluster" in done.results.cause
    answer = api.call("POST", f"{CONTEXTS}/create", json={"clusterId": cluster, "language": "python"})
    assert "running cluster" in refused(answer, 400, "INVALID_STATE")


def test_who_may_attach_and_to_whom_a_context_belongs(server, api, context, plain_user):
    name, token = plain_user
    stranger = server.api(token=token)
    python = context()
    ids = {"clusterId": python.cluster, "contextId": python.id}
    answer = stranger.call("POST", f"{CONTEXTS}/create", json={"clusterId": python.cluster, "language": "python"})
    refused(answer, 403, "PERMISSION_DENIED")
    grant = {"access_control_list": [{"user_name": name, "permission_level": "CAN_ATTACH_TO"}]}
    assert api.call("PATCH", f"/api/2.0/permissions/clusters/{python.cluster}", json=grant).ok
    own = stranger.post(f"{CONTEXTS}/create", {"clusterId": python.cluster, "language": "python"})["id"]
    answer = stranger.call("POST", f"{COMMANDS}/execute", json={**ids, "language": "python", "command": "1"})
    assert "belongs to" in refused(answer, 403, "PERMISSION_DENIED")
    stranger.post(f"{CONTEXTS}/destroy", {"clusterId": python.cluster, "contextId": own})


def test_bad_input_names_the_field(api, cluster, context):
    python = context()
    ids = {"clusterId": python.cluster, "contextId": python.id}

    def asked(path, body, status=400, code="INVALID_PARAMETER_VALUE"):
        return refused(api.call("POST", path, json=body), status, code)

    assert "clusterId" in asked(f"{CONTEXTS}/create", {"language": "python"})
    assert "language" in asked(f"{CONTEXTS}/create", {"clusterId": cluster, "language": "cobol"})
    assert "command" in asked(f"{COMMANDS}/execute", {**ids, "language": "python"})
    assert "executes python" in asked(f"{COMMANDS}/execute", {**ids, "language": "r", "command": "1"})
    assert "ContextNotFound" in asked(
        f"{COMMANDS}/execute", {**ids, "contextId": "12", "language": "python", "command": "1"}, 404, "RESOURCE_DOES_NOT_EXIST"
    )
    missing = api.call("GET", f"{COMMANDS}/status", params={**ids, "commandId": f"{python.id}-99"})
    assert "CommandNotFound" in refused(missing, 404, "RESOURCE_DOES_NOT_EXIST")


def test_a_context_outlives_the_server(own_server):
    api = own_server.api()
    python = Context(own_server.sdk(), running_cluster(api))
    python.text("x = 'before'")
    command = python.start("import time\nfor n in range(30):\n    print(n)\n    time.sleep(0.1)")
    wait.until("the command to run", lambda: python.status(command).status == CommandStatus.RUNNING)
    own_server.kill()
    own_server.start()
    python = _again(own_server, python)
    wait.until("the command to end", lambda: python.status(command).status == CommandStatus.FINISHED)
    assert python.status(command).results.data == "\n".join(map(str, range(30)))
    assert python.text("print(x)") == "before"
    running = python.start("time.sleep(600)")
    wait.until("the command to run", lambda: python.status(running).status == CommandStatus.RUNNING)
    own_server.kill()
    own_server.start()
    python = _again(own_server, python)
    assert python.commands.cancel_and_wait(**python.names(command_id=running)).status == CommandStatus.CANCELLED
    assert python.text("print(x)") == "before"
    # With its runner, a context is gone, and says so.
    running = python.start("time.sleep(600)")
    wait.until("the command to run", lambda: python.status(running).status == CommandStatus.RUNNING)
    os.kill(own_server.runner(), 9)
    wait.until("the context to end", lambda: api_status(own_server, python)["status"] == "Error")
    assert "went away" in api_status(own_server, python)["message"]
    assert python.status(running).status == CommandStatus.ERROR
    assert "went away" in python.status(running).results.cause


def api_status(server, python):
    return server.api().get(f"{CONTEXTS}/status", clusterId=python.cluster, contextId=python.id)


def _again(server, python):
    python.commands = server.sdk().command_execution
    return python
