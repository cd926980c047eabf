"""The tables of a workspace: each run finds those that earlier runs made.

Engines forget their catalogs when they end. What is kept is a folder that all runs of the workspace
see: data below `WAREHOUSE`, and for each table a small file that says what and where it is:

    .catalog/DATABASE/TABLE.json   {"name": "Table", "type": "MANAGED", "provider": "delta", "location": "/dbfs/..."}
    .catalog/DATABASE/VIEW.json    {"name": "View", "type": "VIEW", "text": "SELECT ..."}

Files have names in lower case; some engines keep the case of a table's name, and others do not.

A session gets to know a table when a request mentions its name, so that a start costs nothing
however many tables there are. After a request that may change tables the files follow. Files are
replaced whole; two runs that make one table at the same time both write to its folder, where Delta
lets one of them win, and the last one to finish has its file.
"""

import contextlib
import json
import os
import re
import shutil
import threading

WAREHOUSE = "/dbfs/user/hive/warehouse"
_CHANGES = re.compile(r"\s*(create|drop|alter|replace|rename)\b", re.IGNORECASE)
_LISTS = re.compile(r"\b(show|list|cascade)", re.IGNORECASE)
_TEMPORARY = re.compile(r"\s*(create|drop)\s+(or\s+replace\s+)?(global\s+)?temp", re.IGNORECASE)
_COMMENT = re.compile(r"\A(\s|--[^\n]*\n|/\*.*?\*/)+", re.DOTALL)


class TableError(Exception):
    """A table of the workspace that this engine cannot open."""


