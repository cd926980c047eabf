"""What packages cost a run: a set that is new, one that a run had before, and a whole environment made from its lock.

Everything was downloaded before, and nothing is asked of an index. Beside it in the same run: uv by hand, with the same cache and lock.
"""

import argparse
import base64
import os
import shutil
import subprocess

from common import folder, machine, milliseconds, new_cluster, server, succeeded, table, timed, until_ended

from harness.server import cache_home

PACKAGES = ("pandas==2.2.2", "pyarrow==17.0.0")
FILE = "dbfs:/bench/noop.py"


def run(api, cluster_id, packages=()):
    """Seconds of a run of a script that does nothing, with these packages as its libraries."""
    libraries = [{"pypi": {"package": package}} for package in packages]
    task = {"task_key": "t", "existing_cluster_id": cluster_id, "spark_python_task": {"python_file": FILE}, "libraries": libraries}

    def whole():
        run_id = api.post("/api/2.1/jobs/runs/submit", {"run_name": "bench", "tasks": [task]})["run_id"]
        return until_ended(api, run_id, timeout=600)

    seconds, ended = timed(whole)
    succeeded(api, ended)
    return seconds


def ready(running):
    api = running.api()
    cluster_id = new_cluster(api)
    api.post("/api/2.0/dbfs/put", {"path": "/bench/noop.py", "contents": base64.b64encode(b"").decode(), "overwrite": True})
    return api, cluster_id


def command(*words, **variables):
    seconds, _ = timed(lambda: subprocess.run(words, check=True, capture_output=True, env={**os.environ, **variables}))
    return seconds


def sets(path, uv, count):
    """Each new set has the same packages under another condition, so that only finding them again can help."""
    rows = {
        name: []
        for name in ("a run without libraries", "its set is new", "its set was used before", "uv by hand, a venv", "uv by hand, a folder")
    }
    with server(path / "sets") as running:
        api, cluster_id = ready(running)
        run(api, cluster_id, PACKAGES)
        cache = {"UV_CACHE_DIR": str(path / "uv")}
        command(uv, "pip", "install", "--target", path / "first", *PACKAGES, **cache)
        for number in range(count):
            new = [f"{package}; python_version > '3.{number}'" for package in PACKAGES]
            rows["a run without libraries"].append(run(api, cluster_id))
            rows["its set is new"].append(run(api, cluster_id, new))
            rows["its set was used before"].append(run(api, cluster_id, new))
            venv, target = path / f"venv{number}", path / f"target{number}"
            made = command(uv, "venv", venv, **cache)
            rows["uv by hand, a venv"].append(
                made + command(uv, "pip", "install", "--offline", "--python", venv / "bin/python", *PACKAGES, **cache)
            )
            rows["uv by hand, a folder"].append(command(uv, "pip", "install", "--offline", "--target", target, *PACKAGES, **cache))
    table(
        f"A run with {' and '.join(PACKAGES)} as its libraries", ["", "ms"], [[name, milliseconds(times)] for name, times in rows.items()]
    )


def environments(path, uv, count):
    shared = cache_home() / "forebay" / "environments"
    rows = {name: [] for name in ("its environment is made first", "it is there", "uv by hand, the same lock")}
    for number in range(count):
        own = path / f"environments{number}"
        own.mkdir()
        # The same file system, so that nothing is copied.
        for part in ("cache", "tools"):
            if (shared / part).exists():
                shutil.copytree(shared / part, own / part, copy_function=os.link, symlinks=True)
        with server(path / f"server{number}", environments=own, env={"UV_OFFLINE": "1"}) as running:
            api, cluster_id = ready(running)
            rows["its environment is made first"].append(run(api, cluster_id))
            rows["it is there"].append(run(api, cluster_id))
        lock = next(own.glob("envs/*/runtime.lock"))
        venv = path / f"by-hand{number}"
        cache = {"UV_CACHE_DIR": str(own / "cache/uv"), "UV_OFFLINE": "1"}
        made = command(uv, "venv", "--relocatable", venv, **cache)
        words = ("pip", "sync", "--require-hashes", "--python", venv / "bin/python", lock)
        rows["uv by hand, the same lock"].append(made + command(uv, *words, **cache))
    packages = sum(line[:1].isalnum() for line in lock.read_text().splitlines())
    table(f"The first run of a server, {packages} packages", ["", "ms"], [[name, milliseconds(times)] for name, times in rows.items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(machine())
    uv = shutil.which("uv") or next((cache_home() / "forebay").glob("uv-*/bin/uv"))
    # Beside the environments, because files are shared by links where the file system is the same.
    with folder() as path:
        sets(path, uv, options.rounds)
        environments(path, uv, max(1, options.rounds // 2))


if __name__ == "__main__":
    main()
