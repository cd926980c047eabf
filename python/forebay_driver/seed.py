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


def start(control):
    """A socket that answers each byte with the number of a new first process, or with 0."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        control.close()
        ours.close()
        _serve(theirs)
    theirs.close()
    ours.settimeout(_PATIENCE_SECONDS)
    return ours


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
