"""The maker of first processes: each run has a process namespace, and each namespace needs one.

A first process only has to be there. When it goes, the kernel ends everything in its namespace,
and until then it takes in orphans. A fork costs in proportion to the memory of what forks, so
this happens in a process of its own that has imported next to nothing.
"""

import os
import signal
import socket

from . import confine


def start(control):
    """A socket that answers each byte with the number of a new first process, or with 0."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        control.close()
        ours.close()
        _serve(theirs)
    theirs.close()
    return ours


def _serve(requests):
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    # The first processes report to nobody, and inherit that their own children need no burial.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while requests.recv(1):
        pid = 0
        try:
            confine.unshare(confine.CLONE_NEWPID)
            pid = os.fork()
        except OSError:
            # No processes or no memory left for now.
            pass
        else:
            if pid == 0:
                os.close(own)
                requests.close()
                _be_there()
        confine.setns(own, confine.CLONE_NEWPID)
        requests.send(str(pid).encode())
    os._exit(0)


def _be_there():
    while True:
        signal.pause()
