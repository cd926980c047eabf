"""Bad input: a clear error in the API's own form, or a failed run with its reason; the server keeps serving."""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import wait
from harness.api import new_cluster, refused, text_of
from harness.server import Server

MALFORMED = {"MALFORMED_REQUEST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST"}


@pytest.fixture(autouse=True)
def server_keeps_serving(server):
    yield
    assert server.alive(), server.log_tail()
    assert server.api().get("/api/2.0/preview/scim/v2/Me")["active"]


# --- requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/workspace/mkdirs",
        "/api/2.1/jobs/create",
        "/api/2.0/dbfs/put",
        "/api/2.0/clusters/create",
        "/api/2.0/secrets/put",
        "/api/2.0/repos",
        "/api/2.0/jobs/runs/submit",
    ],
)
@pytest.mark.parametrize("body", ['{"path": ', "[]", '"text"', "\x00", "{" * 100_000])
def test_malformed_json(api, path, body):
    refused(api.call("POST", path, data=body.encode(), headers={"Content-Type": "application/json"}), 400, MALFORMED)


@pytest.mark.parametrize(
    "path, body, word",
    [
        ("/api/2.0/workspace/mkdirs", {"path": 5}, "path"),
        ("/api/2.0/workspace/mkdirs", {}, "path"),
        ("/api/2.0/workspace/import", {"path": "/Shared/x", "content": "%%%", "language": "PYTHON"}, "content"),
        ("/api/2.0/workspace/import", {"path": "/Shared/x", "content": "", "format": "PDF"}, "format"),
        ("/api/2.0/dbfs/put", {"path": "/x", "contents": "not base64!"}, "contents"),
        ("/api/2.0/dbfs/add-block", {"handle": "one", "data": ""}, "handle"),
        ("/api/2.1/jobs/run-now", {"job_id": "seven"}, "job_id"),
        ("/api/2.1/jobs/run-now", {}, "job_id"),
        ("/api/2.0/secrets/put", {"scope": "s", "key": {}}, "key"),
        ("/api/2.0/clusters/get", None, "cluster_id"),
    ],
)
def test_wrong_types_name_the_field(api, path, body, word):
    response = api.call("GET", path) if body is None else api.call("POST", path, json=body)
    assert word in refused(response, 400, MALFORMED)


@pytest.mark.parametrize(
    "path", ["/Shared/../Users/x", "/../../etc/passwd", "/Shared/a/../../../../etc", "/Shared/\x00", "/Shared/..", "relative", ""]
)
def test_workspace_paths_that_climb_out(api, path):
    for method, call, options in (
        ("GET", "/api/2.0/workspace/get-status", {"params": {"path": path}}),
        ("POST", "/api/2.0/workspace/mkdirs", {"json": {"path": path}}),
        ("POST", "/api/2.0/workspace/delete", {"json": {"path": path, "recursive": True}}),
    ):
        refused(api.call(method, call, **options), 400, MALFORMED)


@pytest.mark.parametrize("path", ["/../../etc/passwd", "dbfs:/../x", "/a/../../x", "/mnt/\x00"])
def test_dbfs_paths_that_climb_out(api, path):
    for call, method in (("get-status", "GET"), ("read", "GET"), ("mkdirs", "POST"), ("delete", "POST"), ("create", "POST")):
        options = {"params": {"path": path}} if method == "GET" else {"json": {"path": path}}
        refused(api.call(method, f"/api/2.0/dbfs/{call}", **options), 400, MALFORMED)


