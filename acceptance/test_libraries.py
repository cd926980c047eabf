"""Libraries of clusters, with the Python SDK and the legacy CLI."""

import contextlib
import fcntl
import functools
import hashlib
import http.server
import io
import json
import os
import threading
import time
from pathlib import Path

import pytest
from databricks.sdk.service import compute
from test_runs import wheel

from harness import wait
from harness.api import new_cluster, refused, text_of

pytestmark = pytest.mark.timeout(600)

OPEN = {"PENDING", "RESOLVING", "INSTALLING"}


def settled(api, cluster_id, timeout=300):
    """[(library, status, messages)] once nothing waits any more."""

    def look():
        found = api.get("/api/2.0/libraries/cluster-status", cluster_id=cluster_id)["library_statuses"]
        return None if any(one["status"] in OPEN for one in found) else found

    found = wait.until("the libraries to settle", look, timeout=timeout) if look() != [] else []
    return [(one["library"], one["status"], one.get("messages", [])) for one in found]


@pytest.fixture
def own_cluster(api):
    cluster_id = new_cluster(api)
    wait.until("the cluster", lambda: api.get("/api/2.0/clusters/get", cluster_id=cluster_id)["state"] == "RUNNING", timeout=300)
    yield cluster_id
    api.post("/api/2.0/clusters/permanent-delete", {"cluster_id": cluster_id})


def upload(w, path, content):
    w.dbfs.upload(path, io.BytesIO(content), overwrite=True)
    return f"dbfs:{path}"


def test_the_sdk_installs_and_a_notebook_imports(w, api, own_cluster, dbfs_home, home):
    name, content = wheel("clusterpack", "1.0.0")
    whl = upload(w, f"{dbfs_home}/{name}", content)
    packages = [compute.Library(pypi=compute.PythonPyPiLibrary(package="colorama==0.4.6")), compute.Library(whl=whl)]
    w.libraries.install(own_cluster, packages)
    assert [status for _, status, _ in settled(api, own_cluster)] == ["INSTALLED", "INSTALLED"]
    listed = list(w.libraries.cluster_status(own_cluster))
    assert {one.status.value for one in listed} == {"INSTALLED"} and listed[1].library.whl == whl
    assert own_cluster in {one.cluster_id for one in w.libraries.all_cluster_statuses()}

    cells = ["import colorama, clusterpack.main\nprint(colorama.__version__, clusterpack.main.__file__)"]
    run, output = api.run_cells(f"{home}/n", cells, own_cluster, timeout=180)
    assert run["state"]["result_state"] == "SUCCESS", output
    assert text_of(api.executed(run["run_id"])).startswith("0.4.6 /")

    # On a cluster that is up it stays until the next start.
    w.libraries.uninstall(own_cluster, packages[:1])
    assert settled(api, own_cluster)[0][1] == "UNINSTALL_ON_RESTART"
    w.clusters.restart(own_cluster).result()
    assert [(one[0], one[1]) for one in settled(api, own_cluster)] == [({"whl": whl}, "INSTALLED")]


def test_a_set_of_packages_is_installed_once(w, api, dbfs_home, home, cluster_id):
    name, content = wheel("keptpack", "1.0.0")
    libraries = [{"whl": upload(w, f"{dbfs_home}/{name}", content)}, {"pypi": {"package": "colorama==0.4.6"}}]
    cells = [
        "import colorama, keptpack.main, os, subprocess, sys",
        "for module in (colorama, keptpack.main): print(module.__file__, os.stat(module.__file__).st_ino)",
        "print(subprocess.run([sys.executable, '-c', 'import colorama; print(colorama.__file__)'], capture_output=True, text=True).stdout)",
    ]

    api.notebook(f"{home}/n", cells)

    def places():
        run_id = api.submit(f"{home}/n", cluster_id, libraries=libraries)
        assert api.finished(run_id, 180)["state"]["result_state"] == "SUCCESS", api.output(run_id)
        return text_of(api.executed(run_id)).split()

    first = places()
    assert first[0] == first[4]
    assert places() == first
    upload(w, f"{dbfs_home}/{name}", wheel("keptpack", "1.0.0", init="OTHER = 1")[1])
    assert places()[2] != first[2]


