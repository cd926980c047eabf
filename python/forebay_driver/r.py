"""R in a notebook: a process of its own beside the interpreter, with this session as its server.

The half inside R is in the folder `r/`. Both ways go frames of 4 bytes of length (big endian): to R an
expression in R's own syntax, from R one JSON object. What R prints comes through two more pipes, so
that it has its place among the frames.
"""

import base64
import codecs
import contextlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess

from . import r_embedded

_PACKAGE = "r-base-core"
DRIVER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "r")
_FRAME_BYTES_MAX = 64 << 20
_END_SECONDS_MAX = 5
OPTIONS = ("--no-echo", "--no-restore", "--no-save", "--no-init-file")


class RNotInstalled(Exception):
    pass


class RError(Exception):
    """R's own end, against its will or the program's."""


class RKilled(RError):
    """The server looks whether it was for memory, see `verdict.rs`."""


class Failure(Exception):
    """An error in a cell, as R told it."""

    def __init__(self, ename, evalue, traceback):
        super().__init__(evalue)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback


def program(name="R"):
    """Where R is."""
    found = shutil.which(name)
    if found is None:
        raise RNotInstalled(f"R is not installed on this machine: its operator can install the Debian package {_PACKAGE}")
    return found


class Interpreter:
    """One R process, for all R cells of a notebook. `answer(method, args)` gives what R asks for;
    `wants_data`: whether the frames that R displays are wanted as data, too."""

    def __init__(self, channel, answer, kept=None, wants_data=False):
        self._channel = channel
        self._answer = answer
        self._pid, self._requests, self._frames, out, err = kept or _taken(channel)
        for fd in (self._requests, self._frames, out, err):
            os.set_inheritable(fd, False)
        self._streams = {out: _Text(channel, "stdout"), err: _Text(channel, "stderr")}
        self._received = b""
        # Readable when R has ended. Its pipes do not tell: what it started may hold them open.
        self._end = os.pidfd_open(self._pid)
        if not kept:
            self._send({"environment": dict(os.environ), "wants_data": wants_data})

    def keep(self):
        """For an `Interpreter` in the program that replaces this one: see `session.Restart`."""
        self._drain()
        fds = [self._requests, self._frames, *self._streams]
        for fd in fds:
            os.set_inheritable(fd, True)
        return [self._pid, *fds]

    def run(self, source, label, lines_before):
        """Executes a cell. The value of `dbutils.notebook.exit`, if it was called.

        Raises `Failure`, or `RError` when R ends."""
        try:
            # An interrupt may cut a wait, and nothing else: see `_wait`.
            with _interrupts(signal.SIG_BLOCK):
                self._send({"source": source, "label": label, "lines_before": lines_before})
                while (frame := self._next())["t"] != "done":
                    self._send(self._answered(frame))
        except BaseException:
            # Whatever R is doing, nobody waits for it any more.
            self._kill()
            raise
        if not frame["ok"]:
            raise Failure(frame["ename"], frame["evalue"], frame["traceback"])
        return frame.get("exit")

    def is_gone(self):
        return self._pid is None

    def close(self):
        """Lets R end, as it does when nobody talks to it any more: its finalizers may print."""
        if self._pid is None:
            return
        os.close(self._requests)
        select.select([self._end], [], [], _END_SECONDS_MAX)
        self._drain()

    def _kill(self):
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None

    # -- frames

    def _send(self, value):
        body = literal(value).encode("utf-8", "replace")
        data = struct.pack(">I", len(body)) + body
        try:
            while data:
                data = data[os.write(self._requests, data) :]
        except BrokenPipeError:
            self._gone()

    def _next(self):
        while True:
            if len(self._received) >= 4:
                (length,) = struct.unpack(">I", self._received[:4])
                if length > _FRAME_BYTES_MAX:
                    raise RError(f"the cell wrote to the driver's own connection (a frame of {length} bytes)")
                if len(self._received) >= 4 + length:
                    frame = json.loads(self._received[4 : 4 + length])
                    self._received = self._received[4 + length :]
                    self._drain()
                    return frame
            self._wait()

    def _wait(self):
        try:
            with _interrupts(signal.SIG_UNBLOCK):
                ready, _, _ = select.select([self._end, self._frames, *self._streams], [], [])
        except KeyboardInterrupt:
            # It was meant for what runs, and that is R.
            os.kill(self._pid, signal.SIGINT)
        else:
            self._take(ready)

    def _take(self, ready):
        # What it said before is taken first.
        ended = ready == [self._end]
        for fd in ready:
            if fd == self._end:
                continue
            data = os.read(fd, 1 << 16)
            if fd == self._frames:
                self._received += data
                ended = ended or not data
            elif data:
                self._streams[fd].write(data)
            else:
                self._forget(fd)
        if ended:
            self._gone()

    def _forget(self, fd):
        self._streams.pop(fd).close()
        os.close(fd)

    def _drain(self):
        """What was printed before a frame was sent is in the pipes by now."""
        while self._streams:
            ready, _, _ = select.select([*self._streams], [], [], 0)
            if not ready:
                break
            for fd in ready:
                data = os.read(fd, 1 << 16)
                if not data:
                    self._forget(fd)
                else:
                    self._streams[fd].write(data)
        for stream in self._streams.values():
            stream.flush()

    def _gone(self):
        self._drain()
        _, status = os.waitpid(self._pid, 0)
        self._pid = None
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            raise RError(f"R ended by itself, with exit code {code}")
        if -code == signal.SIGKILL:
            raise RKilled("R was killed; the kernel does that when memory runs out")
        raise RError(f"R was ended by signal {-code} ({signal.Signals(-code).name})")

    # -- calls

    def _answered(self, frame):
        try:
            with _interrupts(signal.SIG_UNBLOCK):
                return {"ok": self._answer(frame["method"], frame["args"])}
        except KeyboardInterrupt:
            kind, message = "Interrupt", "the cell was interrupted"
        except Exception as error:
            kind, message = type(error).__name__, str(error)
        return {"error": {"kind": kind, "message": message}}


