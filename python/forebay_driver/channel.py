"""Frames between a worker and the server: 4 bytes of length (big endian), then JSON.

One frame comes in first (the run), then only answers to calls, also in a context: it asks for its cells. Everything that goes out is
written under one lock, whole, so threads never mix frames and an interrupt never cuts one.
"""

import base64
import io
import json
import os
import signal
import socket
import struct
import threading

# The server takes more for an attack; see FRAME_BYTES_MAX in frame.rs.
_FRAME_BYTES_MAX = 41 << 20
# Of text in one frame; JSON needs up to six bytes for a character.
_TEXT_CHARS_MAX = 1 << 20


# A little more than the server keeps: it hides secrets first, and a cut must not halve one.
_MESSAGE_CHARS_MAX = 128 << 10
_TRACE_CHARS_MAX = (1 << 20) + (64 << 10)
_EXIT_CHARS_MAX = (5 << 20) + (64 << 10)


class FrameTooLarge(ValueError):
    """Something that no frame can hold."""


class HostError(Exception):
    """A refusal of the server; subclasses carry the name that the server gave."""


class Channel:
    def __init__(self, fd, calls=0):
        """`calls`: how many an interpreter made that this one replaces. Their answers may still come."""
        self.socket = socket.socket(fileno=fd)
        self.cell = 0
        self.cell_limit = None
        self._cell_bytes = 0
        self._write = threading.Lock()
        self._later = b""
        self._sending = None
        self._interrupted = False
        self.was_interrupted = False
        self.calls = calls
        self._answers = {}
        self._waiting = threading.Condition()
        self._reading = False
        self._taking = threading.Lock()

    # -- sending

    def send(self, kind, **fields):
        """Puts one frame on the wire; `cell` is added."""
        frame = self._frame(kind, fields)
        with self._write:
            self._sending = threading.get_ident()
            try:
                later, self._later = self._later, b""
                self.socket.sendall(later + frame)
            finally:
                self._sending = None
        if self._interrupted and threading.current_thread() is threading.main_thread():
            self._interrupted = False
            raise KeyboardInterrupt

    def send_later(self, kind, **fields):
        """Like `send`, together with the next frame, which must be about to come: waking the
        server costs more than telling it."""
        frame = self._frame(kind, fields)
        with self._write:
            self._later += frame

    def flush(self):
        """Sends what was to come with a next frame that does not come."""
        with self._write:
            later, self._later = self._later, b""
            self.socket.sendall(later)

    def _frame(self, kind, fields):
        fields.update(t=kind, cell=self.cell)
        frame = _encode(fields)
        if len(frame) > _FRAME_BYTES_MAX:
            raise FrameTooLarge(f"{len(frame)} bytes for the server are more than {_FRAME_BYTES_MAX}")
        return struct.pack(">I", len(frame)) + frame

    def begin_cell(self, cell, later=False):
        """`later`: for one that writes nothing to the pipes, or whose first frame follows at once."""
        self.cell = cell
        self._cell_bytes = 0
        if cell == 0 and not later:
            return self.send("start")
        self.send_later("start")
        if not later:
            # What comes out of the pipes is that of the cell of which the server knows: it must know of this one
            # before a process of it can write.
            self.call("sync")

    def output(self, kind, size, **fields):
        """Like `send`, for what counts as output: beyond the limit the server would drop it too,
        so it is not sent. The piece that crosses the limit is, and makes the server say so."""
        if self.cell_limit is not None and self._cell_bytes > self.cell_limit:
            return
        self._cell_bytes += size
        try:
            self.send(kind, **fields)
        except FrameTooLarge as error:
            notice = f"\n[output left out: {error}]\n"
            self.send("stream", name="stderr", text=notice)

    def text(self, name, text):
        """A piece of a stream, in frames of bounded size."""
        for start in range(0, len(text), _TEXT_CHARS_MAX):
            piece = text[start : start + _TEXT_CHARS_MAX]
            self.output("stream", len(piece), name=name, text=piece)

    def bundle(self, kind, data, metadata, **fields):
        data = {mime: _jsonable(value) for mime, value in data.items()}
        size = sum(len(v) if isinstance(v, str) else 1024 for v in data.values())
        self.output(kind, size, data=data, metadata=metadata or {}, **fields)

    def error(self, ename, evalue, traceback):
        """An exception of the program; of a traceback without end the last lines count."""
        kept, room = [], _TRACE_CHARS_MAX
        for line in reversed(traceback):
            room -= len(line)
            if room < 0:
                break
            kept.append(line)
        kept.reverse()
        self.send("error", ename=ename, evalue=evalue[:_MESSAGE_CHARS_MAX], traceback=kept)

    def done(self, ok, exit_value=None, ename="", message="", trace="", packages=False):
        """The verdict, the last frame. `packages`: whether what the runtime brings was imported."""
        self.send(
            "done",
            interrupted=self.was_interrupted,
            ok=ok,
            exit_value=exit_value and exit_value[:_EXIT_CHARS_MAX],
            ename=ename,
            message=message[:_MESSAGE_CHARS_MAX],
            trace=trace[-_TRACE_CHARS_MAX:],
            packages=packages,
        )

    def on_interrupt(self, *_):
        """The handler for SIGINT: a frame under way is finished first."""
        self.was_interrupted = True
        if self._sending == threading.main_thread().ident:
            self._interrupted = True
        else:
            raise KeyboardInterrupt

    # -- receiving

    def receive(self):
        (length,) = struct.unpack(">I", self._exactly(4))
        return json.loads(self._exactly(length))

    def _exactly(self, length):
        parts = []
        while length:
            part = self.socket.recv(min(length, 1 << 20))
            if not part:
                raise EOFError("the server closed the channel")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def call(self, method, **args):
        """Asks the server and waits. Threads may call side by side: whoever finds nobody reading
        reads for all."""
        with self._waiting:
            self.calls += 1
            number = self.calls
        self.send("call", id=number, method=method, args=args)
        while True:
            with self._waiting:
                if number in self._answers:
                    answer = self._answers.pop(number)
                    break
                if self._reading:
                    self._waiting.wait()
                    continue
                self._reading = True
            self._read_one()
        if "error" in answer:
            raise _exception(answer["error"])
        return answer["ok"]

    def _read_one(self):
        answer = None
        try:
            answer = self._receive_uninterrupted()
        finally:
            with self._waiting:
                if answer is not None:
                    self._answers[answer["id"]] = answer
                self._reading = False
                self._waiting.notify_all()

    def leave(self):
        """Before another interpreter takes the socket over: no thread is in the middle of a frame then."""
        self.flush()
        self._taking.acquire()

    def _receive_uninterrupted(self):
        """Waits interruptibly for an answer to begin, then reads all of it."""
        self.socket.recv(1, socket.MSG_PEEK)
        if threading.current_thread() is not threading.main_thread():
            with self._taking:
                return self.receive()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self.receive()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _encode(fields):
    try:
        text = json.dumps(fields, ensure_ascii=False, allow_nan=False, default=repr)
    except ValueError:
        # NaN and infinity are not JSON; show them as Python does.
        text = json.dumps(_finite(fields), ensure_ascii=False, default=repr)
    # A lone surrogate (from undecodable bytes) has no place in UTF-8 nor in JSON.
    return text.encode("utf-8", "replace")


