"""Scripts and entry points of packages: plain Python, without a notebook's shell."""

import base64
import builtins
import importlib
import importlib.metadata
import importlib.util
import linecache
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types

from . import r, r_libraries, spark
from .libraries import Layer, installing
from .worker import ProgramFailed

_OURS = os.path.dirname(os.path.abspath(__file__))


def run(run, job, channel):
    layer = Layer(job)
    engine = spark.Spark(job, channel)
    # Nobody waits to see that a script has begun, as somebody may for a cell of a notebook.
    channel.begin_cell(0, later=True)
    started = time.monotonic()
    status = "failed"
    try:
        layer.activate()
        library = r_libraries.Library(job)
        library.activate()
        with installing():
            jars = spark.take_jars(job)
            of_r, wanted = r_libraries.split(job["libraries"])
            if of_r:
                library.install(of_r)
            came_too_late = layer.install(wanted) if wanted else ()
        if came_too_late:
            _restart(run, job, channel)
        try:
            _call(job, jars, channel)
        finally:
            engine.settle()
        status = "succeeded"
    except ProgramFailed as failure:
        _flush()
        verdict = failure.verdict
        channel.error(verdict["ename"], verdict["message"], [verdict["trace"]])
        raise
    except SystemExit as exit:
        if exit.code not in (None, 0):
            if not isinstance(exit.code, int):
                print(exit.code, file=sys.stderr)
            raise ProgramFailed("SystemExit", f"exit code {exit.code}", "") from None
        status = "succeeded"
    except BaseException as error:
        error, hint = engine.explained(error)
        for line in hint:
            error.add_note(line)
        lines = _trace(error)
        _flush()
        name = type(error).__name__
        message = "\n".join([str(error), *getattr(error, "__notes__", ())])
        channel.error(name, message, lines)
        raise ProgramFailed(name, message, "\n".join(lines)) from None
    finally:
        _flush()
        elapsed = round((time.monotonic() - started) * 1000)
        # The verdict follows at once, unless threads go on.
        channel.send_later("finish", status=status, ms=elapsed)
    return None


def _flush():
    sys.stdout.flush()
    sys.stderr.flush()


def _call(job, jars, channel):
    program = job["program"]
    if program["type"] in ("jar", "submit"):
        from . import jar

        jar.run(job, jars, channel)
        return
    if program["type"] == "script":
        path, source = program["file"], program.get("source")
        # What was there when the attempt began.
        source = None if source is None else base64.b64decode(source)
        if path.endswith((".R", ".r")):
            _rscript(_file_of(path, source, job["local_dir"]), program["args"])
            return
        sys.argv[:] = [path, *program["args"]]
        sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
        _execute(path, source)
        return
    named = [f"--{key}={value}" for key, value in program["named"].items()]
    sys.argv[:] = [program["package"], *program["args"], *named]
    _entry_point(program["package"], program["entry_point"])()


def _rscript(path, args):
    """A program of its own, with no half of ours inside: `quit(status = 3)` is its exit code."""
    _flush()
    done = subprocess.run([r.program("Rscript"), "--no-save", "--no-restore", "--no-init-file", path, *args])
    if done.returncode == -signal.SIGKILL:
        raise r.RKilled("Rscript was killed; the kernel does that when memory runs out")
    if done.returncode < 0:
        raise r.RError(f"Rscript was ended by signal {-done.returncode}")
    if done.returncode:
        raise r.RError(f"Rscript ended with exit code {done.returncode}; what it said is above")


def _file_of(path, source, folder):
    """Where a script is: at its place, among its neighbours, unless that has another one by now."""
    if source is None or _has(path, source):
        return path
    file = os.path.join(tempfile.mkdtemp(prefix="script-", dir=folder), os.path.basename(path))
    with open(file, "xb") as copy:
        copy.write(source)
    return file


def _has(path, source):
    try:
        with open(path, "rb") as file:
            return file.read() == source
    except OSError:
        return False


def _execute(path, source):
    """As `python PATH` does; `runpy` would take the module away again before threads and exit
    handlers are done with it."""
    if source is None:
        with open(path, "rb") as file:
            source = file.read()
    code = compile(source, path, "exec", dont_inherit=True)
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins, __cached__=None)
    sys.modules["__main__"] = main
    try:
        exec(code, main.__dict__)
    except Exception:
        # Tracebacks show the lines that were executed.
        lines = importlib.util.decode_source(source).splitlines(keepends=True)
        linecache.cache[path] = len(source), None, lines, path
        raise


def _entry_point(package, name):
    """By the distribution's metadata, in any group; else an attribute of the module."""
    try:
        declared = importlib.metadata.distribution(package).entry_points
    except importlib.metadata.PackageNotFoundError:
        declared = ()
    for entry_point in declared:
        if entry_point.name == name:
            return entry_point.load()
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise ImportError(f"package {package} is not installed: {error}") from error
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        names = sorted(entry_point.name for entry_point in declared)
        raise AttributeError(
            f"package {package} has no entry point {name!r}: its metadata declares {names}, and {module.__name__}.{name} is not a function"
        )
    return found


def _restart(run, job, channel):
    """Something that was installed is hidden behind a module the warm parent has imported."""
    from . import session

    job["libraries"] = []
    session.replace_interpreter(run, job, channel)


def _trace(error):
    """Without our own frames."""
    formatted = traceback.TracebackException.from_exception(error)
    kept = [frame for frame in formatted.stack if not frame.filename.startswith(_OURS)]
    formatted.stack[:] = kept
    return "".join(formatted.format()).rstrip("\n").split("\n")
