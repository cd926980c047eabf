"""A short turn of the crash loop, with a seed of its own each time."""

import random

from crash_loop import CrashLoop


def test_random_kills_lose_nothing_and_record_nothing_twice(own_server):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    summary = CrashLoop(own_server, 40, seed).run()
    print(summary)
    assert sum(summary["results"].values()) == 40
