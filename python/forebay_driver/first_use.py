"""Calls of Spark's client that need a session and do not name one: functions, types, `SparkSession.active()`.

Elsewhere `spark` is there before a program begins. Here its engine starts at first use, so these are uses, too."""

from . import imports

# Where Apache Spark's own client asks for its context.
_CLASSIC = ("pyspark.sql.types", "pyspark.sql.functions.builtin", "pyspark.sql.classic.window")
_NAMES = ("get_active_spark_context", "_get_active_spark_context", "_invoke_function")


def attend(start, start_classic):
    """`start` starts the engine if there is none, `start_classic` only if it is Apache Spark; neither does anything while it starts."""

    def of_class(*names):
        return lambda module: [_attend_class(module.SparkSession, name, start) for name in names]

    imports.when_imported("pyspark.sql.connect.session", of_class("active"))
    imports.when_imported("pyspark.sql.session", of_class("active", "getActiveSession"))
    for name in _CLASSIC:
        imports.when_imported(name, lambda module: _attend_module(module, start_classic))


def _attend_class(kind, name, start):
    original = getattr(kind, name).__func__

    def attended(cls):
        try:
            found = original(cls)
        except RuntimeError:
            found = None
        if found is None:
            start()
            found = original(cls)
        return found

    setattr(kind, name, classmethod(attended))


def _attend_module(module, start):
    for name in _NAMES:
        if original := getattr(module, name, None):
            setattr(module, name, _started(original, start))


def _started(function, start):
    def attended(*args):
        start()
        return function(*args)

    return attended
