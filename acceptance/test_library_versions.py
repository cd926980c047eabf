"""Versions of a library, who uses which, and the move of all users at once."""

import contextlib
import json
import subprocess
import threading

import pytest
from test_jar import folder_of_spark
from test_libraries import settled
from test_runs import wheel
from test_workspace_libraries import Old, jar, jars_of, job

from harness import wait
from harness.api import new_cluster, text_of
from harness.archive import archive
from harness.server import run_server

pytestmark = pytest.mark.timeout(900)

VERSIONS = "/api/forebay/v1/libraries"
MOVE = "/api/forebay/v1/libraries/move"
NEW_SPARK = "16.4.x-scala2.12"


def path_of(version, name="recommender"):
    return f"dbfs:/FileStore/jars/{name}-{version}.jar"


@pytest.fixture
def fresh(tmp_path):
    """A server with versions 1.4.0, 1.9.0, 1.10.0 and 2.0.0 of a library, two jobs on the first and one on another."""
    for server in run_server(tmp_path / "forebay"):
        api = server.api()
        old = Old(api)
        for version in ("1.10.0", "1.4.0", "2.0.0", "1.9.0"):
            old.id_of(old.upload(f"recommender-{version}", jar(version), "/Shared/production"))
        yield server, api


def move(api, **request):
    return api.call("POST", MOVE, json={"name": "recommender", **request})


def test_versions_are_in_order_with_their_users(fresh):
    _, api = fresh
    job_id, cluster_id = job(api, "a job", path_of("1.4.0")), new_cluster(api)
    api.post("/api/2.0/libraries/install", {"cluster_id": cluster_id, "libraries": [{"jar": path_of("1.9.0")}]})
    settled(api, cluster_id)
    (library,) = api.get(VERSIONS)["libraries"]
    assert (library["name"], library["kind"]) == ("recommender", "java-jar")
    assert [one["version"] for one in library["versions"]] == ["1.4.0", "1.9.0", "1.10.0", "2.0.0"]
    (user,) = library["versions"][0]["jobs"]
    assert (user["job_id"], user["name"], len(user["tasks"])) == (job_id, "a job", 1)
    assert library["versions"][1]["clusters"] == [{"cluster_id": cluster_id, "status": "SKIPPED"}]
    assert all(len(one["sha256"]) == 64 for one in library["versions"])


def test_all_jobs_move_with_their_spark_version_and_majors_do_not(fresh):
    _, api = fresh
    jobs = [job(api, f"j{n}", path_of(version)) for n, version in enumerate(["1.4.0", "1.9.0", "2.0.0"])]
    other = job(api, "other", "dbfs:/jars/other-1.0.0.jar")
    cluster_id = new_cluster(api)
    api.post("/api/2.0/libraries/install", {"cluster_id": cluster_id, "libraries": [{"jar": path_of("1.4.0")}]})
    would = move(api, to="1.10.0", spark_version=NEW_SPARK, dry_run=True).json()
    assert [one["job_id"] for one in would["jobs"]] == jobs[:2] and would["dry_run"] is True
    assert jars_of(api, jobs[0]) == ([path_of("1.4.0")], "15.4.x-scala2.12")

    moved = move(api, to="1.10.0", spark_version=NEW_SPARK).json()
    assert [(one["job_id"], one["from"], one["spark_version_was"]) for one in moved["jobs"]] == [
        (jobs[0], ["1.4.0"], ["15.4.x-scala2.12"]),
        (jobs[1], ["1.9.0"], ["15.4.x-scala2.12"]),
    ]
    assert [one["cluster_id"] for one in moved["clusters"]] == [cluster_id]
    for job_id in jobs[:2]:
        assert jars_of(api, job_id) == ([path_of("1.10.0")], NEW_SPARK)
    assert jars_of(api, jobs[2]) == ([path_of("2.0.0")], "15.4.x-scala2.12")
    assert jars_of(api, other) == (["dbfs:/jars/other-1.0.0.jar"], "15.4.x-scala2.12")
    assert [one[0] for one in settled(api, cluster_id)] == [{"jar": path_of("1.10.0")}]
    assert api.get("/api/2.0/clusters/get", cluster_id=cluster_id)["spark_version"] == NEW_SPARK

    # A major is a decision of its own, and so is a way back.
    refused = move(api, **{"from": "1.10.0", "to": "2.0.0"})
    assert refused.status_code == 400 and "'major': true" in refused.json()["message"]
    assert len(move(api, **{"from": "1.10.0", "to": "2.0.0"}, major=True).json()["jobs"]) == 2
    back = move(api, **{"from": "2.0.0", "to": "1.9.0"}, major=True).json()
    assert [one["job_id"] for one in back["jobs"]] == jobs
    # Without a target: the newest of the major.
    assert move(api, **{"from": "1.9.0"}).json()["to"] == "1.10.0"