def test_a_run_holds_its_set_and_notes_its_use(w, api, dbfs_home, home, cluster_id):
    name, content = wheel("heldpack", "1.0.0")
    libraries = [{"whl": upload(w, f"{dbfs_home}/{name}", content)}]
    looks = """
import fcntl, heldpack, os
place = os.path.dirname(os.path.dirname(heldpack.__file__))
try:
    fcntl.flock(os.open(place, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("free", place)
except BlockingIOError:
    print("held", place)
"""
    api.notebook(f"{home}/n", [looks, "dbutils.library.restartPython()", looks])

    def look():
        run_id = api.submit(f"{home}/n", cluster_id, libraries=libraries)
        assert api.finished(run_id, 180)["state"]["result_state"] == "SUCCESS", api.output(run_id)
        first, place, second, same = text_of(api.executed(run_id)).split()
        assert (first, second, same) == ("held", "held", place)
        return Path(place)

    place = look()
    os.utime(place, (1, 1))
    assert look() == place
    assert time.time() - place.stat().st_mtime < 3600
    # A program that keeps it to itself does not keep others from it.
    greedy = os.open(place, os.O_RDONLY)
    fcntl.flock(greedy, fcntl.LOCK_EX)
    assert look() == place
    os.close(greedy)


def test_runs_that_install_the_same_at_once_do_not_meet(w, api, dbfs_home, home, cluster_id):
    name, content = wheel("oncepack", "1.0.0")
    libraries = [{"whl": upload(w, f"{dbfs_home}/{name}", content)}]
    api.notebook(f"{home}/n", ["import oncepack.main\nprint(oncepack.main.__file__)"])
    runs = [api.submit(f"{home}/n", cluster_id, libraries=libraries) for _ in range(4)]
    for run_id in runs:
        assert api.finished(run_id, 120)["state"]["result_state"] == "SUCCESS"
    assert len({text_of(api.executed(run_id)) for run_id in runs}) == 1


def test_the_legacy_cli_installs_lists_and_uninstalls(legacy, own_cluster, api):
    legacy("libraries", "install", "--cluster-id", own_cluster, "--pypi-package", "toml==0.10.2")
    assert settled(api, own_cluster)[0][1] == "INSTALLED"
    status = json.loads(legacy("libraries", "cluster-status", "--cluster-id", own_cluster))
    assert status["library_statuses"][0]["library"] == {"pypi": {"package": "toml==0.10.2"}}
    listed = json.loads(legacy("libraries", "list"))
    assert own_cluster in {one["cluster_id"] for one in listed["statuses"]}
    one = json.loads(legacy("libraries", "list", "--cluster-id", own_cluster))
    assert one["library_statuses"][0]["status"] == "INSTALLED"
    legacy("libraries", "uninstall", "--cluster-id", own_cluster, "--all")
    assert settled(api, own_cluster)[0][1] == "UNINSTALL_ON_RESTART"


def test_what_cannot_be_installed_says_why_in_the_installers_words(w, api, own_cluster, dbfs_home):
    upload(w, f"{dbfs_home}/broken-1.0-py3-none-any.whl", b"no zip")
    upload(w, f"{dbfs_home}/requirements.txt", b"colorama==0.4.6\nno-such-package-of-forebay==9.9\n")
    libraries = [
        {"whl": f"dbfs:{dbfs_home}/broken-1.0-py3-none-any.whl"},
        {"requirements": f"dbfs:{dbfs_home}/requirements.txt"},
        {"cran": {"package": "nothere", "repo": f"dbfs:{dbfs_home}"}},
        {"pypi": {"package": "colorama>=0.4"}},
    ]
    api.post("/api/2.0/libraries/install", {"cluster_id": own_cluster, "libraries": libraries})
    found = settled(api, own_cluster)
    assert [status for _, status, _ in found] == ["FAILED", "FAILED", "FAILED", "INSTALLED"], found
    said = [messages[0] for _, _, messages in found[:3]]
    assert "is not a wheel" in said[0]
    assert "no-such-package-of-forebay" in said[1] and "exit code" in said[1]
    assert "PACKAGES" in said[2], said[2]


