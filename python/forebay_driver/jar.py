"""Programs for the Java virtual machine: the `main` of a class in a JAR, or whatever `spark-submit` takes."""

import collections
import os
import signal
import subprocess
import sys
import threading
import zipfile

from . import jvm, warehouse, warm_jvm
from .worker import ProgramFailed

_TAIL_LINES = 40
_HEAP_IS_FULL = "OutOfMemoryError: Java heap space"
_MORE_HEAP = (
    "The heap has half of the run's memory unless spark.driver.memory says otherwise; "
    "forebay.run.memory in the spark_conf of the cluster gives the run more"
)


class JarError(Exception):
    """What is wrong with a JAR, before anything of it runs."""


def run(job, jars, channel):
    """Runs the program and fails as it does."""
    program = job["program"]
    folder = os.path.join(job["local_dir"], "spark")
    os.makedirs(folder, exist_ok=True)
    # What a program logs at INFO would bury what it says.
    conf = {"spark.log.level": "WARN", **jvm.settings(job, folder)}
    if program["type"] == "jar":
        words = _of_class(program, jars)
        conf.pop("spark.jars", None)
    else:
        words = [_local(word) for word in _with_jars(program["args"], jars)]
        # What the caller says on the command line wins, and must not be given twice.
        conf = {key: value for key, value in conf.items() if not _says(program["args"], key)}
    channel.send("engine", name=f"apache {jvm.version()}")
    sys.stdout.flush()
    sys.stderr.flush()
    waiting = warm_jvm.for_program(job, program["args"] if program["type"] == "submit" else ())
    code, last = waiting.submit(jvm.submit_words(conf, *words)) if waiting else _execute(jvm.command(job, conf, folder, *words))
    if code:
        raise _failure(code, last)


def _failure(code, last):
    """`code`: as Python has it, so negative for a signal. `last`: the last lines of standard error."""
    name, what = "JavaError", f"exit code {code}"
    if code < 0:
        what = f"ended by signal {-code} ({signal.strsignal(-code)})"
        # The server looks whether it was for memory, see `verdict.rs`.
        name = "JavaKilled" if -code == signal.SIGKILL else name
    cause = _cause(last)
    message = f"{what}: {cause}" if cause else what
    if _HEAP_IS_FULL in message:
        message += f"\n{_MORE_HEAP}"
    return ProgramFailed(name, message, "\n".join(last))


def _of_class(program, jars):
    """`--class NAME --jars REST FIRST ARGS`, after a look at whether that can work."""
    if not jars:
        raise JarError('the task has no JAR: name one in its libraries, such as {"jar": "dbfs:/jars/app.jar"}')
    name = program["main_class"]
    entry = name.replace(".", "/") + ".class"
    contents = {jar: _entries(jar) for jar in jars}
    first = next((jar for jar in jars if entry in contents[jar]), None)
    if first is None:
        found = ", ".join(jars)
        like = sorted({each for names in contents.values() for each in names if each.endswith("/" + entry.rsplit("/", 1)[-1])})
        hint = f"; did you mean {like[0].removesuffix('.class').replace('/', '.')}?" if like else ""
        raise JarError(f"there is no class {name} in {found}{hint}")
    rest = [jar for jar in jars if jar != first]
    return ["--class", name, *(["--jars", ",".join(rest)] if rest else []), first, *program["args"]]


def _entries(path):
    try:
        with zipfile.ZipFile(path) as jar:
            return set(jar.namelist())
    except zipfile.BadZipFile:
        raise JarError(f"{path} is not a JAR") from None
    except FileNotFoundError:
        raise JarError(f"there is no file {path}") from None


def _with_jars(args, jars):
    return ["--jars", ",".join(jars), *args] if jars and "--jars" not in args else args


def _local(word):
    """`dbfs:/x` where a file is meant: alone or in a list."""
    parts = word.split(",")
    return ",".join(warehouse.local_path(part) if part.startswith("dbfs:") else part for part in parts)


def _says(args, key):
    named = {"spark.master": "--master", "spark.app.name": "--name", "spark.driver.memory": "--driver-memory"}.get(key)
    return (named in args if named else False) or any(word.startswith(f"{key}=") for word in args)


def _execute(words):
    """The exit code, and the last lines of standard error."""
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=jvm.variables(), start_new_session=True)
    last = collections.deque(maxlen=_TAIL_LINES)
    passing = threading.Thread(target=_pass_on, args=(child.stderr, last))
    passing.start()
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        raise
    passing.join()
    return code, list(last)


def _pass_on(source, last):
    for line in source:
        os.write(2, line)
        last.append(line.decode("utf-8", "replace").rstrip("\n"))


def _cause(lines):
    """The line that says what happened: the innermost cause of an exception, or what the launcher says."""
    causes = [line for line in lines if line.startswith("Caused by: ")]
    if causes:
        return causes[-1].removeprefix("Caused by: ")
    for line in lines:
        if "Exception in thread" in line:
            return line.split('" ', 1)[-1]
        if line.startswith("Error: "):
            return line.removeprefix("Error: ")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
