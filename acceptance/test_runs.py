"""Runs: submit, states, output, cancellation, time-outs, several tasks, scripts and wheels."""

import io
import json
from datetime import timedelta

import pytest
from databricks.sdk.errors import BadRequest, OperationFailed
from databricks.sdk.service import jobs

from harness import wait
from harness.api import TERMINAL, refused
from harness.archive import archive


def submit_task(cluster_id, path, key="main", **more):
    return jobs.SubmitTask(task_key=key, existing_cluster_id=cluster_id, notebook_task=jobs.NotebookTask(notebook_path=path), **more)


# --- one notebook ------------------------------------------------------------------------------------


def test_submit_succeeds_and_returns_its_exit_value(api, home, cluster_id):
    run, output = api.run_cells(f"{home}/n", ["x = 20", "dbutils.notebook.exit(str(x + 1))"], cluster_id)
    assert run["state"]["life_cycle_state"] == "TERMINATED"
    assert run["state"]["result_state"] == "SUCCESS"
    assert run["run_type"] == "SUBMIT_RUN"
    assert run["run_page_url"].startswith("http")
    assert run["number_in_job"] == run["run_id"] or run["number_in_job"]
    assert run["start_time"] <= run["end_time"]
    assert output["notebook_output"] == {"result": "21", "truncated": False}
    assert output["metadata"]["state"]["result_state"] == "SUCCESS"
    assert run["run_id"] not in {job.get("job_id") for job in api.get("/api/2.0/jobs/list")["jobs"]}


def test_failing_notebook_in_2_0_form_is_terminated_failed(api, home, cluster_id):
    run, output = api.run_cells(f"{home}/n", ["def inner():\n    return {}['missing-key']\n", "inner()", "print('never')"], cluster_id)
    assert (run["state"]["life_cycle_state"], run["state"]["result_state"]) == ("TERMINATED", "FAILED")
    assert "KeyError" in output["error"] and "missing-key" in output["error"]
    assert "inner()" in output["error_trace"]
    assert "never" not in json.dumps(api.executed(run["run_id"])["cells"][2].get("outputs", []))


def test_result_state_is_absent_until_the_end(api, home, cluster_id):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(1.5)"])
    run_id = api.submit(f"{home}/n", cluster_id)
    seen = []
    while True:
        run = api.get("/api/2.0/jobs/runs/get", run_id=run_id)
        seen.append(run["state"]["life_cycle_state"])
        if seen[-1] in TERMINAL:
            break
        assert "result_state" not in run["state"]
        assert run["end_time"] == 0
        assert api.call("GET", "/api/2.0/jobs/runs/get-output", params={"run_id": run_id}).status_code == 200
    assert "RUNNING" in seen
    assert run["state"]["result_state"] == "SUCCESS"


def test_sdk_submit_waits_for_the_result(w, api, home, cluster_id):
    api.notebook(f"{home}/n", ["dbutils.notebook.exit('done')"])
    run = w.jobs.submit(run_name="sdk", tasks=[submit_task(cluster_id, f"{home}/n")]).result(timeout=timedelta(minutes=2))
    assert run.state.result_state == jobs.RunResultState.SUCCESS
    assert run.status.termination_details.code.value == "SUCCESS"
    assert w.jobs.get_run_output(run.tasks[0].run_id).notebook_output.result == "done"
    assert run.run_id in {entry.run_id for entry in w.jobs.list_runs(limit=20)}


def test_parameters_as_map_and_as_pairs(api, home, cluster_id):
    api.notebook(f"{home}/n", ["dbutils.notebook.exit(dbutils.widgets.get('a') + '|' + getArgument('b'))"])
    for parameters in ({"a": "1", "b": "two"}, [{"key": "a", "value": "1"}, {"key": "b", "value": "two"}], {"a": 1, "b": "two"}):
        run = api.finished(api.submit(f"{home}/n", cluster_id, parameters))
        assert api.output(run["run_id"])["notebook_output"]["result"] == "1|two"