@contextlib.contextmanager
def _interrupts(how):
    before = signal.pthread_sigmask(how, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# A process that was started before its notebook's session was there.
_early = None


def start_early():
    """While the session of a notebook is still being made; an R that is forked needs no time."""
    global _early
    # Its absence is the error of a cell, and there may be none that is reached.
    if not r_embedded.is_loaded() and shutil.which("R"):
        _early = _start(())


def _taken(channel):
    global _early
    taken, _early = _early, None
    return taken or _start([channel.socket.fileno()])


def _start(others):
    """A new process, and our ends of its pipes: requests, frames, standard output and error."""
    ours, theirs = [], []
    try:
        for outgoing in (True, False, False, False):
            reader, writer = os.pipe()
            ours.append(writer if outgoing else reader)
            theirs.append(reader if outgoing else writer)
        if r_embedded.is_loaded():
            return [r_embedded.fork(*theirs, [*ours, *others]), *ours]
        return [_execute(*theirs), *ours]
    except BaseException:
        for fd in ours:
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)


def _execute(requests, frames, out, err):
    process = subprocess.Popen(
        [program(), *OPTIONS, "-f", f"{DRIVER}/main.R", "--args", DRIVER, str(requests), str(frames)],
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        pass_fds=(requests, frames),
    )
    # Watched and waited for by its number.
    process.returncode = 0
    return process.pid


class _Text:
    """Bytes of a stream as text; what is not UTF-8 shows as a replacement character. Whole lines
    go on at once, the rest with the next frame."""

    _HELD_MAX = 8192

    def __init__(self, channel, name):
        self._channel = channel
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def write(self, data, final=False):
        self._held += self._decoder.decode(data, final)
        end = self._held.rfind("\n") + 1
        if len(self._held) > self._HELD_MAX:
            end = len(self._held)
        self._pass_on(end)

    def flush(self):
        self._pass_on(len(self._held))

    def close(self):
        self.write(b"", True)
        self.flush()

    def _pass_on(self, end):
        if end:
            text, self._held = self._held[:end], self._held[end:]
            self._channel.text(self._name, text)


def literal(value):
    """A JSON value in R's syntax."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return f"{value}L" if abs(value) < 1 << 31 else str(value)
    if isinstance(value, float):
        return {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}.get(repr(value), repr(value))
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        names = ",".join(_quoted(str(key)) for key in value)
        items = ",".join(literal(item) for item in value.values())
        return f"structure(list({items}),names=c({names}))" if value else "list()"
    return f"list({','.join(literal(item) for item in value)})"


def _quoted(text):
    for plain, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\0", "")):
        text = text.replace(plain, escape)
    return f'"{text}"'


def image(path):
    """A plot as what notebooks show."""
    with open(path, "rb") as file:
        return {"image/png": base64.b64encode(file.read()).decode(), "text/plain": "<plot>"}
