"""`forebay repeat`: a run done again from exactly what it was made from, and what keeps that from being possible."""

import base64
import hashlib
import json
import shutil

import pytest

from harness import wait
from harness.api import new_cluster, refused, text_of
from harness.archive import archive
from harness.git import git

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


def test_notebooks_are_what_they_were(api, home, cluster_id, repeat):
    paths = [f"{home}/{name}" for name in ("n", "lib", "child", "grandchild")]

    def write(value):
        api.notebook(paths[0], ["# MAGIC %run ./lib", f"print(from_lib, {value}, dbutils.notebook.run('./child', 60))"])
        api.notebook(paths[1], [f"from_lib = {value}"])
        api.notebook(paths[2], ["dbutils.notebook.exit(dbutils.notebook.run('./grandchild', 60))"])
        api.notebook(paths[3], [f"dbutils.notebook.exit('grandchild {value}')"])

    write(1)
    run = api.finished(api.submit(paths[0], cluster_id))
    assert "1 1 grandchild 1" in text_of(api.executed(run["run_id"]))
    facts = api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")
    assert sorted(file["path"] for file in facts["tasks"][0]["inputs"]["files"]) == sorted(paths)
    write(2)
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    for path in paths:
        api.post("/api/2.0/workspace/delete", {"path": path})
    code, report = repeat(report["repeat_run_id"])
    assert (code, report["equal"]) == (0, True), report


def test_a_changed_file_that_is_not_kept_is_refused_by_name(api, server, home, cluster_id, repeat):
    run, _ = api.run_cells(f"{home}/n", ["print(1)"], cluster_id)
    api.notebook(f"{home}/n", ["print(2)"])
    # As retention does it.
    (server.data / f"dev/runs/{api.run(run['run_id'])['tasks'][0]['run_id']}/notebook.json").unlink()
    answer = api.call("POST", f"/api/forebay/v1/runs/{run['run_id']}/repeat")
    message = refused(answer, 400, "INVALID_STATE")
    assert f"Notebook {home}/n has changed: its sha-256 was" in message
    code, said = repeat(run["run_id"])
    assert code == 1
    assert "has changed" in said


def test_a_script_is_what_it_was(api, server, forebay, dbfs_home, cluster_id, repeat, again):
    def write(path, text):
        body = {"path": path, "contents": base64.b64encode(text.encode()).decode(), "overwrite": True}
        api.post("/api/2.0/dbfs/put", body)

    def run_of(path):
        task = {"task_key": "main", "spark_python_task": {"python_file": f"dbfs:{path}"}, "existing_cluster_id": cluster_id}
        return api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": [task]})["run_id"])

    for path, first, other in [
        (f"{dbfs_home}/tool.py", "import sys\nprint('first', sys.argv[0])", "print('other')"),
        (f"{dbfs_home}/tool.R", "cat('first', 1:3)", "cat('other')"),
    ]:
        write(path, first)
        run = run_of(path)
        assert run["state"]["result_state"] == "SUCCESS", api.output(run["tasks"][0]["run_id"])
        code, report = repeat(run["run_id"])
        assert (code, report["equal"], report["kept"]) == (0, True, [])
        write(path, other)
        code, report = repeat(run["run_id"])
        assert (code, report["equal"], report["kept"]) == (0, True, [f"/dbfs{path}"]), report
        output = api.output(api.run(report["repeat_run_id"])["tasks"][0]["run_id"])
        assert output["logs"].startswith("first") and "other" not in output["logs"]
        api.post("/api/2.0/dbfs/delete", {"path": path})
        # Also of a repeat, from which it is kept as well.
        shown = again(report["repeat_run_id"])
        assert shown.status == 0
        assert f"As it was, not as it is now: /dbfs{path}" in shown.stdout + shown.stderr

        # As retention does it, and then as a crash may leave it.
        kept = server.data / f"dev/runs/{run['tasks'][0]['run_id']}/script"
        refuse = f"/api/forebay/v1/runs/{run['run_id']}/repeat"
        kept.write_text("half")
        assert f"Script /dbfs{path} is gone" in refused(api.call("POST", refuse), 400, "INVALID_STATE")
        kept.unlink()
        write(path, other)
        assert f"Script /dbfs{path} has changed" in refused(api.call("POST", refuse), 400, "INVALID_STATE")


