"""`forebay repeat`: a run done again from exactly what it was made from, and what keeps that from being possible."""

import base64
import hashlib
import json

import pytest

from harness import wait
from harness.api import new_cluster, refused, text_of
from harness.archive import archive

RANDOM = (
    "import os, random, numpy as np\n"
    "print(random.random(), np.random.rand(), os.environ['FOREBAY_SEED'])\n"
    "print({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})"
)


@pytest.fixture
def again(forebay, server):
    return lambda run_id, *more: forebay.run("repeat", run_id, "--data", server.data, *more)


@pytest.fixture
def repeat(again):
    """Repeats a run and returns (exit code, report)."""

    def run(run_id):
        done = again(run_id, "--output", "json")
        report = json.loads(done.stdout) if done.stdout.strip() else done.stderr
        return done.status, report

    return run


def test_what_is_deterministic_comes_again(api, home, cluster_id, repeat, again):
    api.notebook(f"{home}/child", [RANDOM, "dbutils.notebook.exit(str(random.random()))"])
    api.notebook(f"{home}/lib", ["import random\nfrom_lib = random.random()"])
    cells = [
        RANDOM,
        "# MAGIC %run ./lib",
        "print(from_lib, dbutils.widgets.get('who'))",
        "child = dbutils.notebook.run('./child', 60)\nprint(child)",
        "dbutils.notebook.exit(str(np.random.rand()))",
    ]
    run, _ = api.run_cells(f"{home}/n", cells, cluster_id, {"who": "you"})
    other, _ = api.run_cells(f"{home}/n", cells, cluster_id, {"who": "you"})
    value = lambda run: api.output(run["run_id"])["notebook_output"]["result"]  # noqa: E731
    assert value(run) != value(other), "each run has a seed of its own"
    code, report = repeat(run["run_id"])
    assert (code, report["equal"], report["differences"]) == (0, True, []), report
    assert value(api.run(report["repeat_run_id"])) == value(run)
    facts = api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")
    inputs = facts["tasks"][0]["inputs"]
    assert {file["kind"] for file in inputs["files"]} == {"notebook", "included"}
    assert sorted(file["path"] for file in inputs["files"]) == [f"{home}/child", f"{home}/lib", f"{home}/n"]
    assert facts["tasks"][0]["environment"]
    assert f"is equal to run {run['run_id']}" in again(run["run_id"]).stdout
    # A repeat can be repeated, and R has its seed from there too.
    assert repeat(report["repeat_run_id"])[0] == 0
    path = api.notebook(f"{home}/r", "# Databricks notebook source\nprint(runif(3))\n", language="R")
    run = api.finished(api.submit(path, cluster_id))
    assert repeat(run["run_id"])[0] == 0


def test_what_is_not_is_shown_with_its_first_difference(api, home, cluster_id, repeat, again):
    cells = ["print('same')", "import os\nprint('first')\nprint(os.environ['FOREBAY_RUN_ID'])"]
    run, _ = api.run_cells(f"{home}/n", cells, cluster_id)
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (4, False)
    [found] = report["differences"]
    assert (found["task_key"], found["cell"], found["what"], found["line"]) == ("main", 2, "stdout", 2)
    assert (found["was"], found["is"]) == (str(run["run_id"]), str(report["repeat_run_id"]))
    shown = again(run["run_id"])
    assert shown.status == 4
    assert f"Task main, cell 2, stdout, line 2:\n- {run['run_id']}\n" in shown.stdout


def test_a_changed_file_is_refused_by_name(api, home, dbfs_home, cluster_id, repeat):
    run, _ = api.run_cells(f"{home}/n", ["print(1)"], cluster_id)
    api.notebook(f"{home}/n", ["print(2)"])
    answer = api.call("POST", f"/api/forebay/v1/runs/{run['run_id']}/repeat")
    message = refused(answer, 400, "INVALID_STATE")
    assert f"Notebook {home}/n has changed: its sha-256 was" in message
    code, said = repeat(run["run_id"])
    assert code == 1
    assert "has changed" in said

    path = f"/dbfs{dbfs_home}/tool.py"
    put = {"path": f"{dbfs_home}/tool.py", "contents": "cHJpbnQoMSkK", "overwrite": True}
    api.post("/api/2.0/dbfs/put", put)
    task = {"task_key": "main", "spark_python_task": {"python_file": f"dbfs:{dbfs_home}/tool.py"}, "existing_cluster_id": cluster_id}
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": [task]})["run_id"])
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True)
    api.post("/api/2.0/dbfs/put", {**put, "contents": "cHJpbnQoMikK"})
    message = refused(api.call("POST", f"/api/forebay/v1/runs/{run['run_id']}/repeat"), 400, "INVALID_STATE")
    assert f"Script {path} has changed" in message
    api.post("/api/2.0/dbfs/delete", {"path": f"{dbfs_home}/tool.py"})
    message = refused(api.call("POST", f"/api/forebay/v1/runs/{run['run_id']}/repeat"), 400, "INVALID_STATE")
    assert f"Script {path} is gone." in message


