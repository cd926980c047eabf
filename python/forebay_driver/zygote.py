"""The parent of runs: imports once, forks often, and never executes a line of the user's."""

import gc
import importlib
import json
import os
import signal
import socket
import sys

from . import confine

_REQUEST_BYTES_MAX = 128 * 1024
_FDS_MAX = 16


def main():
    settings = json.loads(sys.argv[1])
    control = socket.socket(fileno=settings["control_fd"])
    pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY) if settings["sandbox"] else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Children report to the server themselves, so the kernel may reap them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if settings["preload"]:
        _warm(settings["preload"])
    control.send(b"ready")
    while True:
        message, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, _FDS_MAX)
        if not message:
            os._exit(0)
        if _fork(pid_namespace) == 0:
            control.close()
            if pid_namespace is not None:
                os.close(pid_namespace)
            from . import init

            init.serve(json.loads(message), fds)
        for fd in fds:
            os.close(fd)


def _warm(names):
    from . import init, program, session, shell, worker  # noqa: F401 - some for the children.

    worker.place_fonts()
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"preload of {name} failed: {error!r}", file=sys.stderr)
    # The first cell of a shell costs about 90 ms of imports inside IPython.
    shell.warm()
    gc.collect()
    gc.freeze()


def _fork(pid_namespace):
    """Forks a child that is pid 1 of a new namespace, and comes back out of it."""
    if pid_namespace is None:
        return os.fork()
    confine.unshare(confine.CLONE_NEWPID)
    try:
        pid = os.fork()
    except BaseException:
        confine.setns(pid_namespace, confine.CLONE_NEWPID)
        raise
    if pid:
        confine.setns(pid_namespace, confine.CLONE_NEWPID)
    return pid
