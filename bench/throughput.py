"""A backlog of small notebook runs: a thousand submitted at once, all of them checked, and what that means for 17,000."""

import argparse
import concurrent.futures
import statistics
import threading
import time

from common import CELLS, folder, machine, memory, new_cluster, server, table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--submitters", type=int, default=4)
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        api = running.api()
        cluster_id = new_cluster(api)
        api.notebook("/Shared/bench/n", CELLS)
        api.finished(api.submit("/Shared/bench/n", cluster_id))
        latencies, stop = [], threading.Event()
        watcher = threading.Thread(target=watch, args=(running.api(), latencies, stop))
        watcher.start()
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(options.submitters) as pool:
            run_ids = list(pool.map(lambda _: running.api().submit("/Shared/bench/n", cluster_id), range(options.runs)))
        submitted = time.perf_counter() - started
        states = wait_for_all(api, run_ids)
        elapsed = time.perf_counter() - started
        stop.set()
        watcher.join()
        lost = options.runs - sum(states.values())
        table(
            "Backlog of small notebook runs",
            ["what", "value"],
            [
                ["runs", options.runs],
                ["distinct run ids", len(set(run_ids))],
                ["ended with success", states.get("SUCCESS", 0)],
                ["ended otherwise", sum(states.values()) - states.get("SUCCESS", 0)],
                ["not ended", lost],
                ["all submitted after", f"{submitted:.1f} s"],
                ["all ended after", f"{elapsed:.1f} s"],
                ["runs each second", f"{options.runs / elapsed:.1f}"],
                ["17,000 runs would take", f"{17_000 * elapsed / options.runs / 60:.1f} minutes"],
                ["another call meanwhile, median", f"{statistics.median(latencies) * 1000:.1f} ms"],
                ["another call meanwhile, p99", f"{sorted(latencies)[int(len(latencies) * 0.99)] * 1000:.1f} ms"],
                ["server memory", f"{memory(running.process.pid) >> 20} MiB"],
            ],
            where,
        )


def watch(api, latencies, stop):
    """Another client, who only looks around, and how long she waits."""
    while not stop.is_set():
        started = time.perf_counter()
        api.get("/api/2.0/workspace/get-status", path="/Shared/bench/n")
        latencies.append(time.perf_counter() - started)
        time.sleep(0.05)


def wait_for_all(api, run_ids, timeout=1800):
    """{result state: count} of these runs, each looked at until it has ended."""
    states, left, deadline = {}, list(run_ids), time.monotonic() + timeout
    while left and time.monotonic() < deadline:
        run = api.run(left[-1])
        if "result_state" in run["state"]:
            left.pop()
            states[run["state"]["result_state"]] = states.get(run["state"]["result_state"], 0) + 1
        else:
            time.sleep(0.05)
    return states


if __name__ == "__main__":
    main()
