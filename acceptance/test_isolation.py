"""Workspaces share nothing, and a plain user reaches only what is hers."""

import base64

import pytest
from databricks.sdk.errors import PermissionDenied

from harness.api import new_cluster, refused
from harness.server import WORKSPACES


def test_token_of_one_workspace_is_401_in_the_others(server):
    for owner in WORKSPACES:
        for other in WORKSPACES:
            response = server.api(other, server.profile(owner).token).call("GET", "/api/2.0/preview/scim/v2/Me")
            assert response.status_code == (200 if owner == other else 401), (owner, other)


def test_nothing_of_dev_is_in_staging(server, api, home, dbfs_home):
    api.notebook(f"{home}/only-here", ["x = 1"])
    api.post("/api/2.0/dbfs/put", {"path": f"{dbfs_home}/f", "contents": base64.b64encode(b"dev").decode()})
    api.post("/api/2.0/secrets/scopes/create", {"scope": "only-in-dev"})
    job_id = api.post("/api/2.0/jobs/create", {"name": "only-in-dev", "notebook_task": {"notebook_path": home}})["job_id"]
    staging = server.api("staging")
    refused(staging.call("GET", "/api/2.0/workspace/get-status", params={"path": f"{home}/only-here"}), 404, "RESOURCE_DOES_NOT_EXIST")
    refused(staging.call("GET", "/api/2.0/dbfs/get-status", params={"path": f"{dbfs_home}/f"}), 404, "RESOURCE_DOES_NOT_EXIST")
    assert "only-in-dev" not in str(staging.get("/api/2.0/secrets/scopes/list"))
    assert job_id not in [job["job_id"] for job in staging.get("/api/2.0/jobs/list")["jobs"]]


def test_same_path_holds_other_content_in_each_workspace(server):
    for name in WORKSPACES:
        server.api(name).post(
            "/api/2.0/dbfs/put", {"path": "/same", "contents": base64.b64encode(name.encode()).decode(), "overwrite": True}
        )
    assert [base64.b64decode(server.api(name).get("/api/2.0/dbfs/read", path="/same")["data"]).decode() for name in WORKSPACES] == list(
        WORKSPACES
    )


def test_run_sees_only_its_own_workspace(server, api, home, cluster_id):
    staging = server.api("staging")
    staging.post("/api/2.0/dbfs/put", {"path": "/staging-only", "contents": base64.b64encode(b"x").decode(), "overwrite": True})
    _, output = api.run_cells(
        f"{home}/n",
        [
            "import os\nfound = []\nfor folder, names, files in os.walk('/'):\n"
            "    names[:] = [n for n in names if folder != '/' or n not in ('proc', 'sys', 'usr')]\n"
            "    found += [folder + '/' + f for f in files if f in ('staging-only', 'databrickscfg') or f.endswith('.sqlite')]",
            "dbutils.notebook.exit(str(found))",
        ],
        cluster_id,
    )
    assert output["notebook_output"]["result"] == "[]"


# --- a plain user ------------------------------------------------------------------------------------


@pytest.fixture
def bob(server, plain_user):
    return server.api(token=plain_user[1])


@pytest.fixture
def bobs_cluster(bob):
    return new_cluster(bob)


def test_plain_user_is_herself(bob, plain_user):
    assert bob.get("/api/2.0/preview/scim/v2/Me")["userName"] == plain_user[0]


def test_plain_user_has_a_home_and_the_shared_folder(bob, plain_user, home):
    bob.notebook(f"/Users/{plain_user[0]}/mine", ["x = 1"])
    bob.notebook(f"{home}/shared", ["x = 1"])


