"""Runs outlive the server: whatever process dies, a run ends once, with every line of its output once."""

import os
import signal
import time
from pathlib import Path

from harness import wait
from harness.api import new_cluster, text_of

LINES = 40
# Every line at its own moment, so that a crash falls between two of them.
COUNTING = f"import time\nfor number in range({LINES}):\n    print('line', number, flush=True)\n    time.sleep(0.1)"
COUNTED = [f"line {number}" for number in range(LINES)]


def lines_of(api, run_id):
    return [line for line in text_of(api.executed(run_id)).splitlines() if line.startswith("line ")]


def started(api, path, sources, **extra):
    """A run whose program has printed something."""
    run_id = api.submit(api.notebook(path, sources), new_cluster(api), **extra)
    wait.until("the program to print", lambda: lines_of(api, run_id), timeout=60)
    return run_id


def state(run):
    return run["state"]["life_cycle_state"], run["state"].get("result_state")


def test_a_killed_server_does_not_disturb_its_runs(own_server):
    api = own_server.api()
    cells = ["import os\nprint(os.environ['FOREBAY_IDEMPOTENCY_KEY'])", COUNTING, "dbutils.notebook.exit('done')"]
    run_id = started(api, "/Shared/n", cells)
    own_server.kill()
    runner = own_server.runner()
    own_server.start()
    assert own_server.runner() == runner, "the runner stays"
    wait.until("some more lines", lambda: len(lines_of(api, run_id)) > 15)
    own_server.kill()
    own_server.start()
    run = api.finished(run_id)
    assert state(run) == ("TERMINATED", "SUCCESS"), run["state"]
    assert api.output(run_id)["notebook_output"]["result"] == "done"
    assert lines_of(api, run_id) == COUNTED
    assert run["tasks"][0]["attempt_number"] == 0


def test_a_run_that_ends_while_no_server_is_there_is_recorded(own_server):
    api = own_server.api()
    run_id = started(api, "/Shared/n", [f"{COUNTING}\nopen('/dbfs/tmp/over', 'w')", "dbutils.notebook.exit('alone')"])
    own_server.kill()
    wait.until("the program to end", (own_server.data / "dev/dbfs/tmp/over").exists)
    spool = next((own_server.data / "dev/runs").glob("*/events.jsonl"))
    wait.until("its end to be noted", lambda: '"ended"' in spool.read_text())
    own_server.start()
    assert state(api.finished(run_id)) == ("TERMINATED", "SUCCESS")
    assert api.output(run_id)["notebook_output"]["result"] == "alone"
    assert lines_of(api, run_id) == COUNTED
    wait.until("the spool to be emptied", lambda: spool.stat().st_size == 0)


def test_nested_runs_and_open_calls_survive(own_server):
    api = own_server.api()
    api.notebook("/Shared/child", [COUNTING, "dbutils.notebook.exit('from the child')"])
    parent = ["print('line up')\nresult = dbutils.notebook.run('./child', 0)", "print(result)\ndbutils.notebook.exit(result)"]
    run_id = started(api, "/Shared/parent", parent)

    def children():
        runs = api.get("/api/2.1/jobs/runs/list", run_type="WORKFLOW_RUN").get("runs", [])
        return [run["run_id"] for run in runs]

    child = wait.until("the child to start", children)[0]
    wait.until("the child to print", lambda: lines_of(api, child))
    own_server.kill()
    own_server.start()
    assert state(api.finished(run_id)) == ("TERMINATED", "SUCCESS")
    assert api.output(run_id)["notebook_output"]["result"] == "from the child"
    assert children() == [child], "the call was asked again and not done again"
    assert lines_of(api, child) == COUNTED


def test_a_program_can_call_the_api_after_its_server_came_back(own_server):
    api = own_server.api()
    call = (
        "import time, urllib.request, json\n"
        "context = dbutils.notebook.entry_point.getDbutils().notebook().getContext()\n"
        "request = urllib.request.Request(context.apiUrl().get() + '/api/2.0/preview/scim/v2/Me')\n"
        "request.add_header('Authorization', 'Bearer ' + context.apiToken().get())\n"
        "dbutils.notebook.exit(json.load(urllib.request.urlopen(request))['userName'])"
    )
    run_id = started(api, "/Shared/n", [COUNTING, call])
    own_server.kill()
    own_server.start()
    run = api.finished(run_id)
    assert state(run) == ("TERMINATED", "SUCCESS"), api.output(run_id)
    assert api.output(run_id)["notebook_output"]["result"] == run["creator_user_name"]


DEAF = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('line 0', flush=True)\nwhile True: time.sleep(1)"


def test_a_cancel_outlives_the_server_that_took_it(own_server):
    api = own_server.api()
    run_id = started(api, "/Shared/n", [DEAF])
    api.post("/api/2.1/jobs/runs/cancel", {"run_id": run_id})
    own_server.kill()
    own_server.start()
    assert state(api.finished(run_id)) == ("TERMINATED", "CANCELED")


