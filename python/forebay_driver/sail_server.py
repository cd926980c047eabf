"""A Spark server for one run: Sail, and before it a door that only this run's processes find.

Sail listens on a loopback port and asks nobody who they are, and all runs of the machine share the
loopback. So its port takes only packets that are signed with a key (the kernel's TCP signatures),
and only the door has the key; it lets in callers at a Unix socket in the run's own `/tmp`. What was
let in goes on without signatures, which would cost more than all the rest.

Two processes, because what Sail does to the interpreter (Python functions of the user run in it)
must not hold up what passes the door.

    driver ── Unix socket ── door (this process) ── loopback, signed ── Sail (its child)
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import struct
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_TCP_MD5SIG_EXT = 32
_MD5SIG_PREFIX = 1
_TCP_INFO_UNACKED = 24
_KEY_BYTES = 32
_CHUNK = 256 << 10


def main():
    settings = json.loads(sys.argv[1])
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    key = os.urandom(_KEY_BYTES)
    sail = os.fork()
    if sail == 0:
        ours.close()
        _serve(theirs, key, settings)
    theirs.close()
    port = int(ours.recv(64) or 0)
    if not port:
        os.waitpid(sail, 0)
        sys.exit("the engine did not start")
    path = settings["socket"]
    door = socket.socket(socket.AF_UNIX)
    door.bind(path)
    door.listen(64)
    threading.Thread(target=_open, args=(door, ours, port, key), daemon=True).start()
    threading.Thread(target=_end_with_driver, args=(sail,), daemon=True).start()
    os.write(1, b"ready\n")
    os.close(1)
    _, code = os.waitpid(sail, 0)
    print(_obituary(code), file=sys.stderr, flush=True)
    os._exit(1)


def _end_with_driver(sail):
    os.read(0, 1)
    os.kill(sail, signal.SIGKILL)
    os._exit(0)


def _obituary(code):
    if os.WIFSIGNALED(code):
        return f"[the engine was ended by {signal.Signals(os.WTERMSIG(code)).name}]"
    return f"[the engine ended with exit code {os.WEXITSTATUS(code)}]"


# -- Sail


def _serve(door, key, settings):
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Functions of the user find here what they find in the notebook.
    sys.path[:0] = settings["python_path"]
    sys.argv[:] = ["sail"]
    from pysail.spark import SparkConnectServer

    server = SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    port = server.listening_address[1]
    try:
        _demand(_find(lambda found: _listens_on(found, port)), key)
    except OSError as error:
        sys.exit(
            f"this kernel cannot keep other runs away from the engine ({error}): it needs CONFIG_TCP_MD5SIG. "
            'The engine apache does not: set "forebay.engine": "apache" in the spark_conf of the cluster'
        )
    if _has_company(port):
        sys.exit("somebody else connected to the engine before its door was shut")
    door.send(str(port).encode())
    while caller := door.recv(64):
        door.send(b"1" if _stop_signing(("127.0.0.1", int(caller))) else b"0")
    os._exit(0)


def _listens_on(found, port):
    return found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and found.getsockname()[1] == port


def _find(wanted):
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
            if found.family == socket.AF_INET and wanted(found):
                return found
        except OSError:
            continue
    raise OSError("the engine's socket was not found")


def _has_company(port):
    """Whether there is any connection to the port. What is over already shows for a minute."""
    with open("/proc/self/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    ours = f"0100007F:{port:04X}"
    listening = "0A"
    return any(row[3] != listening and ours in row[1:3] for row in rows)


def _stop_signing(caller):
    """For one connection that was let in; whether it worked."""
    try:
        return _sign_no_more(_patiently(lambda: _find(lambda found: found.getpeername() == caller)))
    except OSError:
        return False


# -- signatures


def _demand(connection, key):
    """From now on it takes and sends only what is signed with the key."""
    address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton("127.0.0.0")).ljust(128, b"\0")
    option = address + struct.pack("BBHi80s", _MD5SIG_PREFIX, 8, len(key), 0, key)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG_EXT, option)


def _sign_no_more(connection):
    # What is on its way is signed, and would have to be sent again.
    def quiet():
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)
        if struct.unpack_from("I", info, _TCP_INFO_UNACKED)[0]:
            raise OSError("something is on its way")

    _patiently(quiet)
    _demand(connection, b"")
    return True


def _patiently(action):
    for pause in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.05):
        try:
            return action()
        except OSError:
            time.sleep(pause)
    return action()


# -- the door


def _open(door, sail, port, key):
    while True:
        inner, _ = door.accept()
        try:
            outer = _through(sail, port, key)
        except OSError as error:
            print(f"[the engine takes no connection: {error}]", file=sys.stderr, flush=True)
            inner.close()
            continue
        for pair in ((inner, outer), (outer, inner)):
            threading.Thread(target=_pass_on, args=pair, daemon=True).start()


def _through(sail, port, key):
    outer = socket.socket()
    outer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _demand(outer, key)
    outer.settimeout(10)
    outer.connect(("127.0.0.1", port))
    # The server says its greeting, and then nothing before it has heard one.
    outer.recv(1, socket.MSG_PEEK)
    sail.send(str(outer.getsockname()[1]).encode())
    if sail.recv(1) == b"1":
        _sign_no_more(outer)
    outer.settimeout(None)
    return outer


def _pass_on(source, target):
    buffer = memoryview(bytearray(_CHUNK))
    with contextlib.suppress(OSError):
        while length := source.recv_into(buffer):
            target.sendall(buffer[:length])
    # The other half still passes on what there is.
    for end, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            end.shutdown(how)
