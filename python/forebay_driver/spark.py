"""`spark` and its neighbours: names that are there from the start, and an engine at their first use."""

import builtins
import contextlib
import importlib
import os
import threading
import warnings

from . import first_use, imports, reserved

_OTHER_ENGINE = (
    'the engine sail does not have this. Set "forebay.engine": "apache" in the spark_conf of the cluster to run it on Apache Spark'
)

# Words in errors of the engine and its client that mean: not here, maybe elsewhere.
_UNSUPPORTED_KINDS = ("UnsupportedOperationException", "PySparkNotImplementedError")
_UNSUPPORTED_WORDS = (
    "JVM_ATTRIBUTE_NOT_SUPPORTED",
    "NOT_IMPLEMENTED",
    "not supported",
    "not implemented",
    "unsupported",
    "No data source found",
    "unknown function",
)


class SparkNotAvailable(RuntimeError):
    pass


class SparkEngineDied(RuntimeError):
    """The engine's process is gone, and with it every table that was only in its memory."""


# The Spark of this process's run.
_ours = None


def announce():
    """Puts `spark` and its neighbours where scripts and modules find them, for this process and all that fork
    from it. A run that did so itself would pay for it: every function looks anew at names that have changed."""
    vars(builtins).update(_NAMES)
    imports.when_imported("pyspark.sql.session", _patch_builder)
    first_use.attend(lambda: _ours.begin(), lambda: _ours.begin("apache"))
    reserved.attend()


class Spark:
    """The Spark of one run: at most one engine, started by whoever needs it first."""

    def __init__(self, job, channel):
        global _ours
        _ours = self
        self._job = job
        self._channel = channel
        self.engine_name = job["spark"]["engine"]
        self.engine = None
        self._session = None
        self._lock = threading.RLock()
        self._named = [vars(builtins)]
        self._is_starting = False

    def session(self):
        """The session of this run. Starts the engine when there is none."""
        with self._lock:
            if self._session is None or _is_stopped(self._session):
                self._session = self._start()
            return self._session

    def begin(self, engine_name=None):
        """Starts the engine, if it is the one that is named and there is none."""
        with self._lock:
            if self.engine is None and not self._is_starting and engine_name in (None, self.engine_name):
                self.session()

    def _start(self):
        self._is_starting = True
        try:
            return self._started()
        finally:
            self._is_starting = False

    def _started(self):
        module = importlib.import_module(f"{__package__}.{self.engine_name}")
        if self.engine is None:
            self.engine = module.Engine(self._job)
            self._channel.send("engine", name=self.engine.title)
        session = self.engine.connect(self._job["spark"]["conf"])
        for names in self._named:
            if isinstance(names.get("spark"), _Lazy):
                names["spark"] = session
        return session

    def put_names(self, names):
        """`names`: where a notebook has its own. The names that are put there."""
        names.update(_NAMES)
        self._named.append(names)
        return list(_NAMES)

    def context(self):
        session = self.session() if self.engine_name == "apache" else None
        if not hasattr(session, "_jsc"):
            raise SparkNotAvailable(f"`sc`: {_OTHER_ENGINE}")
        return session.sparkContext

    def settle(self):
        """What the program did to the tables of the workspace is kept."""
        if self.engine is not None and self.engine.warehouse is not None and not self.engine.is_dead():
            self.engine.warehouse.settle()

    # -- what went wrong

    def explained(self, error):
        """`(error, hint)`: the error to show, and lines to add to it."""
        if self.engine is None:
            return error, ()
        kinds = [kind.__name__ for kind in type(error).__mro__]
        if "SparkEngineDied" not in kinds and self.engine.is_dead():
            return self.engine.death(), ()
        text = str(error)
        troubles = self.engine.warehouse.troubles if self.engine.warehouse else {}
        if told := [trouble for name, trouble in troubles.items() if name in text.lower()]:
            return error, told
        if hint := self.engine.hint(text) if hasattr(self.engine, "hint") else None:
            return error, (hint,)
        if self.engine_name != "sail":
            return error, ()
        lacks = any(kind in kinds for kind in _UNSUPPORTED_KINDS) or any(word in text for word in _UNSUPPORTED_WORDS)
        if lacks and type(error).__module__.startswith("pyspark"):
            return error, (_OTHER_ENGINE[0].upper() + _OTHER_ENGINE[1:] + ".",)
        return error, ()


