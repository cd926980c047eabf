"""The command line of `spark-submit`, as far as it has to be known before Spark reads it."""

import itertools
import re

_FLAGS = ("--help", "-h", "--load-spark-defaults", "--supervise", "--usage-error", "--verbose", "-v", "--version")
_JOINED = re.compile(r"(--[^=]+)=(.+)", re.DOTALL)
# Options that stand for a setting.
_SETTINGS = {
    "--driver-class-path": "spark.driver.extraClassPath",
    "--driver-java-options": "spark.driver.extraJavaOptions",
    "--driver-library-path": "spark.driver.extraLibraryPath",
    "--driver-memory": "spark.driver.memory",
    "--master": "spark.master",
    "--name": "spark.app.name",
}
# Of Java's properties, which may go on in the next line.
_ENTRY = re.compile(r"[ \t\f]*([^\s=:#!][^\s=:]*)[ \t\f]*[=: \t\f]?[ \t\f]*(.*)")


class Submission:
    """`--option value` and `--option=value` are the same; after the options come the program and its arguments."""

    def __init__(self, args):
        rest = list(args)
        self._pairs = []
        while rest and rest[0].startswith("-"):
            if joined := _JOINED.fullmatch(rest[0]):
                rest[:1] = joined.groups()
            length = 1 if rest[0] in _FLAGS else 2
            self._pairs.append(rest[:length])
            rest = rest[length:]
        self.rest = rest

    @property
    def words(self):
        return [*itertools.chain(*self._pairs), *self.rest]

    @property
    def options(self):
        """Those with a value; of two the last one counts."""
        return {pair[0]: pair[1] for pair in self._pairs if len(pair) == 2}

    @property
    def conf(self):
        """The settings that it makes; an option wins over `--conf`."""
        said = (pair[1].partition("=") for pair in self._pairs if pair[0] in ("--conf", "-c") and len(pair) == 2)
        options = {_SETTINGS[name]: value for name, value in self.options.items() if name in _SETTINGS}
        return {**{key.strip(): value for key, _, value in said}, **options}

    def conf_of_file(self):
        """The settings of its `--properties-file`, which give way to all others."""
        path = self.options.get("--properties-file")
        if not path:
            return {}
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"\\\n[ \t\f]*", "", file.read())
        found = filter(None, map(_ENTRY.match, text.splitlines()))
        return {entry[1]: re.sub(r"\\(.)", r"\1", entry[2]).strip() for entry in found}
