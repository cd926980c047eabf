"""The output of a process beside the driver, passed on as it comes; its end is kept for an error."""

import collections
import os
import threading

_REST_BYTES_MAX = 4096


class Pump(threading.Thread):
    """From the file `source` to the descriptor `fd`. Keeps the last `lines` lines."""

    def __init__(self, source, fd, lines=40):
        super().__init__(daemon=True)
        self._source = source.fileno()
        self._keep = source
        self.fd = fd
        self._last = collections.deque(maxlen=lines)
        self._rest = b""
        self.start()

    def run(self):
        while data := os.read(self._source, 65536):
            self.take(data)

    def take(self, data):
        left = memoryview(data)
        while left:
            left = left[os.write(self.fd, left) :]
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._last.extend(lines)
        # Without an end of line it could be of any length.
        self._rest = self._rest[-_REST_BYTES_MAX:]

    def tail(self):
        return [line.decode("utf-8", "replace") for line in (*self._last, self._rest) if line]
