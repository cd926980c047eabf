"""Spark through Forebay and beside it: the first result of a fresh run, a trivial JAR, and a group-by over five million rows.

The engines that are used directly are those of the server's own environments. Rounds are interleaved.
"""

import argparse
import base64
import contextlib
import json
import statistics
import subprocess
import time
from pathlib import Path

from common import folder, machine, milliseconds, new_cluster, server, succeeded, table, timed, until_ended

FIRST = "spark.range(1000).selectExpr('sum(id)').collect()[0][0]"
GROUP = "spark.read.parquet('{path}').groupBy('k').agg(F.count('v'), F.avg('v')).orderBy('k').collect()"
ROWS = 5_000_000
# Seconds between two looks at a run.
PAUSE = 0.02
MAKE = (
    "import numpy, pandas\nrandom = numpy.random.default_rng(1)\n"
    f"pandas.DataFrame({{'k': random.integers(0, 1000, {ROWS}), 'v': random.random({ROWS})}}).to_parquet('PATH')"
)
SAIL = """
import sys, time
from pysail.spark import SparkConnectServer
from pyspark.sql import functions as F
from pyspark.sql.connect.session import SparkSession
server = SparkConnectServer("127.0.0.1", 0)
server.start(background=True)
spark = SparkSession.builder.remote("sc://127.0.0.1:%d" % server.listening_address[1]).getOrCreate()
"""
JVM = """
import time
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.master("local[*]").config("spark.ui.enabled", "false").getOrCreate()
"""
# Executes the query when its turn has come, and is idle otherwise: a file in `folder` says so, as one does that the turn is over.
# Before its first turn it does so until what the JVM compiles no longer changes it much.
TURNS = """
import json, os, time
from pyspark.sql import functions as F
folder, warming, turns, each = {settings!r}
def query():
    started = time.perf_counter()
    {query}
    return time.perf_counter() - started
def turn(name, count):
    while not os.path.exists(os.path.join(folder, "begin-" + name)):
        time.sleep(0.02)
    times = [query() for _ in range(count)]
    with open(os.path.join(folder, "draft"), "w") as file:
        json.dump(times, file)
    os.rename(os.path.join(folder, "draft"), os.path.join(folder, "end-" + name))
turn("warming", warming)
for number in range(turns):
    turn(str(number), each)
"""
JAVA = """
public class Trivial {
    public static void main(String[] args) throws Exception {
        try (var spark = org.apache.spark.sql.SparkSession.builder().getOrCreate()) { System.out.println(spark.range(1000).count()); }
    }
}
"""


class Run:
    """Submits one task and asks until it has ended: rarely, because whoever asks uses a CPU that the engine would use, and
    nobody asks a script beside it. The time is that until the answer."""

    def __init__(self, api, before=None, **task):
        self.api, self.before, self.task, self.times = api, before, task, []

    def __call__(self):
        if self.before:
            self.before()
        seconds, run = timed(lambda: until_ended(self.api, self.submit(), PAUSE, timeout=600))
        succeeded(self.api, run)
        self.times.append(seconds)
        return run

    def submit(self):
        return self.api.post("/api/2.0/jobs/runs/submit", {"run_name": "bench", **self.task})["run_id"]


class Command:
    def __init__(self, *words):
        self.words, self.times = [str(word) for word in words], []

    def __call__(self):
        seconds, done = timed(lambda: subprocess.run(self.words, capture_output=True, text=True, check=False))
        if done.returncode:
            raise SystemExit(f"{self.words}: {done.stderr[-2000:]}")
        self.times.append(seconds)
        return done.stdout


def notebook(api, name, cluster_id, *cells):
    path = api.notebook(f"/Shared/bench/spark_{name}", list(cells))
    return Run(api, existing_cluster_id=cluster_id, notebook_task={"notebook_path": path})


def rounds(count, rows):
    for row in rows.values():
        row()
        row.times.clear()
    for _ in range(count):
        for row in rows.values():
            row()
    return [[name, milliseconds(row.times)] for name, row in rows.items()]


def first_results(api, path, pythons, clusters, count):
    scripts = {}
    for engine, start in {"sail": SAIL, "apache": JVM}.items():
        script = path / f"first_{engine}.py"
        script.write_text(start + FIRST + "\nspark.stop()\n")
        scripts[engine] = Command(pythons[engine], script)
    rows = {
        "Forebay, sail": notebook(api, "first_sail", clusters["sail"], FIRST),
        "the same without Spark": notebook(api, "none", clusters["sail"], "499500"),
        "Sail by a script": scripts["sail"],
        "Forebay, apache": notebook(api, "first_apache", clusters["apache"], FIRST),
        "Spark local by a script": scripts["apache"],
    }
    return table("First Spark result, nothing running: submit to end", ["", "ms"], rounds(count, rows))


