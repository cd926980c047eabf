"""`kill -9` of the server in the middle of work: what was acknowledged is there, what was not is nowhere."""

import base64
import concurrent.futures
import io
import itertools
import os
import threading

from harness import wait
from harness.api import TERMINAL, new_cluster


def restarted(server):
    server.kill()
    return server.start()


def test_restart_keeps_everything_acknowledged(own_server):
    api = own_server.api()
    cluster_id = new_cluster(api)
    api.notebook("/Shared/kept/n", ["dbutils.notebook.exit('same')"])
    api.post("/api/2.0/dbfs/put", {"path": "/kept", "contents": base64.b64encode(b"bytes").decode()})
    api.post("/api/2.0/secrets/scopes/create", {"scope": "kept"})
    api.post("/api/2.0/secrets/put", {"scope": "kept", "key": "k", "string_value": "v"})
    token = api.post("/api/2.0/token/create", {"comment": "kept"})["token_value"]
    job_id = api.post(
        "/api/2.0/jobs/create", {"name": "kept", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": "/Shared/kept/n"}}
    )["job_id"]
    run_id = api.finished(api.post("/api/2.0/jobs/run-now", {"job_id": job_id})["run_id"])["run_id"]
    before = own_server.profile()
    restarted(own_server)
    assert own_server.profile() == before, "the profile that people have copied stays good"
    api = own_server.api(token=token)
    api.get("/api/2.0/workspace/get-status", path="/Shared/kept/n")
    assert base64.b64decode(api.get("/api/2.0/dbfs/read", path="/kept")["data"]) == b"bytes"
    assert base64.b64decode(api.get("/api/2.0/secrets/get", scope="kept", key="k")["value"]) == b"v"
    assert api.get("/api/2.0/jobs/get", job_id=job_id)["settings"]["name"] == "kept"
    assert api.output(run_id)["notebook_output"]["result"] == "same"
    assert api.get("/api/2.0/clusters/get", cluster_id=cluster_id)["cluster_id"] == cluster_id
    again = api.finished(api.post("/api/2.0/jobs/run-now", {"job_id": job_id})["run_id"])
    assert again["state"]["result_state"] == "SUCCESS"


def test_run_interrupted_by_a_crash_ends_with_a_reason_or_goes_on(own_server):
    api = own_server.api()
    cluster_id = new_cluster(api)
    api.notebook("/Shared/n", ["print('started')", "import time\ntime.sleep(8)", "dbutils.notebook.exit('finished')"])
    run_id = api.submit("/Shared/n", cluster_id)
    wait.until("the run to start", lambda: api.run(run_id)["state"]["life_cycle_state"] == "RUNNING")
    restarted(own_server)
    run = api.finished(run_id, timeout=90)
    if run["state"]["result_state"] == "SUCCESS":
        assert api.output(run_id)["notebook_output"]["result"] == "finished"
    else:
        assert run["state"]["result_state"] in ("FAILED", "CANCELED")
        assert "restart" in run["state"]["state_message"].lower() or "server" in run["state"]["state_message"].lower()
    assert api.run(run_id)["end_time"] > 0


def test_queued_and_new_runs_work_after_a_crash(own_server):
    api = own_server.api()
    cluster_id = new_cluster(api)
    api.notebook("/Shared/n", ["dbutils.notebook.exit('ran')"])
    run_ids = [api.submit("/Shared/n", cluster_id) for _ in range(10)]
    restarted(own_server)
    states = [api.finished(run_id, timeout=90)["state"] for run_id in run_ids]
    assert all(state["life_cycle_state"] in TERMINAL for state in states)
    assert all(state["result_state"] == "SUCCESS" or state["state_message"] for state in states)
    assert api.finished(api.submit("/Shared/n", cluster_id))["state"]["result_state"] == "SUCCESS"


class Slow(io.RawIOBase):
    """A stream of a given size that signals when its middle has been read."""

    def __init__(self, size):
        self.left, self.middle, self.reached = size, size // 2, threading.Event()

    def readable(self):
        return True

    def read(self, count=-1):
        taken = min(self.left, count if count > 0 else 1 << 20, 1 << 16)
        self.left -= taken
        if self.left < self.middle:
            self.reached.set()
        return b"x" * taken


def test_upload_interrupted_by_a_crash_leaves_no_half_file(own_server):
    api, size = own_server.api(), 200 << 20
    api.call("PUT", "/api/2.0/fs/directories/Volumes/main/default/up")
    api.call("PUT", "/api/2.0/fs/files/Volumes/main/default/up/old", data=b"the old content")
    for path in ("/api/2.0/fs/files/Volumes/main/default/up/new", "/api/2.0/fs/files/Volumes/main/default/up/old?overwrite=true"):
        stream = Slow(size)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            upload = pool.submit(own_server.api().call, "PUT", path, data=iter(stream.read, b""))
            assert stream.reached.wait(60)
            own_server.kill()
            assert upload.exception(timeout=60) is not None
        own_server.start()
    names = {entry["name"]: entry["file_size"] for entry in api.get("/api/2.0/fs/directories/Volumes/main/default/up")["contents"]}
    assert names == {"old": 15}
    assert api.call("GET", "/api/2.0/fs/files/Volumes/main/default/up/old").content == b"the old content"
    leftovers = sum(path.stat().st_size for path in own_server.data.rglob("*") if path.is_file() and path.stat().st_size > 10 << 20)
    assert leftovers == 0, "what an interrupted upload wrote is removed at the next start"


def test_blocks_interrupted_by_a_crash_leave_no_half_file(own_server):
    api = own_server.api()
    handle = api.post("/api/2.0/dbfs/create", {"path": "/half"})["handle"]
    block = base64.b64encode(os.urandom(1 << 20)).decode()
    for _ in range(5):
        api.post("/api/2.0/dbfs/add-block", {"handle": handle, "data": block})
    restarted(own_server)
    assert api.call("GET", "/api/2.0/dbfs/get-status", params={"path": "/half"}).status_code == 404
    assert not api.call("POST", "/api/2.0/dbfs/close", json={"handle": handle}).ok


def test_writes_in_flight_are_whole_or_absent(own_server):
    """Many writers at once, a crash in the middle: each acknowledged notebook is there and each one is complete."""
    api, text = own_server.api(), "# Databricks notebook source\n" + "x = 1\n" * 2000
    api.mkdirs("/Shared/w")
    acknowledged, counter = [], itertools.count()
    content = base64.b64encode(text.encode()).decode()

    def write(writer):
        for number in counter:
            body = {"path": f"/Shared/w/n{number}", "format": "SOURCE", "language": "PYTHON", "content": content}
            try:
                if not writer.call("POST", "/api/2.0/workspace/import", json=body).ok:
                    return
            except OSError:
                return
            acknowledged.append(body["path"])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, own_server.api()) for _ in range(8)]
        wait.until("a hundred writes", lambda: len(acknowledged) > 100)
        own_server.kill()
        concurrent.futures.wait(writers)
    own_server.start()
    present = {entry["path"] for entry in api.get("/api/2.0/workspace/list", path="/Shared/w")["objects"]}
    assert set(acknowledged) <= present
    for path in present:
        exported = base64.b64decode(api.get("/api/2.0/workspace/export", path=path, format="SOURCE")["content"]).decode()
        assert exported.rstrip() == text.rstrip(), path


def test_processes_of_a_killed_server_do_not_stay_for_ever(own_server):
    api = own_server.api()
    cluster_id = new_cluster(api)
    marker = f"4{os.getpid()}1"
    api.notebook("/Shared/n", [f"import subprocess\nsubprocess.run(['sleep', '{marker}'])"])
    run_id = api.submit("/Shared/n", cluster_id)
    wait.until("the child to appear", lambda: running(marker))
    own_server.kill()
    own_server.start()
    if api.run(run_id)["state"]["life_cycle_state"] not in TERMINAL:
        api.post("/api/2.0/jobs/runs/cancel", {"run_id": run_id})
    api.finished(run_id)
    wait.until("the child to be gone", lambda: not running(marker))


def running(marker):
    import subprocess

    return marker in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
