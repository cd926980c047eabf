"""Programs in Python and R for `spark-submit`: tasks of jobs, with the Python SDK."""

import pytest
from databricks.sdk.service.jobs import SparkSubmitTask
from test_libraries import upload
from test_spark import submitted, succeeded
from test_warm_jvm import GATEWAY, followed

pytestmark = pytest.mark.timeout(600)

PROGRAM = b"""
import sys, words
from pyspark.sql import SparkSession
print("args", sys.argv[1:], words.WORD, __name__)
if sys.argv[1:] == ["raise"]:
    raise ValueError("on purpose")
if sys.argv[1:] == ["exit"]:
    sys.exit(5)
spark = SparkSession.builder.appName("own name").getOrCreate()
context = spark.sparkContext
print("conf", spark.conf.get("spark.sql.shuffle.partitions"), context.appName)
print("machine", context._jvm.java.lang.System.getProperty("sun.java.command").split()[0])
if sys.argv[1:] == ["task"]:
    context.parallelize([0]).map(lambda n: 1 // n).collect()
print("sum", context.parallelize([1, 2, 3]).map(lambda n: n * words.FACTOR).sum())
sys.stdout.write("the end")
"""


@pytest.fixture
def program(w, dbfs_home):
    """The words that submit it, with its own after them."""
    main = upload(w, f"{dbfs_home}/main.py", PROGRAM)
    words = upload(w, f"{dbfs_home}/words.py", b"WORD = 'beside'\nFACTOR = 10")
    options = ["--py-files", words, "--conf", "spark.sql.shuffle.partitions=3"]
    return lambda *args: SparkSubmitTask(parameters=[*options, main, *args])


def test_a_program_in_python_runs_with_its_files_in_its_own_jvm_and_in_one_that_waited(w, server, program):
    (_, first), _ = followed(server, lambda: succeeded(w, spark_submit_task=program("a", "b c")))
    (_, second), _ = followed(server, lambda: succeeded(w, spark_submit_task=program("a", "b c")))
    for output in (first, second):
        assert "args ['a', 'b c'] beside __main__" in output.logs and "sum 60" in output.logs and "the end" in output.logs
        assert "conf 3 own name" in output.logs
    assert f"machine {GATEWAY}" in second.logs


@pytest.mark.parametrize(
    "word, error, trace",
    [
        ("raise", "PythonError: exit code 1: ValueError: on purpose", 'raise ValueError("on purpose")'),
        # Of Spark's error the cause, which comes from the worker.
        ("task", "PythonError: exit code 1: ZeroDivisionError", "1 // n"),
        ("exit", "PythonError: exit code 5", ""),
    ],
)
def test_it_fails_with_its_exception_or_exit_code(w, program, word, error, trace):
    run, output = submitted(w, spark_submit_task=program(word))
    assert run.state.result_state.value == "FAILED"
    assert error in output.error and "WARN" not in output.error, output.error
    assert trace in output.error_trace and f"args ['{word}']" in output.logs


def test_what_is_wrong_with_the_command_line_is_named(w, program):
    main = program().parameters[-1]
    for words, named in [
        (["dbfs:/none/main.py"], "there is no file /dbfs/none/main.py"),
        (["--py-files", f"{main},dbfs:/none/words.py", main], "there is no file /dbfs/none/words.py (--py-files)"),
        (["--no-such-option", "1", main], "Unrecognized option '--no-such-option'"),
        (["--driver-memory", "600m"], "Must specify a primary resource"),
    ]:
        run, output = submitted(w, spark_submit_task=SparkSubmitTask(parameters=words))
        assert run.state.result_state.value == "FAILED"
        assert named in output.error, output.error


def test_the_jvm_is_started_as_the_command_line_says(w, dbfs_home):
    main = upload(
        w,
        f"{dbfs_home}/jvm.py",
        b"from pyspark.sql import SparkSession\n"
        b"java = SparkSession.builder.getOrCreate().sparkContext._jvm.java.lang\n"
        b"facts = [java.System.getProperty(name) for name in ('own', 'java.class.path')]\n"
        b"print('heap', java.Runtime.getRuntime().maxMemory() >> 20, facts[0], facts[1].split(':')[0], sep='|')\n",
    )
    file = upload(
        w, f"{dbfs_home}/spark.conf", b"# ours\nspark.driver.memory   700m\nspark.driver.extraJavaOptions=-Down=said \\\n  -Dother=x\n"
    )
    for words, own in [
        (["--driver-memory", "700m", "--driver-java-options", "-Down=said"], "said"),
        (["--conf", "spark.driver.memory=700m", "--conf", "spark.driver.extraJavaOptions=-Down=said"], "said"),
        (["--driver-memory=900m", "--driver-memory=700m", "--driver-java-options=-Dother=1 '-Down=said it'"], "said it"),
        (["--conf=spark.driver.memory=700m", "--driver-java-options", '-Down="said it" -Xss4m'], "said it"),
        ([f"--properties-file={file}"], "said"),
    ]:
        words = [*words, "--driver-class-path", "/dbfs/first.jar"]
        _, output = succeeded(w, spark_submit_task=SparkSubmitTask(parameters=[*words, main]))
        _, heap, *rest = output.logs.strip().splitlines()[-1].split("|")
        # A collector keeps a part of it for itself.
        assert 600 < int(heap) <= 700 and rest == [own, "/dbfs/first.jar"], words
    run, output = submitted(w, spark_submit_task=SparkSubmitTask(parameters=["--driver-java-options", "-Down='said", main]))
    assert run.state.result_state.value == "FAILED" and "--driver-java-options" in output.error, output.error


@pytest.mark.parametrize("ending", ["R", "r"])
def test_a_program_in_r_runs_as_it_is(w, dbfs_home, ending):
    source = b"words <- commandArgs(trailingOnly = TRUE)\ncat('args', words, sep = '|')\nif (words[1] == 'bad') stop('on purpose')\n"
    program = upload(w, f"{dbfs_home}/score.{ending}", source)
    _, output = succeeded(w, spark_submit_task=SparkSubmitTask(parameters=[program, "a", "b c"]))
    assert "args|a|b c" in output.logs
    run, output = submitted(w, spark_submit_task=SparkSubmitTask(parameters=[program, "bad"]))
    assert run.state.result_state.value == "FAILED"
    assert output.error.startswith("RError: exit code 1: Error: on purpose"), output.error