def test_a_run_from_git_is_repeated_at_its_commit(api, origin, http_git, cluster_id, repeat):
    first = origin.commit({"n.py": "# Databricks notebook source\nprint('one')\n"})
    source = {"git_url": f"{http_git.url}/{origin.bare.name}", "git_provider": "gitHub", "git_branch": "main"}
    task = {"task_key": "main", "notebook_task": {"notebook_path": "n", "source": "GIT"}, "existing_cluster_id": cluster_id}
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", {"git_source": source, "tasks": [task]})["run_id"])
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    origin.commit({"n.py": "# Databricks notebook source\nprint('two')\n"})
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    assert api.get(f"/api/forebay/v1/runs/{report['repeat_run_id']}/facts")["commit"] == first


def test_what_changed_of_the_cluster_is_found_before_anything_runs(api, home, repeat, cluster_id):
    versions = api.get("/api/2.0/clusters/get", cluster_id=cluster_id)
    new = {"cluster_name": "own", "spark_version": versions["spark_version"], "node_type_id": versions["node_type_id"], "num_workers": 0}
    cluster = api.post("/api/2.0/clusters/create", new)["cluster_id"]
    run, _ = api.run_cells(f"{home}/n", ["print(1)"], cluster)
    api.post("/api/2.0/clusters/edit", {**new, "cluster_id": cluster, "spark_env_vars": {"LEVEL": "2"}})
    code, said = repeat(run["run_id"])
    assert code == 1
    assert "settings of the cluster have changed" in said


def test_only_what_ended_by_itself_can_be_repeated(api, home, cluster_id):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(600)"])
    run_id = api.submit(f"{home}/n", cluster_id)
    path = f"/api/forebay/v1/runs/{run_id}/repeat"
    assert "has not ended" in refused(api.call("POST", path), 400, "INVALID_STATE")
    api.post("/api/2.1/jobs/runs/cancel", {"run_id": run_id})
    api.finished(run_id)
    task = {"task_key": "main", "notebook_task": {"notebook_path": f"{home}/n"}, "existing_cluster_id": cluster_id}
    answer = api.call("POST", "/api/2.1/jobs/runs/submit", json={"tasks": [task], "forebay": {"repeat": run_id}})
    assert "repeat" in refused(answer, 501, "NOT_IMPLEMENTED")


def test_libraries_are_what_they_were(api, home, dbfs_home, cluster_id, repeat):
    def wheel(value):
        info = "tiny_thing-1.0.dist-info"
        files = {
            "tiny_thing.py": f"VALUE = {value}",
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        }
        content = archive(files)
        contents = base64.b64encode(content).decode()
        api.post("/api/2.0/dbfs/put", {"path": f"{dbfs_home}/tiny_thing-1.0-py3-none-any.whl", "contents": contents, "overwrite": True})
        return hashlib.sha256(content).hexdigest()

    digest = wheel(1)
    api.notebook(f"{home}/n", ["import tiny_thing\nprint(tiny_thing.VALUE)"])
    library = {"whl": f"dbfs:{dbfs_home}/tiny_thing-1.0-py3-none-any.whl"}
    run = api.finished(api.submit(f"{home}/n", cluster_id, libraries=[library]), 120)
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    [file] = [
        one for one in api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")["tasks"][0]["inputs"]["files"] if one["kind"] == "library"
    ]
    assert file == {"kind": "library", "path": f"/dbfs{dbfs_home}/tiny_thing-1.0-py3-none-any.whl", "sha256": digest}
    code, report = repeat(run["run_id"])
    assert code == 0, report
    other = wheel(2)
    code, said = repeat(run["run_id"])
    assert code == 1
    assert f"has changed: its sha-256 was {digest} and is {other}" in said


def test_what_a_run_was_made_from_outlives_the_server(own_server):
    api = own_server.api()
    api.notebook("/Shared/lib", ["from_lib = 1"])
    cells = [
        "import os, time\nprint('seed', os.environ['FOREBAY_SEED'])\nwhile not os.path.exists('/dbfs/tmp/go'): time.sleep(0.05)",
        "# MAGIC %run ./lib",
        "print(from_lib)",
    ]
    run_id = api.submit(api.notebook("/Shared/n", cells), new_cluster(api))
    wait.until("the program to print", lambda: "seed" in text_of(api.executed(run_id)), timeout=60)
    path = f"/api/forebay/v1/runs/{run_id}/facts"
    noted = wait.until("its start to be noted", lambda: api.get(path)["tasks"][0]["inputs"])
    own_server.kill()
    own_server.start()
    own_server.api().post("/api/2.0/dbfs/put", {"path": "/tmp/go", "contents": ""})
    run = api.finished(run_id)
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    inputs = api.get(path)["tasks"][0]["inputs"]
    assert [file["kind"] for file in inputs["files"]] == ["notebook", "included"]
    assert {**inputs, "files": inputs["files"][:1]} == noted
    assert f"seed {inputs['seed']}" in text_of(api.executed(run_id))
    again = api.post(f"/api/forebay/v1/runs/{run_id}/repeat", {})["run_id"]
    assert api.finished(again)["state"]["result_state"] == "SUCCESS"
    assert f"seed {inputs['seed']}" in text_of(api.executed(again))
    assert not list((own_server.data / "dev/runs").glob("*/inputs.json"))
