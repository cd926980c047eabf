"""The maker of first processes: each run has a process namespace, and each namespace needs one.

A first process only has to be there. When it goes, the kernel ends everything in its namespace,
and until then it takes in orphans. It never runs any Python, so it has no memory of its own
either: it waits in that of its maker, a process apart which has imported next to nothing.
"""

import os
import signal
import socket

from . import confine

# The maker answers at once, or there is something wrong with it.
_PATIENCE_SECONDS = 10


class Maker:
    """The process apart. `end`: a pidfd of it."""

    def __init__(self, control):
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            control.close()
            self._requests.close()
            _serve(theirs)
        self.end = os.pidfd_open(pid)
        theirs.close()
        self._requests.settimeout(_PATIENCE_SECONDS)

    def files(self):
        return self._requests.fileno(), self.end

    def first_process(self):
        """The number of a new one."""
        self._requests.send(b"1")
        pid = int(self._requests.recv(64) or 0)
        if not pid:
            raise OSError("no process could be made for its namespace")
        return pid


def _serve(requests):
    # The first processes report to nobody, and inherit that their own children need no burial.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while requests.recv(1):
        try:
            pid = confine.first_process()
        except OSError:
            # No processes or no memory left for now.
            pid = 0
        requests.send(str(pid).encode())
    os._exit(0)