def test_a_library_that_fails_ends_its_run_with_its_own_code(api, home, cluster_id):
    api.notebook(f"{home}/n", ["print('never')"])
    for libraries, words in [
        ([{"pypi": {"package": "no-such-package-of-forebay"}}], "no-such-package-of-forebay"),
        ([{"whl": "dbfs:/nowhere/none-1.0-py3-none-any.whl"}], "dbfs:/nowhere/none-1.0-py3-none-any.whl"),
    ]:
        run = api.finished(api.submit(f"{home}/n", cluster_id, libraries=libraries), timeout=180)
        assert (run["state"]["life_cycle_state"], run["state"]["result_state"]) == ("INTERNAL_ERROR", "FAILED")
        assert run["status"]["termination_details"]["code"] == "LIBRARY_INSTALLATION_ERROR"
        assert words in api.output(run["run_id"])["error"]


def publish(folder, name, content):
    """Adds a wheel to the pages of a package index."""
    pages = folder / "simple" / name.split("-")[0]
    pages.mkdir(parents=True, exist_ok=True)
    (pages / name).write_bytes(content)
    links = (f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in pages.glob("*.whl"))
    (pages / "index.html").write_text("<!DOCTYPE html>" + "".join(links))


@contextlib.contextmanager
def index_of(folder, name, content, asked=None):
    """A package index of one wheel, on the loopback address that runs share; yields its address. `asked` gets
    each path that it is asked for."""
    publish(folder, name, content)
    handler = functools.partial(QuietHandler, [] if asked is None else asked, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, asked, *args, **options):
        self.asked = asked
        super().__init__(*args, **options)

    def log_request(self, *_):
        self.asked.append(self.path)

    def log_message(self, *_):
        pass

    def end_headers(self):
        # So that installers ask each time.
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def test_what_was_installed_once_needs_no_index(api, home, cluster_id, tmp_path):
    api.notebook(f"{home}/n", ["import indexpack.main\nprint('imported')"])

    def run(repo):
        libraries = [{"pypi": {"package": "indexpack", "repo": repo}}]
        done = api.finished(api.submit(f"{home}/n", cluster_id, libraries=libraries), timeout=180)
        assert done["state"]["result_state"] == "SUCCESS", api.output(done["run_id"])
        return text_of(api.executed(done["run_id"]))

    with index_of(tmp_path, *wheel("indexpack", "1.0.0")) as repo:
        assert "imported" in run(repo)
    # Nobody answers there any more.
    assert "imported" in run(repo)


def test_an_index_is_asked_only_for_what_it_could_answer_otherwise(api, home, cluster_id, tmp_path):
    asked = []
    with index_of(tmp_path, *wheel("leafpack", "1.0.0"), asked=asked) as repo:
        publish(tmp_path, *wheel("stempack", "1.0.0", needs=["leafpack"]))

        def run(*packages):
            """Which leafpack a run with these packages finds, and whether the index was asked for it."""
            api.notebook(f"{home}/n", ["from importlib.metadata import version\nprint(version('leafpack'))"])
            asked.clear()
            libraries = [{"pypi": {"package": package, "repo": repo}} for package in packages]
            run_id = api.submit(f"{home}/n", cluster_id, libraries=libraries)
            assert api.finished(run_id, timeout=180)["state"]["result_state"] == "SUCCESS", api.output(run_id)
            return text_of(api.executed(run_id)).strip(), bool(asked)

        assert run("leafpack==1.0.0") == ("1.0.0", True)
        # Another set, of the same packages: whatever the index had, it would be the same.
        assert run("leafpack==1.0.0; python_version > '3'") == ("1.0.0", False)
        assert run("stempack==1.0.0") == ("1.0.0", True)
        # What a package needs without a version is the newest, not what is in the cache.
        publish(tmp_path, *wheel("leafpack", "1.1.0"))
        assert run("stempack==1.0.0; python_version > '3'") == ("1.1.0", True)
        assert run("stempack==1.0.0", "leafpack==1.0.0") == ("1.0.0", False)
        assert run("stempack==1.0.0", "leafpack==1.1.0") == ("1.1.0", False)


