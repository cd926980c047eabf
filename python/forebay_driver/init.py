"""The first process of a run: builds the walls, starts the worker, watches it, buries it.

It is pid 1 of the run's namespace, so that the kernel ends everything the program started when it
goes. It talks to the server over the status socket: `int` and `kill` come in, one report goes out.
"""

import contextlib
import json
import os
import select
import signal
import socket
import sys
import traceback

from . import confine


def serve(run, fds):
    """Does not return. `fds`: channel, standard output, standard error, status, cgroup files."""
    channel, out, err, status_fd, *cgroups = fds
    status = socket.socket(fileno=status_fd)
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for fd in cgroups:
            os.write(fd, b"0")
            os.close(fd)
        if run["sandbox"]:
            confine.enter_run(run)
        else:
            confine.become_subreaper()
        confine.give_up_privileges(run)
        wakeup = _wake_on_child()
        worker = os.fork()
    except BaseException as error:
        _report(status, {"error": f"{type(error).__name__}: {error}"})
        os._exit(1)
    if worker == 0:
        _become_worker(run, channel, out, err, status, wakeup)
    # Until this the server may count the run as not begun.
    _report(status, {"begun": True})
    for fd in (channel, out, err):
        os.close(fd)
    report = _watch(status, worker, wakeup[0])
    if not run["sandbox"]:
        _kill_descendants()
    if report:
        _report(status, report)
    os._exit(0)


def _wake_on_child():
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader, writer


def _watch(status, worker, wakeup):
    """The worker's end as a report, or `None` when the server said or showed that it is over."""
    poll = select.poll()
    poll.register(status, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    while True:
        report = _reap(worker)
        if report:
            return report
        for fd, _ in poll.poll():
            if fd == wakeup:
                os.read(wakeup, 512)
                continue
            command = status.recv(64)
            if command == b"int":
                os.kill(worker, signal.SIGINT)
            else:
                os.kill(worker, signal.SIGKILL)
                return None


def _reap(worker):
    while True:
        try:
            pid, code, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == worker:
            return {
                "exit": os.WEXITSTATUS(code) if os.WIFEXITED(code) else None,
                "signal": os.WTERMSIG(code) if os.WIFSIGNALED(code) else None,
                "cpu_ms": round((usage.ru_utime + usage.ru_stime) * 1000),
                "memory_peak_bytes": usage.ru_maxrss * 1024,
                "read_bytes": usage.ru_inblock * 512,
                "write_bytes": usage.ru_oublock * 512,
            }


def _kill_descendants():
    """Without a pid namespace: orphans come to us as their subreaper, generation by generation."""
    while True:
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = [int(pid) for pid in file.read().split()]
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            os.wait()
        except (ChildProcessError, ProcessLookupError):
            return


def _report(status, report):
    # When the server is gone there is nobody to tell.
    with contextlib.suppress(OSError):
        status.send(json.dumps(report).encode())


def _become_worker(run, channel, out, err, status, wakeup):
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Until the worker has a handler of its own, an interrupt simply ends it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status.close()
        for fd in wakeup:
            os.close(fd)
        os.setpgid(0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
            os.close(source)
        from . import worker

        code = worker.serve(run, channel)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    os._exit(code)