def test_idempotency_token_gives_the_same_run(api, home, cluster_id):
    api.notebook(f"{home}/n", ["x = 1"])
    first = api.submit(f"{home}/n", cluster_id, idempotency_token="once-only")
    assert api.submit(f"{home}/n", cluster_id, idempotency_token="once-only") == first
    api.finished(first)
    assert api.submit(f"{home}/n", cluster_id, idempotency_token="once-only") == first
    refused(
        api.call(
            "POST",
            "/api/2.0/jobs/runs/submit",
            json={"existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"{home}/n"}, "idempotency_token": "x" * 65},
        ),
        400,
        "INVALID_PARAMETER_VALUE",
    )


def test_missing_notebook_fails_with_its_path(api, home, cluster_id):
    response = api.call(
        "POST", "/api/2.0/jobs/runs/submit", json={"existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"{home}/nowhere"}}
    )
    if response.ok:
        run = api.finished(response.json()["run_id"])
        assert run["state"]["result_state"] == "FAILED"
        shown = run["state"]["state_message"] + json.dumps(api.output(run["run_id"]))
        assert f"{home}/nowhere" in shown
    else:
        assert f"{home}/nowhere" in refused(response, (400, 404), {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})


def test_missing_run_has_the_exact_words(api):
    message = refused(api.call("GET", "/api/2.1/jobs/runs/get", params={"run_id": 4242424242}), 400, "INVALID_PARAMETER_VALUE")
    assert message == "Run 4242424242 does not exist."


def test_run_keeps_the_code_it_started_with(api, home, dbfs_home, cluster_id):
    """Overwriting a notebook does not change what a started run executes."""
    api.notebook(
        f"{home}/n", [f"open('/dbfs{dbfs_home}/started', 'w').close()\nimport time\ntime.sleep(2)", "dbutils.notebook.exit('first')"]
    )
    run_id = api.submit(f"{home}/n", cluster_id)
    wait.until("the first cell", lambda: api.call("GET", "/api/2.0/dbfs/get-status", params={"path": f"{dbfs_home}/started"}).ok)
    api.notebook(f"{home}/n", ["dbutils.notebook.exit('second')"])
    api.finished(run_id)
    assert api.output(run_id)["notebook_output"]["result"] == "first"


# --- stopping ----------------------------------------------------------------------------------------


def test_cancel_ends_a_cell_that_never_ends(w, api, home, cluster_id):
    api.notebook(f"{home}/n", ["print('working')\nwhile True:\n    pass"])
    waiter = w.jobs.submit(run_name="endless", tasks=[submit_task(cluster_id, f"{home}/n")])
    run_id = waiter.run_id
    wait.until("the run to start", lambda: api.run(run_id)["state"]["life_cycle_state"] == "RUNNING")
    w.jobs.cancel_run(run_id).result(timeout=timedelta(seconds=60))
    run = api.run(run_id)
    assert (run["state"]["life_cycle_state"], run["state"]["result_state"]) == ("TERMINATED", "CANCELED")
    api.post("/api/2.1/jobs/runs/cancel", {"run_id": run_id})  # again, after the end


def test_timeout_ends_a_run(api, home, cluster_id):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(600)"])
    run = api.finished(api.submit(f"{home}/n", cluster_id, timeout_seconds=2), timeout=40)
    assert run["state"]["result_state"] == "TIMEDOUT"


def test_cancel_all_and_delete(w, api, home, cluster_id):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(600)"])
    job_id = w.jobs.create(
        name="many",
        max_concurrent_runs=3,
        tasks=[jobs.Task(task_key="t", existing_cluster_id=cluster_id, notebook_task=jobs.NotebookTask(notebook_path=f"{home}/n"))],
    ).job_id
    run_ids = [w.jobs.run_now(job_id).run_id for _ in range(2)]
    refused(api.call("POST", "/api/2.1/jobs/runs/delete", json={"run_id": run_ids[0]}), 400, {"INVALID_STATE", "INVALID_PARAMETER_VALUE"})
    assert {run.run_id for run in w.jobs.list_runs(job_id=job_id, active_only=True)} == set(run_ids)
    w.jobs.cancel_all_runs(job_id=job_id)
    for run_id in run_ids:
        assert api.finished(run_id)["state"]["result_state"] == "CANCELED"
    w.jobs.delete_run(run_ids[0])
    assert {run.run_id for run in w.jobs.list_runs(job_id=job_id)} == {run_ids[1]}


# --- several tasks -----------------------------------------------------------------------------------


def test_tasks_run_in_order_and_pass_values(w, api, home, cluster_id):
    api.notebook(f"{home}/first", ["dbutils.jobs.taskValues.set('answer', 42)"])
    api.notebook(f"{home}/second", ["value = dbutils.jobs.taskValues.get('first', 'answer')\ndbutils.notebook.exit(str(value + 1))"])
    run = w.jobs.submit(
        run_name="two",
        tasks=[
            submit_task(cluster_id, f"{home}/second", "second", depends_on=[jobs.TaskDependency(task_key="first")]),
            submit_task(cluster_id, f"{home}/first", "first"),
        ],
    ).result(timeout=timedelta(minutes=2))
    tasks = {task.task_key: task for task in run.tasks}
    assert tasks["first"].end_time <= tasks["second"].start_time
    assert w.jobs.get_run_output(tasks["second"].run_id).notebook_output.result == "43"
    assert api.get("/api/2.1/jobs/runs/get", run_id=tasks["first"].run_id)["state"]["result_state"] == "SUCCESS"
    with pytest.raises(BadRequest):
        w.jobs.get_run_output(run.run_id)


def test_failure_stops_what_depends_on_it(w, api, home, cluster_id):
    api.notebook(f"{home}/bad", ["raise ValueError('on purpose')"])
    api.notebook(f"{home}/good", ["x = 1"])
    waiter = w.jobs.submit(
        run_name="chain",
        tasks=[
            submit_task(cluster_id, f"{home}/bad", "bad"),
            submit_task(cluster_id, f"{home}/good", "after", depends_on=[jobs.TaskDependency(task_key="bad")]),
            submit_task(cluster_id, f"{home}/good", "beside"),
        ],
    )
    with pytest.raises(OperationFailed):
        waiter.result(timeout=timedelta(minutes=2))
    run = api.run(waiter.run_id)
    states = {task["task_key"]: task["state"]["result_state"] for task in run["tasks"]}
    assert states == {"bad": "FAILED", "after": "UPSTREAM_FAILED", "beside": "SUCCESS"}
    assert (run["state"]["life_cycle_state"], run["state"]["result_state"]) == ("INTERNAL_ERROR", "FAILED")
    assert "bad" in run["state"]["state_message"]


def test_diamond_runs_both_sides(w, api, home, cluster_id):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(1)"])
    after = lambda *keys: [jobs.TaskDependency(task_key=key) for key in keys]  # noqa: E731
    run = w.jobs.submit(
        run_name="diamond",
        tasks=[
            submit_task(cluster_id, f"{home}/n", "top"),
            submit_task(cluster_id, f"{home}/n", "left", depends_on=after("top")),
            submit_task(cluster_id, f"{home}/n", "right", depends_on=after("top")),
            submit_task(cluster_id, f"{home}/n", "bottom", depends_on=after("left", "right")),
        ],
    ).result(timeout=timedelta(minutes=2))
    tasks = {task.task_key: task for task in run.tasks}
    assert max(tasks["left"].start_time, tasks["right"].start_time) < min(tasks["left"].end_time, tasks["right"].end_time)
    assert tasks["bottom"].start_time >= max(tasks["left"].end_time, tasks["right"].end_time)


# --- scripts and wheels ------------------------------------------------------------------------------


def test_script_from_dbfs_gets_its_arguments(api, w, dbfs_home, cluster_id):
    w.dbfs.upload(f"{dbfs_home}/job.py", io.BytesIO(b"import sys\nprint('args', sys.argv[1:])\n"))
    run = w.jobs.submit(
        run_name="script",
        tasks=[
            jobs.SubmitTask(
                task_key="s",
                existing_cluster_id=cluster_id,
                spark_python_task=jobs.SparkPythonTask(python_file=f"dbfs:{dbfs_home}/job.py", parameters=["--date", "2026-01-31"]),
            )
        ],
    ).result()
    assert "args ['--date', '2026-01-31']" in w.jobs.get_run_output(run.tasks[0].run_id).logs


def test_script_exit_status_fails_the_run(api, w, dbfs_home, cluster_id):
    w.dbfs.upload(f"{dbfs_home}/bad.py", io.BytesIO(b"import sys\nprint('before')\nsys.exit(3)\n"))
    run_id = api.post(
        "/api/2.0/jobs/runs/submit", {"existing_cluster_id": cluster_id, "spark_python_task": {"python_file": f"dbfs:{dbfs_home}/bad.py"}}
    )["run_id"]
    assert api.finished(run_id)["state"]["result_state"] == "FAILED"
    assert "before" in api.output(run_id)["logs"]


def wheel(name="riskpack", version="1.2.3", init="", needs=()):
    """A minimal wheel with one console entry point, built by hand so that no build tool is needed."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": init,
        f"{name}/main.py": "import sys\n\ndef run():\n    print('wheel', sys.argv)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: forebay-acceptance\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\nscore = {name}.main:run\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    return f"{name}-{version}-py3-none-any.whl", archive({**files, f"{info}/RECORD": record})


def test_wheel_task_runs_its_entry_point(w, dbfs_home, cluster_id):
    name, content = wheel()
    w.dbfs.upload(f"{dbfs_home}/{name}", io.BytesIO(content))
    run = w.jobs.submit(
        run_name="wheel",
        tasks=[
            jobs.SubmitTask(
                task_key="w",
                existing_cluster_id=cluster_id,
                python_wheel_task=jobs.PythonWheelTask(package_name="riskpack", entry_point="score", named_parameters={"date": "today"}),
                libraries=[library(whl=f"dbfs:{dbfs_home}/{name}")],
            )
        ],
    ).result(timeout=timedelta(minutes=3))
    logs = w.jobs.get_run_output(run.tasks[0].run_id).logs
    assert "wheel" in logs and "--date=today" in logs


def library(**kind):
    from databricks.sdk.service.compute import Library

    return Library(**kind)


def test_library_that_cannot_be_installed_ends_the_run_with_its_name(api, home, cluster_id):
    api.notebook(f"{home}/n", ["x = 1"])
    run = api.finished(api.submit(f"{home}/n", cluster_id, libraries=[{"whl": "dbfs:/nowhere/none-1.0-py3-none-any.whl"}]), timeout=120)
    assert run["state"]["result_state"] == "FAILED"
    assert "none-1.0-py3-none-any.whl" in run["state"]["state_message"] + json.dumps(api.output(run["run_id"]))


# --- looking back ------------------------------------------------------------------------------------


def test_export_shows_code_and_output(api, w, home, cluster_id):
    run, _ = api.run_cells(f"{home}/n", ["print('visible ' + 'output')"], cluster_id)
    view = w.jobs.export_run(run["tasks"][0]["run_id"], views_to_export=jobs.ViewsToExport.CODE).views[0]
    assert "visible output" in view.content
    assert view.name


def test_run_list_filters_and_pages(api, home, cluster_id):
    api.notebook(f"{home}/n", ["x = 1"])
    job_id = api.post(
        "/api/2.1/jobs/create",
        {
            "name": "history",
            "max_concurrent_runs": 10,
            "tasks": [{"task_key": "t", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"{home}/n"}}],
        },
    )["job_id"]
    run_ids = [api.finished(api.post("/api/2.1/jobs/run-now", {"job_id": job_id})["run_id"])["run_id"] for _ in range(3)]
    listed = api.get("/api/2.1/jobs/runs/list", job_id=job_id, completed_only="true")
    assert [run["run_id"] for run in listed["runs"]] == run_ids[::-1]
    assert not listed.get("has_more")
    page = api.get("/api/2.1/jobs/runs/list", job_id=job_id, limit=2)
    rest = api.get("/api/2.1/jobs/runs/list", job_id=job_id, limit=2, page_token=page["next_page_token"])
    assert [run["run_id"] for run in page["runs"] + rest["runs"]] == run_ids[::-1]
    nothing = [{"active_only": "true"}, {"run_type": "SUBMIT_RUN"}, {"offset": 3}]
    for params in nothing:
        assert api.get("/api/2.1/jobs/runs/list", job_id=job_id, **params).get("runs", []) == []
    bad = {"completed_only": {"active_only": "true", "completed_only": "true"}, "offset": {"offset": 2**63}, "run_type": {"run_type": "X"}}
    for field, params in bad.items():
        assert field in refused(api.call("GET", "/api/2.1/jobs/runs/list", params=params), 400, "INVALID_PARAMETER_VALUE")


def test_second_run_of_a_busy_job_is_skipped(api, home, cluster_id):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(600)"])
    job_id = api.post(
        "/api/2.0/jobs/create", {"name": "busy", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"{home}/n"}}
    )["job_id"]
    first = api.post("/api/2.0/jobs/run-now", {"job_id": job_id})["run_id"]
    second = api.finished(api.post("/api/2.0/jobs/run-now", {"job_id": job_id})["run_id"])
    assert (second["state"]["life_cycle_state"], second["state"]["result_state"]) == ("SKIPPED", "MAXIMUM_CONCURRENT_RUNS_REACHED")
    api.post("/api/2.0/jobs/runs/cancel", {"run_id": first})
    assert api.finished(first)["state"]["result_state"] == "CANCELED"


def test_legacy_cli_submits_lists_and_cancels(legacy, api, home, cluster_id, tmp_path):
    api.notebook(f"{home}/n", ["import time\ntime.sleep(600)"])
    body = tmp_path / "run.json"
    body.write_text(json.dumps({"run_name": "cli", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"{home}/n"}}))
    run_id = json.loads(legacy("runs", "submit", "--json-file", body))["run_id"]
    assert str(run_id) in legacy("runs", "list", "--active-only")
    legacy("runs", "cancel", "--run-id", run_id)
    assert api.finished(run_id)["state"]["result_state"] == "CANCELED"
    api.notebook(f"{home}/n", ["x = 1"])
    assert "run_id" in legacy("runs", "submit", "--json-file", body, "--wait")