def groups(running, api, path, pythons, clusters, options):
    """Both sides are there at the same time and take turns, so that what the machine does meanwhile meets both. They read one
    file, and nothing else works: not a JVM that starts for the next run, nor one who asks again and again whether this one has
    ended, which on two CPUs made a run a quarter slower than the script beside it."""
    api.post("/api/2.0/dbfs/mkdirs", {"path": "/bench"})
    dbfs = running.data / "dev/dbfs/bench"
    notebook(api, "make", clusters["sail"], MAKE.replace("PATH", "/dbfs/bench/rows.parquet"))()
    rows = []
    for engine, start in {"sail": SAIL, "apache": JVM}.items():
        if engine not in (options.engine or engine):
            continue
        sides = {}
        for side, root in (("direct", dbfs), ("run", "/dbfs/bench")):
            folder = f"{engine}-{side}"
            (dbfs / folder).mkdir()
            settings = (f"{root}/{folder}", options.warming, options.turns, options.queries)
            sides[side] = dbfs / folder, TURNS.format(settings=settings, query=GROUP.format(path=f"{root}/rows.parquet"))
        script = path / f"group_{engine}.py"
        script.write_text(start + sides["direct"][1])
        ours = notebook(api, f"group_{engine}", clusters[engine], sides["run"][1])
        if engine == "apache":
            # The JVM that this leaves for the next run is not to start meanwhile.
            notebook(api, "before", clusters[engine], FIRST)()
            until_one_waits(running.runner())
        with subprocess.Popen([pythons[engine], script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as direct:
            try:
                run_id = ours.submit()
                times = {side: [] for side in sides}
                for turn in ["warming", *range(options.turns)]:
                    # Now one is first, now the other.
                    for side in sorted(sides, reverse=turn != "warming" and turn % 2 == 1):
                        took = a_turn(sides[side][0], turn, direct)
                        times[side] += took if turn != "warming" else []
                succeeded(api, until_ended(api, run_id, PAUSE))
            finally:
                direct.kill()
        over = statistics.median(times["run"]) / statistics.median(times["direct"]) - 1
        rows.append([engine, milliseconds(times["direct"]), milliseconds(times["run"]), f"{over * 100:+.0f} %"])
    note = f"{options.turns} turns of {options.queries} queries each, after {options.warming} that do not count."
    table(f"Group-by over {ROWS:,} rows, warm", ["engine", "directly, ms", "in a run, ms", "overhead"], rows, note)


def a_turn(folder, turn, direct):
    (folder / f"begin-{turn}").touch()
    deadline = time.monotonic() + 300
    while not (folder / f"end-{turn}").exists():
        if direct.poll() or time.monotonic() > deadline:
            raise SystemExit(f"turn {turn} of {folder.name} did not end")
        time.sleep(0.02)
    return json.loads((folder / f"end-{turn}").read_text())


def jar(running, api, path, home, count):
    (path / "Trivial.java").write_text(JAVA)
    subprocess.run(["javac", "-cp", f"{home}/jars/*", "-d", path, path / "Trivial.java"], check=True)
    subprocess.run(["jar", "cf", path / "trivial.jar", "-C", path, "Trivial.class"], check=True)
    content = base64.b64encode((path / "trivial.jar").read_bytes()).decode()
    api.post("/api/2.0/dbfs/put", {"path": "/bench/trivial.jar", "contents": content, "overwrite": True})
    task = {"spark_jar_task": {"main_class_name": "Trivial"}, "libraries": [{"jar": "dbfs:/bench/trivial.jar"}]}
    cold = new_cluster(api, spark_conf={"forebay.warm": "false"})
    runner = running.runner()
    rows = {
        "Forebay, a JVM is waiting": Run(api, before=lambda: until_one_waits(runner), **task),
        # Not with the start of the JVM for the next run beside it.
        "Forebay, its own JVM": Run(api, before=lambda: until_one_waits(runner), existing_cluster_id=cold, **task),
        "spark-submit": Command(f"{home}/bin/spark-submit", "--class", "Trivial", path / "trivial.jar"),
    }
    Run(api, **task)()
    table("A trivial JAR: submit to end", ["", "ms"], rounds(count, rows))


def until_one_waits(runner):
    """Until a JVM has started, has done what it does before its run, and is idle."""
    deadline, used = time.monotonic() + 120, None
    while time.monotonic() < deadline:
        before, used = used, sum(map(cpu_ticks, waiting_jvms(runner)))
        if used and used == before:
            return
        time.sleep(0.5)
    raise SystemExit("no JVM waits for the next run")


def waiting_jvms(runner):
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_one = b"PythonGatewayServer" in (process / "cmdline").read_bytes()
            if is_one and f"/run-{runner}-" in (process / "cgroup").read_text():
                yield process


def cpu_ticks(process):
    with contextlib.suppress(OSError):
        return sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13]))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["first", "jar", "group"], action="append", help="these tables only")
    parser.add_argument("--turns", type=int, default=5, help="of each side of the group-by")
    parser.add_argument("--queries", type=int, default=10, help="in each turn")
    parser.add_argument("--warming", type=int, default=20, help="queries before them")
    parser.add_argument("--engine", choices=["sail", "apache"], action="append", help="these engines' group-by only")
    options = parser.parse_args()
    print(machine())
    with folder() as path, server(path) as running:
        api = running.api()
        clusters = {"sail": new_cluster(api), "apache": new_cluster(api, spark_conf={"forebay.engine": "apache"})}
        places = {}
        for engine, cluster_id in clusters.items():
            where = notebook(api, f"ready_{engine}", cluster_id, "import pyspark\ndbutils.notebook.exit(pyspark.__path__[0])")
            places[engine] = Path(api.output(where()["run_id"])["notebook_output"]["result"])
        home = places["apache"]
        pythons = {engine: place.parents[3] / "bin/python" for engine, place in places.items()}
        # What is compiled in the background would be in the way.
        until_warm(pythons)
        wanted = options.only or ["first", "jar", "group"]
        if "first" in wanted:
            first_results(api, path, pythons, clusters, options.rounds)
        if "jar" in wanted:
            jar(running, api, path, home, options.rounds)
        if "group" in wanted:
            groups(running, api, path, pythons, clusters, options)


def until_warm(pythons):
    deadline = time.monotonic() + 900
    while not all((python.parents[1] / ".warm").exists() for python in pythons.values()):
        if time.monotonic() > deadline:
            raise SystemExit("the environments were not compiled within 15 minutes")
        time.sleep(1)


if __name__ == "__main__":
    main()
