"""JARs that die, eat memory, or say what is no text."""

import json
import subprocess

import pytest
from databricks.sdk.service.jobs import SparkJarTask, SubmitTask
from test_jar import libraries
from test_spark import submitted, succeeded
from test_warm_jvm import GATEWAY, followed

from harness import wait
from harness.api import TERMINAL, new_cluster

pytestmark = pytest.mark.timeout(600)

# Of a run, in MiB.
MEMORY = 900

TROUBLE = """
package org.example;

import java.nio.file.*;

public class Trouble {
    public static void main(String[] args) throws Exception {
        System.out.println("begun " + args[0] + " " + System.getProperty("sun.java.command").split(" ")[0]);
        switch (args[0]) {
            case "kill" -> new ProcessBuilder("kill", "-9", "" + ProcessHandle.current().pid()).start().waitFor();
            case "halt" -> Runtime.getRuntime().halt(7);
            case "heap" -> {
                var kept = new java.util.ArrayList<byte[]>();
                while (true) kept.add(new byte[1 << 20]);
            }
            case "native" -> {
                var field = sun.misc.Unsafe.class.getDeclaredField("theUnsafe");
                field.setAccessible(true);
                var unsafe = (sun.misc.Unsafe) field.get(null);
                while (true) unsafe.setMemory(unsafe.allocateMemory(16 << 20), 16 << 20, (byte) 1);
            }
            case "bytes" -> {
                for (var stream : new java.io.PrintStream[] {System.out, System.err}) {
                    stream.write(new byte[] {'c', 'a', 'f', (byte) 0xe9, ' ', (byte) 0xff, '|', (byte) 0xe2, (byte) 0x82});
                    stream.flush();
                    stream.write(new byte[] {(byte) 0xac, '|', (byte) 0xe2, (byte) 0x82, '\\n'});
                    stream.println("nothing is lost");
                    // Half a character, and the end.
                    stream.write(0xc3);
                    stream.flush();
                }
            }
            case "wait" -> {
                while (!Files.exists(Path.of(args[1]))) Thread.sleep(50);
                System.out.println("unharmed");
            }
        }
        System.out.println("ended " + args[0]);
    }
}
"""


@pytest.fixture(scope="module")
def trouble(tmp_path_factory, w):
    folder = tmp_path_factory.mktemp("trouble")
    (folder / "Trouble.java").write_text(TROUBLE)
    subprocess.run(["javac", "-d", folder / "classes", folder / "Trouble.java"], check=True, capture_output=True)
    subprocess.run(["jar", "cf", folder / "trouble.jar", "-C", folder / "classes", "."], check=True)
    with (folder / "trouble.jar").open("rb") as file:
        w.dbfs.upload("/FileStore/jars/trouble.jar", file, overwrite=True)

    def task(cluster, *words):
        program = SparkJarTask(main_class_name="org.example.Trouble", parameters=list(words))
        return {"spark_jar_task": program, "libraries": libraries("dbfs:/FileStore/jars/trouble.jar"), "existing_cluster_id": cluster}

    return task


@pytest.fixture(scope="module")
def cold(api):
    return new_cluster(api, spark_conf={"forebay.run.memory": f"{MEMORY}m", "forebay.warm": "false"})


@pytest.fixture(scope="module")
def neighbour(w, trouble, cold):
    """A JAR that runs all the while; its end is checked."""
    run_id = w.jobs.submit(run_name="neighbour", tasks=[SubmitTask(task_key="t", **trouble(cold, "wait", "/dbfs/go-on"))]).run_id

    def logs():
        run = w.jobs.get_run(run_id)
        return run, w.jobs.get_run_output(run.tasks[0].run_id).logs or ""

    wait.until("the neighbour to work", lambda: "begun wait" in logs()[1], timeout=60)
    yield
    w.dbfs.put("/go-on", contents="", overwrite=True)
    wait.until("the neighbour to end", lambda: logs()[0].state.life_cycle_state.value in TERMINAL, timeout=60)
    run, said = logs()
    assert run.state.result_state.value == "SUCCESS" and "unharmed" in said


@pytest.fixture(scope="module")
def both(w, server, api, trouble, cold, neighbour):
    """Runs the JAR in a JVM of its own, and in one that has waited for it; gives the ends of both."""
    warm = new_cluster(api, spark_conf={"forebay.run.memory": f"{MEMORY}m"})
    followed(server, lambda: succeeded(w, **trouble(warm, "nothing")))

    def run(word):
        own = submitted(w, **trouble(cold, word))
        waited, _ = followed(server, lambda: submitted(w, **trouble(warm, word)))
        assert [f"begun {word} {GATEWAY}" in output.logs for _, output in (own, waited)] == [False, True]
        return own, waited

    return run


@pytest.mark.parametrize(
    "word, words",
    [
        ("kill", ["ended by signal 9 (Killed)"]),
        ("halt", ["exit code 7"]),
        ("heap", ["exit code 1: java.lang.OutOfMemoryError: Java heap space", "forebay.run.memory"]),
        ("native", [f"Out of memory: the run needed more than its limit of {MEMORY} MiB"]),
    ],
)
def test_a_jar_that_dies_fails_its_run_alone_with_the_cause(both, word, words):
    for run, output in both(word):
        assert run.state.result_state.value == "FAILED"
        assert all(each in output.error for each in words), output.error
        assert f"begun {word}" in output.logs and f"ended {word}" not in output.logs


def test_bytes_that_are_no_text_are_shown_and_nothing_after_them_is_lost(both, api):
    for run, output in both("bytes"):
        assert run.state.result_state.value == "SUCCESS", output.error
        # In `logs` the two streams may be in between each other.
        said = streams(api, run.tasks[0].run_id)
        shown = "caf\ufffd \ufffd|\u20ac|\ufffd\nnothing is lost\n\ufffd"
        assert said["stdout"].endswith(f"{shown}ended bytes\n") and said["stderr"].endswith(shown), said
        assert "ended bytes" in output.logs and output.logs.count("\ufffd") == 8


def streams(api, run_id):
    said = {"stdout": "", "stderr": ""}
    for line in api.call("GET", f"/api/forebay/v1/runs/{run_id}/events").text.splitlines():
        event = json.loads(line)
        if event.get("event") == "stream":
            said[event["name"]] += event["text"]
    return said
