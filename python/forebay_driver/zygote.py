"""The parent of runs: imports once, forks often, and never executes a line of the user's.

Behind walls it also watches its children; without them there is an `init` in between.

    {"do": "prepare", "name": ..., ...}  asks for a child, which goes behind its walls and waits;
                                         with the files of its cgroups
    {"do": "run", "name": ..., "private": ...}  gives that child its run, with the descriptors of
                                         `child.begin`, and the run's own folder in the private mounts
    {"do": "warm", "name": ..., "job": ...}  has that child start a JVM for the run to come
    {"do": "cool", "name": ...}          has it end that JVM
    {"do": "leave", "name": ...}         ends that child: it is not wanted
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading

from . import child, confine, r_embedded, seed, status, worker
from .walls import Walls


def main():
    settings = json.loads(sys.argv[1])
    control = socket.socket(fileno=settings["control_fd"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before anything else is imported: it stays as small as this.
    seeds = seed.Maker(control) if settings["sandbox"] else None
    if settings["sandbox"]:
        confine.drop_bounding_set()
    if settings["warm"] == "notebooks":
        _warm_for_notebooks(settings["preload"])
    elif settings["warm"] == "r":
        _warm_for_notebooks([])
        r_embedded.load()
    elif settings["warm"]:
        _warm_for_programs()
    # What all runs have alike, so that each has little to change.
    os.environ.update(settings["env"])
    worker.announce()
    # A child switches it on again; a collection here would only unshare memory.
    gc.disable()
    gc.collect()
    gc.freeze()
    control.send(b"ready")
    is_plain = settings["warm"] == "programs" and threading.active_count() == 1
    Zygote(control, seeds, settings["idle_seconds"], is_plain).serve()


_FD_MAX = 2**31 - 1

# What most scripts import.
_USUAL = ("argparse", "collections", "datetime", "functools", "json", "logging", "pathlib", "re", "typing")


def _warm_for_programs():
    from . import program  # noqa: F401 - for the children.

    for name in _USUAL:
        importlib.import_module(name)


def _warm_for_notebooks(names):
    _warm_for_programs()
    from . import session, shell  # noqa: F401 - one for the children.

    # Spark's client takes a program without a file or a prompt for a test.
    sys.modules["__main__"].__file__ = "forebay"
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"preload of {name} failed: {error!r}", file=sys.stderr)
    # The first cell of a shell costs about 90 ms of imports inside IPython.
    shell.warm()


def _open_files():
    found = {int(name) for name in os.listdir("/proc/self/fd")}
    # The listing itself was one of them.
    return {fd for fd in found if os.path.exists(f"/proc/self/fd/{fd}")}


class _Child:
    """A forked child, which waits at its `door` for a run. `first` is a pidfd of the first process
    in its namespace; `server` is the status connection of the run it was given. Without a
    namespace it has neither: its `init` talks to the server itself."""

    def __init__(self, name, door, first):
        self.name = name
        self.pid = None
        self.door = door
        # Readable when it is behind its walls, or gone.
        self.settled = None
        self.private_mounts = ()
        self.first = first
        # A pidfd.
        self.end_of_worker = None
        self.server = None
        self.ended = False
        # The server said or showed that it is over: it wants no report.
        self.silent = False

    def end(self):
        """Ends what is left of it; the kernel does not forget anybody."""
        if self.first is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.first, signal.SIGKILL)

    def close(self):
        for connection in (self.door, self.server):
            if connection is not None:
                connection.close()
        for fd in (self.first, self.settled, self.end_of_worker):
            if fd is not None:
                os.close(fd)


class Zygote:
    def __init__(self, control, seeds, idle_seconds, is_plain):
        """`is_plain`: whether `confine.fork` does for this process."""
        self.control = control
        self.seeds = seeds
        self.is_plain = is_plain
        self.idle_ms = idle_seconds * 1000
        # Of packages that it has imported, and the standard streams.
        self.inherited = _open_files() - {control.fileno(), *(seeds.files() if seeds else ())}
        self.own = os.open("/proc/self/ns/pid", os.O_RDONLY) if seeds else None
        self.mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY) if seeds else None
        # Of the last child, and what it was made for.
        self.walls = self.kind = None
        self.children = set()
        # By name, those that have no run yet.
        self.waiting = {}
        self.poll = select.poll()
        self.actions = {}
        self._watch(self.control.fileno(), self._request)
        if seeds:
            self._watch(seeds.end, self._without_seeds)

    def serve(self):
        while True:
            ready = self.poll.poll(self._patience())
            for fd, _ in ready:
                # One before it may have done away with this one.
                if action := self.actions.get(fd):
                    action()
            if not ready:
                # Nobody misses a parent that had neither requests nor runs for so long; a request
                # that comes just then is given to another one by the server.
                os._exit(0)

    def _patience(self):
        return self.idle_ms if len(self.children) == len(self.waiting) else None

    def _watch(self, fd, action):
        self.poll.register(fd, select.POLLIN)
        self.actions[fd] = action

    def _unwatch(self, fd):
        if self.actions.pop(fd, None):
            self.poll.unregister(fd)

    # -- requests

    def _request(self):
        message, fds, _, _ = child.receive(self.control)
        if not message:
            os._exit(0)
        request = json.loads(message)
        try:
            if request["do"] == "prepare":
                self._prepare(request, fds)
            elif request["do"] in ("warm", "cool"):
                if given := self.waiting.get(request["name"]):
                    words = [request["do"], *([json.dumps(request["job"])] if "job" in request else [])]
                    given.door.send(" ".join(words).encode())
            elif given := self.waiting.pop(request["name"], None):
                self._give(given, fds, request.get("private"))
        except OSError as error:
            # No processes or no memory left for now. All runs of this parent would die with it;
            # this one run ends by its descriptors being closed, which the server sees.
            print(f"cannot prepare or begin a run: {error}", file=sys.stderr, flush=True)
        for fd in fds:
            os.close(fd)

    def _give(self, given, fds, private):
        """Its run to a child that waits; without descriptors it learns that there is none."""
        with contextlib.closing(given.door):
            if fds:
                if private and given.first is not None:
                    self._show(given, private)
                socket.send_fds(given.door, [b"run"], fds)
        given.door = None
        if not fds or given.first is None:
            return
        # The fourth is the status connection: see `child.begin`.
        given.server = socket.socket(fileno=os.dup(fds[3]))
        self._watch(given.server.fileno(), lambda: self._command(given))
        self._watch(given.first, lambda: self._gone(given))

    def _show(self, given, private):
        """Mounts the run's own folders into the walls of a child that was made before they were there."""
        # A moment at most: it was made before its run came.
        os.read(given.settled, 1)
        trees = [(path, confine.open_tree(f"{path}/{private}")) for path in given.private_mounts]
        inside = os.open(f"/proc/{given.pid}/ns/mnt", os.O_RDONLY)
        try:
            confine.setns(inside, confine.CLONE_NEWNS)
            try:
                for path, tree in trees:
                    confine.move_mount(tree, path)
            finally:
                self._return(self.mounts, confine.CLONE_NEWNS)
        finally:
            for fd in (inside, *(tree for _, tree in trees)):
                os.close(fd)

    def _command(self, given):
        if status.command(given.server) == b"int":
            if not given.ended:
                os.kill(given.pid, signal.SIGINT)
            return
        given.silent = True
        self._unwatch(given.server.fileno())
        given.end()

    # -- children

    def _prepare(self, request, groups):
        self._plan(request)
        first = self._first()
        door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = _Child(request["name"], door, first)
        given.settled, settled = os.pipe()
        given.private_mounts = request.get("private_mounts", ())
        try:
            if first is not None:
                confine.setns(first, confine.CLONE_NEWPID)
            given.pid = confine.fork() if self.is_plain else os.fork()
            if given.pid:
                given.end_of_worker = os.pidfd_open(given.pid)
        except OSError:
            self._come_back(first)
            given.end()
            given.close()
            os.close(settled)
            if given.pid:
                # Its door is closed, and without a burial its namespace would stay.
                os.waitpid(given.pid, 0)
            raise
        if given.pid == 0:
            try:
                self._forget(theirs.fileno(), settled, *groups)
                child.serve(theirs, request, self.walls, groups, first is not None, settled)
            finally:
                os._exit(1)
        self._come_back(first)
        theirs.close()
        os.close(settled)
        self._watch(given.end_of_worker, lambda: self._ended(given))
        self.children.add(given)
        self.waiting[given.name] = given

    def _plan(self, request):
        """Prepares the walls for runs of this kind, if the last one was of another."""
        kind = {key: value for key, value in request.items() if key not in ("name", "folder", "private")}
        if kind != self.kind:
            self.walls, self.kind = Walls(kind), kind

    def _first(self):
        return os.pidfd_open(self.seeds.first_process()) if self.seeds else None

    def _come_back(self, first):
        if first is not None:
            self._return(self.own, confine.CLONE_NEWPID)

    @staticmethod
    def _return(own, kind):
        try:
            confine.setns(own, kind)
        except OSError as error:
            # No later fork could succeed, so this must not pass for a lack of memory.
            raise RuntimeError(f"cannot leave the namespace of a run: {error}") from error

    def _forget(self, *own):
        """In a child: closes everything that is the parent's or another run's, but not `own`. What
        these were known by stays as it is, below on the stack, and nobody uses it any more."""
        first = 0
        for fd in sorted(self.inherited.union(own)):
            # Nothing between two of them would mean everything to the kernel.
            if first < fd:
                os.closerange(first, fd)
            first = fd + 1
        os.closerange(first, _FD_MAX)

    def _without_seeds(self):
        print("the maker of first processes ended", file=sys.stderr, flush=True)
        os._exit(1)

    def _ended(self, given):
        _, code, usage = os.wait4(given.pid, 0)
        self._unwatch(given.end_of_worker)
        given.ended = True
        if given.server is None:
            self._bury(given)
            return
        if not given.silent:
            status.report(given.server.fileno(), status.ended(code, usage))
        given.end()

    def _gone(self, given):
        """Its first process has ended, and before that everything else in its namespace."""
        self._unwatch(given.first)
        self._unwatch(given.server.fileno())
        self._bury(given)

    def _bury(self, given):
        given.end()
        given.close()
        self.children.remove(given)
        self.waiting.pop(given.name, None)