def test_plain_user_cannot_reach_anothers_home(bob, api, w):
    path = f"/Users/{w.current_user.me().user_name}/private/n"
    api.notebook(path, ["secret = 1"])
    for method, call, options in (
        ("GET", "/api/2.0/workspace/export", {"params": {"path": path, "format": "SOURCE"}}),
        ("GET", "/api/2.0/workspace/list", {"params": {"path": path.rsplit("/", 1)[0]}}),
        ("POST", "/api/2.0/workspace/delete", {"json": {"path": path}}),
        ("POST", "/api/2.0/workspace/mkdirs", {"json": {"path": path.rsplit("/", 1)[0] + "/hers"}}),
        (
            "POST",
            "/api/2.0/workspace/import",
            {"json": {"path": path, "format": "SOURCE", "language": "PYTHON", "content": "", "overwrite": True}},
        ),
        ("GET", f"/api/2.0/workspace-files{path}", {}),
    ):
        refused(bob.call(method, call, **options), 403, "PERMISSION_DENIED")
    api.get("/api/2.0/workspace/get-status", path=path)


def test_plain_user_cannot_run_anothers_notebook_or_change_anothers_job(bob, api, w, home, cluster_id):
    path = f"/Users/{w.current_user.me().user_name}/private/runnable"
    api.notebook(path, ["dbutils.notebook.exit('leaked')"])
    response = bob.call(
        "POST", "/api/2.0/jobs/runs/submit", json={"existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": path}}
    )
    if response.ok:
        run = api.finished(response.json()["run_id"])
        assert run["state"]["result_state"] == "FAILED"
        assert "leaked" not in api.call("GET", "/api/2.1/jobs/runs/get-output", params={"run_id": run["run_id"]}).text
    else:
        refused(response, 403, "PERMISSION_DENIED")
    job_id = api.post(
        "/api/2.0/jobs/create", {"name": "admins", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": path}}
    )["job_id"]
    for call in ("jobs/delete", "jobs/run-now"):
        refused(bob.call("POST", f"/api/2.0/{call}", json={"job_id": job_id}), 403, "PERMISSION_DENIED")
    refused(
        bob.call("POST", "/api/2.0/jobs/delete", json={"job_id": 4242424242}), (400, 403), {"PERMISSION_DENIED", "INVALID_PARAMETER_VALUE"}
    )


def test_notebook_of_a_plain_user_cannot_read_anothers_home_through_the_file_system(bob, api, w, plain_user, bobs_cluster):
    path = f"/Users/{w.current_user.me().user_name}/private/data.txt"
    api.mkdirs(path.rsplit("/", 1)[0])
    api.post(
        "/api/2.0/workspace/import",
        {"path": path, "format": "AUTO", "content": base64.b64encode(b"not for bob").decode(), "overwrite": True},
    )
    run, output = bob.run_cells(
        f"/Users/{plain_user[0]}/peek",
        [
            f"try:\n    text = open('/Workspace{path}').read()\nexcept OSError as error:\n    text = type(error).__name__\ndbutils.notebook.exit(text)"
        ],
        bobs_cluster,
    )
    assert run["state"]["result_state"] == "SUCCESS", run
    assert output["notebook_output"]["result"] == "FileNotFoundError"


def test_notebook_of_a_plain_user_has_its_home_and_the_shared_folder(bob, plain_user, bobs_cluster):
    run, output = bob.run_cells(
        f"/Users/{plain_user[0]}/look",
        [
            "import os\nopen('beside.txt', 'w').write('1')\nopen('/Workspace/Shared/from-bob.txt', 'w').write('1')\n"
            "dbutils.notebook.exit(str([os.listdir('/Workspace/Users'), sorted(os.listdir('/Workspace'))]))"
        ],
        bobs_cluster,
    )
    assert run["state"]["result_state"] == "SUCCESS", run
    assert output["notebook_output"]["result"] == str([[plain_user[0]], ["Repos", "Shared", "Users"]])


def test_sdk_raises_permission_denied(server, plain_user, w):
    bob_sdk = server.sdk(token=plain_user[1])
    w.workspace.mkdirs(f"/Users/{w.current_user.me().user_name}/closed")
    with pytest.raises(PermissionDenied):
        bob_sdk.workspace.delete(f"/Users/{w.current_user.me().user_name}/closed")