def test_a_requirements_file_is_installed_with_its_hashes_and_from_its_indexes(w, api, home, dbfs_home, cluster_id, tmp_path):
    api.notebook(f"{home}/n", ["from importlib.metadata import version\nprint(version('leafpack'))"])
    name, content = wheel("leafpack", "1.0.0")
    right = hashlib.sha256(content).hexdigest()
    wrong = right[::-1]
    with index_of(tmp_path, name, content) as repo:
        publish(tmp_path, *wheel("branchpack", "1.0.0", needs=["leafpack"]))

        def run(digest):
            upload(w, f"{dbfs_home}/base.txt", f"--extra-index-url {repo}\nleafpack==1.0.0 --hash=sha256:{digest}\n".encode())
            path = upload(w, f"{dbfs_home}/requirements.txt", b"-r base.txt\nbranchpack\npandas\n")
            run_id = api.submit(f"{home}/n", cluster_id, libraries=[{"requirements": path}])
            return api.finished(run_id, timeout=180)["state"]["result_state"], api.output(run_id).get("error", "")

        state, error = run(wrong)
        assert state == "FAILED" and "Hash mismatch for `leafpack==1.0.0`" in error, error
        assert run(right) == ("SUCCESS", "")
        # Neither a set with the same packages nor the cache makes up for the hash.
        state, error = run(wrong)
        assert state == "FAILED" and wrong in error, error


def test_a_run_keeps_the_bytes_it_started_with(w, api, home, dbfs_home, cluster_id):
    name, first = wheel("keptpack", "1.0.0")
    path = f"{dbfs_home}/{name}"
    whl = upload(w, path, first)
    waits = f"""
import os, time, zipfile
while not os.path.exists("/dbfs{dbfs_home}/go"):
    time.sleep(0.1)
dbutils.library.restartPython()
"""
    shows = "import keptpack.main, inspect\nprint(inspect.getsource(keptpack.main))"
    api.notebook(f"{home}/n", [waits, shows])
    run_id = api.submit(f"{home}/n", cluster_id, libraries=[{"whl": whl}])
    wait.until("the run to work", lambda: api.run(run_id)["state"]["life_cycle_state"] == "RUNNING", timeout=60)
    _, second = wheel("keptpack", "1.0.0")
    upload(w, path, second.replace(b"'wheel'", b"'WHEEL'"))
    w.dbfs.put(f"{dbfs_home}/go", contents="", overwrite=True)
    assert api.finished(run_id, timeout=120)["state"]["result_state"] == "SUCCESS"
    assert "'wheel'" in text_of(api.executed(run_id))


def test_bad_input_is_named(api, cluster_id):
    def install(body):
        return api.call("POST", "/api/2.0/libraries/install", json=body)

    assert refused(install({"cluster_id": "none", "libraries": [{"jar": "dbfs:/a.jar"}]}), 400, "INVALID_PARAMETER_VALUE") == (
        "Cluster none does not exist"
    )
    for libraries, word in [([], "libraries"), ([{"gem": "x"}], "exactly one of"), ([{"jar": "dbfs:/../x.jar"}], "..")]:
        body = {"cluster_id": cluster_id, "libraries": libraries}
        assert word in refused(install(body), 400, "INVALID_PARAMETER_VALUE")