@pytest.mark.parametrize("tail", ["%2e%2e/%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "main/default/data/%00"])
def test_url_paths_that_climb_out(api, tail):
    session_url = api.host + "/api/2.0/fs/files/Volumes/main/default/data/" + tail
    import http.client
    from urllib.parse import urlsplit

    # An HTTP library would tidy the path before sending it.
    parts = urlsplit(session_url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    connection.request("GET", parts.path, headers={"Authorization": f"Bearer {api.token}"})
    response = connection.getresponse()
    body = response.read()
    assert response.status in (400, 404), body
    assert b"root:" not in body
    json.loads(body)["error_code"]


def test_symlink_in_dbfs_does_not_lead_out(api, home, dbfs_home, cluster_id):
    run, _ = api.run_cells(
        f"{home}/n",
        [f"import os\nos.symlink('/etc', '/dbfs{dbfs_home}/link')\nos.symlink('/etc/passwd', '/dbfs{dbfs_home}/file')"],
        cluster_id,
    )
    if run["state"]["result_state"] != "SUCCESS":
        return
    for path in (f"{dbfs_home}/link/passwd", f"{dbfs_home}/file"):
        response = api.call("GET", "/api/2.0/dbfs/read", params={"path": path})
        assert not response.ok or b"root:" not in base64.b64decode(response.json()["data"]), path
    api.call("POST", "/api/2.0/dbfs/put", json={"path": f"{dbfs_home}/link/forebay-was-here", "contents": ""})
    assert not os.path.exists("/etc/forebay-was-here")


def test_over_long_names(api, home):
    for path in (f"{home}/{'x' * 300}", home + "/x" * 5000):
        refused(api.call("POST", "/api/2.0/workspace/mkdirs", json={"path": path}), 400, MALFORMED)
        refused(api.call("POST", "/api/2.0/dbfs/mkdirs", json={"path": path}), 400, MALFORMED)
    api.post("/api/2.0/dbfs/mkdirs", {"path": "/acceptance/" + "ü" * 100})


def test_notebook_with_broken_json_is_refused_and_not_stored(api, home):
    for text in (b'{"cells": [', b"{}", b'{"cells": 5, "nbformat": 4, "metadata": {}}', b"\xff\xfe\x00"):
        body = {"path": f"{home}/broken", "format": "JUPYTER", "content": base64.b64encode(text).decode()}
        refused(api.call("POST", "/api/2.0/workspace/import", json=body), 400, MALFORMED)
    assert api.get("/api/2.0/workspace/list", path=home).get("objects", []) == []


def test_notebook_over_the_size_limit(api, home):
    text = b"# Databricks notebook source\n" + b"#" * (11 << 20)
    body = {"path": f"{home}/big", "format": "SOURCE", "language": "PYTHON", "content": base64.b64encode(text).decode()}
    refused(api.call("POST", "/api/2.0/workspace/import", json=body), (400, 413), "MAX_NOTEBOOK_SIZE_EXCEEDED")


def test_huge_json_body_is_refused_before_it_is_read(api):
    response = api.call("POST", "/api/2.0/workspace/mkdirs", data=b'{"path": "' + b"x" * (64 << 20) + b'"}')
    refused(response, (400, 413), MALFORMED | {"PAYLOAD_TOO_LARGE"})


def test_body_that_ends_early(server):
    import socket

    profile = server.profile()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"POST /api/2.0/workspace/mkdirs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {profile.token}\r\n"
            'Content-Length: 1000\r\n\r\n{"path": "/Sha'.encode()
        )
    assert server.api().call("GET", "/api/2.0/workspace/list", params={"path": "/Shared"}).ok


def test_upload_that_ends_early_leaves_nothing(server, w):
    import socket

    w.files.create_directory("/Volumes/main/default/cut")
    profile = server.profile()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"PUT /api/2.0/fs/files/Volumes/main/default/cut/half HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {profile.token}\r\n"
            "Content-Length: 1000000\r\n\r\n".encode()
            + b"x" * 5000
        )
    wait.until("the server to answer", lambda: server.api().get("/api/2.0/preview/scim/v2/Me"))
    assert list(w.files.list_directory_contents("/Volumes/main/default/cut")) == []


# --- cells -------------------------------------------------------------------------------------------


def failed(api, home, cluster_id, *cells, timeout=120):
    run, output = api.run_cells(f"{home}/n", list(cells), cluster_id, timeout=timeout)
    assert run["state"]["result_state"] == "FAILED", run["state"]
    return run, output


def still_runs(api, home, cluster_id):
    _run, output = api.run_cells(f"{home}/after", ["dbutils.notebook.exit('fine')"], cluster_id)
    assert output["notebook_output"]["result"] == "fine"


def test_cell_that_prints_100_mb(api, home, cluster_id, server):
    before = server_memory(server)
    run, output = api.run_cells(
        f"{home}/n",
        ["line = 'x' * 1023\nfor _ in range(100 * 1024):\n    print(line)", "print('the end')\ndbutils.notebook.exit('survived')"],
        cluster_id,
        timeout=180,
    )
    assert output["notebook_output"]["result"] == "survived"
    text = text_of(api.executed(run["run_id"]))
    assert len(text) < 30 << 20
    assert "truncated" in text.lower() or "omitted" in text.lower() or "limit" in text.lower()
    assert server_memory(server) - before < 200 << 20


def server_memory(server):
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def test_cell_that_allocates_all_memory(api, home, cluster_id):
    run, output = failed(api, home, cluster_id, "data = []\nwhile True:\n    data.append(bytearray(64 << 20))")
    shown = (run["state"]["state_message"] + json.dumps(output)).lower()
    assert "memory" in shown
    still_runs(api, home, cluster_id)


def test_cell_that_kills_its_own_process(api, home, cluster_id):
    for number, cell in enumerate(
        ("import os\nos._exit(3)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "import ctypes\nctypes.string_at(0)")
    ):
        run, output = failed(api, f"{home}/{number}", cluster_id, "print('before')", cell, "print('never')")
        assert (run["state"]["state_message"] + json.dumps(output)).strip()
        assert "before" in text_of(api.executed(run["run_id"]))
    still_runs(api, home, cluster_id)


def test_cell_that_kills_its_parent(api, home, cluster_id, server):
    api.run_cells(
        f"{home}/n",
        [
            "import os, signal\ntry:\n    os.kill(os.getppid(), signal.SIGKILL)\nexcept OSError as error:\n    print(error)",
            "for pid in range(2, 300):\n    try:\n        os.kill(pid, signal.SIGKILL)\n    except OSError:\n        pass",
        ],
        cluster_id,
    )
    assert server.alive()
    still_runs(api, home, cluster_id)


def test_cell_that_forks_without_end(api, home, cluster_id):
    _run, _ = api.run_cells(
        f"{home}/n",
        [
            "import os, time\nchildren = 0\ntry:\n    while children < 20000:\n        if os.fork() == 0:\n            time.sleep(300)\n            os._exit(0)\n        children += 1\n"
            "except OSError as error:\n    print('stopped after', children, error)"
        ],
        cluster_id,
        timeout=150,
    )
    still_runs(api, home, cluster_id)
    assert children_of_sleepers() < 100, "the processes of a run end with it"


def children_of_sleepers():
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return sum("forebay" in line and "zygote" in line for line in listed.splitlines())


def test_cell_that_leaves_a_child_behind(api, home, cluster_id):
    _run, output = api.run_cells(
        f"{home}/n", ["import subprocess\nsubprocess.Popen(['sleep', '98765'])\ndbutils.notebook.exit('left')"], cluster_id
    )
    assert output["notebook_output"]["result"] == "left"
    wait.until(
        "the child of the ended run to be gone",
        lambda: "98765" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout,
        timeout=15,
    )


def test_cell_that_prints_what_is_not_text(api, home, cluster_id):
    _run, output = api.run_cells(
        f"{home}/n",
        [
            "import os\nos.write(1, bytes(range(256)))\nprint('\\ud800'.encode('utf-8', 'surrogatepass'))",
            "dbutils.notebook.exit('ü\\n\"名')",
        ],
        cluster_id,
    )
    assert output["notebook_output"]["result"] == 'ü\n"名'


# --- a full disk -------------------------------------------------------------------------------------


@pytest.fixture
def small_disk_server(tmp_path):
    """A small file system of its own for the data folder: writes fail there as they do on a full disk."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(mount)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"this test needs the right to mount a tmpfs: {done.stderr}")
    try:
        server = Server(mount / "forebay")
        server.log = tmp_path / "server.log"
        server.start()
        try:
            yield server
        finally:
            server.close()
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)


def test_full_disk_is_an_error_and_loses_nothing(small_disk_server):
    full_disk_session(small_disk_server)


def test_full_disk_ends_a_run_with_a_reason(small_disk_server):
    server, api = small_disk_server, small_disk_server.api()
    cluster_id = new_cluster(api)
    run, _ = api.run_cells("/Shared/before", ["1"], cluster_id)
    assert run["state"]["result_state"] == "SUCCESS", run
    runner = server.runner()
    block = base64.b64encode(bytes(1 << 20)).decode()
    for number in range(12):
        api.post("/api/2.0/dbfs/put", {"path": f"/fill{number}", "contents": block})
    write = "for _ in range(15):\n    print('x' * (1 << 20))"
    run_id = api.submit(api.notebook("/Shared/much", [write] * 4), cluster_id)

    def is_over():
        # The end is either written down, with the last of the room, or waits for more.
        return "cannot record an end yet" in server.log.read_text() or "result_state" in api.run(run_id)["state"]

    wait.until("the disk to be full", is_over, timeout=60)
    # What cannot be written down waits for room.
    for number in range(12):
        api.call("POST", "/api/2.0/dbfs/delete", json={"path": f"/fill{number}"})
    ended = api.finished(run_id, timeout=60)
    assert ended["state"]["result_state"] == "FAILED", ended
    details = ended["tasks"][0]["status"]["termination_details"]
    assert "disk is full" in details["message"], details
    assert server.runner() == runner, "the runner lives"
    api.post("/api/2.0/jobs/runs/delete", {"run_id": run_id})
    run, _ = api.run_cells("/Shared/after", ["1"], cluster_id)
    assert run["state"]["result_state"] == "SUCCESS", run


def test_what_ends_on_a_full_disk_waits_for_room(small_disk_server):
    server, api = small_disk_server, small_disk_server.api()
    cluster_id = new_cluster(api)
    api.run_cells("/Shared/before", ["1"], cluster_id)
    path = api.notebook("/Shared/short", ["import time\nprint('on')\ntime.sleep(2)", "dbutils.notebook.exit('done')"])
    running, waiting = (api.submit(path, cluster_id, forebay={"key": "k", "key_max": 1}) for _ in range(2))
    wait.until("the program to run", lambda: api.output(running).get("metadata", {})["state"]["life_cycle_state"] == "RUNNING")
    wait.until("its output", lambda: "on" in text_of(api.executed(running)))
    filler = server.folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
                file.flush()
        except OSError:
            pass

    def told():
        run = api.run(running)
        assert "result_state" not in run["state"], "its end cannot be written down"
        return "Is its disk full?" in run["tasks"][0]["state"]["state_message"]

    wait.until("the run to say what it waits for", told)
    filler.unlink()
    for run_id in (running, waiting):
        run = api.finished(run_id)
        assert run["state"]["result_state"] == "SUCCESS", run
        assert api.output(run_id)["notebook_output"]["result"] == "done"


def test_a_log_that_cannot_be_written_ends_nobody(tmp_path):
    server = Server(tmp_path / "forebay")
    server.stderr = Path("/dev/full")
    server.start()
    try:
        api = server.api()
        run, _ = api.run_cells("/Shared/n", ["1"], new_cluster(api))
        assert run["state"]["result_state"] == "SUCCESS", run
        assert server.stop() == 0
    finally:
        server.close()


def full_disk_session(server):
    api = server.api()
    api.post("/api/2.0/dbfs/put", {"path": "/kept", "contents": base64.b64encode(b"kept").decode()})
    block = base64.b64encode(os.urandom(1 << 20)).decode()
    response = None
    for number in range(100):
        response = api.call("POST", "/api/2.0/dbfs/put", json={"path": f"/fill{number}", "contents": block})
        if not response.ok:
            break
    assert not response.ok
    message = refused(
        response,
        (400, 403, 500, 503, 507),
        {
            "IO_ERROR",
            "RESOURCE_EXHAUSTED",
            "QUOTA_EXCEEDED",
            "RESOURCE_LIMIT_EXCEEDED",
            "TEMPORARILY_UNAVAILABLE",
            "INTERNAL_ERROR",
            "STORAGE_FULL",
        },
    )
    assert "space" in message.lower() or "full" in message.lower()
    assert server.alive()
    assert base64.b64decode(api.get("/api/2.0/dbfs/read", path="/kept")["data"]) == b"kept"
    for entry in api.get("/api/2.0/dbfs/list", path="/")["files"]:
        assert entry["is_dir"] or entry["file_size"] in (4, 1 << 20), entry
    for number in range(20):
        api.call("POST", "/api/2.0/dbfs/delete", json={"path": f"/fill{number}"})
    api.post("/api/2.0/dbfs/put", {"path": "/again", "contents": base64.b64encode(b"room again").decode()})