class Warehouse:
    """`query` executes a statement in the session and returns its rows as tuples."""

    def __init__(self, query, folder=WAREHOUSE):
        self._query = query
        self._folder = folder
        self._catalog = os.path.join(folder, ".catalog")
        self._lock = threading.RLock()
        # What the session knows by now: (database, table) to what the file said.
        self._known = {}
        self._databases = {"default"}
        self._busy = False
        self._changing = []
        # Tables that this engine could not open, by name, and why.
        self.troubles = {}

    def before(self, text, may_change):
        """To be called with what is about to be executed: all its text, so that no name is missed."""
        with self._lock:
            if self._busy:
                return
            self._busy = True
            try:
                self._keep_up()
                self._introduce(text.lower())
            finally:
                self._busy = False
            for name, trouble in self.troubles.items():
                # What it cannot open it must not replace either.
                if may_change and re.search(rf"\b{re.escape(name)}\b", text.lower()):
                    raise TableError(trouble)
            if may_change:
                self._changing.append(text.lower())

    def settle(self):
        """The files follow what was executed."""
        with self._lock:
            if self._busy or not self._changing:
                return
            self._busy = True
            try:
                self._keep_up()
            finally:
                self._busy = False

    # -- from the files to the session

    def _introduce(self, text):
        everything = bool(_LISTS.search(text))
        for database, names in self._listed():
            wanted = [name for name in names if everything or name in text]
            if (wanted or everything or database in text) and database not in self._databases:
                location = os.path.join(self._folder, f"{database}.db")
                self._query(f"CREATE DATABASE IF NOT EXISTS `{database}` LOCATION '{location}'")
                self._databases.add(database)
            for name in wanted:
                self._introduce_table(database, name)

    def _introduce_table(self, database, name):
        entry = self._read(database, name)
        if entry is None or entry == self._known.get((database, name)):
            return
        try:
            self._create(database, entry, (database, name) in self._known)
        except Exception as error:
            # Its name may only be part of another word, and then it is nobody's trouble.
            self.troubles[name] = f"the table {database}.{name} of the workspace cannot be opened: {str(error).splitlines()[0]}"
            return
        self._known[database, name] = entry
        self.troubles.pop(name, None)

    def _create(self, database, entry, replace):
        full = f"`{database}`.`{entry['name']}`"
        kind = "VIEW" if entry["type"] == "VIEW" else "TABLE"
        if replace:
            self._query(f"DROP {kind} IF EXISTS {full}")
        if kind == "VIEW":
            self._introduce(entry["text"].lower())
            self._query(f"CREATE OR REPLACE VIEW {full} AS {entry['text']}")
            return
        if "://" not in entry["location"] and not os.path.exists(entry["location"]):
            raise FileNotFoundError(f"there is nothing at {entry['location']}")
        location = entry["location"].replace("'", "\\'")
        self._query(f"CREATE TABLE IF NOT EXISTS {full} USING {entry['provider']} LOCATION '{location}'")

    def _listed(self):
        try:
            databases = [entry.name for entry in os.scandir(self._catalog) if entry.is_dir()]
        except OSError:
            return
        for database in sorted(databases):
            files = os.listdir(os.path.join(self._catalog, database))
            yield database, [name.removesuffix(".json") for name in files if name.endswith(".json") and name[0] != "."]

    # -- from the session to the files

    def _keep_up(self):
        changes, self._changing = self._changing, []
        if not changes:
            return
        text = "\n".join(changes)
        databases = {row[0].lower() for row in self._query("SHOW DATABASES")} - {"global_temp"}
        for database in databases - {"default"}:
            os.makedirs(os.path.join(self._catalog, database), exist_ok=True)
        for database in self._databases - databases:
            self._forget_database(database)
        self._databases = databases | {"default"}
        for database in databases:
            self._keep_up_with(database, text)

    def _keep_up_with(self, database, text):
        rows = self._query(f"SHOW TABLES IN `{database}`")
        there = {row[1].lower(): row[1] for row in rows if row[0] and not row[2]}
        for name, written in there.items():
            if (database, name) not in self._known or name in text:
                entry = self._describe(database, written)
                if entry != self._known.get((database, name)):
                    self._write(database, name, entry)
        for known in [key for key in self._known if key[0] == database and key[1] not in there]:
            self._forget(*known)

    def _describe(self, database, written):
        rows = self._query(f"DESCRIBE EXTENDED `{database}`.`{written}`")
        titles = [row[0] for row in rows]
        start = next((at for at, title in enumerate(titles) if title.startswith("# Detailed")), len(rows))
        facts = {row[0]: row[1] for row in rows[start:]}
        if facts.get("Type") == "VIEW":
            return {"name": written, "type": "VIEW", "text": facts.get("View Text", "")}
        location = facts.get("Location", "").removeprefix("file:")
        location = location if "://" in location else "/" + location.lstrip("/")
        # A session that was told of a table by its place takes it for somebody else's.
        known = next((entry for entry in self._known.values() if entry.get("location") == location), {})
        kind = known.get("type") or facts.get("Type", "EXTERNAL")
        return {"name": written, "type": kind, "provider": facts.get("Provider", "parquet").lower(), "location": location}

    def _forget(self, database, name):
        entry = self._known.pop((database, name))
        if self._read(database, name) != entry:
            # Another run has made it anew.
            return
        os.remove(self._path(database, name))
        location = entry.get("location", "")
        renamed = any(other.get("location") == location for other in self._known.values())
        if entry["type"] == "MANAGED" and location.startswith(self._folder + "/") and not renamed:
            shutil.rmtree(location, ignore_errors=True)

    def _forget_database(self, database):
        for key in [key for key in self._known if key[0] == database]:
            self._forget(*key)
        for folder in (os.path.join(self._catalog, database), os.path.join(self._folder, f"{database}.db")):
            # Not empty when another run has tables there.
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    # -- the files

    def _path(self, database, name):
        return os.path.join(self._catalog, database, f"{name}.json")

    def _read(self, database, name):
        try:
            with open(self._path(database, name)) as file:
                return json.load(file)
        except FileNotFoundError:
            return None

    def _write(self, database, name, entry):
        path = self._path(database, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        draft = f"{path}.{os.getpid()}"
        with open(draft, "w") as file:
            json.dump(entry, file)
        os.replace(draft, path)
        self._known[database, name] = entry


_USE = re.compile(r"\s*use\s+(?!database\b|schema\b|namespace\b|catalog\b)(`[^`]+`|\w+)\s*;?\s*\Z", re.IGNORECASE)


def may_change(statement):
    """Whether a statement may change which tables there are."""
    bare = _COMMENT.sub("", statement)
    return bool(_CHANGES.match(bare)) and not _TEMPORARY.match(bare)


# -- paths


def local_path(path):
    """A path as the platform writes it, as a path of this machine: `dbfs:/x` and `/x` are `/dbfs/x`."""
    if path.startswith("dbfs:"):
        path = "/" + path.removeprefix("dbfs:").lstrip("/")
        return path if path.startswith(("/dbfs/", "/Volumes/")) else f"/dbfs{path}"
    if path.startswith("/") and not path.startswith(_ROOTS):
        return f"/dbfs{path}"
    return path


_ROOTS = ("/dbfs/", "/Volumes/", "/Workspace/", "/tmp/", "/local_disk0/", "/databricks-datasets/")
_IN_SQL = re.compile(r"(?<=['`\"])dbfs:/+(?=[^'`\"])")


def local_paths_in(statement):
    """The same for the paths in a statement, which must be written with `dbfs:`."""
    if used := _USE.match(statement):
        # Sail knows only the longer form.
        return f"USE DATABASE {used[1]}"
    return _IN_SQL.sub(lambda _: "/dbfs/", statement).replace("/dbfs/Volumes/", "/Volumes/").replace("/dbfs/dbfs/", "/dbfs/")
