"""Kills server, runner and drivers at random while runs come in, and checks that none is lost and none recorded twice.

    python acceptance/crash_loop.py --runs 300 --seed 7

The suite runs a short one, see test_crash_loop.py.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests

from harness import wait
from harness.api import TERMINAL, new_cluster, text_of
from harness.server import Server, binary

LINES = 10
# Each execution leaves its key behind, apart from all that the server records.
SOURCE = f"""import os, time
key = os.environ['FOREBAY_IDEMPOTENCY_KEY']
with open('/dbfs/tmp/executed', 'a') as file:
    file.write(key + '\\n')
for number in range({LINES}):
    print('line', number, flush=True)
    time.sleep(0.05)"""
PRINTED = [f"line {number}" for number in range(LINES)]


class CrashLoop:
    def __init__(self, server, runs, seed):
        self.server, self.runs, self.random = server, runs, random.Random(seed)
        self.kills = collections.Counter()

    def run(self):
        """Returns a summary; whatever is wrong is an assertion."""
        api = self.server.api()
        self.cluster_id = new_cluster(api)
        api.notebook("/Shared/crash", [SOURCE, "dbutils.notebook.exit(key)"])
        api.notebook("/Shared/nested", ["dbutils.notebook.exit(dbutils.notebook.run('./crash', 0))"])
        # The environment is made before anything is killed.
        api.finished(api.submit("/Shared/crash", self.cluster_id), timeout=300)
        killer_stop = threading.Event()
        killer = threading.Thread(target=self.kill_some, args=(killer_stop,))
        killer.start()
        try:
            run_ids = [self.submit(number) for number in range(self.runs)]
            wait.until("half of the runs to end", lambda: self.ended(run_ids) > self.runs / 2, timeout=600, interval=0.5)
        finally:
            killer_stop.set()
            killer.join()
        wait.until("all runs to end", lambda: self.ended(run_ids) == self.runs, timeout=600, interval=0.5)
        return self.check(run_ids)

    def submit(self, number):
        """Like a client that does not know whether its call arrived."""
        path = "/Shared/nested" if number % 5 == 0 else "/Shared/crash"
        task = {"task_key": "only", "existing_cluster_id": self.cluster_id, "notebook_task": {"notebook_path": path}}
        task["max_retries"] = 3 if number % 2 else 0
        body = {"run_name": f"crash {number}", "tasks": [task], "idempotency_token": f"crash-{number}"}

        def sent():
            return self.server.api().post("/api/2.1/jobs/runs/submit", body)["run_id"]

        return wait.until(f"run {number} to be taken", sent, timeout=60)

    def ended(self, run_ids):
        try:
            api = self.server.api()
            listed, offset = [], 0
            while True:
                page = api.get("/api/2.1/jobs/runs/list", limit=25, offset=offset, completed_only="true").get("runs", [])
                listed += [run["run_id"] for run in page]
                offset += len(page)
                if len(page) < 25:
                    return len(set(listed) & set(run_ids))
        except (requests.RequestException, AssertionError):
            return -1

    def kill_some(self, stop):
        victims = [self.kill_server] * 4 + [self.kill_runner] * 2 + [self.kill_driver] * 4
        while not stop.wait(self.random.uniform(0.3, 2.0)):
            self.random.choice(victims)()

    def kill_server(self):
        self.kills["server"] += 1
        self.server.kill()
        time.sleep(self.random.choice([0, 0.2, 1]))
        self.server.start()

    def kill_runner(self):
        if self.server.kill_runner():
            self.kills["runner"] += 1

    def kill_driver(self):
        drivers = [int(path.name) for path in Path("/proc").glob("[0-9]*") if self.is_driver(path)]
        if drivers:
            self.kills["driver"] += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(drivers), signal.SIGKILL)

    def is_driver(self, process):
        try:
            return f"/run-{self.server.runner()}-" in (process / "cgroup").read_text()
        except OSError:
            return False

    def check(self, run_ids):
        api = self.server.api()
        results = collections.Counter()
        assert len(set(run_ids)) == self.runs, "each submission is one run, however often it was sent"
        for run_id in run_ids:
            run = api.run(run_id)
            state = run["state"]
            results[state["result_state"]] += 1
            assert state["life_cycle_state"] in TERMINAL and run["end_time"] > 0, run
            assert state["result_state"] == "SUCCESS" or state["state_message"], run
            attempts = {task["attempt_number"] for task in run["tasks"]}
            assert len(attempts) == len(run["tasks"]), run
            self.check_output(api, run)
        executed = collections.Counter((self.server.data / "dev/dbfs/tmp/executed").read_text().split())
        assert self.server.stop() == 0
        words = [str(binary()), "doctor", "--data", str(self.server.data), "--port", str(self.server.port), "--output", "json"]
        said = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        failed = [check for check in json.loads(said) if check["level"] == "fail"]
        assert not failed, failed
        return {
            "kills": dict(self.kills),
            "results": dict(results),
            "executions": sum(executed.values()),
            "executed again under one key": sum(1 for count in executed.values() if count > 1),
        }

    def check_output(self, api, run):
        for task in run["tasks"]:
            response = api.call("GET", f"/api/forebay/v1/runs/{task['run_id']}/notebook")
            if not response.ok:
                # It never began.
                assert task["state"].get("result_state") != "SUCCESS", run
                continue
            lines = [line for line in text_of(response.json()).splitlines() if line.startswith("line ")]
            assert lines == PRINTED[: len(lines)], (run["run_id"], lines)
            nested = task["notebook_task"]["notebook_path"] == "/Shared/nested"
            if task["state"].get("result_state") == "SUCCESS" and not nested:
                assert lines == PRINTED, (run["run_id"], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory(prefix="forebay-crash-") as folder:
        server = Server(Path(folder) / "forebay").start()
        try:
            began = time.monotonic()
            print(json.dumps(CrashLoop(server, options.runs, options.seed).run(), indent=2))
            print(f"{options.runs} runs in {time.monotonic() - began:.0f} s")
        finally:
            if server.alive():
                server.stop()
            server.kill_runner()


if __name__ == "__main__":
    sys.exit(main())
