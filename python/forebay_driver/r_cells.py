"""The R cells of a notebook, and what they ask of its session: `dbutils` and what they show.

The functions in R are thin: all languages of a notebook share its widgets, secrets and files.
"""

import json

from . import r, r_libraries, tables
from .fs import FileInfo, MountInfo


class RCells:
    def __init__(self, session, job, kept=None):
        self._session = session
        self.libraries = r_libraries.Library(job)
        self._kept = kept
        self._interpreter = None

    def run(self, source, label, lines_before):
        """Executes a cell. The value of `dbutils.notebook.exit`, if it was called."""
        if self._interpreter is None or self._interpreter.is_gone():
            self._interpreter = r.Interpreter(self._session.channel, self._answer, self._kept, self._session.wants_data)
        return self._interpreter.run(source, label, lines_before)

    def keep(self):
        """What a session in a fresh interpreter needs to go on with the same R."""
        return self._interpreter.keep() if self._interpreter else self._kept

    def close(self):
        if self._interpreter is not None:
            self._interpreter.close()
            self._interpreter = None

    def _answer(self, method, args):
        if method == "display":
            bundle, *frame = args
            shown = {**bundle, **tables.of_r(*frame)} if frame else bundle
            return self._session.channel.bundle("display", shown, None, display_id=None)
        if method == "image":
            return self._session.channel.bundle("display", r.image(args[0]), None, display_id=None)
        owner, _, name = method.rpartition(".")
        if name not in _ALLOWED.get(owner, ()):
            raise AttributeError(f"dbutils.{method} is not available in R")
        target = self._session.dbutils
        for part in owner.split("."):
            target = getattr(target, part)
        return _plain(getattr(target, name)(*args))


_ALLOWED = {
    "widgets": ("text", "dropdown", "combobox", "multiselect", "get", "getAll", "getArgument", "remove", "removeAll"),
    "notebook": ("run", "getContext"),
    "secrets": ("get", "getBytes", "list", "listScopes"),
    "fs": ("ls", "head", "put", "mkdirs", "rm", "cp", "mv", "mounts"),
    "jobs.taskValues": ("get", "set"),
}


def _plain(value):
    """What Python's `dbutils` gives, as lists and texts."""
    if isinstance(value, (FileInfo, MountInfo)):
        return value._asdict()
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "toJson"):
        return json.loads(value.toJson())
    for name in ("key", "name"):
        if hasattr(value, name):
            return {name: getattr(value, name)}
    return value