def test_bad_input_moves_nothing(fresh):
    _, api = fresh
    job_id = job(api, "j", path_of("1.4.0"))
    stranger = type(api)(api.host, api.post("/api/forebay/v1/users/bo@x/tokens", {"create_user": True, "comment": "t"})["token_value"])
    for response, status, words in [
        (move(api), 400, "to"),
        (move(api, to="9.9"), 404, "'9.9'"),
        (api.call("POST", MOVE, json={"name": "none", "to": "1"}), 404, "'none'"),
        (move(api, to="1.9.0", spark_version="0.1"), 400, "spark_version"),
        (move(stranger, to="1.9.0"), 403, f"job {job_id}"),
    ]:
        assert response.status_code == status and words in response.json()["message"], response.text
    assert jars_of(api, job_id) == ([path_of("1.4.0")], "15.4.x-scala2.12")


def test_a_server_that_is_killed_moves_all_or_none(fresh):
    server, api = fresh
    jobs = [job(api, f"j{n}", path_of("1.4.0")) for n in range(120)]
    ends = set()
    versions = ["1.4.0", "1.9.0"]
    for attempt in range(12):
        old, new = versions
        api = server.api()
        caller = threading.Thread(target=lambda old=old, new=new, api=api: quietly(api, old, new))
        caller.start()
        # Each time a little later: before, within and after the transaction.
        threading.Event().wait(attempt * 0.004)
        server.kill()
        caller.join()
        server.start()
        api = server.api()
        (library,) = api.get(VERSIONS)["libraries"]
        users = {one["version"]: len(one["jobs"]) for one in library["versions"] if one["jobs"]}
        assert users in ({old: len(jobs)}, {new: len(jobs)}), users
        ends.add(new in users)
        if new in users:
            versions = [new, old]
    assert ends == {True, False}, "the kills came all before or all after the move"


def quietly(api, old, new):
    with contextlib.suppress(Exception):
        move(api, **{"from": old, "to": new})


def test_the_command_lists_shows_and_moves(fresh, tmp_path):
    from harness.programs import Program
    from harness.server import binary

    server, api = fresh
    job_id = job(api, "nightly", path_of("1.4.0"))
    forebay = Program([binary()], {**server.env(), "FOREBAY_DATA": str(server.data)}, folder=server.folder)
    where = ["--data", server.data]
    listed = forebay("libraries", "list", *where)
    assert "recommender" in listed and "2.0.0" in listed
    shown = forebay("libraries", "show", "recommender", *where)
    assert shown.index("1.9.0") < shown.index("1.10.0") and "nightly" in shown
    would = forebay("libraries", "move", "recommender", "--to", "1.10.0", "--dry-run", *where)
    assert "nightly" in would and jars_of(api, job_id)[0] == [path_of("1.4.0")]
    done = json.loads(
        forebay(
            "libraries",
            "move",
            "recommender",
            "--from",
            "1.4.0",
            "--to",
            "1.10.0",
            "--spark-version",
            NEW_SPARK,
            "--output",
            "json",
            *where,
        )
    )
    assert done["jobs"][0]["job_id"] == job_id and jars_of(api, job_id) == ([path_of("1.10.0")], NEW_SPARK)
    failed = forebay.failing("libraries", "move", "recommender", "--from", "1.10.0", "--to", "2.0.0", *where)
    assert "another major" in failed.stderr
    assert forebay.failing("libraries", "show", "nothing", *where).status


def egg_of(name, version):
    info = f"Metadata-Version: 1.0\nName: {name}\nVersion: {version}\n"
    return f"{name}-{version}-py3.egg", archive({f"{name}/__init__.py": "", "EGG-INFO/PKG-INFO": info})