def test_a_run_has_the_script_it_started_with(api, dbfs_home, cluster_id):
    def write(text):
        body = {"path": f"{dbfs_home}/tool.py", "contents": base64.b64encode(text.encode()).decode(), "overwrite": True}
        api.post("/api/2.0/dbfs/put", body)

    write("import os\nopen(__file__, 'w').write('print(2)')\nprint(1)")
    task = {"task_key": "main", "spark_python_task": {"python_file": f"dbfs:{dbfs_home}/tool.py"}, "existing_cluster_id": cluster_id}
    body = {"tasks": [task]}
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", body)["run_id"])
    assert api.output(run["tasks"][0]["run_id"])["logs"] == "1\n"
    facts = api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")
    [noted] = facts["tasks"][0]["inputs"]["files"]
    assert noted["kind"] == "script" and noted["path"] == f"/dbfs{dbfs_home}/tool.py"


def test_a_run_from_git_is_repeated_at_its_commit(api, server, origin, http_git, cluster_id, repeat):
    first = origin.commit({"n.py": "# Databricks notebook source\nprint('one')\n"})
    source = {"git_url": f"{http_git.url}/{origin.bare.name}", "git_provider": "gitHub", "git_branch": "main"}
    task = {"task_key": "main", "notebook_task": {"notebook_path": "n", "source": "GIT"}, "existing_cluster_id": cluster_id}
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", {"git_source": source, "tasks": [task]})["run_id"])
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    origin.commit({"n.py": "# Databricks notebook source\nprint('two')\n"})
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    assert api.get(f"/api/forebay/v1/runs/{report['repeat_run_id']}/facts")["commit"] == first

    # History is written anew, and nobody has the commit any more.
    git(origin.work, "checkout", "--quiet", "--orphan", "anew")
    git(origin.work, "commit", "--quiet", "--message", "anew")
    git(origin.work, "push", "--quiet", "--force", "origin", "HEAD:refs/heads/main")
    git(origin.bare, "-c", "gc.reflogExpire=now", "gc", "--quiet", "--prune=now")
    for mirror in (server.data / "dev/git/mirrors").iterdir():
        shutil.rmtree(mirror) if mirror.is_dir() else mirror.unlink()
    code, report = repeat(run["run_id"])
    again = api.run(report["repeat_run_id"])
    assert (code, again["state"]["result_state"]) == (4, "FAILED"), report
    assert first in again["state"]["state_message"] + again["tasks"][0]["state"]["state_message"], again


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


def test_libraries_are_what_they_were(api, server, home, dbfs_home, cluster_id, repeat):
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
    wheel(2)
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    api.post("/api/2.0/dbfs/delete", {"path": f"{dbfs_home}/tiny_thing-1.0-py3-none-any.whl"})
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    other = wheel(2)
    [kept] = server.data.glob(f"dev/**/{digest}")
    kept.unlink()
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


def test_requirements_files_are_what_they_were(api, home, dbfs_home, cluster_id, repeat):
    def put(name, text):
        contents = base64.b64encode(text.encode()).decode()
        api.post("/api/2.0/dbfs/put", {"path": f"{dbfs_home}/{name}", "contents": contents, "overwrite": True})

    put("deep/requirements.txt", "-r ../base.txt\n")
    put("base.txt", "colorama==0.4.6\n")
    show = "import colorama\nprint(colorama.__version__)"
    spoil = f"open('/dbfs{dbfs_home}/base.txt', 'w').write('no-such-package-of-forebay==9.9')"
    api.notebook(f"{home}/first", [show, spoil])
    api.notebook(f"{home}/second", [show])

    def task(key, **more):
        library = {"requirements": f"dbfs:{dbfs_home}/deep/requirements.txt"}
        notebook = {"notebook_path": f"{home}/{key}"}
        return {"task_key": key, "notebook_task": notebook, "existing_cluster_id": cluster_id, "libraries": [library], **more}

    # From then on the package is in the cache, of which the installer tells.
    api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": [task("second")]})["run_id"], 180)
    tasks = [task("first"), task("second", depends_on=[{"task_key": "first"}])]
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": tasks})["run_id"], 180)
    assert run["state"]["result_state"] == "SUCCESS", [one["state"] for one in run["tasks"]]
    first, second = api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")["tasks"]
    libraries = lambda task: [file for file in task["inputs"]["files"] if file["kind"] == "library"]  # noqa: E731
    assert libraries(first) == libraries(second)
    assert [file["path"] for file in libraries(first)] == [f"/dbfs{dbfs_home}/deep/requirements.txt", f"/dbfs{dbfs_home}/base.txt"]
    assert libraries(first)[1]["sha256"] == hashlib.sha256(b"colorama==0.4.6\n").hexdigest()
    api.post("/api/2.0/dbfs/delete", {"path": f"{dbfs_home}/deep", "recursive": True})
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    # A new run has what is there now.
    missing = api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": tasks[:1]})["run_id"])
    assert "requirements.txt" in missing["tasks"][0]["state"]["state_message"], missing


