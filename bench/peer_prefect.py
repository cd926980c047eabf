"""The same work for Prefect, in the environment of the peers: prints {"seconds", "cpu"} as JSON.

    python peer_prefect.py chain 40    40 tasks one after the other, in one flow
    python peer_prefect.py runs 20     20 flows of one task, one after the other

Its tasks are functions in the flow's own process, with no process and no walls of their own.
"""

import json
import resource
import sys
import time

from prefect import flow, task


@task
def step(number):
    return number + 1


@flow
def chain(count):
    number = 0
    for _ in range(count):
        number = step(number)
    return number


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    kind, count = sys.argv[1], int(sys.argv[2])
    chain(1)  # starts the server and imports what is imported late
    before, started = cpu(), time.perf_counter()
    if kind == "chain":
        assert chain(count) == count
    else:
        for _ in range(count):
            chain(1)
    print(json.dumps({"seconds": time.perf_counter() - started, "cpu": cpu() - before}))


if __name__ == "__main__":
    main()
