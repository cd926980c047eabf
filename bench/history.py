"""Lists and single runs with a million finished runs in the history, written straight into the database."""

import argparse
import json
import sqlite3
import statistics
import time

from common import folder, machine, new_cluster, new_token_of, server, table

DAY_MS = 24 * 3600 * 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--idle-jobs", type=int, default=500)
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        api = running.api()
        cluster = new_cluster(api)
        api.notebook("/Shared/n", ["pass"])
        settings = {
            "name": "often",
            "tasks": [{"task_key": "t", "existing_cluster_id": cluster, "notebook_task": {"notebook_path": "/Shared/n"}}],
        }
        job = api.post("/api/2.1/jobs/create", settings)["job_id"]
        running.stop()
        began = time.perf_counter()
        first = fill(running.data / "dev" / "forebay.db", options.runs, job, settings)
        filled = time.perf_counter() - began
        running.start()
        api = running.api()
        middle = first + options.runs // 2
        calls = {
            "runs/get": ("/api/2.1/jobs/runs/get", {"run_id": middle}),
            "runs/list": ("/api/2.1/jobs/runs/list", {"limit": 25, "expand_tasks": "true"}),
            "runs/list, active": ("/api/2.1/jobs/runs/list", {"limit": 25, "active_only": "true"}),
            "runs/list, completed": ("/api/2.1/jobs/runs/list", {"limit": 25, "completed_only": "true"}),
            "runs/list of a job": ("/api/2.1/jobs/runs/list", {"limit": 25, "job_id": job}),
            "runs/list of a job, active": ("/api/2.1/jobs/runs/list", {"limit": 25, "job_id": job, "active_only": "true"}),
            "runs/list of a job, of another kind": ("/api/2.1/jobs/runs/list", {"limit": 25, "job_id": job, "run_type": "SUBMIT_RUN"}),
            "runs/list, one kind": ("/api/2.1/jobs/runs/list", {"limit": 25, "run_type": "SUBMIT_RUN"}),
            "runs/list, of an old day": (
                "/api/2.1/jobs/runs/list",
                {"limit": 25, "start_time_from": START_MS + DAY_MS, "start_time_to": START_MS + 2 * DAY_MS},
            ),
            "queue": ("/api/forebay/v1/queue", {}),
        }
        rows = [[name, *measure(api, url, params, options.calls)] for name, (url, params) in calls.items()]
        # Nobody has shared anything with this user, or all runs of a job.
        user = "analyst@forebay.example"
        plain = running.api(token=new_token_of(api, user))
        shown = {"runs/list": {}, "runs/list, completed": {"completed_only": "true"}, "runs/list of a job": {"job_id": job}}
        for name, params in shown.items():
            rows.append(
                [f"{name}, a user's who sees nothing", *measure(plain, "/api/2.1/jobs/runs/list", {"limit": 25, **params}, options.calls)]
            )
        api.call("PATCH", f"/api/2.0/permissions/jobs/{job}", json=granted(user)).raise_for_status()
        for name, params in shown.items():
            found = plain.get("/api/2.1/jobs/runs/list", limit=25, **params)["runs"]
            if len(found) != 25:
                raise SystemExit(f"{name}: {len(found)} runs of a shared job")
            rows.append([f"{name}, who sees one job", *measure(plain, "/api/2.1/jobs/runs/list", {"limit": 25, **params}, options.calls)])
        # As many more that hardly ever run, and one user who sees all of them and not the one that does.
        idle = [api.post("/api/2.1/jobs/create", {**settings, "name": "idle"})["job_id"] for _ in range(options.idle_jobs)]
        user = "reader@forebay.example"
        plain = running.api(token=new_token_of(api, user))
        for job in idle:
            api.call("PATCH", f"/api/2.0/permissions/jobs/{job}", json=granted(user)).raise_for_status()
        shown = {"runs/list": {}, "runs/list, completed": {"completed_only": "true"}}
        for name, params in shown.items():
            if plain.get("/api/2.1/jobs/runs/list", limit=25, **params)["runs"]:
                raise SystemExit(f"{name}: runs of jobs that never ran")
            called = measure(plain, "/api/2.1/jobs/runs/list", {"limit": 25, **params}, options.calls)
            rows.append([f"{name}, who sees {len(idle)} idle jobs", *called])
        rows.append([f"(written in {filled:.0f} s)", "", ""])
        table(f"With {options.runs:,} runs in history", ["call", "median", "p99"], rows, where)


def granted(user):
    return {"access_control_list": [{"user_name": user, "permission_level": "CAN_VIEW"}]}


START_MS = int(time.time() * 1000) - 100 * DAY_MS


def fill(path, count, job, settings):
    """Writes finished runs, half of them of a job, spread over 100 days; returns the first id."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA synchronous=OFF")
    (first,) = db.execute("SELECT next FROM sequence").fetchone()
    normal = json.dumps({**settings, "format": "MULTI_TASK"})
    columns = [row[1] for row in db.execute("PRAGMA table_info(run)")]
    step = 100 * DAY_MS / count

    def run(number):
        at = START_MS + int(number * step)
        verdict = "failed" if number % 50 == 0 else "succeeded"
        known = {
            "id": first + number, "job_id": job if number % 2 else None, "kind": "JOB_RUN" if number % 2 else "SUBMIT_RUN",
            "name": "often", "creator_id": 1, "creator_name": "admin", "settings": normal, "parameters": "{}",
            "trigger": "ONE_TIME", "concurrency_max": 1, "timeout_ms": 0, "phase": "ended", "verdict": verdict, "message": "",
            "created_at": at, "started_at": at + 5, "ended_at": at + 1000,
        }  # fmt: skip
        return [known.get(column) for column in columns]

    def attempt(number):
        at = START_MS + int(number * step)
        return (first + count + number, first + number, 0, "t", 0, 0, "ended", "succeeded", "SUCCESS", at, at + 5, at + 1000)

    marks = ", ".join("?" for _ in columns)
    db.executemany(f"INSERT INTO run ({', '.join(columns)}) VALUES ({marks})", (run(number) for number in range(count)))
    db.executemany(
        "INSERT INTO attempt (id, run_id, task, task_key, attempt, nested, phase, verdict, code, created_at, started_at, ended_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (attempt(number) for number in range(count)),
    )
    db.execute("UPDATE sequence SET next = ?", (first + 2 * count,))
    db.commit()
    db.close()
    return first


def measure(api, url, params, calls):
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        api.get(url, **params)
        times.append(time.perf_counter() - began)
    return [f"{statistics.median(times) * 1000:.1f} ms", f"{sorted(times)[int(len(times) * 0.99)] * 1000:.1f} ms"]


if __name__ == "__main__":
    main()