def submitted(api, cluster_id, *tasks):
    tasks = [{"existing_cluster_id": cluster_id, **task} if "notebook_task" in task else task for task in tasks]
    return api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": tasks})["run_id"], 180)


def notebook(path, **parameters):
    return {"notebook_task": {"notebook_path": path, "base_parameters": parameters}}


def exits(api, run_id):
    """The exit values of all notebooks of a run, those of iterations and of called runs too."""
    found = []
    for task in api.get(f"/api/forebay/v1/runs/{run_id}/facts")["tasks"]:
        for one in task.get("started", []):
            found += exits(api, one["run_id"])
        found.append(api.output(task["run_id"]).get("notebook_output", {}).get("result"))
    return [value for value in found if value]


def test_iterations_are_what_they_were(api, server, home, cluster_id, repeat):
    def write(value):
        api.notebook(f"{home}/find", [f"dbutils.jobs.taskValues.set('found', ['{value}-a', '{value}-b'])"])
        api.notebook(f"{home}/lib", [f"from_lib = {value}"])
        api.notebook(f"{home}/child", [f"import random\ndbutils.notebook.exit(f'{value} {{random.random()}}')"])
        cells = [
            "# MAGIC %run ./lib",
            f"import random\nparts = [{value}, from_lib, dbutils.widgets.get('what'), random.random(), dbutils.notebook.run('./child', 60)]",
            "print(*parts)\ndbutils.notebook.exit(' '.join(map(str, parts)))",
        ]
        api.notebook(f"{home}/load", cells)

    write(1)
    inner = {"task_key": "load", "existing_cluster_id": cluster_id, **notebook(f"{home}/load", what="{{input}}")}
    each = {
        "task_key": "each",
        "depends_on": [{"task_key": "find"}],
        "for_each_task": {"inputs": "{{tasks.find.values.found}}", "concurrency": 2, "task": inner},
    }
    run = submitted(api, cluster_id, {"task_key": "find", **notebook(f"{home}/find")}, each)
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    came = exits(api, run["run_id"])
    assert [value.split()[:3] for value in came] == [["1", "1", "1-a"], ["1", "1", "1-b"]]
    assert len({value.split()[3] for value in came}) == 2, "each iteration has a seed of its own"
    facts = api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")
    assert facts["not_repeatable"] == []
    assert [(one["number"], one["input"]) for one in facts["tasks"][1]["started"]] == [(0, "1-a"), (1, "1-b")]
    write(2)
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    assert exits(api, report["repeat_run_id"]) == came
    for name in ("find", "lib", "child", "load"):
        api.post("/api/2.0/workspace/delete", {"path": f"{home}/{name}"})
    code, report = repeat(report["repeat_run_id"])
    assert (code, report["equal"]) == (0, True), report
    assert exits(api, report["repeat_run_id"]) == came

    # As retention does it, of one iteration.
    second = facts["tasks"][1]["started"][1]["run_id"]
    [task] = api.run(second)["tasks"]
    (server.data / f"dev/runs/{task['run_id']}/notebook.json").unlink()
    answer = api.call("POST", f"/api/forebay/v1/runs/{run['run_id']}/repeat")
    assert f"Notebook {home}/load is gone" in refused(answer, 400, "INVALID_STATE")


def test_iterations_that_differ_are_shown_by_number(api, home, dbfs_home, cluster_id, repeat):
    find = f"import os\nmore = ['more'] * os.path.exists('/dbfs{dbfs_home}/more')"
    find += "\ndbutils.jobs.taskValues.set('found', ['same', os.environ['FOREBAY_RUN_ID'], *more])"
    api.notebook(f"{home}/find", [find])
    api.notebook(f"{home}/load", ["print('worked')"])
    inner = {"task_key": "load", "existing_cluster_id": cluster_id, **notebook(f"{home}/load", what="{{input}}")}
    each = {
        "task_key": "each",
        "depends_on": [{"task_key": "find"}],
        "for_each_task": {"inputs": "{{tasks.find.values.found}}", "task": inner},
    }
    run = submitted(api, cluster_id, {"task_key": "find", **notebook(f"{home}/find")}, each)
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    code, report = repeat(run["run_id"])
    assert code == 4, report
    [found] = report["differences"]
    assert (found["task_key"], found["what"]) == ("each[1]/load", "element")
    assert (found["was"], found["is"]) == (f'"{run["run_id"]}"', f'"{report["repeat_run_id"]}"')
    # Nothing says what a third one would be made from, so none is begun.
    api.post("/api/2.0/dbfs/put", {"path": f"{dbfs_home}/more", "contents": ""})
    code, report = repeat(run["run_id"])
    assert code == 4, report
    assert f"had 2 elements in run {run['run_id']} and has 3 now" in report["differences"][0]["is"], report
    assert {one["task_key"] for one in report["differences"]} == {"each", "each[0]/load", "each[1]/load"}


