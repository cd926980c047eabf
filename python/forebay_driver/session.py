"""Executes the cells of a notebook, and of the notebooks it pulls in with `%run`.

The notebooks under way are a stack of (cells, next), not Python recursion, so that
`dbutils.library.restartPython` can hand the rest of the work to a fresh interpreter.
"""

import builtins
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time

from . import absent, dbutils, libraries, r, r_cells, r_libraries, spark, sql
from .control import Control
from .fs import FileSystem
from .worker import ProgramFailed

LANGUAGES = {"scala": "Scala"}


class Exit(Control):
    """`dbutils.notebook.exit`."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value


class Restart(Control):
    """`dbutils.library.restartPython`."""


class CellFailed(Exception):
    pass


class Session:
    # Whether who reads the output wants frames as data, beside what a person reads.
    wants_data = False

    def __init__(self, run, job, channel):
        self.confines = run
        self.job = job
        self.channel = channel
        state = job.get("state") or {}
        program = job["program"]
        self.wants_data = self.wants_data or program.get("wants_data", False)
        first = {"path": program["path"], "cells": program["cells"], "next": 0}
        self.stack = state.get("stack", [first])
        self.parameters = state.get("parameters", program["parameters"])
        self.widgets = state.get("widgets", {})
        self.busy = state.get("busy", False)
        self.used = False
        self.started = time.monotonic() - state.get("elapsed", 0)
        self.layer = libraries.Layer(job)
        self.r = r_cells.RCells(self, job, state.get("r"))
        self.spark = spark.Spark(job, channel)
        if state:
            channel.cell = state["cell"]

    # -- the loop

    def run(self):
        """The value of `dbutils.notebook.exit`, or `None`."""
        self._prepare()
        try:
            if not self.job.get("state"):
                self._install_libraries()
            return self._run_cells()
        except Restart:
            self._restart()
        finally:
            self.r.close()

    def _run_cells(self):
        try:
            return self._run_stack()
        except Exit as exit:
            self._finish("succeeded")
            return exit.value
        except CellFailed:
            self._finish("failed")
            raise ProgramFailed(*self.shell.failure) from None

    def _run_stack(self):
        while True:
            top = self.stack[-1]
            if top["next"] == len(top["cells"]):
                if len(self.stack) > 1:
                    self.stack.pop()
                    if len(self.stack) == 1:
                        self._finish("succeeded")
                elif not self._more():
                    return None
                continue
            self._step(top)

    def _more(self):
        """Whether there are further cells than those that are on the stack."""
        return False

    def _step(self, notebook):
        cell = notebook["cells"][notebook["next"]]
        notebook["next"] += 1
        if len(self.stack) == 1:
            self.started = time.monotonic()
            self.busy = True
            self.channel.begin_cell(cell["index"], later=cell["kind"] in ("md", "skip"))
        depth = len(self.stack)
        if cell["kind"] == "skip":
            if depth == 1:
                self._finish("skipped")
            return
        try:
            self._execute(cell, notebook["path"])
        finally:
            self.spark.settle()
        if depth == 1 and len(self.stack) == 1:
            self._finish("succeeded")

    def _finish(self, status):
        if not self.busy:
            return
        self.busy = False
        sys.stdout.flush()
        sys.stderr.flush()
        elapsed = round((time.monotonic() - self.started) * 1000)
        # The next cell or the verdict follows at once.
        self.channel.send_later("finish", status=status, ms=elapsed)

    def _execute(self, cell, path):
        kind, source = cell["kind"], cell["source"]
        if kind == "md":
            return
        if kind == "python":
            label = f"{path}#cell {cell['index'] + 1}"
            self.python(source, label, cell.get("lines_before", 0))
            return
        try:
            if kind == "r":
                self._r(cell, path)
            elif kind == "sh":
                _shell_script(source, cell.get("flags", []))
            elif kind == "fs":
                self.open_shell()
                self.file_command(source)
            elif kind == "pip":
                self.pip(source)
            elif kind == "run":
                self._include(source, path)
            elif kind == "sql":
                self.open_shell()
                self.sql(source)
            else:
                language = LANGUAGES.get(kind, kind)
                raise absent.LanguageNotAvailable(f"{language} cells cannot run on this cluster: it has Python, SQL and R")
        except (Control, CellFailed):
            raise
        except r.Failure as error:
            self.shell.show_error(error.ename, error.evalue, error.traceback)
            raise CellFailed from None
        except BaseException as error:
            # These cells have no Python code of the user's, so a traceback would show only ours.
            error, hint = self.spark.explained(error)
            name = type(error).__name__
            text = "\n".join([str(error), *getattr(error, "__notes__", ()), *hint])
            self.shell.show_error(name, text, [f"{name}: {text}"])
            raise CellFailed from None

    def python(self, source, label, lines_before):
        self.used = self.used or bool(source.strip())
        good = self.shell.run_labelled(source, label, self.loop, lines_before)
        if self.shell.control is not None:
            raise self.shell.control
        if not good:
            if self.shell.failure is None:
                self.shell.failure = ("Error", "the cell failed", "")
            raise CellFailed

    # -- cells in other languages

    def _r(self, cell, path):
        label = f"{path}#cell {cell['index'] + 1}"
        value = self.r.run(cell["source"], label, cell.get("lines_before", 0))
        if value is not None:
            self.dbutils.notebook.exit(value)

    def file_command(self, source):
        """`%fs ls /path` and the like: sugar for `dbutils.fs`."""
        for line in source.splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            flags = [word for word in words[1:] if word in ("-r", "--recurse", "--recursive")]
            args = [word for word in words[1:] if word not in flags]
            value = self.dbutils.fs._command(words[0], args, recurse=bool(flags))
            if isinstance(value, list):
                self.display(_table(value))
            elif value is not None:
                print(value)

    def sql(self, source):
        """The last result stays as `_sqldf`."""

        def take(frame, is_query):
            self.shell.user_ns["_sqldf"] = frame
            if frame.columns:
                self._show_table(frame, is_query)

        sql.Runner(lambda: self.spark.session(), self.dbutils.widgets).run(source, take)

    def _show_table(self, frame, is_result=True):
        from IPython.display import display

        from . import tables

        display(tables.of_spark(frame) if self.wants_data and is_result else tables.of_text(frame), raw=True)

    def pip(self, source):
        shadowed = self.layer.pip(source)
        if not shadowed:
            return
        names = ", ".join(shadowed)
        if not self.used:
            print(f"Restarting Python, because {names} had already been imported.")
            raise Restart()
        print(
            f"Note: {names} had already been imported and stays as it is; call dbutils.library.restartPython() to use what was installed.",
            file=sys.stderr,
        )

    def _include(self, source, path):
        found = self.channel.call("notebook.source", **{"from": path, "command": source})
        if any(found["path"] == notebook["path"] for notebook in self.stack):
            chain = " -> ".join([n["path"] for n in self.stack] + [found["path"]])
            raise RecursionError(f"%run goes round in a circle: {chain}")
        self.parameters.update(found["params"])
        self.stack.append({"path": found["path"], "cells": found["cells"], "next": 0})

    # -- the namespace

    def _prepare(self):
        self.layer.activate()
        self.r.libraries.activate()
        self.dbutils = dbutils.DbUtils(self, FileSystem(self.channel), self.job)

    @functools.cached_property
    def shell(self):
        """Made when it is needed first: a notebook in R can do without, and IPython takes as long to
        import as R to start."""
        import asyncio

        from . import shell as shells

        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        shell = shells.instance()
        shell.channel = self.channel
        shell.explained = self.spark.explained
        self._furnish(shell)
        return shell

    def open_shell(self):
        """For what shows something through IPython without having run a cell."""
        return self.shell

    def _furnish(self, shell):
        notebook = self.job["program"]["path"]
        names = {
            "dbutils": self.dbutils,
            "display": self.display,
            "displayHTML": self.display_html,
            "getArgument": self.dbutils.widgets.getArgument,
        }
        main = shell.user_module
        # Libraries that find neither a file nor a prompt believe they run inside a test.
        main.__file__ = notebook
        # Of a module that was emptied it is gone, and they look at it, too.
        main.__spec__ = None
        sys.modules["__main__"] = main
        sys.argv[:] = [notebook]
        shell.user_ns.update(names)
        shell.user_ns_hidden.update(names)
        # Modules of the project use these names as notebooks do.
        for name in ("dbutils", "display", "displayHTML"):
            setattr(builtins, name, names[name])
        shell.user_ns_hidden.update(dict.fromkeys(self.spark.put_names(shell.user_ns)))
        self._register_magics(shell)

    def _register_magics(self, shell):
        # IPython's own %pip and %run mean other things.
        register = shell.register_magic_function
        register(self.pip_magic, "line", "pip")
        register(lambda line: self._restart_request(), "line", "restart_python")
        register(lambda line, cell=None: self.file_command(cell or line), "line_cell", "fs")
        register(lambda line, cell=None: _shell_script(cell or line), "line_cell", "sh")
        register(lambda line, cell=None: None, "line_cell", "md")
        register(lambda line, cell=None: self.sql(cell or line), "line_cell", "sql")

    def pip_magic(self, line):
        self.pip(line)

    def _restart_request(self):
        raise Restart()

    def display(self, *objects, **options):
        """Shows tables, figures and anything else with a rich representation."""
        from IPython.display import display

        frames = [thing for thing in objects if spark.is_frame(thing)]
        for frame in frames:
            self._show_table(frame)
        if frames and len(frames) == len(objects):
            return None
        return display(*(thing for thing in objects if not spark.is_frame(thing)), **options)

    def display_html(self, html=""):
        from IPython.display import HTML, display

        display(HTML(str(html)))

    # -- libraries and restarts

    def _install_libraries(self):
        with libraries.installing():
            spark.take_jars(self.job)
            of_r, wanted = r_libraries.split(self.job["libraries"])
            if of_r:
                self.r.libraries.install(of_r)
            came_too_late = self.layer.install(wanted) if wanted else ()
        if came_too_late:
            # Something newer is hidden behind a module that the warm parent has imported.
            raise Restart()

    def _restart(self):
        """Replaces this interpreter by a fresh one, in the same sandbox, for the cells left."""
        sys.stdout.flush()
        sys.stderr.flush()
        if len(self.stack) == 1:
            self._finish("succeeded")
        self.job["state"] = self._kept()
        replace_interpreter(self.confines, self.job, self.channel)

    def _kept(self):
        return {
            "stack": self.stack,
            "parameters": self.parameters,
            "widgets": self.widgets,
            "busy": self.busy,
            "elapsed": time.monotonic() - self.started,
            "cell": self.channel.cell,
            "r": self.r.keep(),
        }


def replace_interpreter(run, job, channel):
    """Becomes a fresh interpreter that carries on with `job`. Same process, same walls."""
    channel.leave()
    state = os.memfd_create("forebay-state", 0)
    data = json.dumps({"run": run, "job": job, "calls": channel.calls}).encode()
    while data:
        data = data[os.write(state, data) :]
    os.lseek(state, 0, os.SEEK_SET)
    fd = channel.socket.fileno()
    os.set_inheritable(fd, True)
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    code = f"import sys; sys.path.append({home!r}); from forebay_driver.worker import resume; resume()"
    # Nothing that the program has set is for this interpreter.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["PYTHONHASHSEED"] = "0"
    os.execve(job["interpreter"], [job["interpreter"], "-P", "-s", "-c", code, str(state), str(fd)], env)


def _shell_script(source, flags=()):
    """Runs bash in the notebook's folder; its output goes to the pipes the server reads. As on
    the original platform, a failing script fails the cell only with `%sh -e`."""
    sys.stdout.flush()
    sys.stderr.flush()
    bash = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
    child = subprocess.Popen([bash, *flags, "-c", source], start_new_session=True)
    try:
        code = child.wait()
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    if code and "-e" in flags:
        raise ShellError(f"the script ended with exit code {code}")
    if code:
        print(f"[exit code {code}; with %sh -e it would fail the cell]", file=sys.stderr)


class ShellError(Exception):
    pass


def _table(rows):
    import pandas

    return pandas.DataFrame(rows) if rows else "(empty)"
