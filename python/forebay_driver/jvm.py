"""Java virtual machines with Apache Spark on their class path: how they are started, and what they say."""

import glob
import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from . import warehouse
from .spark import SparkEngineDied, SparkNotAvailable

_START_SECONDS_MAX = 180
_LOG_TAIL_BYTES = 4096
_JAVA_MIN = 17
# Of the run's memory: the heap. Beside it are the JVM's own structures and the Python program.
_HEAP_SHARE = 0.5
# What Spark reaches into, as its own launcher opens it.
_OPENED = (
    *(f"java.base/java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio")),
    *(f"java.base/java.{name}" for name in ("util", "util.concurrent", "util.concurrent.atomic")),
    *(f"java.base/{name}" for name in ("jdk.internal.ref", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar")),
    "java.security.jgss/sun.security.krb5",
)
# A start is mostly the loading of classes: an archive has them loaded.
_QUICK = ("-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr")
# And it is the compiling: the costly compiler, which would take more of two CPUs than a short program does, begins
# with what is called or goes round four times as often as it would without this. Long ones pay for it: a query in a session
# took 2 to 3 % more time (and 5 to 10 % at twenty times as often).
SHORT = ("-XX:Tier4InvocationThreshold=20000", "-XX:Tier4CompileThreshold=60000", "-XX:Tier4BackEdgeThreshold=160000")
# Starts as quickly as the serial one and stops a program for half as long on two CPUs; a group-by took 8 % less time with it.
_COLLECTOR = "-XX:+UseParallelGC"
_ANY_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")
_JAVA_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
ARCHIVE = os.path.join("share", "forebay", "spark.jsa")


def spark_home():
    return os.path.dirname(importlib.util.find_spec("pyspark").origin)


def version():
    return importlib.metadata.version("pyspark")


def find_java():
    home = os.environ.get("JAVA_HOME")
    found = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if not found or not os.path.exists(found):
        places = sorted(glob.glob("/usr/lib/jvm/*/bin/java")) + sorted(glob.glob("/opt/*/bin/java"))
        found = places[0] if places else None
    if found is None:
        raise SparkNotAvailable(
            f"the engine apache needs Java {_JAVA_MIN} or newer on the server's machine (below /usr or /opt), and there is none: "
            "install one, such as Debian's openjdk-17-jre-headless, or use the engine sail"
        )
    return found


def settings(job, folder):
    """Spark's settings of a run; the cluster's own win."""
    is_local = job["spark"]["conf"].get("spark.master", "local").startswith("local")
    return {
        "spark.master": "local[*]",
        "spark.app.name": "forebay",
        "spark.ui.enabled": "false",
        # Runs share the loopback, and nobody else has this run's secret; nor would another cluster.
        **({"spark.authenticate": "true"} if is_local else {}),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": warehouse.WAREHOUSE,
        "spark.sql.catalogImplementation": "in-memory",
        "spark.pyspark.python": job["interpreter"],
        **{key: value for key, value in job["spark"]["conf"].items() if key != "spark.remote"},
    }


def java(job, conf, folder, *options):
    """`java` with all its options, of which `options` are the first; what is missing is the class to execute."""
    home = spark_home()
    memory = job["spark"].get("memory_bytes")
    heap = conf.get("spark.driver.memory") or (f"{int(memory * _HEAP_SHARE) >> 20}m" if memory else "1g")
    archive = os.path.join(os.path.dirname(os.path.dirname(job["interpreter"])), ARCHIVE)
    own = _options(conf)
    options = [*options, *_QUICK, f"-Xmx{heap}", f"-Djava.io.tmpdir={folder}", "-XX:+IgnoreUnrecognizedVMOptions"]
    # Java refuses to start with two. Of other options the last one counts, which is the cluster's.
    if not any(map(_ANY_COLLECTOR.match, [*own, *_of_variables()])):
        options.append(_COLLECTOR)
    if job["spark"].get("is_archived", True) and os.path.exists(archive):
        options.append(f"-XX:SharedArchiveFile={archive}")
    options += [f"--add-opens={name}=ALL-UNNAMED" for name in _OPENED]
    options += ["-Dio.netty.tryReflectionSetAccessible=true", "--enable-native-access=ALL-UNNAMED"]
    options += own
    path = os.path.join(home, "jars", "*")
    if extra := conf.get("spark.driver.extraClassPath"):
        # Its classes come first, as with Spark's own launcher; Java then makes no use of the archive.
        path = f"{extra}:{path}"
    return [find_java(), "-cp", path, *options]


def _options(conf):
    """The words of `spark.driver.extraJavaOptions`, in which quotes keep blanks together."""
    name = "spark.driver.extraJavaOptions"
    try:
        return shlex.split(conf.get(name, ""))
    except ValueError as error:
        raise SparkNotAvailable(f"{name} (--driver-java-options) is not what Java can be started with: {error}") from None


def _of_variables():
    """Options that Java takes from its environment."""
    return [word.strip("\"'") for name in _JAVA_VARIABLES for word in os.environ.get(name, "").split()]


def submit_words(conf, *words):
    return [*(word for key, value in conf.items() for word in ("--conf", f"{key}={value}")), *words]


def command(job, conf, folder, words, *options):
    """`java OPTIONS ... SparkSubmit WORDS`, without the second JVM that `spark-submit` starts to find that out. `conf`: what
    `words` say of Java itself."""
    return [*java(job, conf, folder, *options), "org.apache.spark.deploy.SparkSubmit", *words]


def variables(**more):
    return {
        **os.environ,
        "SPARK_HOME": spark_home(),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_HOSTNAME": "localhost",
        "SPARK_USER": "root",
        **more,
    }


def address(info, process, seconds):
    """Port and secret of a gateway, which writes them to the file `info`."""
    end = time.monotonic() + seconds
    while not os.path.exists(info):
        if process.poll() is not None or time.monotonic() > end:
            raise TimeoutError("the JVM did not start")
        time.sleep(0.01)
    with open(info, "rb") as file:
        return int.from_bytes(file.read(4), "big"), file.read(int.from_bytes(file.read(4), "big")).decode()


class Gateway:
    """A JVM that a Python program talks to. It ends with this process, whose end it reads from its input."""

    def __init__(self, job, *options):
        folder = os.path.join(job["local_dir"], "spark")
        os.makedirs(folder, exist_ok=True)
        self.log = os.path.join(folder, "engine.log")
        info = os.path.join(tempfile.mkdtemp(prefix="spark-"), "gateway")
        conf = settings(job, folder)
        words = command(job, conf, folder, submit_words(conf, "pyspark-shell"), *options)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=variables(_PYSPARK_DRIVER_CONN_INFO_PATH=info),
                start_new_session=True,
            )
        try:
            self.port, self.secret = address(info, self._process, _START_SECONDS_MAX)
        except TimeoutError:
            raise SparkEngineDied(f"the engine apache did not start. The end of its log:\n{self.log_tail()}") from None

    def is_dead(self):
        return self._process.poll() is not None

    def log_tail(self):
        with open(self.log, "rb") as log:
            log.seek(max(0, os.path.getsize(self.log) - _LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip() or "(empty)"

    def end(self, seconds):
        """Closes its input, and waits for it: its exit code."""
        self._process.stdin.close()
        return self._process.wait(seconds)


def make_archive(environment):
    """Writes the classes that Spark loads for a small query into an archive in the environment, which makes every later
    start faster. Executes nothing of any user's."""
    with tempfile.TemporaryDirectory(prefix="spark-") as folder:
        target = os.path.join(environment, ARCHIVE)
        draft = os.path.join(folder, "spark.jsa")
        job = {
            "local_dir": folder,
            "interpreter": os.path.join(environment, "bin", "python"),
            "spark": {
                "conf": {"spark.sql.warehouse.dir": folder, "spark.master": "local[1]"},
                "memory_bytes": None,
                # Java makes none when it has one, which may be of a Java that is no longer there.
                "is_archived": False,
            },
        }
        gateway = Gateway(job, f"-XX:ArchiveClassesAtExit={draft}")
        os.environ.update(PYSPARK_GATEWAY_PORT=str(gateway.port), PYSPARK_GATEWAY_SECRET=gateway.secret)
        from pyspark import SparkContext
        from pyspark.sql import SparkSession

        session = SparkSession(SparkContext.getOrCreate())
        session.range(100).selectExpr("id % 7 as k", "id").groupBy("k").count().orderBy("k").collect()
        session.createDataFrame([(1, "a")], "n int, t string").write.parquet(os.path.join(folder, "p"))
        session.read.parquet(os.path.join(folder, "p")).toPandas()
        session.sql("select 1").collect()
        session.stop()
        if code := gateway.end(300):
            raise SparkEngineDied(f"Java ended with exit code {code}. The end of its log:\n{gateway.log_tail()}")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # Servers that share their environments may be at it at once.
        copy, whole = tempfile.mkstemp(prefix=".spark-", dir=os.path.dirname(target))
        os.close(copy)
        shutil.copy(draft, whole)
        os.replace(whole, target)


def main(environment):
    """`make_archive`, in a process that ends when its input does."""

    def end_with_input():
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=end_with_input, daemon=True).start()
    # Spark's client takes a program without a file or a prompt for a test.
    sys.modules["__main__"].__file__ = "forebay"
    make_archive(environment)
