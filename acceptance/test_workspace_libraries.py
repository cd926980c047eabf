"""Libraries of the workspace: API 1.2, and stork, which nobody changed."""

import io
import json
from itertools import count

import pytest
import requests
from test_libraries import settled

from harness.api import new_cluster
from harness.archive import archive
from harness.programs import Program, beside_python
from harness.server import run_server

pytestmark = pytest.mark.timeout(300)

_numbers = count(1)


def jar(text):
    return archive({"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n", "org/example/version.txt": text})


class Old:
    """API 1.2 as clients of its time call it: forms, and `token:TOKEN` as user and password."""

    def __init__(self, api):
        self.api = api
        self.auth = ("token", api.token)

    def call(self, method, name, **kwargs):
        return requests.request(method, f"{self.api.host}/api/1.2/libraries/{name}", auth=self.auth, timeout=60, **kwargs)

    def upload(self, name, content, folder, file=None, kind="java-jar"):
        data = {"libType": kind, "name": name, "folder": folder}
        return self.call("POST", "upload", data=data, files={"uri": (file or f"{name}.jar", content)})

    def id_of(self, response):
        assert response.status_code == 200, response.text
        return response.json()["id"]

    def status(self, library):
        response = self.call("GET", "status", params={"libraryId": library})
        assert response.status_code == 200, response.text
        return response.json()

    def names(self, folder):
        return [one["name"] for one in self.call("GET", "list").json() if one["folder"] == folder]


@pytest.fixture
def old(api):
    return Old(api)


@pytest.fixture
def folder():
    return f"/Shared/libraries-{next(_numbers)}"


def job(api, name, *paths, version="15.4.x-scala2.12"):
    settings = {
        "name": name,
        "new_cluster": {"spark_version": version, "node_type_id": "forebay.local", "num_workers": 1},
        "spark_jar_task": {"main_class_name": "org.example.Main"},
        "libraries": [{"jar": path} for path in paths] + [{"pypi": {"package": "six"}}],
    }
    return api.post("/api/2.0/jobs/create", settings)["job_id"]


def jars_of(api, job_id):
    settings = api.get("/api/2.0/jobs/get", job_id=job_id)["settings"]
    return [one["jar"] for one in settings["libraries"] if "jar" in one], settings["new_cluster"]["spark_version"]


