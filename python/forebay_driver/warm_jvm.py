"""A Java virtual machine that has started before its run, and has loaded and compiled what Spark needs.

It waits in a prepared child (`child.py`), so behind the walls, in the control group and with the limits of the run to come;
it serves that run alone and ends with it. Before its run it has executed nothing of any user's. A run for which it
does not fit, or that finds it dead, starts its own.
"""

import contextlib
import functools
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from . import jvm
from .java_end import PYTHON_LINES
from .pump import Pump
from .submission import Submission

_START_SECONDS_MAX = 60
# From when its run has come. One that takes longer hangs, and the run starts its own.
_READY_SECONDS_MAX = 40
_DRAIN_SECONDS_MAX = 5
_TAIL_LINES = 40
# With less of the machine's memory left than this there are better uses for it than waiting.
_AVAILABLE_SHARE_MIN = 0.1
# What is read once, when a JVM starts or meets Spark for the first time.
_AT_START_CONF = (
    "spark.driver.memory",
    "spark.driver.extraJavaOptions",
    "spark.driver.defaultJavaOptions",
    "spark.driver.extraClassPath",
    "spark.driver.extraLibraryPath",
    "spark.local.dir",
    "spark.master",
)
# What `spark-submit` makes a class path and folders of.
_AT_SUBMIT_CONF = ("spark.jars", "spark.jars.packages", "spark.files", "spark.archives", "spark.submit.pyFiles")
_AT_START_OPTIONS = ("--deploy-mode", "--properties-file")
_AT_START_VARIABLES = ("LANG", "LC_", "TZ", "JAVA_", "JDK_", "_JAVA", "LD_", "SPARK_", "HADOOP_")
# What a query needs, in steps: a run that comes meanwhile waits for one of them alone.
_STEPS = ("select 1", "select id % 7 as k from range(100)", "select sum(id) from range(100)")
_QUERY = "select k, count(*) as n, sum(v) as v from (select id % 7 as k, id as v from range(100)) group by k order by k"

# Netty's housekeeper, which goes by itself after a second and has nothing to do.
_NOBODYS_THREAD = "globalEventExecutor-"

# The one that waits for the run of this process.
_waiting = None


def order(job):
    """Has one start. `job`: what a run's first frame says of interpreter, engine and folders."""
    global _waiting
    if _waiting is not None and _waiting.job == job and not _waiting.is_over():
        _waiting.go_on()
        return
    give_up()
    if _available_share() > _AVAILABLE_SHARE_MIN * 2:
        _waiting = Waiting(job)


def give_up():
    global _waiting
    if _waiting is not None:
        _waiting.end()
        _waiting = None


def is_superfluous():
    return _waiting is not None and (_waiting.is_over() or _available_share() < _AVAILABLE_SHARE_MIN)


def for_program(job, line):
    """The one that has waited for this run; `None` when there is none that fits. `line`: a `Submission`."""
    return _taken(job, line, _AT_START_CONF)


def for_session(job, log):
    """The same, for a program in Python: its output goes to the file `log`."""
    found = _taken(job, Submission(()), (*_AT_START_CONF, *_AT_SUBMIT_CONF), log)
    if found:
        found.become_gateway(job)
    return found


def _taken(job, line, own, log=None):
    global _waiting
    found, _waiting = _waiting, None
    if found is None or (found.fits(job, line, own) and found.get_ready(log)):
        return found
    found.end()
    return None


def _available_share():
    with open("/proc/meminfo") as file:
        facts = dict(line.split(":") for line in file)
    amount = lambda name: int(facts[name].split()[0])  # noqa: E731
    return amount("MemAvailable") / amount("MemTotal")


