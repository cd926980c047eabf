"""The way of a forked child to the user's program: it waits for its run, goes behind its walls,
and becomes its worker.

    {"begun": true} or {"error": text} goes to the server over the status socket.
"""

import gc
import json
import os
import signal
import socket
import sys
import traceback

from . import confine, status

_REQUEST_BYTES_MAX = 128 * 1024
_FDS_MAX = 16


def receive(connection):
    """As `socket.recv_fds`; the descriptors are closed in programs that the run executes."""
    return socket.recv_fds(connection, _REQUEST_BYTES_MAX, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)


def serve(assigned, sandbox):
    """Does not return. The run comes over the socket `assigned`, as the server sent it."""
    try:
        if sandbox:
            # Needs nothing of the run, so a child that was forked ahead has it behind it.
            confine.enter_namespaces()
        message, fds, _, _ = receive(assigned)
        if not message:
            os._exit(0)
        assigned.close()
        run = json.loads(message)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    if sandbox:
        begin(run, fds)
    from . import init

    init.serve(run, fds)


def begin(run, fds):
    """Does not return. `fds`: channel, standard output, standard error, status, cgroup files."""
    channel, out, err, status_fd, *cgroups = fds
    server = socket.socket(fileno=status_fd)
    try:
        os.setsid()
        for fd in cgroups:
            os.write(fd, b"0")
            os.close(fd)
        if run["sandbox"]:
            confine.enter_run(run)
        confine.give_up_privileges(run)
    except BaseException as error:
        status.report(server, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    # Until this the server may count the run as not begun.
    status.report(server, {"begun": True})
    server.close()
    code = 1
    try:
        # Until the worker has a handler of its own, an interrupt simply ends it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
            os.close(source)
        gc.enable()
        from . import worker

        code = worker.serve(run, channel)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    os._exit(code)