def test_stork_uploads_moves_the_jobs_and_cleans_up(tmp_path):
    for server in run_server(tmp_path / "forebay"):
        api, home = server.api(), tmp_path / "home"
        old = Old(api)
        home.mkdir()
        (home / ".storkcfg").write_text(f"[DEFAULT]\nhost = {server.direct()}\ntoken = {api.token}\nprod_folder = /Shared/production\n")
        stork = Program([beside_python("stork")], {"HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, folder=tmp_path)

        def built(version):
            path = tmp_path / f"recommender-{version}.jar"
            path.write_bytes(jar(version))
            return path

        def path_of(version):
            return f"dbfs:/FileStore/jars/recommender-{version}.jar"

        stork("upload", "-p", built("1.4.0"), "-f", "/Shared/production")
        jobs = [job(api, f"uses it {n}", path_of("1.4.0")) for n in range(3)]
        other = job(api, "uses another", "dbfs:/jars/other-1.0.0.jar")
        done = stork.run("upload-and-update", "-p", built("1.5.0"))
        assert done.status == 0 and "updated jobs" in done.stderr + done.stdout, done.shown()
        assert "removed old versions: recommender-1.4.0.jar" in done.stderr + done.stdout, done.shown()
        for job_id in jobs:
            assert jars_of(api, job_id) == ([path_of("1.5.0")], "15.4.x-scala2.12")
        assert jars_of(api, other)[0] == ["dbfs:/jars/other-1.0.0.jar"]
        assert old.names("/Shared/production") == ["recommender-1.5.0"]
        files = [entry["path"] for entry in api.get("/api/2.0/dbfs/list", path="/FileStore/jars")["files"]]
        assert files == ["/FileStore/jars/recommender-1.5.0.jar"]

        # The same version again, whatever is in it, changes nothing.
        (tmp_path / "recommender-1.5.0.jar").write_bytes(jar("other content"))
        done = stork.run("upload-and-update", "-p", tmp_path / "recommender-1.5.0.jar")
        assert done.status == 0 and "already exists" in done.stderr + done.stdout, done.shown()
        # Another major moves no job and removes nothing.
        done = stork.run("upload-and-update", "-p", built("2.0.0"))
        assert done.status == 0, done.shown()
        assert old.names("/Shared/production") == ["recommender-1.5.0", "recommender-2.0.0"]
        assert jars_of(api, jobs[0])[0] == [path_of("1.5.0")]


def test_a_library_is_an_object_of_the_tree_and_a_file_of_dbfs(old, api, folder, w):
    name = f"shown-1.0.{next(_numbers)}"
    library = old.id_of(old.upload(name, jar("one"), folder))
    status = old.status(library)
    file = status["files"][0]
    assert (status["id"], status["name"], status["folder"], status["libType"]) == (library, name, folder, "java-jar")
    assert status["attachAllClusters"] is False and status["statuses"] == [] and file == f"{name}.jar"
    (listed,) = api.get("/api/2.0/workspace/list", path=folder)["objects"]
    assert (listed["object_type"], listed["object_id"], listed["path"]) == ("LIBRARY", library, f"{folder}/{name}")
    assert w.dbfs.download(f"/FileStore/jars/{file}").read() == jar("one")
    # Nobody gives it other bytes, or takes its file or its place away.
    put = api.call("POST", "/api/2.0/dbfs/put", json={"path": f"/FileStore/jars/{file}", "contents": "eA==", "overwrite": True})
    assert put.status_code == 400 and "never changes" in put.text
    gone = api.call("POST", "/api/2.0/dbfs/delete", json={"path": "/FileStore/jars", "recursive": True})
    assert gone.status_code == 400 and "never changes" in gone.text
    gone = api.call("POST", "/api/2.0/workspace/delete", json={"path": folder, "recursive": True})
    assert gone.status_code == 400 and "libraries/delete" in gone.text
    for content, words in [(jar("one"), "already exists with this content"), (jar("two"), "already exists with other content")]:
        again = old.upload(name, content, folder)
        assert again.status_code == 500 and words in again.json()["error"] and "error_code" not in again.json()
    assert old.call("POST", "delete", data={"libraryId": library}).json() == {"id": library}
    assert not api.get("/api/2.0/workspace/list", path=folder).get("objects")
    assert old.call("GET", "status", params={"libraryId": library}).status_code == 404


def test_the_form_of_the_article_takes_a_file_of_dbfs(old, api, folder, dbfs_home, w):
    w.dbfs.upload(f"{dbfs_home}/attractions-3.1.jar", io.BytesIO(jar("article")))
    body = {"path": f"{folder}/attractionsV375", "jar_specification": {"uri": f"dbfs:{dbfs_home}/attractions-3.1.jar"}}
    library = old.id_of(old.call("POST", "create", data=json.dumps(body)))
    # The file may change now; the library does not.
    w.dbfs.delete(f"{dbfs_home}/attractions-3.1.jar")
    assert w.dbfs.download(f"/FileStore/jars/{old.status(library)['files'][0]}").read() == jar("article")
    assert api.get("/api/2.0/workspace/get-status", path=body["path"])["object_type"] == "LIBRARY"


def test_what_is_used_stays(old, api, folder):
    name = f"used-1.0.{next(_numbers)}"
    library = old.id_of(old.upload(name, jar("one"), folder))
    path = f"dbfs:/FileStore/jars/{old.status(library)['files'][0]}"
    job_id, cluster_id = job(api, "the user", path), new_cluster(api)
    assert old.call("POST", "attach", data={"libraryId": library, "clusterId": cluster_id}).json() == {}
    assert [(one[0], one[1]) for one in settled(api, cluster_id)] == [({"jar": path}, "SKIPPED")]
    assert old.status(library)["statuses"][0]["clusterId"] == cluster_id
    refused = old.call("POST", "delete", data={"libraryId": library})
    assert refused.status_code == 400
    said = refused.json()["error"]
    assert f"job {job_id} (the user)" in said and f"cluster {cluster_id}" in said
    api.post("/api/2.1/jobs/delete", {"job_id": job_id})
    api.post("/api/2.0/clusters/delete", {"cluster_id": cluster_id})
    assert old.call("POST", "detach", data={"libraryId": library, "clusterId": cluster_id}).status_code == 200
    assert old.call("POST", "delete", data={"libraryId": library}).status_code == 200


def test_a_library_of_all_clusters(own_server, folder):
    api = own_server.api()
    old = Old(api)
    library = old.id_of(old.upload(f"everywhere-1.0.{next(_numbers)}", jar("one"), folder))
    before = new_cluster(api)
    both = {"libraryId": library, "clusterId": "__ALL_CLUSTERS"}
    assert old.call("POST", "attach", data=both).status_code == 200
    after = new_cluster(api)
    for cluster_id in (before, after):
        assert [status for _, status, _ in settled(api, cluster_id)] == ["SKIPPED"]
        (one,) = api.get("/api/2.0/libraries/cluster-status", cluster_id=cluster_id)["library_statuses"]
        assert one["is_library_for_all_clusters"] is True
    assert old.status(library)["attachAllClusters"] is True
    # What a job defines has what its tasks name.
    shown = api.get("/api/2.0/clusters/get", cluster_id=after)
    own = {name: shown[name] for name in ("spark_version", "node_type_id", "num_workers")}
    task = {"task_key": "main", "notebook_task": {"notebook_path": api.notebook(f"{folder}/n", ["print(1)"])}, "new_cluster": own}
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": [task]})["run_id"])
    job_cluster = run["tasks"][0]["cluster_instance"]["cluster_id"]
    assert job_cluster not in (before, after)
    assert api.get("/api/2.0/libraries/cluster-status", cluster_id=job_cluster).get("library_statuses", []) == []
    assert old.call("POST", "detach", data=both).status_code == 200
    for cluster_id in (before, after):
        api.post("/api/2.0/clusters/permanent-delete", {"cluster_id": cluster_id})
    assert old.call("POST", "delete", data={"libraryId": library}).status_code == 200


def test_bad_input_is_named(old, api, folder, plain_user):
    for response, status, words in [
        (old.upload("bad-1.0", b"no zip", folder), 400, "is not a JAR"),
        (old.upload("bad-1.0", jar("x"), folder, kind="ruby-gem"), 400, "libType"),
        (old.upload("bad-1.0", jar("x"), folder, kind="maven"), 501, "libType 'maven'"),
        (old.upload("../bad-1.0", jar("x"), folder), 400, "name"),
        (old.upload("bad-1.0", jar("x"), "/Shared/../.."), 400, ".."),
        (old.upload("bad-1.0", b"no zip", folder, file="bad-1.0-py3-none-any.whl", kind="python-whl"), 400, "is not a wheel"),
        (old.call("POST", "upload", data={"libType": "java-jar", "name": "x", "folder": folder}), 400, "uri"),
        (old.call("POST", "create", json={"path": f"{folder}/x", "jar_specification": {"uri": "s3://b/x.jar"}}), 400, "uri"),
        (old.call("POST", "delete", data={"libraryId": 1}), 404, "1"),
        (old.call("POST", "attach", data={"libraryId": 1}), 400, "clusterId"),
    ]:
        assert response.status_code == status and words in response.json()["error"], response.text
    stranger = Old(type(api)(api.host, plain_user[1]))
    refused = stranger.upload("mine-1.0", jar("x"), "/Users/somebody@else")
    assert refused.status_code == 403 and "error" in refused.json()
    assert requests.get(f"{api.host}/api/1.2/libraries/list", auth=("token", "wrong"), timeout=60).status_code == 401


def test_libraries_survive_a_killed_server(tmp_path):
    for server in run_server(tmp_path / "forebay"):
        old = Old(server.api())
        library = old.id_of(old.upload("kept-1.0.0", jar("kept"), "/Shared/l"))
        status = old.status(library)
        server.kill()
        # What a program took away is there again.
        (server.data / "dev/dbfs/FileStore/jars/kept-1.0.0.jar").unlink()
        (server.data / "dev/workspace/Shared/l/kept-1.0.0").unlink()
        server.start()
        assert old.status(library) == status
        assert server.sdk().dbfs.download("/FileStore/jars/kept-1.0.0.jar").read() == jar("kept")
        (listed,) = server.api().get("/api/2.0/workspace/list", path="/Shared/l")["objects"]
        assert (listed["object_type"], listed["object_id"]) == ("LIBRARY", library)
