"""The way of a forked child to the user's program: it goes behind its walls, waits for its run,
and becomes its worker.

    {"begun": true} or {"error": text} goes to the server over the status socket.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback

from . import status

_REQUEST_BYTES_MAX = 128 * 1024
_FDS_MAX = 16
# Between two looks at whether a waiting JVM should go on waiting.
_LOOK_SECONDS = 5


def receive(connection):
    """As `socket.recv_fds`; the descriptors are closed in programs that the run executes."""
    return socket.recv_fds(connection, _REQUEST_BYTES_MAX, _FDS_MAX, socket.MSG_CMSG_CLOEXEC)


def serve(door, run, walls, groups, sandbox, settled):
    """Does not return. Prepares itself for any run that is as `run` says, behind the walls for such
    runs, and waits at its `door` for one. `groups`: files of its cgroups. `settled` is closed when it is behind its walls.

    What takes long comes first, because a run is in a hurry: changing groups waits for the kernel
    to be sure that nobody forks just then."""
    problem = None
    if sandbox:
        try:
            walls.enter_namespaces()
            _settle(run, walls, groups)
        except BaseException as error:
            problem = error
    os.close(settled)
    fds = _wait(door)
    door.close()
    if sandbox:
        begin(run, fds, problem)
    from . import init

    init.serve(run, walls, groups, fds)


def _wait(door):
    """Until there is a run: its descriptors. Meanwhile it can be told to have a JVM ready, `warm` and a job, or not to, `cool`."""
    waiting = None
    while True:
        if not select.select([door], [], [], _LOOK_SECONDS if waiting else None)[0]:
            if waiting.is_superfluous():
                waiting = waiting.give_up()
            continue
        message, fds, _, _ = receive(door)
        if not message:
            os._exit(0)
        if message == b"run":
            return fds
        from . import warm_jvm

        try:
            if message == b"cool":
                waiting = warm_jvm.give_up()
            else:
                warm_jvm.order(json.loads(message.removeprefix(b"warm ")))
                waiting = warm_jvm
        except Exception as error:
            # A run that finds none starts its own.
            print(f"no JVM is ready for the next run: {error}", file=sys.stderr, flush=True)


def settle_and_begin(run, walls, groups, fds):
    """Does not return. For a worker without namespaces, whose `init` has waited for its run."""
    problem = None
    try:
        _settle(run, walls, groups)
    except BaseException as error:
        problem = error
    begin(run, fds, problem)


def _settle(run, walls, groups):
    os.setsid()
    for fd in groups:
        os.write(fd, b"0")
        os.close(fd)
    if run["sandbox"]:
        walls.enter_run(run["folder"], run["private"])
    walls.give_up_privileges()


def begin(run, fds, problem):
    """Does not return. `fds`: channel, standard output, standard error, status."""
    channel, out, err, status_fd = fds
    if problem is not None:
        status.report(status_fd, {"error": f"{type(problem).__name__}: {problem}"})
        os._exit(1)
    # Until this the server may count the run as not begun.
    status.report(status_fd, {"begun": True})
    os.close(status_fd)
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
