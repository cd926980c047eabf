"""Light tasks, each a Python script in a sandboxed process of its own: a chain of forty, a thousand at the cap, and how soon one starts.

Beside them in the same run: the same script as a plain Python process, and Prefect when its environment is there (`scripts/setup peers`).
"""

import argparse
import base64
import concurrent.futures
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path

from common import ROOT, children_of, folder, machine, new_cluster, server, succeeded, table, timed, until_ended

SCRIPT = "import time\nprint(time.time_ns())\n"
FILE = "dbfs:/bench/noop.py"
TICK = os.sysconf("SC_CLK_TCK")
LENGTH = re.compile(rb"(?i)\ncontent-length: *([0-9]+)")


def cpu_of(pid):
    """(of a process itself, of it and all below it that lives or was waited for) in CPU-seconds."""

    def times(one):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        return [int(field) / TICK for field in fields[11:15]]

    everybody = 0.0
    for one in [pid, *children_of(pid)]:
        # One that has just ended is counted by its parent.
        with contextlib.suppress(FileNotFoundError):
            everybody += sum(times(one))
    return sum(times(pid)[:2]), everybody


def task(key, cluster_id, after=None):
    described = {"task_key": key, "existing_cluster_id": cluster_id, "spark_python_task": {"python_file": FILE}}
    if after:
        described["depends_on"] = [{"task_key": after}]
    return described


def chain(api, cluster_id, count):
    """Seconds from submit to the end of `count` tasks one after the other."""
    keys = [f"t{number}" for number in range(count)]
    tasks = [task(key, cluster_id, after) for key, after in zip(keys, [None, *keys], strict=False)]

    def whole():
        run_id = api.post("/api/2.1/jobs/runs/submit", {"run_name": "chain", "tasks": tasks})["run_id"]
        return until_ended(api, run_id, pause=0.01)

    seconds, run = timed(whole)
    succeeded(api, run)
    return seconds


def submit_one(api, cluster_id):
    return api.post("/api/2.1/jobs/runs/submit", {"run_name": "one", "tasks": [task("t", cluster_id)]})["run_id"]


def printed(api, run):
    """When the script's first line was executed, in seconds since the epoch, by the clock of this machine."""
    output = api.get("/api/2.1/jobs/runs/get-output", run_id=run["tasks"][0]["run_id"])
    return int(output["logs"]) / 1e9


def latencies(api, job_id, count):
    """Seconds from run-now to the program's first line, from outside: two HTTP hops of the trigger and the process are in it."""
    found = []
    for _ in range(count):
        asked = time.time()
        run_id = api.post("/api/2.1/jobs/run-now", {"job_id": job_id})["run_id"]
        run = succeeded(api, until_ended(api, run_id, pause=0.01))
        found.append((printed(api, run) - asked, (run["tasks"][0]["setup_duration"]) / 1000))
        time.sleep(0.05)
    return found


