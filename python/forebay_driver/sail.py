"""The engine `sail`: a private Spark Connect server beside the program, and the client's way to it."""

import json
import os
import subprocess
import sys
import tempfile

import grpc
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.session import SparkSession

from . import warehouse
from .spark import SparkEngineDied

NAME = "sail"
_CONF = {
    "spark.sql.warehouse.dir": warehouse.WAREHOUSE,
    "spark.sql.sources.default": "delta",
}
_FOREVER_S = 10 * 365 * 24 * 3600
_LOG_TAIL_BYTES = 4096
# Of the run's memory; the rest is for its own process and what the engine does not count.
_MEMORY_SHARE = 0.6


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
        self.warehouse = None
        if self._process.stdout.readline() != b"ready\n":
            self._process.wait()
            raise SparkEngineDied(f"the engine {NAME} did not start. The end of its log:\n{self.log_tail()}")

    @property
    def title(self):
        import pysail

        return f"{NAME} {pysail.__version__}"

    def connect(self, conf):
        channel = _Channel(self._socket)
        wire = _Wire()
        channel.add_interceptor(wire)
        session = SparkSession.builder.channelBuilder(channel).create()
        session.client.set_retry_policies([_Policy(self)])
        session.conf._set_all({**_CONF, **conf}, silent=True)
        self.warehouse = wire.warehouse = warehouse.Warehouse(lambda text: [tuple(row) for row in session.sql(text).collect()])
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


class _Wire(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Sees every plan on its way to the engine: tables are made known, and paths are those of this machine."""

    def __init__(self):
        self.warehouse = None

    def intercept_unary_unary(self, continuation, details, request):
        self._look(request)
        return continuation(details, request)

    intercept_unary_stream = intercept_unary_unary

    def _look(self, request):
        if self.warehouse is None or type(request).__name__ not in ("ExecutePlanRequest", "AnalyzePlanRequest"):
            return
        seen = _Seen()
        seen.visit(request)
        self.warehouse.before("\n".join(seen.texts), seen.changes)


class _Seen:
    def __init__(self):
        self.texts = []
        self.changes = False

    def visit(self, message):
        act = getattr(self, "_" + message.DESCRIPTOR.name, None)
        if act:
            act(message)
        for field, value in message.ListFields():
            many = hasattr(value, "__len__") and not isinstance(value, (str, bytes))
            if many and field.message_type is not None and field.message_type.GetOptions().map_entry:
                values = [value[key] for key in value]
            else:
                values = value if many else [value]
            for each in values:
                if isinstance(each, str):
                    self.texts.append(each)
                elif hasattr(each, "DESCRIPTOR"):
                    self.visit(each)

    def _SQL(self, message):
        message.query = warehouse.local_paths_in(message.query)
        self.changes = self.changes or warehouse.may_change(message.query)

    def _DataSource(self, message):
        message.paths[:] = [warehouse.local_path(path) for path in message.paths]
        _local_option(message)

    def _WriteOperation(self, message):
        if message.WhichOneof("save_type") == "path":
            message.path = warehouse.local_path(message.path)
        else:
            self.changes = True
        _local_option(message)

    def _WriteOperationV2(self, message):
        self.changes = True

    def _WriteStreamOperationStart(self, message):
        if message.path:
            message.path = warehouse.local_path(message.path)
        _local_option(message)

    def _CreateTable(self, message):
        self.changes = True

    _CreateExternalTable = _CreateTable


def _local_option(message):
    if "path" in message.options:
        message.options["path"] = warehouse.local_path(message.options["path"])
