"""Waiting for something to become true, with an error that says what was still wrong."""

import time


def until(what, check, timeout=30.0, interval=0.05):
    """Calls `check` until it returns something true and returns that; fails with the last answer or error."""
    deadline = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = check()
            if last:
                return last
        except Exception as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"still waiting after {timeout} s for {what}; last seen: {last!r}")
        time.sleep(interval)