def test_a_time_limit_goes_on_while_no_server_is_there(own_server):
    api = own_server.api()
    began = time.monotonic()
    run_id = started(api, "/Shared/n", ["import time\nprint('line 0', flush=True)\ntime.sleep(600)"], timeout_seconds=8)
    own_server.kill()
    wait.until("the limit to pass", lambda: time.monotonic() - began > 9)
    own_server.start()
    run = api.finished(run_id, timeout=20)
    assert state(run) == ("TERMINATED", "TIMEDOUT"), run["state"]


def test_a_killed_runner_ends_its_runs_with_a_reason_and_the_next_one_works(own_server):
    api = own_server.api()
    run_id = started(api, "/Shared/n", [COUNTING])
    marker = f"6{os.getpid()}2"
    other = started(api, "/Shared/o", [f"import subprocess\nprint('line 0', flush=True)\nsubprocess.run(['sleep', '{marker}'])"])
    killed = own_server.kill_runner()
    for lost in (run_id, other):
        run = api.finished(lost)
        assert run["state"]["life_cycle_state"] == "INTERNAL_ERROR", run["state"]
        assert "process that executed this run" in run["state"]["state_message"]
    found = lines_of(api, run_id)
    assert found == COUNTED[: len(found)] and found, "what was printed before is kept"
    wait.until("all its processes to go", lambda: not processes_with(marker))
    run, output = api.run_cells("/Shared/next", ["dbutils.notebook.exit('fine')"], new_cluster(api))
    assert output["notebook_output"]["result"] == "fine"
    assert own_server.runner() not in (None, killed)


def test_a_run_lost_with_its_runner_is_tried_again_where_its_job_says_so(own_server):
    api = own_server.api()
    source = (
        "import os, time\nprint('line 0', flush=True)\n"
        "if os.path.exists('/dbfs/tmp/second'): dbutils.notebook.exit(os.environ['FOREBAY_IDEMPOTENCY_KEY'])\n"
        "open('/dbfs/tmp/second', 'w').close()\ntime.sleep(600)"
    )
    path = api.notebook("/Shared/n", [source])
    task = {"task_key": "only", "existing_cluster_id": new_cluster(api), "notebook_task": {"notebook_path": path}, "max_retries": 1}
    run_id = api.post("/api/2.1/jobs/runs/submit", {"run_name": "retried", "tasks": [task]})["run_id"]
    wait.until("the first attempt", (own_server.data / "dev/dbfs/tmp/second").exists)
    own_server.kill_runner()
    run = api.finished(run_id)
    assert state(run) == ("TERMINATED", "SUCCESS"), run["state"]
    assert api.output(run_id)["notebook_output"]["result"].endswith("-only-1")


def test_server_and_runner_killed_together(own_server):
    api = own_server.api()
    run_id = started(api, "/Shared/n", [COUNTING])
    own_server.kill()
    own_server.kill_runner()
    own_server.start()
    run = api.finished(run_id)
    assert run["state"]["life_cycle_state"] == "INTERNAL_ERROR", run["state"]
    found = lines_of(api, run_id)
    assert found == COUNTED[: len(found)] and found


def test_a_killed_driver_is_a_failed_run(own_server):
    api = own_server.api()
    run_id = started(api, "/Shared/n", [COUNTING])
    # One that waits for the next run is among them; nobody misses it.
    for pid in drivers_of(own_server.runner()):
        os.kill(pid, signal.SIGKILL)
    run = api.finished(run_id)
    assert run["state"]["result_state"] == "FAILED", run["state"]
    _, output = api.run_cells("/Shared/next", ["dbutils.notebook.exit('fine')"], new_cluster(api))
    assert output["notebook_output"]["result"] == "fine"


def test_a_stop_ends_runs_and_runner(own_server):
    api = own_server.api()
    run_id = started(api, "/Shared/n", [COUNTING])
    assert own_server.stop() == 0
    assert own_server.runner() is None
    own_server.start()
    run = api.finished(run_id)
    assert run["state"]["life_cycle_state"] == "INTERNAL_ERROR"
    assert "server stopped" in run["state"]["state_message"]


def test_a_stop_that_keeps_runs_keeps_them(own_server):
    api = own_server.api()
    own_server.stop()
    own_server.extra_args.append("--keep-runs")
    own_server.start()
    run_id = started(api, "/Shared/n", [COUNTING])
    assert own_server.stop() == 0
    runner = own_server.runner()
    assert runner is not None
    own_server.start()
    assert own_server.runner() == runner
    assert state(api.finished(run_id)) == ("TERMINATED", "SUCCESS")
    assert lines_of(api, run_id) == COUNTED
    own_server.stop()
    assert own_server.runner() is None, "with nothing to do it ends"


def processes_with(marker):
    return [path for path in Path("/proc").glob("[0-9]*") if marker in words(path / "cmdline")]


def drivers_of(runner):
    """The processes in the control groups that a runner made, by their numbers here."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if f"/run-{runner}-" in words(path / "cgroup")]


def words(path):
    try:
        return path.read_text()
    except OSError:
        return ""