class Lean:
    """One connection without conveniences: it has to leave the processors to those who are measured."""

    def __init__(self, api):
        where = urllib.parse.urlsplit(api.host)
        self.socket = socket.create_connection((where.hostname, where.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = f"HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer {api.token}\r\nContent-Type: application/json\r\n"

    def call(self, method, path, body=""):
        self.socket.sendall(f"{method} {path} {self.head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = b""
        while (end := answer.find(b"\r\n\r\n") + 4) < 4:
            answer += self.more()
        length = int(LENGTH.search(answer, 0, end)[1])
        while len(answer) < end + length:
            answer += self.more()
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"{method} {path}: {answer[:500]!r}")
        return json.loads(answer[end:])

    def more(self):
        return self.socket.recv(1 << 16) or sys.exit("the server closed a connection")


def backlog(running, cluster_id, count, submitters):
    """(seconds, CPU of the server, CPU of everything) of `count` runs submitted at once."""
    before = cpu_of(running.process.pid)
    body = json.dumps({"run_name": "one", "tasks": [task("t", cluster_id)]})
    mine = threading.local()

    def submit(_):
        # One connection for each submitter, as a client keeps it.
        if not hasattr(mine, "lean"):
            mine.lean = Lean(running.api())
        return mine.lean.call("POST", "/api/2.1/jobs/runs/submit", body)["run_id"]

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(submitters) as pool:
        run_ids = list(pool.map(submit, range(count)))
    lean = Lean(running.api())
    while lean.call("GET", "/api/2.1/jobs/runs/list?active_only=true&limit=1").get("runs"):
        time.sleep(0.05)
    seconds = time.perf_counter() - started
    after = cpu_of(running.process.pid)
    ended, token = {}, ""
    while len(ended) < count and token is not None:
        page = lean.call("GET", f"/api/2.1/jobs/runs/list?completed_only=true&limit=25&page_token={token}")
        ended.update((run["run_id"], run["state"].get("result_state")) for run in page.get("runs", []))
        token = page.get("next_page_token")
    others = [run_id for run_id in run_ids if ended.get(run_id) != "SUCCESS"]
    if others or len(set(run_ids)) != count:
        raise SystemExit(f"{len(others)} of {len(set(run_ids))} runs did not succeed, such as {others[:3]}")
    return seconds, after[0] - before[0], after[1] - before[1]


def plain(path, count):
    """(seconds, CPU-seconds) of the script as Python processes one after the other, with nothing around them."""
    script = path / "noop.py"
    script.write_text(SCRIPT)
    before = os.times()
    seconds, _ = timed(
        lambda: [subprocess.run([sys.executable, "-I", script], check=True, stdout=subprocess.DEVNULL) for _ in range(count)]
    )
    after = os.times()
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def prefect(path, kind, count):
    """(seconds, CPU-seconds of the flow's process and of the server), or None without its environment."""
    venv = subprocess.run([ROOT / "scripts/setup", "--path", "peers"], capture_output=True, text=True, check=True).stdout.strip()
    python = Path(venv) / "bin/python"
    if not python.exists():
        return None
    env = {"PATH": os.environ["PATH"], "HOME": str(path), "PREFECT_HOME": str(path / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR"}
    env |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_API_URL": "http://127.0.0.1:21790/api", "DO_NOT_TRACK": "1"}
    command = [Path(venv) / "bin/prefect", "server", "start", "--port", "21790", "--no-ui"]
    with (path / "prefect.log").open("wb") as log:
        serving = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        for _ in range(120):
            done = subprocess.run([python, ROOT / "bench/peer_prefect.py", "runs", "1"], env=env, capture_output=True)
            if done.returncode == 0:
                break
            time.sleep(1)
        before = cpu_of(serving.pid)[1]
        done = subprocess.run([python, ROOT / "bench/peer_prefect.py", kind, str(count)], env=env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"prefect: {done.stderr}")
        answer = json.loads(done.stdout.splitlines()[-1])
        return answer["seconds"], answer["cpu"] + cpu_of(serving.pid)[1] - before
    finally:
        serving.terminate()
        serving.wait()


def milli(seconds):
    return f"{seconds * 1000:,.1f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--submitters", type=int, default=4)
    parser.add_argument("--prefect-runs", type=int, default=20)
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        api = running.api()
        cluster_id = new_cluster(api)
        api.post("/api/2.0/dbfs/put", {"path": "/bench/noop.py", "contents": base64.b64encode(SCRIPT.encode()).decode(), "overwrite": True})
        for _ in range(3):  # builds the environment and starts the warm parent
            succeeded(api, until_ended(api, submit_one(api, cluster_id)))
            time.sleep(1)
        pid = running.process.pid
        chain(api, cluster_id, 40)
        rows = []
        walls, shares, wholes, plains = [], [], [], []
        for _ in range(options.rounds):
            before = cpu_of(pid)
            walls.append(chain(api, cluster_id, 40))
            after = cpu_of(pid)
            shares.append((after[0] - before[0]) / 40)
            wholes.append((after[1] - before[1]) / 40)
            plains.append(plain(path, 40))
        best = statistics.median(walls)
        flow = prefect(path, "chain", 40)
        plain_wall = statistics.median(seconds for seconds, _ in plains)
        rows = [
            ["Forebay", milli(best), milli(min(walls)), milli(statistics.median(shares)), milli(statistics.median(wholes)), ""],
            [
                "plain Python processes",
                milli(plain_wall),
                "",
                "",
                milli(statistics.median(c for _, c in plains) / 40),
                f"{plain_wall / best:.2f}x",
            ],
        ]
        if flow:
            rows.append(["Prefect, tasks without processes", milli(flow[0]), "", "", milli(flow[1] / 40), f"{flow[0] / best:.1f}x"])
        head = ["what", "ms, median", "least", "server's CPU ms a task", "all CPU ms a task", "ratio"]
        table("Forty light tasks in a row", head, rows, f"n = {options.rounds}, {where}")

        job = {"name": "noop", "tasks": [task("t", cluster_id)]}
        job_id = api.post("/api/2.1/jobs/create", job)["job_id"]
        found = latencies(api, job_id, 50)
        rows = [
            ["from run-now to the script's first line", *(milli(value) for value in spread([first for first, _ in found]))],
            ["of it: from its slot to the program's begin", *(milli(value) for value in spread([setup for _, setup in found]))],
        ]
        table("Trigger to start, ms, with a free slot", ["what", "median", "least", "p90"], rows, f"n = 50, {where}")

        seconds, own, everything = backlog(running, cluster_id, options.runs, options.submitters)
        rows = [["Forebay, cap 15", f"{options.runs / seconds:,.0f}", milli(own / options.runs), milli(everything / options.runs)]]
        alone = plain(path, 100)
        rows.append(["plain Python processes, one after the other", f"{100 / alone[0]:,.0f}", "", milli(alone[1] / 100)])
        flow = prefect(path, "runs", options.prefect_runs)
        if flow:
            rows.append(
                ["Prefect, flows without processes", f"{options.prefect_runs / flow[0]:,.1f}", "", milli(flow[1] / options.prefect_runs)]
            )
        head = ["what", "runs each second", "server's CPU ms a run", "all CPU ms a run"]
        table(f"{options.runs} runs of one task", head, rows, where)


def spread(values):
    """Median, least, and what nine of ten stay below."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[0], ordered[int(len(ordered) * 0.9)]


if __name__ == "__main__":
    main()