class Waiting:
    def __init__(self, job):
        self.job = job
        self.go_on()
        folder = os.path.join(job["local_dir"], "spark")
        os.makedirs(folder, exist_ok=True)
        self._conf = jvm.settings(job, folder)
        self._info = os.path.join(tempfile.mkdtemp(prefix="spark-"), "gateway")
        self._variables = jvm.variables(_PYSPARK_DRIVER_CONN_INFO_PATH=self._info)
        self._process = subprocess.Popen(
            [*jvm.java(job, self._conf, folder), "org.apache.spark.api.python.PythonGatewayServer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=job["working_dir"],
            env=self._variables,
            start_new_session=True,
        )
        self._mark = uuid.uuid4().hex
        self._out = _Marked(self._process.stdout, 1, self._mark, PYTHON_LINES)
        self._err = _Marked(self._process.stderr, 2, self._mark, _TAIL_LINES)
        self._gateway = None
        # A run has come: what was begun is finished, and nothing more.
        self._hurry = threading.Event()
        self._warming = threading.Thread(target=self._warm, daemon=True)
        self._warming.start()

    def is_over(self):
        return self._process.poll() is not None or time.monotonic() > self._until

    def go_on(self):
        """Its patience begins anew."""
        self._until = time.monotonic() + self.job["idle_seconds"]

    def end(self):
        self._process.kill()
        self._process.wait()

    # -- before the run

    def _warm(self):
        # Whatever goes wrong here shows when the run comes.
        with contextlib.suppress(Exception):
            self._connect()
            queries = [functools.partial(self._query, text) for text in (*_STEPS, _QUERY, _QUERY)]
            for step in (self._start_spark, *queries, self._stop_spark):
                if not self._hurry.is_set() or (step == self._stop_spark and self._session is not None):
                    step()

    _session = None

    def _connect(self):
        port, secret = jvm.address(self._info, self._process, _START_SECONDS_MAX)
        from py4j.java_gateway import GatewayParameters, JavaGateway

        # It reports each lost connection, and the end of a JVM is one.
        logging.getLogger("py4j").setLevel(logging.CRITICAL + 1)
        # Objects that Python forgets are not told to Java: the program would do that, at any moment, and wait for the answer.
        parameters = GatewayParameters(port=port, auth_token=secret, enable_memory_management=False)
        self._gateway = JavaGateway(gateway_parameters=parameters)
        self.port, self.secret = port, secret

    def _start_spark(self):
        builder = self._gateway.jvm.org.apache.spark.sql.SparkSession.builder()
        for key, value in self._conf.items():
            builder = builder.config(key, value)
        self._session = builder.getOrCreate()

    def _query(self, text):
        self._session.sql(text).collectAsList()

    def _stop_spark(self):
        java = self._gateway.jvm
        self._session.stop()
        self._gateway.detach(self._session)
        self._session = None
        java.org.apache.spark.sql.SparkSession.clearActiveSession()
        java.org.apache.spark.sql.SparkSession.clearDefaultSession()
        # They have settings of the session before.
        java.org.apache.hadoop.fs.FileSystem.closeAll()
        java.java.lang.System.gc()

    # -- for the run

    def fits(self, job, line, own):
        """Whether it is as the run's own would be."""
        ours, theirs = self.job, job
        if any(ours[name] != theirs[name] for name in ("interpreter", "local_dir", "working_dir")):
            return False
        if ours["spark"]["memory_bytes"] != theirs["spark"]["memory_bytes"]:
            return False
        if any(key in theirs["spark"]["conf"] or key in line.conf for key in own):
            return False
        if any(option in line.options for option in _AT_START_OPTIONS):
            return False
        return not any(name.startswith(_AT_START_VARIABLES) for name in self._changed(jvm.variables()))

    def _changed(self, variables):
        names = self._variables.keys() | variables.keys()
        return {name: variables.get(name) for name in names if self._variables.get(name) != variables.get(name)}

    def get_ready(self, log):
        """Makes it the run's; `False` when it cannot be. Its output goes to the run's, or to the file `log`."""
        self._hurry.set()
        # It answers nothing when it hangs; when it is dead, all that waits for its answer fails at once.
        patience = threading.Timer(_READY_SECONDS_MAX, self._process.kill)
        patience.start()
        try:
            self._warming.join()
            if self._gateway is None or self._process.poll() is not None:
                return False
            if log:
                self._out.fd = self._err.fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
            self._settle()
        except Exception as error:
            print(f"a waiting JVM is not used: {error}", file=sys.stderr)
            return False
        finally:
            patience.cancel()
        return self._process.poll() is None

    def _settle(self):
        system = self._gateway.jvm.java.lang.System
        self._set_variables(self._changed(jvm.variables()))
        for name in list(system.getProperties().stringPropertyNames()):
            if name.startswith("spark."):
                system.clearProperty(name)
        system.setIn(self._gateway.jvm.java.io.InputStream.nullInputStream())
        for stream, pump in ((system.out, self._out), (system.err, self._err)):
            stream.println(self._mark)
            stream.flush()
            if not pump.marked.wait(_START_SECONDS_MAX):
                raise TimeoutError("its output does not come")

    def _set_variables(self, changed):
        """Java reads them once; the map it keeps them in is the only place to change."""
        java = self._gateway.jvm.java
        value = lambda owner, name, of: self._opened(java.lang.Class.forName(owner).getDeclaredField(name)).get(of)  # noqa: E731
        known = value(
            "java.util.Collections$UnmodifiableMap", "m", value("java.lang.ProcessEnvironment", "theUnmodifiableEnvironment", None)
        )
        for name, text in changed.items():
            if text is None:
                known.remove(name)
            else:
                known.put(name, text)

    @staticmethod
    def _opened(member):
        member.setAccessible(True)
        return member

    def become_gateway(self, job):
        """As `spark-submit --conf ... pyspark-shell` would leave it."""
        system = self._gateway.jvm.java.lang.System
        for key, value in jvm.settings(job, os.path.join(job["local_dir"], "spark")).items():
            system.setProperty(key, value)

    def is_dead(self):
        return self._process.poll() is not None

    def log_tail(self):
        return "\n".join([*self._out.tail()[-_TAIL_LINES:], *self._err.tail()]) or "(empty)"

    def submit(self, words):
        """As `spark-submit WORDS`: the exit code, and the last lines of both outputs."""
        from py4j.protocol import Py4JError, Py4JJavaError

        java = self._gateway.jvm
        args = self._gateway.new_array(java.java.lang.String, len(words))
        for index, word in enumerate(words):
            args[index] = word
        ours = {thread.getId() for thread in self._threads()}
        code = 0
        try:
            java.java.lang.Thread.currentThread().setName("main")
            try:
                java.org.apache.spark.deploy.SparkSubmit.main(args)
            except Py4JJavaError as error:
                code = 1
                java.java.lang.System.err.println('Exception in thread "main" ' + self._trace(error.java_exception))
            # A program goes on until its last thread ends.
            while others := [thread for thread in self._threads() if thread.getId() not in ours]:
                others[0].join()
            # It exits when its input ends, and quicker with nobody to talk to.
            self._gateway.shutdown()
        except (Py4JError, OSError):
            # It exited by itself, or was ended.
            pass
        except BaseException:
            self._process.terminate()
            raise
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        code = self._process.wait() or code
        # A process that it has left behind may hold them open.
        self._out.join(_DRAIN_SECONDS_MAX)
        self._err.join(_DRAIN_SECONDS_MAX)
        return code, self._out.tail(), self._err.tail()

    def _threads(self):
        found = self._gateway.jvm.java.lang.Thread.getAllStackTraces().keySet().toArray()
        return [thread for thread in found if not thread.isDaemon() and not thread.getName().startswith(_NOBODYS_THREAD)]

    def _trace(self, thrown):
        """Without the frames that are ours."""
        text = self._gateway.jvm.java.io.StringWriter()
        thrown.printStackTrace(self._gateway.jvm.java.io.PrintWriter(text))
        kept, is_ours = [], False
        for line in text.toString().splitlines():
            is_frame = line.startswith("\tat ")
            if not (is_frame and is_ours):
                kept.append(line)
            is_ours = is_frame and (is_ours or "deploy.SparkSubmit.main(" in line)
        return "\n".join(kept)


class _Marked(Pump):
    """Passes on what comes after the mark; until then it is nobody's."""

    def __init__(self, source, fd, mark, lines):
        self._mark = mark.encode() + b"\n"
        self._seen = b""
        self.marked = threading.Event()
        super().__init__(source, fd, lines)

    def take(self, data):
        if not self.marked.is_set():
            before, found, data = (self._seen + data).partition(self._mark)
            self._seen = before[-len(self._mark) :]
            if not found:
                return
            self.marked.set()
        super().take(data)
