"""Programs for the Java virtual machine: the `main` of a class in a JAR, or whatever `spark-submit` takes."""

import os
import subprocess
import sys
import zipfile

from . import jvm, warehouse, warm_jvm
from .java_end import PYTHON_LINES, failure
from .pump import Pump

# Options of `spark-submit` that have no value.
_FLAGS = ("--help", "-h", "--supervise", "--usage-error", "--verbose", "-v", "--version")
_FILES = ("--archives", "--files", "--jars", "--py-files")
# What `spark-submit` starts its JVM with; ours is started before it reads them.
_AT_START = {
    "--driver-memory": "spark.driver.memory",
    "--driver-java-options": "spark.driver.extraJavaOptions",
    "--driver-class-path": "spark.driver.extraClassPath",
}
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
    at_start = {}
    if program["type"] == "jar":
        words, language = _of_class(program, jars), "Java"
        conf.pop("spark.jars", None)
    else:
        words = [_local(word) for word in _with_jars(program["args"], jars)]
        _, ending = os.path.splitext(_resource(words))
        language = {".py": "Python", ".r": "R"}.get(ending.lower(), "Java")
        at_start = _at_start(words)
        # What the caller says on the command line wins, and must not be given twice.
        conf = {key: value for key, value in conf.items() if not _says(program["args"], key)}
    channel.send("engine", name=f"apache {jvm.version()}")
    sys.stdout.flush()
    sys.stderr.flush()
    waiting = warm_jvm.for_program(job, program["args"] if program["type"] == "submit" else ())
    code, out, err = (
        waiting.submit(jvm.submit_words(conf, *words)) if waiting else _execute(jvm.command(job, conf, folder, *words, at_start=at_start))
    )
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


def _with_jars(args, jars):
    return ["--jars", ",".join(jars), *args] if jars and "--jars" not in args else args


def _resource(words):
    """The file that is executed: the first word that is neither an option nor its value. What is not there is named, as are
    the files beside it."""
    words = iter(words)
    for word in words:
        if not word.startswith("-"):
            _must_be_there(word)
            return word
        option, is_joined, value = word.partition("=")
        if option in _FLAGS:
            continue
        value = value if is_joined else next(words, "")
        if option in _FILES:
            for path in value.split(","):
                _must_be_there(path.partition("#")[0], f" ({option})")
    return ""


def _at_start(words):
    """What the command line says of the JVM itself. Of two the last one counts, and an option before a setting."""
    options, settings = {}, {}
    words = iter(words)
    for word in words:
        option, is_joined, value = word.partition("=")
        if not option.startswith("-"):
            break
        if option in _FLAGS:
            continue
        value = value if is_joined else next(words, "")
        if option in ("--conf", "-c"):
            key, _, text = value.partition("=")
            settings[key.strip()] = text
        elif option in _AT_START:
            options[_AT_START[option]] = value
    return {**{key: value for key, value in settings.items() if key in _AT_START.values()}, **options}


def _must_be_there(path, whose=""):
    if path.startswith("/") and "*" not in path and not os.path.exists(path):
        raise JarError(f"there is no file {path}{whose}")


def _local(word):
    """`dbfs:/x` where a file is meant: alone or in a list."""
    parts = word.split(",")
    return ",".join(warehouse.local_path(part) if part.startswith("dbfs:") else part for part in parts)


def _says(args, key):
    named = {"spark.master": "--master", "spark.app.name": "--name", "spark.driver.memory": "--driver-memory"}.get(key)
    return (named in args if named else False) or any(word.startswith(f"{key}=") for word in args)


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
