"""The engine `sail`: a private Spark Connect server beside the program, and the client's way to it."""

import json
import os
import subprocess
import sys
import tempfile

from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.session import SparkSession

NAME = "sail"
_FOREVER_S = 10 * 365 * 24 * 3600
_LOG_TAIL_BYTES = 4096
# Of the run's memory; the rest is for its own process and what the engine does not count.
_MEMORY_SHARE = 0.6


class SparkEngineDied(RuntimeError):
    """The engine's process is gone, and with it every table that was only in its memory."""


class Engine:
    """A server of this run alone. It ends with this process."""

    def __init__(self, job):
        folder = os.path.join(job["local_dir"], "spark")
        os.makedirs(folder, exist_ok=True)
        self.log = os.path.join(folder, "engine.log")
        # A path of at most 107 bytes, which the folder of the run may exceed.
        self._socket = os.path.join(tempfile.mkdtemp(prefix="spark-"), "door")
        # A user's module may be anywhere the program found it.
        settings = {"socket": self._socket, "python_path": list(sys.path)}
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        code = f"import sys; sys.path.append({home!r}); from forebay_driver.sail_server import main; main()"
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [job["interpreter"], "-I", "-c", code, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_variables(job, folder)},
                # An interrupt is for the program, which cancels its query.
                start_new_session=True,
            )
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            raise SparkEngineDied(f"the engine {NAME} did not start. The end of its log:\n{self.log_tail()}")

    def connect(self):
        session = SparkSession.builder.channelBuilder(_Channel(self._socket)).create()
        session.client.set_retry_policies([_Policy(self)])
        return session

    def death(self):
        """What there is to say when it is dead."""
        try:
            # Its end may be a moment behind the broken connection that tells of it.
            self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return None
        return SparkEngineDied(f"the engine {NAME} ended while the program was using it. The end of its log:\n{self.log_tail()}")

    def is_dead(self):
        return self._process.poll() is not None

    def log_tail(self):
        with open(self.log, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log) - _LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip() or "(empty)"


def _variables(job, folder):
    memory = job["spark"].get("memory_bytes")
    variables = {
        # A notebook may think for longer than the quarter of an hour after which Sail forgets it.
        "SAIL_SPARK__SESSION_TIMEOUT_SECS": str(_FOREVER_S),
        "SAIL_RUNTIME__TEMPORARY_FILES__PATHS": json.dumps([folder]),
        "RUST_LOG": "warn",
    }
    if memory:
        variables["SAIL_RUNTIME__MEMORY_POOL__TYPE"] = "greedy"
        variables["SAIL_RUNTIME__MEMORY_POOL__GREEDY__MAX_SIZE"] = str(int(memory * _MEMORY_SHARE))
    return variables


class _Channel(DefaultChannelBuilder):
    def __init__(self, path):
        # The server takes no path for the name of a host.
        super().__init__("sc://localhost", [("grpc.default_authority", "localhost")])
        self._path = path

    @property
    def endpoint(self):
        return f"unix:{self._path}"


class _Policy(DefaultPolicy):
    """Nobody comes back from the dead, so that the usual ten minutes of trying would be lost."""

    def __init__(self, engine):
        super().__init__()
        self._engine = engine

    def can_retry(self, e):
        if super().can_retry(e):
            death = self._engine.death()
            if death is not None:
                raise death from None
            return True
        return False
