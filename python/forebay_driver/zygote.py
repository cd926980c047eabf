"""The parent of runs: imports once, forks often, and never executes a line of the user's."""

import gc
import importlib
import json
import os
import select
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
        _wait(control, settings["idle_seconds"])
        message, fds, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, _FDS_MAX)
        if not message:
            os._exit(0)
        try:
            child = _fork(pid_namespace)
        except OSError as error:
            # No processes or no memory left for now. All runs of this parent would die with it;
            # this one run ends by its descriptors being closed, which the server sees.
            print(f"cannot fork a run: {error}", file=sys.stderr, flush=True)
            child = None
        if child == 0:
            control.close()
            if pid_namespace is not None:
                os.close(pid_namespace)
            from . import init

            init.serve(json.loads(message), fds)
        for fd in fds:
            os.close(fd)


def _wait(control, idle_seconds):
    """Until something comes. Nobody misses a parent that had neither requests nor runs for so
    long; a request that comes just then is given to another one by the server."""
    while not select.select([control], [], [], idle_seconds)[0]:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            os._exit(0)


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
        _come_back(pid_namespace)
        raise
    if pid:
        _come_back(pid_namespace)
    return pid


def _come_back(pid_namespace):
    try:
        confine.setns(pid_namespace, confine.CLONE_NEWPID)
    except OSError as error:
        # No later fork could succeed, so this must not pass for a lack of memory.
        raise RuntimeError(f"cannot leave the namespace of a run: {error}") from error
