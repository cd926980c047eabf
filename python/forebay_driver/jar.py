"""Programs for the Java virtual machine: the `main` of a class in a JAR, or whatever `spark-submit` takes."""

import os
import subprocess
import sys
import zipfile

from . import jvm, warehouse, warm_jvm
from .java_end import PYTHON_LINES, failure
from .pump import Pump
from .submission import Submission

_FILES = ("--archives", "--files", "--jars", "--properties-file", "--py-files")
_DRAIN_SECONDS_MAX = 5


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
        line, language = Submission(_of_class(program, jars)), "Java"
        conf.pop("spark.jars", None)
    else:
        line = _submitted(program["args"], jars)
        _, ending = os.path.splitext(line.rest[0] if line.rest else "")
        language = {".py": "Python", ".r": "R"}.get(ending.lower(), "Java")
        # What the caller says on the command line wins, and must not be given twice.
        conf = {key: value for key, value in conf.items() if key not in line.conf}
    channel.send("engine", name=f"apache {jvm.version()}")
    sys.stdout.flush()
    sys.stderr.flush()
    waiting = warm_jvm.for_program(job, line)
    words = jvm.submit_words(conf, *line.words)
    if waiting:
        code, out, err = waiting.submit(words)
    else:
        # Spark starts its JVM with what the command line says; ours is there before it reads that.
        conf = {**line.conf_of_file(), **conf, **line.conf}
        code, out, err = _execute(jvm.command(job, conf, folder, words, *jvm.SHORT))
    if code:
        raise failure(code, out, err, language)


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


def _submitted(args, jars):
    """The command line of a caller. What is not there is named, before Spark looks for it."""
    line = Submission(map(_local, Submission(args).words))
    if jars and "--jars" not in line.options:
        line = Submission(["--jars", ",".join(jars), *line.words])
    for option in _FILES:
        for path in line.options.get(option, "").split(","):
            _must_be_there(path.partition("#")[0], f" ({option})")
    for path in line.rest[:1]:
        _must_be_there(path)
    return line


def _must_be_there(path, whose=""):
    if path.startswith("/") and "*" not in path and not os.path.exists(path):
        raise JarError(f"there is no file {path}{whose}")


def _local(word):
    """`dbfs:/x` where a file is meant: alone or in a list."""
    parts = word.split(",")
    return ",".join(warehouse.local_path(part) if part.startswith("dbfs:") else part for part in parts)


def _execute(words):
    """The exit code, and the last lines of both outputs."""
    child = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=jvm.variables(), start_new_session=True
    )
    pumps = Pump(child.stdout, 1, PYTHON_LINES), Pump(child.stderr, 2)
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        raise
    for pump in pumps:
        # A process that it has left behind may hold them open.
        pump.join(_DRAIN_SECONDS_MAX)
    return code, *(pump.tail() for pump in pumps)
