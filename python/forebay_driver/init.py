"""Without namespaces: a process between parent and worker that finds what the worker started.

Processes whose own parent is gone come to it, as their subreaper, and it ends them. In a namespace
the kernel does that; see `seed`.
"""

import os
import select
import signal
import socket

from . import child, confine, status


def serve(run, walls, groups, fds):
    """Does not return. `groups` as for `child.serve`, `fds` as for `child.begin`."""
    server = socket.socket(fileno=fds[3])
    try:
        confine.become_subreaper()
        wakeup = status.wake_on_child()
        worker = os.fork()
    except BaseException as error:
        status.report(server.fileno(), {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    if worker == 0:
        status.sleep_on_child(wakeup)
        server.detach()
        child.settle_and_begin(run, walls, groups, fds)
    for fd in [*fds[:3], *groups]:
        os.close(fd)
    report = _watch(server, worker, wakeup[0])
    _kill_descendants()
    if report:
        status.report(server.fileno(), report)
    os._exit(0)


def _watch(server, worker, wakeup):
    """The worker's end as a report, or `None` when the server said or showed that it is over."""
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    while True:
        report = _reap(worker)
        if report:
            return report
        for fd, _ in poll.poll():
            if fd == wakeup:
                os.read(wakeup, 512)
            elif status.command(server) == b"int":
                os.kill(worker, signal.SIGINT)
            else:
                os.kill(worker, signal.SIGKILL)
                return None


def _reap(worker):
    while True:
        pid, code, usage = os.wait4(-1, os.WNOHANG)
        if pid == worker:
            return status.ended(code, usage)
        if pid == 0:
            return None


def _kill_descendants():
    """Orphans come to us, generation by generation."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os.wait()
        except (ChildProcessError, ProcessLookupError):
            return