def _finite(value):
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return repr(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _jsonable(value):
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _exception(error):
    kind = error["kind"]
    builtin = getattr(__import__("builtins"), kind, None)
    if isinstance(builtin, type) and issubclass(builtin, Exception):
        return builtin(error["message"])
    return type(kind, (HostError,), {"__module__": "forebay"})(error["message"])


class Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`: whole lines become frames at once, the rest at `flush`."""

    encoding = "utf-8"
    errors = "replace"
    _HELD_MAX = 8192

    def __init__(self, channel, name, fd):
        self._channel = channel
        self._name = name
        self._fd = fd
        self._held = []
        self._held_size = 0
        self._owner = os.getpid()
        self._lock = threading.RLock()

    @property
    def name(self):
        return f"<{self._name}>"

    @property
    def buffer(self):
        self.flush()
        return io.FileIO(self._fd, "wb", closefd=False)

    def fileno(self):
        return self._fd

    def isatty(self):
        return False

    def readable(self):
        return False

    def writable(self):
        return True

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if os.getpid() != self._owner:
            # A forked child has no channel of its own: its output takes the pipe.
            data = text.encode("utf-8", "replace")
            while data:
                data = data[os.write(self._fd, data) :]
            return len(text)
        with self._lock:
            self._held.append(text)
            self._held_size += len(text)
            if "\n" in text or self._held_size > self._HELD_MAX:
                self.flush()
        return len(text)

    def flush(self):
        if os.getpid() != self._owner:
            return
        with self._lock:
            text = "".join(self._held)
            self._held.clear()
            self._held_size = 0
            if text:
                self._channel.text(self._name, text)
