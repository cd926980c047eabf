"""How a program of `spark-submit` ended: what its last words say about why."""

import re
import signal

from .worker import ProgramFailed

# Spark's errors bring the stack of the JVM, below the exception that matters.
PYTHON_LINES = 400
_HEAP_IS_FULL = "OutOfMemoryError: Java heap space"
_MORE_HEAP = (
    "The heap has half of the run's memory unless spark.driver.memory says otherwise; "
    "forebay.run.memory in the spark_conf of the cluster gives the run more"
)
_TRACEBACK = "Traceback (most recent call last):"
_R_ERROR = re.compile(r"Error(:| in ).*")
# What Spark logs is not why a program ended.
_LOGGED = re.compile(r"\d\d/\d\d/\d\d [\d:]{8} (TRACE|DEBUG|INFO|WARN) |Using Spark's default log4j profile|Setting Spark log level to")


def failure(code, out, err, language):
    """`language`: Java, Python or R. `code`: negative for a signal. `out`, `err`: the last lines of both outputs; Spark puts
    all that Python and R say on the first."""
    name, what = f"{language}Error", f"exit code {code}"
    if code < 0:
        what = f"ended by signal {-code} ({signal.strsignal(-code)})"
        # The server looks whether it was for memory, see `verdict.rs`.
        name = "JavaKilled" if -code == signal.SIGKILL else name
    if language == "R":
        trace, cause = _of_r(out)
    else:
        trace = _of_python(out) if language == "Python" else []
        cause = _of_exception(trace) if trace else _of_java(err)
    message = f"{what}: {cause}" if cause else what
    if _HEAP_IS_FULL in "\n".join([message, *trace]):
        message += f"\n{_MORE_HEAP}"
    return ProgramFailed(name, message, "\n".join(trace or err))


def _of_python(lines):
    return lines[lines.index(_TRACEBACK) :] if _TRACEBACK in lines else []


def _of_r(lines):
    """From the last error on, which may follow on what the program has written of a line; when the call that failed is long,
    R says why on the next one."""
    for index in reversed(range(len(lines))):
        if found := _R_ERROR.search(lines[index]):
            said, trace = found[0].rstrip(), [found[0], *lines[index + 1 :]]
            return trace, f"{said} {trace[1].strip()}" if said.endswith(":") and len(trace) > 1 else said
    return [], ""


def _of_exception(trace):
    """The last one: of a function that Spark called, it is the one in there."""
    last = max(index for index, line in enumerate(trace) if line == _TRACEBACK)
    return next((line for line in trace[last + 1 :] if not line.startswith((" ", "\t"))), "")


def _of_java(lines):
    """The line that says what happened: the innermost cause of an exception, or what the launcher says."""
    causes = [line for line in lines if line.startswith("Caused by: ")]
    if causes:
        return causes[-1].removeprefix("Caused by: ")
    for line in lines:
        if "Exception in thread" in line:
            return line.split('" ', 1)[-1]
        if line.startswith("Error: "):
            return line.removeprefix("Error: ")
    return next((line.strip() for line in reversed(lines) if line.strip() and not _LOGGED.match(line)), "")
