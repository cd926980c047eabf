"""A worker's life: take the run from the channel, execute it, say how it went."""

import atexit
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import traceback

from . import channel as channels
from . import imports, r, spark

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ProgramFailed(Exception):
    """The program's own failure, already shown; carries the verdict for the server."""

    def __init__(self, ename, message, trace):
        super().__init__(message)
        self.verdict = {"ename": ename, "message": message, "trace": _COLOURS.sub("", trace)}


# Of the random numbers of this process's run.
_seed = None
# The environment before the run: much quicker to look at than `os.environ`.
_environment = {}


def announce():
    """What is to happen when a program imports something, in this process and in all that fork from it."""
    _environment.update(os.environ)
    imports.when_imported("numpy.random", _seed_numpy)
    imports.when_imported("matplotlib", _place_fonts)
    spark.announce()


def serve(run, fd):
    channel = channels.Channel(fd)
    job = channel.receive()
    return execute(run, job, channel)


def resume():
    """Entry of an interpreter that replaced its predecessor: see `session.Restart`."""
    state_fd, channel_fd = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(state_fd) as file:
        state = json.load(file)
    os.set_inheritable(channel_fd, False)
    announce()
    os._exit(execute(state["run"], state["job"], channels.Channel(channel_fd, state["calls"])))


def execute(run, job, channel):
    channel.cell_limit = job["output_cell_bytes"]
    signal.signal(signal.SIGINT, channel.on_interrupt)
    _reseed(job)
    _enter(job)
    sys.stdout = channels.Stream(channel, "stdout", 1)
    sys.stderr = channels.Stream(channel, "stderr", 2)
    try:
        _initialise(job)
        verdict = {"ok": True, "exit_value": _run_program(run, job, channel)}
    except ProgramFailed as failure:
        verdict = {"ok": False, **failure.verdict}
    except BaseException as error:
        trace = traceback.format_exc()
        verdict = {"ok": False, "ename": type(error).__name__, "message": str(error)}
        verdict["trace"] = trace
        _quietly(lambda: sys.stderr.write(trace))
    # From here on an interrupt would only spoil the good-bye.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if job["program"]["type"] not in ("notebook", "session"):
        _quietly(threading._shutdown)
    _quietly(sys.stdout.flush)
    _quietly(sys.stderr.flush)
    channel.done(**verdict, packages=any(name in sys.modules for name in job["packages"]))
    _quietly(atexit._run_exitfuncs)
    _quietly(sys.stdout.flush)
    _quietly(sys.stderr.flush)
    return 0


def _initialise(job):
    """What the cluster's definition has executed before every program: plain shell scripts."""
    # An interpreter that takes the place of this one does not do it again.
    scripts, job["init_scripts"] = job["init_scripts"], []
    for path in scripts:
        try:
            done = subprocess.run(["bash", path], stdin=subprocess.DEVNULL, stdout=2, cwd=job["local_dir"])
        except OSError as error:
            problem = f"init script {path} cannot be executed: {error}"
            raise ProgramFailed("InitScriptFailed", problem, "") from error
        if done.returncode:
            raise ProgramFailed("InitScriptFailed", f"init script {path} ended with exit code {done.returncode}; what it said is above", "")


def _run_program(run, job, channel):
    waiting = sys.modules.get(f"{__package__}.warm_jvm")
    if waiting is not None and job["spark"]["engine"] != "apache":
        waiting.give_up()
    if job["program"]["type"] == "notebook":
        if any(cell["kind"] == "r" for cell in job["program"]["cells"]) and not job.get("state"):
            r.start_early()
        from . import session

        return session.Session(run, job, channel).run()
    if job["program"]["type"] == "session":
        if job["program"]["language"] == "R" and not job.get("state"):
            r.start_early()
        from . import context

        return context.Context(run, job, channel).run()
    from . import program

    return program.run(run, job, channel)


def _reseed(job):
    """A fork would hand every run the same "random" numbers. These are the run's own, and come again
    when it is repeated."""
    global _seed
    _seed = int(job["env"].get("FOREBAY_SEED", 0)) or None
    random.seed(_seed)
    if "numpy.random" in sys.modules:
        _seed_numpy(sys.modules["numpy.random"])


def _seed_numpy(module):
    module.seed(_seed)


def _enter(job):
    # Most of it is as the parent has it, and each change is copied to C.
    wanted = job["env"]
    for name in _environment:
        if name not in wanted:
            del os.environ[name]
    for name, value in wanted.items():
        if _environment.get(name) != value:
            os.environ[name] = value
    # What the interpreter read from its environment before the fork.
    others = [path for path in sys.path if path not in job["python_path"]]
    place = _behind_python(others)
    sys.path[:] = [*others[:place], *job["python_path"], *others[place:]]
    os.chdir(job["working_dir"])


def _behind_python(paths):
    """Behind the standard library, before what is installed: a notebook that is called `csv` is no module of Python,
    and what has imported that one before would differ from what has not."""
    python = os.path.dirname(os.__file__)
    return 1 + max((at for at, path in enumerate(paths) if path in (python, f"{python}/lib-dynload")), default=-1)


def _place_fonts(_):
    """Matplotlib's list of fonts, made with the environment; making it takes about a second."""
    made = os.path.join(sys.prefix, "share", "forebay", "matplotlib")
    wanted = os.environ.get("MPLCONFIGDIR")
    if wanted and os.path.isdir(made):
        os.makedirs(wanted, exist_ok=True)
        for entry in os.scandir(made):
            with contextlib.suppress(FileExistsError):
                os.symlink(entry.path, os.path.join(wanted, entry.name))


def _quietly(action):
    with contextlib.suppress(BaseException):
        action()
