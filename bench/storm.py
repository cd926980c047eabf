"""The storm: thousands of runs submitted at once, each a process of its own under a small cap, while the server is killed now and
then. Counts what was lost, doubled or over the cap, and how long other calls took."""

import argparse
import concurrent.futures
import random
import sqlite3
import statistics
import threading
import time
import uuid

import requests
from common import folder, machine, memory, new_cluster, server, table

CAP = 15
OTHERS = {
    "runs/list": ("/api/2.1/jobs/runs/list", {"limit": 25}),
    "jobs/list": ("/api/2.1/jobs/list", {}),
    "workspace/list": ("/api/2.0/workspace/list", {"path": "/Shared"}),
    "queue": ("/api/forebay/v1/queue", {"limit": 25}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=17_000)
    parser.add_argument("--submitters", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3, help="how often the server is killed")
    parser.add_argument("--task", choices=["script", "notebook"], default="script")
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        storm = Storm(running, options)
        storm.prepare()
        started = time.perf_counter()
        with Watch(running) as watch:
            submitted = storm.submit()
            left = storm.left()
            killed = storm.kill_and_wait()
        elapsed = time.perf_counter() - started
        rows = [
            ["runs", options.runs],
            ["all submitted after", f"{submitted - started:.1f} s"],
            ["all ended after", f"{elapsed:.1f} s"],
            ["runs each second", f"{options.runs / elapsed:.1f}"],
            ["of it, once all were submitted", f"{left / (started + elapsed - submitted):.1f}"],
            ["kills of the server", killed],
            *storm.verdicts(),
            ["live rows, most at once", f"{watch.live_max} of {CAP}, {len(watch.live)} samples, {mean(watch.live):.1f} on average"],
            *watch.latencies(),
            ["server memory", f"{memory(running.process.pid) >> 20} MiB"],
        ]
        table("The storm", ["what", "value"], rows, where)


class Storm:
    def __init__(self, running, options):
        self.running, self.options = running, options
        self.token = uuid.uuid4().hex[:12]

    def prepare(self):
        api = self.running.api()
        self.cluster = new_cluster(api)
        api.notebook("/Shared/storm/n", ["pass"])
        api.post("/api/2.0/dbfs/put", {"path": "/storm.py", "contents": "cGFzcwo=", "overwrite": True})
        # The first run makes the environment ready; it is no part of the storm.
        api.finished(api.post("/api/2.1/jobs/runs/submit", self.body("first"))["run_id"])

    def body(self, number):
        work = {"spark_python_task": {"python_file": "dbfs:/storm.py"}}
        if self.options.task == "notebook":
            work = {"notebook_task": {"notebook_path": "/Shared/storm/n"}}
        # What a kill interrupts is tried again.
        task = {"task_key": "t", "existing_cluster_id": self.cluster, "max_retries": 10, **work}
        return {"run_name": "storm", "idempotency_token": f"{self.token}-{number}", "tasks": [task]}

    def submit(self):
        """Hands in every run and returns when that was done; a call that meets a dead server is repeated."""
        with concurrent.futures.ThreadPoolExecutor(self.options.submitters) as pool:
            apis = threading.local()

            def one(number):
                if not hasattr(apis, "api"):
                    apis.api = self.running.api()
                return patiently(lambda: apis.api.post("/api/2.1/jobs/runs/submit", self.body(number))["run_id"])

            ids = list(pool.map(one, range(self.options.runs)))
        assert len(set(ids)) == self.options.runs, "two calls gave the same run"
        return time.perf_counter()

    def kill_and_wait(self):
        """Kills the server at random moments until all has ended; returns how often."""
        killed, limit = 0, time.monotonic() + 3600
        left = self.left()
        while left and time.monotonic() < limit:
            if killed < self.options.kills and left < self.options.runs * (self.options.kills - killed) / (self.options.kills + 1):
                time.sleep(random.random())
                self.running.kill()
                self.running.start()
                killed += 1
            time.sleep(0.2)
            left = self.left()
        return killed

    def sql(self, query):
        with sqlite3.connect(f"file:{self.running.data}/dev/forebay.db?mode=ro", uri=True, timeout=30) as db:
            return db.execute(query).fetchall()

    def left(self):
        return self.sql("SELECT count(*) FROM run WHERE phase <> 'ended'")[0][0]

    def verdicts(self):
        ended = self.sql("SELECT verdict, count(*) FROM run WHERE name = 'storm' AND phase = 'ended' GROUP BY 1")
        runs = self.sql("SELECT count(*) FROM run WHERE name = 'storm'")[0][0] - 1
        twice = self.sql(
            "SELECT count(*) FROM (SELECT run_id, json_extract(event, '$[1].claimed.task') AS task,"
            " json_extract(event, '$[1].claimed.attempt') AS attempt FROM run_event"
            " WHERE json_extract(event, '$[1].claimed') IS NOT NULL GROUP BY 1, 2, 3 HAVING count(*) > 1)"
        )[0][0]
        attempts = self.sql("SELECT count(*) FROM attempt")[0][0] - 1
        return [
            ["lost", self.options.runs - runs + self.left()],
            ["attempts claimed twice", twice],
            ["attempts", attempts],
            *[[f"ended: {verdict}", count - (verdict == "succeeded")] for verdict, count in ended],
        ]


class Watch:
    """Looks at the live rows, and calls what other people call meanwhile."""

    def __init__(self, running):
        self.running, self.stop = running, threading.Event()
        self.live, self.times = [], {name: [] for name in OTHERS}
        self.threads = [threading.Thread(target=self.sample), threading.Thread(target=self.call)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    @property
    def live_max(self):
        return max(self.live, default=0)

    def sample(self):
        db = sqlite3.connect(f"file:{self.running.data}/dev/forebay.db?mode=ro", uri=True, timeout=30)
        while not self.stop.is_set():
            self.live.append(db.execute("SELECT count(*) FROM attempt WHERE phase IN ('running', 'terminating')").fetchone()[0])
            time.sleep(0.02)
        db.close()

    def call(self):
        api = self.running.api()
        while not self.stop.is_set():
            for name, (url, params) in OTHERS.items():
                began = time.perf_counter()
                try:
                    api.get(url, **params)
                except requests.RequestException:
                    time.sleep(0.1)
                    continue
                self.times[name].append(time.perf_counter() - began)
            time.sleep(0.02)

    def latencies(self):
        def row(name, times):
            p99 = sorted(times)[int(len(times) * 0.99)]
            return [f"{name} meanwhile", f"median {statistics.median(times) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, {len(times)} calls"]

        return [row(name, times) for name, times in self.times.items() if times]


def patiently(action):
    while True:
        try:
            return action()
        except requests.RequestException:
            time.sleep(0.1)


def mean(values):
    return statistics.fmean(values) if values else 0.0


if __name__ == "__main__":
    main()
