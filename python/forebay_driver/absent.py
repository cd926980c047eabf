"""Names that every notebook expects and that this cluster cannot honour: they say so when used."""

_HINT = (
    "no Spark engine is configured on this cluster, so `{name}` cannot be used. "
    "Use pandas or pyarrow, or run on a cluster whose definition names an engine."
)


class SparkNotAvailable(RuntimeError):
    pass


class LanguageNotAvailable(RuntimeError):
    pass


class _Absent:
    def __init__(self, name):
        object.__setattr__(self, "_name", name)

    def _refuse(self):
        raise SparkNotAvailable(_HINT.format(name=self._name))

    def __getattr__(self, attribute):
        # Tools look for private names on every object; only a use of the engine is an error.
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        self._refuse()

    def __setattr__(self, attribute, value):
        self._refuse()

    def __call__(self, *_, **__):
        self._refuse()

    def __repr__(self):
        return f"<{self._name}: no Spark engine is configured on this cluster>"


def names():
    return {name: _Absent(name) for name in ("spark", "sc", "sqlContext", "sql", "table", "udf")}
