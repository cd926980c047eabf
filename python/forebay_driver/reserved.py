"""Data sources of Spark whose names stand for parts of the workspace, and which are not there yet."""

from . import imports
from .absent import DataSourceNotAvailable

_EXPERIMENT = "mlflow-experiment"
_WORDS = f"the data source {_EXPERIMENT!r} is not available: this server has no experiment tracking yet"


def attend():
    for name in ("pyspark.sql.readwriter", "pyspark.sql.connect.readwriter"):
        imports.when_imported(name, lambda module: _attend(module.DataFrameReader))


def _attend(reader):
    choose, load = reader.format, reader.load

    def attended_format(self, source):
        return choose(self, _checked(source))

    def attended_load(self, path=None, format=None, *args, **options):
        return load(self, path, _checked(format), *args, **options)

    reader.format, reader.load = attended_format, attended_load


def _checked(source):
    if isinstance(source, str) and source.lower() == _EXPERIMENT:
        raise DataSourceNotAvailable(_WORDS)
    return source
