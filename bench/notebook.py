"""How long one notebook of ten trivial cells takes, from submit to its terminal state, and what the usual runners take for the same.

Rounds are interleaved, so that noise of the machine meets every row.
"""

import argparse
import subprocess
import sys

import nbformat
from common import CELLS, WITH_PANDAS, folder, machine, memory, milliseconds, new_cluster, server, succeeded, table, timed, until_ended

NBCLIENT = "import sys, nbformat\nfrom nbclient import NotebookClient\nNotebookClient(nbformat.read(sys.argv[1], 4), kernel_name='python3').execute()\n"


class Forebay:
    """Submits over HTTP and polls until the end, on one warm cluster."""

    def __init__(self, running, name, cells, **cluster):
        self.api, self.path = running.api(), f"/Shared/bench/ten_cells_{name}"
        self.cluster_id = new_cluster(self.api, **cluster)
        self.api.notebook(self.path, cells)
        self.inside = []

    def __call__(self):
        run = succeeded(self.api, until_ended(self.api, self.api.submit(self.path, self.cluster_id)))
        self.inside.append((run["end_time"] - run["start_time"]) / 1000)


class Command:
    def __init__(self, *words):
        self.words = [str(word) for word in words]

    def __call__(self):
        done = subprocess.run(self.words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{self.words}: {done.stderr}")


def peers(path, name, cells):
    """The same cells for the usual runners."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    ipynb, script, client = path / f"bench_{name}.ipynb", path / f"bench_{name}.py", path / "nbclient_run.py"
    nbformat.write(notebook, ipynb)
    script.write_text("\n".join(cells))
    client.write_text(NBCLIENT)
    return {
        "papermill": Command(sys.executable, "-m", "papermill", "--no-progress-bar", "-k", "python3", ipynb, path / "out.ipynb"),
        "nbclient": Command(sys.executable, client, ipynb),
        "plain script": Command(sys.executable, script),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warm-rounds", type=int, default=50, help="extra rounds of the warm rows alone")
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        # A cluster may ask for a process of its own for each run: libraries that do not survive a fork need it.
        cold = {"spark_conf": {"forebay.warm": "false"}}
        rows = {
            "trivial": {
                "Forebay, warm": Forebay(running, "trivial", CELLS),
                "Forebay, new process": Forebay(running, "trivial", CELLS, **cold),
                **peers(path, "trivial", CELLS),
            },
            "pandas and pyarrow in cell 1": {
                "Forebay, warm": Forebay(running, "pandas", WITH_PANDAS),
                "Forebay, new process": Forebay(running, "pandas", WITH_PANDAS, **cold),
                **peers(path, "pandas", WITH_PANDAS),
            },
        }
        times = {(kind, name): [] for kind, group in rows.items() for name in group}
        for group in rows.values():
            for action in group.values():
                action()  # the first one builds, compiles and warms up
        for _ in range(options.rounds):
            for kind, group in rows.items():
                for name, action in group.items():
                    times[kind, name].append(timed(action)[0])
        calm = {kind: [timed(group["Forebay, warm"])[0] for _ in range(options.warm_rounds)] for kind, group in rows.items()}
        for kind, group in rows.items():
            best = sorted(times[kind, "Forebay, warm"])[len(times[kind, "Forebay, warm"]) // 2]
            lines = []
            for name in group:
                median = sorted(times[kind, name])[len(times[kind, name]) // 2]
                lines.append([name, milliseconds(times[kind, name]), f"{median / best:.1f}x"])
            lines.insert(1, ["Forebay, warm, nothing beside it", milliseconds(calm[kind]), ""])
            table(
                f"Ten cells, {kind}: ms from submit to the end, median (min-max)",
                ["runner", "ms", "ratio"],
                lines,
                f"n = {options.rounds}, {where}; as recorded by the server: {milliseconds(group['Forebay, warm'].inside)} ms",
            )
        print(f"\nserver memory after {options.rounds * 4 + options.warm_rounds * 2} runs: {memory(running.process.pid) >> 20} MiB")


if __name__ == "__main__":
    main()
