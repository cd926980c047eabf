"""The engine `apache`: Apache Spark in a JVM of this run, or a session of a server that the cluster names."""

import importlib
import os
import socket
import sys
import types
from urllib.parse import urlsplit

from . import jvm, warehouse, warm_jvm
from .spark import SparkEngineDied, SparkNotAvailable

NAME = "apache"
_CONNECT_PORT = 15002
_CONNECT_SECONDS_MAX = 20
_DELTA = (
    "The engine apache has no Delta of its own. Write the table with format parquet, give the cluster Delta's JARs "
    '("spark.jars" in its spark_conf), or use the engine sail ("forebay.engine": "sail").'
)


class Engine:
    def __init__(self, job):
        self.warehouse = None
        self._remote = job["spark"]["conf"].get("spark.remote")
        self._jvm = None if self._remote else self._started(job)

    @staticmethod
    def _started(job):
        folder = os.path.join(job["local_dir"], "spark")
        os.makedirs(folder, exist_ok=True)
        return warm_jvm.for_session(job, os.path.join(folder, "engine.log")) or jvm.Gateway(job)

    @property
    def title(self):
        import pyspark

        # Not what follows the address: a token, for instance.
        where = " at sc://{}:{}".format(*_place(self._remote)) if self._remote else ""
        return f"{NAME} {pyspark.__version__}{where}"

    def connect(self, conf):
        from pyspark.sql import SparkSession

        if self._remote:
            _until_it_answers(*_place(self._remote))
            os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
            return _connect_client().SparkSession.builder.config(map=conf).create()
        from pyspark import SparkContext

        given = {"PYSPARK_GATEWAY_PORT": str(self._jvm.port), "PYSPARK_GATEWAY_SECRET": self._jvm.secret}
        # Processes of the program are not to take this for an invitation.
        os.environ.update(given)
        try:
            session = SparkSession(SparkContext.getOrCreate())
        finally:
            for name in given:
                del os.environ[name]
        self.warehouse = warehouse.Warehouse(lambda text: [tuple(row) for row in session.sql(text).collect()])
        global _tables
        if _tables is None:
            _attend()
        _tables = self.warehouse
        return session

    def is_dead(self):
        return self._jvm is not None and self._jvm.is_dead()

    def death(self):
        return SparkEngineDied(f"the engine {NAME} ended while the program was using it. The end of its log:\n{self._jvm.log_tail()}")

    def hint(self, text):
        return _DELTA if "DATA_SOURCE_NOT_FOUND" in text and "delta" in text.lower() else None


def _place(remote):
    """Host and port of `sc://host:port/;parameters`."""
    parts = urlsplit(remote)
    return parts.hostname, parts.port or _CONNECT_PORT


def _until_it_answers(host, port):
    """Spark's client would try for ten minutes."""
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS_MAX).close()
    except OSError as error:
        raise SparkNotAvailable(
            f"no Spark Connect server answers at {host}:{port}, which spark.remote of the cluster names: {error}"
        ) from None


def _connect_client():
    """The client of Spark Connect, which takes a program without a file or a prompt for a test."""
    main = sys.modules["__main__"]
    stand_in = sys.modules["__main__"] = types.ModuleType("__main__")
    stand_in.__file__ = "forebay"
    try:
        return importlib.import_module("pyspark.sql.connect.session")
    finally:
        # Unless a notebook has put its own there meanwhile.
        if sys.modules["__main__"] is stand_in:
            sys.modules["__main__"] = main


# The warehouse of this process.
_tables = None


def _attend():
    """Tells the warehouse of everything that names tables, and makes paths those of this machine."""
    from pyspark.sql import catalog, readwriter, session

    def attend(owner, name, changes, rewrite=None):
        original = getattr(owner, name)

        def attended(self, *args, **kwargs):
            if rewrite:
                args = [*map(rewrite, args[:1]), *args[1:]]
                kwargs = {key: rewrite(value) if key in ("path", "paths") else value for key, value in kwargs.items()}
            texts = [each for each in (*args, *kwargs.values()) if isinstance(each, str)]
            if rewrite is not _path:
                _tables.before("\n".join([name, *texts]), changes(texts))
            return original(self, *args, **kwargs)

        setattr(owner, name, attended)

    never, always = (lambda texts: False), (lambda texts: True)
    attend(session.SparkSession, "sql", lambda texts: any(map(warehouse.may_change, texts)), _statement)
    attend(session.SparkSession, "table", never)
    reader, writer = readwriter.DataFrameReader, readwriter.DataFrameWriter
    attend(reader, "table", never)
    for name in ("saveAsTable", "insertInto"):
        attend(writer, name, always)
    begin = readwriter.DataFrameWriterV2.__init__

    def begin_noting(self, df, table):
        begin(self, df, table)
        self._forebay_table = table

    readwriter.DataFrameWriterV2.__init__ = begin_noting
    for name in ("create", "replace", "createOrReplace", "append", "overwrite", "overwritePartitions"):
        original = getattr(readwriter.DataFrameWriterV2, name)

        def attended(self, *args, _original=original, **kwargs):
            _tables.before(getattr(self, "_forebay_table", ""), True)
            return _original(self, *args, **kwargs)

        setattr(readwriter.DataFrameWriterV2, name, attended)
    for name in ("listTables", "tableExists", "getTable", "listColumns", "databaseExists", "setCurrentDatabase", "listDatabases"):
        attend(catalog.Catalog, name, never)
    for name in ("createTable", "createExternalTable"):
        attend(catalog.Catalog, name, always)
    for owner in (reader, writer):
        for name in ("load", "save", "parquet", "csv", "json", "text", "orc"):
            if hasattr(owner, name):
                attend(owner, name, never, _path)


def _statement(text):
    return warehouse.local_paths_in(text) if isinstance(text, str) else text


def _path(value):
    if isinstance(value, str):
        return warehouse.local_path(value)
    return [warehouse.local_path(each) for each in value] if isinstance(value, list) else value
