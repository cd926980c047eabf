"""How soon the server answers with an existing data folder, and how much memory it takes at rest and for each idle run."""

import argparse
import statistics
import time

from common import children_of, folder, machine, memory, milliseconds, new_cluster, proportional_memory, server, table, timed


def fill(api, count):
    """A data folder as it is after some weeks of use."""
    cluster_id = new_cluster(api)
    for number in range(count):
        api.notebook(f"/Shared/bench/n{number}", [f"x = {number}"])
        api.post(
            "/api/2.0/jobs/create",
            {"name": f"job {number}", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"/Shared/bench/n{number}"}},
        )
    return cluster_id


def idle_runs(running, cluster_id, count):
    """Private and proportional memory for each of some runs that have used pandas and now wait."""
    api = running.api()
    before = set(children_of(running.process.pid))
    api.notebook(
        "/Shared/bench/idle",
        ["import pandas as pd\nframe = pd.DataFrame({'a': range(1000)})\nframe.describe()", "import time\ntime.sleep(600)"],
    )
    run_ids = [api.submit("/Shared/bench/idle", cluster_id) for _ in range(count)]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and any(api.run(run_id)["state"]["life_cycle_state"] != "RUNNING" for run_id in run_ids):
        time.sleep(0.1)
    time.sleep(3)
    sizes = [proportional_memory(pid) for pid, args in children_of(running.process.pid).items() if pid not in before]
    for run_id in run_ids:
        api.post("/api/2.1/jobs/runs/cancel", {"run_id": run_id})
    return sum(private for private, _ in sizes) / count, sum(share for _, share in sizes) / count


def until_warm(api, cluster_id):
    """Runs notebooks until one was forked from the warm parent, which starts behind the first run."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run, _ = api.run_cells("/Shared/bench/warm", ["import pandas"], cluster_id)
        if run["tasks"][0].get("forebay", {}).get("warm"):
            return
        time.sleep(0.5)
    raise SystemExit("bench: no run was forked from a warm parent within 60 s")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--idle-runs", type=int, default=5)
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        cluster_id = fill(running.api(), options.objects)
        running.stop()
        ready, stopped, at_rest = [], [], []
        for _ in range(options.rounds):
            ready.append(timed(running.start)[0])
            time.sleep(1)
            at_rest.append(memory(running.process.pid))
            stopped.append(timed(running.stop)[0])
        running.start()
        api = running.api()
        first = timed(lambda: api.run_cells("/Shared/bench/first", ["import pandas"], cluster_id))[0]
        until_warm(api, cluster_id)
        private, share = idle_runs(running, cluster_id, options.idle_runs)
        table(
            f"Start and memory, data folder with {options.objects} notebooks and jobs",
            ["what", "value"],
            [
                ["from start to an answer of all three workspaces, ms", milliseconds(ready)],
                ["from SIGTERM to the end, ms", milliseconds(stopped)],
                ["memory of the server process at rest", f"{statistics.median(at_rest) / 2**20:.0f} MiB"],
                ["first notebook after a start", f"{first * 1000:,.0f} ms"],
                [f"private memory of an idle pandas run (of {options.idle_runs})", f"{private / 2**20:.1f} MiB"],
                ["its proportional share of memory", f"{share / 2**20:.1f} MiB"],
            ],
            f"n = {options.rounds}, {where}",
        )


if __name__ == "__main__":
    main()
