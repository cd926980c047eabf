"""The queue: what waits and why, through plain calls, the SDK and the command line."""

import json
import subprocess

from databricks.sdk.service import jobs

from harness import wait
from harness.server import binary


def held(api, home, cluster_id, key):
    """Two runs of one key that allows one: the first waits for a file, the second for the first."""
    path = api.notebook(f"{home}/held", ["import os, time", f"while not os.path.exists('/dbfs/go-{key}'): time.sleep(0.05)"])
    own = {"key": key, "key_max": 1}
    return [api.submit(path, cluster_id, forebay=own) for _ in range(2)]


def let_go(api, key):
    api.post("/api/2.0/dbfs/put", {"path": f"/go-{key}", "contents": "", "overwrite": True})


def test_a_run_says_which_cap_holds_it_and_who_has_it(api, home, cluster_id):
    first, second = held(api, home, cluster_id, "acceptance-a")
    run = api.get("/api/2.2/jobs/runs/get", run_id=second)
    assert run["state"]["life_cycle_state"] == "QUEUED"
    assert run["status"]["queue_details"]["code"] == "MAX_CONCURRENT_RUNS_REACHED"
    assert "1 of 1 active runs" in run["state"]["queue_reason"]
    assert run["forebay"]["queue"]["held_by"]["run_ids"] == [first]
    queue = api.get("/api/forebay/v1/queue", limit=1000)
    waiting = {entry["run_id"]: entry for entry in queue["waiting"]}
    assert waiting[second]["held_by"]["cap"] == "key"
    let_go(api, "acceptance-a")
    assert api.finished(first)["state"]["result_state"] == "SUCCESS"
    assert api.finished(second)["state"]["result_state"] == "SUCCESS"


def test_the_sdk_reads_the_reason(api, home, cluster_id, w):
    first, second = held(api, home, cluster_id, "acceptance-b")
    run = w.jobs.get_run(second)
    assert run.status.state == jobs.RunLifecycleStateV2State.QUEUED
    assert run.status.queue_details.code == jobs.QueueDetailsCodeCode.MAX_CONCURRENT_RUNS_REACHED
    w.jobs.cancel_run(second).result()
    let_go(api, "acceptance-b")
    api.finished(first)


def test_the_command_shows_the_queue(api, home, cluster_id, server):
    first, second = held(api, home, cluster_id, "acceptance-c")
    command = [str(binary()), "queue", "--data", str(server.data)]

    def shown():
        text = subprocess.run(command, env=server.env(), capture_output=True, text=True, check=True).stdout
        return text if str(second) in text and str(first) in text else None

    text = wait.until("both runs to be shown", shown)
    assert "the key has 1 of 1 active runs" in text
    asked = subprocess.run([*command, "--output", "json"], env=server.env(), capture_output=True, text=True, check=True)
    queue = json.loads(asked.stdout)
    assert queue["caps"]["server"]["max"] == 15
    let_go(api, "acceptance-c")
    api.finished(second)