def test_called_runs_are_what_they_were(api, home, cluster_id, repeat):
    api.notebook(f"{home}/low", ["import random\ndbutils.notebook.exit(dbutils.widgets.get('who') + ' ' + str(random.random()))"])

    def job(name, *tasks, **more):
        settings = {"name": name, "tasks": list(tasks), **more}
        return settings, api.post("/api/2.1/jobs/create", settings)["job_id"]

    low = {"task_key": "low", "existing_cluster_id": cluster_id, **notebook(f"{home}/low", who="{{job.parameters.who}}")}
    settings, lowest = job("lowest", low, parameters=[{"name": "who", "default": "nobody"}])
    inner = {"task_key": "call", "run_job_task": {"job_id": lowest, "job_parameters": {"who": "{{input}}"}}}
    _, middle = job("middle", {"task_key": "each", "for_each_task": {"inputs": '["a", "b"]', "task": inner}})
    run = submitted(api, cluster_id, {"task_key": "top", "run_job_task": {"job_id": middle}})
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    came = exits(api, run["run_id"])
    assert [value[:2] for value in came] == ["a ", "b "] and came[0][2:] != came[1][2:]
    assert api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")["not_repeatable"] == []

    # The jobs are others now, and then there are none.
    api.notebook(f"{home}/low", ["dbutils.notebook.exit('other')"])
    api.notebook(f"{home}/other", ["raise ValueError('not this one')"])
    other = {**settings, "tasks": [{"task_key": "other", "existing_cluster_id": cluster_id, **notebook(f"{home}/other")}]}
    api.post("/api/2.1/jobs/reset", {"job_id": lowest, "new_settings": other})
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    assert exits(api, report["repeat_run_id"]) == came
    for one in (lowest, middle):
        api.post("/api/2.1/jobs/delete", {"job_id": one})
    code, report = repeat(report["repeat_run_id"])
    assert (code, report["equal"]) == (0, True), report
    assert exits(api, report["repeat_run_id"]) == came


def test_iterations_and_called_runs_have_their_commits(api, origin, http_git, cluster_id, repeat):
    source = {"git_url": f"{http_git.url}/{origin.bare.name}", "git_provider": "gitHub", "git_branch": "main"}
    task = {"task_key": "n", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": "n", "source": "GIT"}}
    origin.commit({"n.py": "# Databricks notebook source\nraise ValueError('one')\n"})
    job = api.post("/api/2.1/jobs/create", {"name": "called", "git_source": source, "tasks": [task]})["job_id"]
    tasks = [
        {"task_key": "each", "for_each_task": {"inputs": "[1]", "task": task}},
        {"task_key": "call", "run_job_task": {"job_id": job}},
    ]
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", {"git_source": source, "tasks": tasks})["run_id"])
    assert run["state"]["result_state"] == "FAILED", run["state"]
    origin.commit({"n.py": "# Databricks notebook source\nraise ValueError('two')\n"})
    code, report = repeat(run["run_id"])
    assert (code, report["equal"]) == (0, True), report
    each, call = api.get(f"/api/forebay/v1/runs/{report['repeat_run_id']}/facts")["tasks"]
    for [started] in (each["started"], call["started"]):
        [one] = api.run(started["run_id"])["tasks"]
        assert "one" in api.output(one["run_id"])["error"]


def test_what_cannot_be_repeated_of_a_called_run_is_named(api, server, home, cluster_id, repeat):
    api.notebook(f"{home}/low", ["print(1)"])
    low = {"task_key": "low", "existing_cluster_id": cluster_id, **notebook(f"{home}/low")}
    job = api.post("/api/2.1/jobs/create", {"name": "low", "tasks": [low]})["job_id"]
    run = submitted(api, cluster_id, {"task_key": "call", "run_job_task": {"job_id": job}})
    [called] = api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")["tasks"][0]["started"]
    path = f"/api/forebay/v1/runs/{run['run_id']}/repeat"
    api.notebook(f"{home}/low", ["print(2)"])
    [task] = api.run(called["run_id"])["tasks"]
    (server.data / f"dev/runs/{task['run_id']}/notebook.json").unlink()
    assert f"Notebook {home}/low has changed" in refused(api.call("POST", path), 400, "INVALID_STATE")
    api.post("/api/2.1/jobs/runs/delete", {"run_id": called["run_id"]})
    assert "Task call: it never had a run, or that was deleted" in refused(api.call("POST", path), 400, "INVALID_STATE")
