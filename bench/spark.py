"""How long a fresh run takes to its first Spark result, with no engine running, and the same from an engine that is used directly.

The times are those of the cell, as the executed notebook has them, and of the whole run.
"""

import argparse

from common import folder, machine, milliseconds, new_cluster, server, succeeded, table, timed, until_ended

FIRST = ["spark.range(1000).selectExpr('sum(id)').collect()[0][0]"]


class Notebook:
    def __init__(self, running, name, cells, **cluster):
        self.api, self.path = running.api(), f"/Shared/bench/spark_{name}"
        self.cluster_id = new_cluster(self.api, **cluster)
        self.api.notebook(self.path, cells)
        self.whole = []

    def __call__(self):
        seconds, run = timed(lambda: until_ended(self.api, self.api.submit(self.path, self.cluster_id)))
        succeeded(self.api, run)
        self.whole.append(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    where = machine()
    with folder() as path, server(path) as running:
        rows = {"Forebay, sail": Notebook(running, "first", FIRST)}
        for _ in range(2):
            for row in rows.values():
                row()
                row.whole.clear()
        for _ in range(options.rounds):
            for row in rows.values():
                row()
        table("First Spark result of a fresh run", ["", "submit to end, ms"], [[name, milliseconds(row.whole)] for name, row in rows.items()], where)


if __name__ == "__main__":
    main()
