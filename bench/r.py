"""How long one R notebook of ten trivial cells takes, from submit to its terminal state, and what Rscript and papermill take for the same.

Rounds are interleaved, so that noise of the machine meets every row.
"""

import argparse
import json
import os
import statistics
import sys

import nbformat
from common import folder, machine, milliseconds, server, table, timed
from notebook import Command, Forebay

CELLS = [
    "x <- 1",
    "y <- (0:99)^2",
    "cat('third', sum(y), '\\n')",
    "x + 1",
    "text <- strrep('a', 10)",
    "toupper(text)",
    "data <- list(a = 1, b = 2)",
    "print(data)",
    "sort(names(data))",
    "z <- x + nchar(text)\nz",
]
SOURCE = "# Databricks notebook source\n" + "\n\n# COMMAND ----------\n\n".join(CELLS) + "\n"


class ForebayR(Forebay):
    """As `Forebay`, with a notebook in R."""

    def __init__(self, running, name, **cluster):
        super().__init__(running, name, SOURCE, **cluster)
        self.api.notebook(self.path, SOURCE, language="R")


def papermill(path):
    """With IRkernel, whose kernel specification is made for this run alone."""
    spec = path / "jupyter" / "kernels" / "ir"
    spec.mkdir(parents=True)
    argv = ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "R", "language": "R"}))
    os.environ["JUPYTER_PATH"] = str(path / "jupyter")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    nbformat.write(notebook, path / "bench.ipynb")
    return Command(sys.executable, "-m", "papermill", "--no-progress-bar", "-k", "ir", path / "bench.ipynb", path / "out.ipynb")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warm-rounds", type=int, default=30, help="extra rounds of the warm row alone")
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        script = path / "bench.R"
        script.write_text("\n".join(CELLS))
        rows = {
            "Forebay, warm": ForebayR(running, "r"),
            "Forebay, new process": ForebayR(running, "r_cold", spark_conf={"forebay.warm": "false"}),
            "papermill and IRkernel": papermill(path),
            "Rscript": Command("Rscript", "--vanilla", script),
        }
        for _ in range(2):
            for action in rows.values():
                action()  # the first one builds, compiles and warms up
        times = {name: [] for name in rows}
        for _ in range(options.rounds):
            for name, action in rows.items():
                times[name].append(timed(action)[0])
        alone = [timed(rows["Forebay, warm"])[0] for _ in range(options.warm_rounds)]
        best = statistics.median(times["Forebay, warm"])
        lines = [[name, milliseconds(taken), f"{statistics.median(taken) / best:.1f}x"] for name, taken in times.items()]
        lines.insert(1, ["Forebay, warm, nothing beside it", milliseconds(alone), ""])
        inside = ", ".join(f"{name}: {milliseconds(rows[name].inside)}" for name in list(rows)[:2])
        table(
            "An R notebook of ten cells: ms from submit to the end, median (min-max)",
            ["runner", "ms", "ratio"],
            lines,
            f"n = {options.rounds}, {where}; as recorded by the server: {inside} ms",
        )


if __name__ == "__main__":
    main()
