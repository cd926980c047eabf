"""IPython's shell with the server as its front end."""

import ast
import asyncio
import linecache
import os
import sys
import traceback
import types

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Type
from traitlets.config import Config

from .control import Control

_OURS = os.path.dirname(os.path.abspath(__file__))


class _Compiler(CachingCompiler):
    """Names the code of a cell after its notebook and counts lines as an editor does, so that
    tracebacks point at the cell."""

    def __init__(self):
        super().__init__()
        self._next = None
        self._offsets = {}

    def name_next(self, label, lines_before):
        self._next = (label, lines_before)

    def get_code_name(self, raw_code, transformed_code, number):
        if self._next is None:
            return super().get_code_name(raw_code, transformed_code, number)
        (name, offset), self._next = self._next, None
        # IPython drops blank lines at the top.
        self._offsets[name] = offset + _blank_lines(raw_code)
        return name

    def cache(self, transformed_code, number=0, raw_code=None):
        name = super().cache(transformed_code, number, raw_code)
        offset = self._offsets.get(name)
        if offset:
            size, mtime, lines, _ = linecache.cache[name]
            linecache.cache[name] = (size, mtime, ["\n"] * offset + lines, name)
        return name

    def ast_parse(self, source, filename="<unknown>", symbol="exec"):
        offset = self._offsets.get(filename, 0)
        try:
            return ast.increment_lineno(super().ast_parse(source, filename, symbol), offset)
        except SyntaxError as error:
            if error.lineno is not None:
                error.lineno += offset
            raise

    def format_code_name(self, name):
        return ("Notebook", name) if name in self._offsets else super().format_code_name(name)


def _blank_lines(text):
    count = 0
    for line in text.splitlines():
        if line.strip():
            break
        count += 1
    return count


class _ResultHook(DisplayHook):
    def write_output_prompt(self):
        pass

    def write_format_data(self, format_dict, md_dict=None):
        _flush()
        self.shell.channel.bundle("result", format_dict, md_dict, count=self.prompt_count)

    def finish_displayhook(self):
        self._is_active = False


class _Publisher(DisplayPublisher):
    def publish(self, data, metadata=None, *, transient=None, update=False, **_):
        _flush()
        display_id = (transient or {}).get("display_id")
        kind = "update" if update else "display"
        self.shell.channel.bundle(kind, data, metadata, display_id=display_id)

    def clear_output(self, wait=False):
        _flush()
        self.shell.channel.send("clear", wait=wait)


class Shell(InteractiveShell):
    compiler_class = Type(_Compiler)
    displayhook_class = Type(_ResultHook)
    display_pub_class = Type(_Publisher)

    channel = None
    control = None
    failure = None
    interrupted = False
    # Tells what to show for an error: see `spark.Spark.explained`.
    explained = None

    # A pseudo-terminal would be needed for IPython's default; plain pipes stream as well.
    system = InteractiveShell.system_raw

    def enable_gui(self, gui=None):
        pass

    def ask_exit(self):
        raise SystemExit

    def set_next_input(self, text, replace=False):
        pass

    def showtraceback(self, exc_tuple=None, *args, **kwargs):
        try:
            etype, value, trace = self._get_exc_info(exc_tuple)
        except ValueError:
            return super().showtraceback(exc_tuple, *args, **kwargs)
        if issubclass(etype, Control):
            self.control = value
            return None
        if self.interrupted and issubclass(etype, asyncio.CancelledError):
            etype, value = KeyboardInterrupt, KeyboardInterrupt()
        trace = _without_ours(trace)
        if self.explained is not None:
            value, hint = self.explained(value)
            etype = type(value)
            for line in hint:
                value.add_note(line)
        if _has_group(value):
            # IPython prints these instead of showing them.
            lines = traceback.format_exception(etype, value, trace and trace.tb_next)
            return self._showtraceback(etype, value, "".join(lines).rstrip("\n").split("\n"))
        return super().showtraceback((etype, value, trace), *args, **kwargs)

    def show_usage_error(self, exc):
        self.show_error("UsageError", str(exc), [f"UsageError: {exc}"])

    def _showtraceback(self, etype, evalue, stb):
        text = "\n".join([str(evalue), *getattr(evalue, "__notes__", ())])
        self.show_error(etype.__name__, text, [str(line) for line in stb])

    def show_error(self, ename, message, trace):
        _flush()
        self.failure = (ename, message, "\n".join(trace))
        self.channel.error(ename, message, trace)

    def run_labelled(self, source, label, loop, lines_before=0):
        """Executes one cell in `loop`; true when it ended well."""
        self.control = self.failure = None
        self.interrupted = False
        self.compile.name_next(label, lines_before)
        problem = None
        try:
            transformed = self.transform_cell(source)
        except Exception:
            transformed, problem = source, sys.exc_info()
        cell = self.run_cell_async(source, store_history=True, transformed_cell=transformed, preprocessing_exc_tuple=problem)
        task = loop.create_task(cell)
        try:
            result = loop.run_until_complete(task)
        except KeyboardInterrupt:
            # It hit the event loop rather than the cell's own code.
            self.interrupted = True
            task.cancel()
            result = loop.run_until_complete(task)
        finally:
            # Inline figures are shown by a hook on this event.
            self.events.trigger("post_execute")
        self.events.trigger("post_run_cell", result)
        return result.success


def _has_group(error):
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            return True
        error = error.__cause__ or error.__context__
    return False


def _without_ours(trace):
    """The traceback without the driver's own frames: nobody can do anything about those."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    for entry in reversed(frames):
        if not entry.tb_frame.f_code.co_filename.startswith(_OURS):
            frame, last, line = entry.tb_frame, entry.tb_lasti, entry.tb_lineno
            trace = types.TracebackType(trace, frame, last, line)
    return trace


def _flush():
    sys.stdout.flush()
    sys.stderr.flush()


def instance():
    """The one shell of this process; made in the warm parent where there is one."""
    if Shell.initialized():
        return Shell.instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.automagic = True
    config.InteractiveShell.banner1 = ""
    config.BaseIPythonApplication.auto_create = False
    return Shell.instance(config=config)


class _Silent:
    def send(self, *_, **__):
        pass

    bundle = output = send


def warm():
    """Runs one cell of each usual kind, so that IPython has imported what it imports late."""
    shell = instance()
    shell.channel = _Silent()
    loop = asyncio.new_event_loop()
    shell.run_labelled("_ = 1\n_", "warm", loop)
    loop.close()
    shell.reset(new_session=True)
    # It has emptied the module that is `__main__` now. Without these, Spark's client cannot be imported.
    shell.user_module.__spec__ = None
    shell.user_module.__file__ = "forebay"
    shell.execution_count = 1
    shell.channel = None
