"""What the benchmarks share: a release server of their own, clocks, memory, tables, cells."""

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "acceptance"))

from harness.api import new_cluster, new_token_of  # noqa: E402, F401 - the benchmarks take them from here
from harness.server import Server, target_dir  # noqa: E402

CELLS = [
    "x = 1",
    "y = [n * n for n in range(100)]",
    "print('third', sum(y))",
    "x + 1",
    "text = 'a' * 10",
    "text.upper()",
    "data = {'a': 1, 'b': 2}",
    "print(data)",
    "sorted(data)",
    "z = x + len(text)\nz",
]
WITH_PANDAS = ["import pandas as pd\nimport pyarrow as pa\nx = 1\nframe = pd.DataFrame({'a': range(10)})", *CELLS[1:]]


def release_binary():
    """The server as people run it: built with optimisation unless FOREBAY_BIN names another one."""
    if os.environ.get("FOREBAY_BIN"):
        return os.environ["FOREBAY_BIN"]
    env = {**os.environ, "CARGO_TARGET_DIR": str(target_dir())}
    subprocess.run(["cargo", "build", "--release", "-p", "forebay"], cwd=ROOT, env=env, check=True)
    return str(target_dir() / "release" / "forebay")


@contextlib.contextmanager
def folder():
    # What a server left behind may still write while the folder goes.
    with tempfile.TemporaryDirectory(prefix="forebay-bench-", ignore_cleanup_errors=True) as path:
        yield Path(path)


@contextlib.contextmanager
def server(path, **options):
    os.environ["FOREBAY_BIN"] = release_binary()
    running = Server(path / "forebay", **options)
    running.start()
    try:
        yield running
    finally:
        running.close()


def until_ended(api, run_id, pause=0.002, timeout=120):
    """Polls as fast as is decent and returns the ended run."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        run = api.get("/api/2.1/jobs/runs/get", run_id=run_id)
        if "result_state" in run["state"]:
            return run
        time.sleep(pause)
    raise SystemExit(f"run {run_id} did not end within {timeout} s: {run['state']}")


def succeeded(api, run):
    if run["state"]["result_state"] != "SUCCESS":
        output = api.output(run["run_id"])
        raise SystemExit(f"run {run['run_id']} did not succeed: {run['state']}\n{output.get('error')}\n{output.get('error_trace')}")
    return run


def timed(action):
    """(seconds, result) of a call."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def memory(pid, field="VmRSS"):
    """Bytes of a field of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/{pid}/status has no {field}")


def proportional_memory(pid):
    """(private, proportional) bytes: what only this process has, and its share of what it has with others."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        fields[name] = int(value.split()[0]) * 1024
    return fields["Private_Clean"] + fields["Private_Dirty"], fields["Pss"]


def children_of(pid):
    """All processes below a process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    parents = {}
    for line in listed.splitlines():
        child, parent, args = line.split(None, 2)
        parents[int(child)] = (int(parent), args)
    found, todo = {}, [pid]
    while todo:
        above = todo.pop()
        for child, (parent, args) in parents.items():
            if parent == above:
                found[child] = args
                todo.append(child)
    return found


def milliseconds(values):
    """'median (min-max)' of seconds, in milliseconds."""
    return f"{statistics.median(values) * 1000:,.0f} ({min(values) * 1000:,.0f}-{max(values) * 1000:,.0f})"


def table(title, head, rows, note=""):
    """Prints a Markdown table that can be pasted into the documentation."""
    print(f"\n### {title}\n")
    widths = [max(len(str(row[column])) for row in [head, *rows]) for column in range(len(head))]
    for number, row in enumerate([head, *rows]):
        print("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    if note:
        print(f"\n{note}")


def machine():
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} CPUs, {platform.release()}, Python {platform.python_version()}, load at the start {load:.1f}"