def _patch_builder(module):
    """`SparkSession.builder.getOrCreate()` gives the run's session, unless it names a server."""
    original = module.SparkSession.Builder.getOrCreate

    def get_or_create(builder):
        options = {key: str(value) for key, value in builder._options.items()}
        if "spark.remote" in options or "SPARK_REMOTE" in os.environ:
            return original(builder)
        session = _ours.session()
        master = options.pop("spark.master", None)
        if master and not master.startswith("local"):
            warnings.warn(f"master {master} has no effect: the cluster's definition names the engine", stacklevel=2)
        for key, value in options.items():
            # Some can only be set before an engine starts; Spark's own builder leaves them out, too.
            with contextlib.suppress(Exception):
                session.conf.set(key, value)
        return session

    module.SparkSession.Builder.getOrCreate = get_or_create


def _is_stopped(session):
    context = getattr(session, "_sc", None)
    return context._jsc is None if context is not None else session.is_stopped


def take_jars(job):
    """Takes the JARs out of the libraries of a run: they are for its engine."""
    ours = [library for library in job["libraries"] if library["type"] in ("jar", "maven")]
    job["libraries"] = [library for library in job["libraries"] if library not in ours]
    if ours and job["spark"]["engine"] != "apache":
        name = ours[0].get("path") or ours[0]["coordinates"]
        raise SparkNotAvailable(f"{name}: the engine sail runs no Java. {_OTHER_ENGINE[0].upper()}{_OTHER_ENGINE[1:]}")
    jars = [library["path"] for library in ours if library["type"] == "jar"]
    if of_maven := [library for library in ours if library["type"] == "maven"]:
        from . import maven

        jars += maven.jars(of_maven, job)
    if jars:
        conf = job["spark"]["conf"]
        conf["spark.jars"] = ",".join([conf["spark.jars"], *jars] if conf.get("spark.jars") else jars)
    return jars


def is_frame(thing):
    """Whether it is a data frame of Spark; needs no import of it."""
    kinds = type(thing).__mro__
    return any(kind.__name__ == "DataFrame" and kind.__module__.startswith("pyspark.sql") for kind in kinds)


class _Lazy:
    """Stands for a value that is made when it is first used."""

    def __init__(self, name, make):
        object.__setattr__(self, "_Lazy__name", name)
        object.__setattr__(self, "_Lazy__make", make)

    def __getattr__(self, attribute):
        # Tools look for private names on every object; only a use of the engine starts it.
        if attribute.startswith(("_repr_", "_ipython_", "__")):
            raise AttributeError(attribute)
        return getattr(self.__make(), attribute)

    def __setattr__(self, attribute, value):
        setattr(self.__make(), attribute, value)

    def __call__(self, *args, **kwargs):
        return self.__make()(*args, **kwargs)

    def __dir__(self):
        return dir(self.__make())

    def __repr__(self):
        return f"<{self.__name}: its engine starts at first use>"


def _functions():
    return importlib.import_module("pyspark.sql.functions")


_NAMES = {
    "spark": _Lazy("spark", lambda: _ours.session()),
    "sqlContext": _Lazy("sqlContext", lambda: _ours.session()),
    "sc": _Lazy("sc", lambda: _ours.context()),
    "sql": _Lazy("sql", lambda: _ours.session().sql),
    "table": _Lazy("table", lambda: _ours.session().table),
    "udf": _Lazy("udf", lambda: _functions().udf),
}