@pytest.mark.parametrize("kind, libtype, build", [("whl", "python-whl", wheel), ("egg", "python-egg", egg_of)])
def test_packages_of_python_move_like_jars(server, api, forebay, home, kind, libtype, build):
    name, old, paths = f"moving{kind}", Old(api), {}
    for version in ("1.9.0", "1.10.0"):
        file, content = build(name, version)
        library = old.id_of(old.upload(f"{name}-{version}", content, home, file=file, kind=libtype))
        paths[version] = f"dbfs:/FileStore/jars/{old.status(library)['files'][0]}"
    assert paths["1.10.0"].endswith(build(name, "1.10.0")[0])
    cluster_id, with_library = new_cluster(api), new_cluster(api)
    api.notebook(f"{home}/n", [f"from importlib.metadata import version\ndbutils.notebook.exit(version('{name}'))"])
    task = {"task_key": "t", "notebook_task": {"notebook_path": f"{home}/n"}, "existing_cluster_id": cluster_id}
    job_id = api.post("/api/2.1/jobs/create", {"name": f"uses {name}", "tasks": [{**task, "libraries": [{kind: paths["1.9.0"]}]}]})[
        "job_id"
    ]
    api.post("/api/2.0/libraries/install", {"cluster_id": with_library, "libraries": [{kind: paths["1.9.0"]}]})
    assert settled(api, with_library)[0][1] == "INSTALLED"

    def seen():
        runs = [
            api.post("/api/2.1/jobs/run-now", {"job_id": job_id})["run_id"],
            api.submit(f"{home}/n", with_library),
        ]
        assert all(api.finished(run_id, 180)["state"]["result_state"] == "SUCCESS" for run_id in runs), api.output(runs[0])
        return [api.output(run_id)["notebook_output"]["result"] for run_id in runs]

    assert seen() == ["1.9.0", "1.9.0"]
    (library,) = [one for one in api.get(VERSIONS)["libraries"] if one["name"] == name]
    assert library["kind"] == libtype
    assert [[user["job_id"] for user in one["jobs"]] for one in library["versions"]] == [[job_id], []]
    done = json.loads(forebay("libraries", "move", name, "--to", "1.10.0", "--output", "json", "--data", server.data))
    assert [one["job_id"] for one in done["jobs"]] == [job_id] and [one["cluster_id"] for one in done["clusters"]] == [with_library]
    settings = api.get("/api/2.1/jobs/get", job_id=job_id)["settings"]
    assert settings["tasks"][0]["libraries"] == [{kind: paths["1.10.0"]}]
    assert [(one[0], one[1]) for one in settled(api, with_library)] == [({kind: paths["1.10.0"]}, "INSTALLED")]
    assert seen() == ["1.10.0", "1.10.0"]


SOURCE = 'package org.example; public class Version { public static String text() { return "this is %s"; } }'


def test_two_clusters_hold_two_versions_at_once(tmp_path, api, w, home):
    spark = folder_of_spark(api)
    old = Old(api)
    clusters = {}
    for version in ("V375", "V376"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "Version.java").write_text(SOURCE % version)
        subprocess.run(["javac", "-cp", f"{spark}/*", "-d", folder / "classes", folder / "Version.java"], check=True)
        built = folder / f"attractions{version}.jar"
        subprocess.run(["jar", "cf", built, "-C", folder / "classes", "."], check=True)
        library = old.id_of(old.upload(f"attractions{version}", built.read_bytes(), home, file=built.name))
        cluster_id = new_cluster(api, spark_conf={"forebay.engine": "apache"})
        assert old.call("POST", "attach", data={"libraryId": library, "clusterId": cluster_id}).status_code == 200
        clusters[version] = cluster_id
    api.notebook(f"{home}/n", ["print(spark.sparkContext._jvm.org.example.Version.text())"])
    for cluster_id in clusters.values():
        wait.until("the library", lambda cluster_id=cluster_id: settled(api, cluster_id)[0][1] == "INSTALLED", timeout=300)
    runs = {version: api.submit(f"{home}/n", cluster_id) for version, cluster_id in clusters.items()}
    for version, run_id in runs.items():
        assert api.finished(run_id, timeout=300)["state"]["result_state"] == "SUCCESS", api.output(run_id)
        assert f"this is {version}" in text_of(api.executed(run_id))
