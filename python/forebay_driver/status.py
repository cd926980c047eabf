"""What whoever watches a worker and the server say to each other, one JSON object a packet.

`int` and `kill` come in. Out goes how the worker ended; that nothing of the run is left shows by
the end of the connection.
"""

import contextlib
import json
import os
import signal


def report(server, message):
    """`server`: the descriptor of its connection."""
    # When the server is gone there is nobody to tell.
    with contextlib.suppress(OSError):
        os.write(server, json.dumps(message).encode())


def command(server):
    """What the server wants; nothing when it is gone, also when it left something unread."""
    try:
        return server.recv(64)
    except OSError:
        return b""


def ended(code, usage):
    """A worker's end as a report, from what `wait4` gives."""
    return {
        "exit": os.WEXITSTATUS(code) if os.WIFEXITED(code) else None,
        "signal": os.WTERMSIG(code) if os.WIFSIGNALED(code) else None,
        "cpu_ms": round((usage.ru_utime + usage.ru_stime) * 1000),
        "memory_peak_bytes": usage.ru_maxrss * 1024,
        "read_bytes": usage.ru_inblock * 512,
        "write_bytes": usage.ru_oublock * 512,
    }


def wake_on_child():
    """A pipe: its first end is readable after children have ended."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def sleep_on_child(wakeup):
    """Takes `wake_on_child` back, in a child that has its own life."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for fd in wakeup:
        os.close(fd)
