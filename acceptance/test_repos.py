"""Git folders: clones over HTTP, SSH and local addresses; branches, tags, updates; private hosts."""

import base64
import json
import shutil

import pytest
from databricks.sdk.errors import NotFound
from databricks.sdk.service.workspace import ObjectType

from harness.api import refused

NOTEBOOK = "# Databricks notebook source\nprint('{0}')\n"


@pytest.fixture
def url(origin, git_root, http_git):
    return f"{http_git.url}/{origin.bare.relative_to(git_root)}"


@pytest.fixture
def repo_path(api, origin):
    api.mkdirs("/Repos/acceptance")
    return f"/Repos/acceptance/{origin.bare.stem}"


def create(api, url, path, provider="gitHub"):
    return api.post("/api/2.0/repos", {"url": url, "provider": provider, "path": path})


def test_clone_holds_notebooks_files_and_binary_data(api, w, origin, url, repo_path):
    blob = bytes(range(256)) * 64
    head = origin.commit(
        {"notebooks/train.py": NOTEBOOK.format("v1"), "lib/util.py": "ANSWER = 42\n", "data/blob.bin": blob, "with space/ü.txt": "text"}
    )
    repo = create(api, url, repo_path)
    assert (repo["path"], repo["branch"], repo["head_commit_id"]) == (repo_path, "main", head)
    assert repo["url"] == url
    kinds = {entry.path.removeprefix(repo_path): entry.object_type for entry in w.workspace.list(repo_path, recursive=True)}
    assert kinds["/notebooks/train"] == ObjectType.NOTEBOOK
    assert kinds["/lib/util.py"] == ObjectType.FILE
    assert kinds["/with space/ü.txt"] == ObjectType.FILE
    assert not any("/.git" in path for path in kinds)
    raw = api.call("GET", "/api/2.0/workspace/export", params={"path": f"{repo_path}/data/blob.bin", "direct_download": "true"})
    assert raw.content == blob
    status = api.get("/api/2.0/workspace/get-status", path=repo_path)
    assert (status["object_type"], status["object_id"]) == ("REPO", repo["id"])


def source(api, path):
    return base64.b64decode(api.get("/api/2.0/workspace/export", path=path, format="SOURCE")["content"]).decode()


def test_update_follows_branch_and_tag(api, w, origin, url, repo_path):
    first = origin.commit({"n.py": NOTEBOOK.format("v1")}, tag="v1.0")
    repo = w.repos.create(url=url, provider="gitHub", path=repo_path)
    second = origin.commit({"n.py": NOTEBOOK.format("v2")})
    w.repos.update(repo.id, branch="main")
    assert w.repos.get(repo.id).head_commit_id == second
    assert "v2" in source(api, f"{repo_path}/n")

    w.repos.update(repo.id, tag="v1.0")
    at_tag = w.repos.get(repo.id)
    assert at_tag.head_commit_id == first
    assert not at_tag.branch
    assert "v1" in source(api, f"{repo_path}/n")

    feature = origin.commit({"n.py": NOTEBOOK.format("feature"), "new.py": "x = 1\n"}, branch="feature/two")
    w.repos.update(repo.id, branch="feature/two")
    assert w.repos.get(repo.id).head_commit_id == feature
    assert "feature" in source(api, f"{repo_path}/n")
    w.repos.update(repo.id, branch="main")
    with pytest.raises(NotFound):
        w.workspace.get_status(f"{repo_path}/new.py")


def test_a_commit_is_checked_out_by_its_id(api, origin, url, repo_path, forebay, server):
    first = origin.commit({"n.py": NOTEBOOK.format("v1")})
    second = origin.commit({"n.py": NOTEBOOK.format("v2")})
    repo = create(api, url, repo_path)
    at = api.call("PATCH", f"/api/2.0/repos/{repo['id']}", json={"commit": first[:10]}).json()
    assert (at["head_commit_id"], "branch" in at) == (first, False)
    message = refused(
        api.call("PATCH", f"/api/2.0/repos/{repo['id']}", json={"branch": "main", "commit": first}), 400, "INVALID_PARAMETER_VALUE"
    )
    assert "only one" in message
    # The same at a terminal, where nothing that could be pulled is an error.
    place = ("--data", server.data)
    assert "--branch" in forebay.failing("repos", "update", repo_path, *place).stderr
    moved = json.loads(forebay("repos", "update", repo_path, "--branch", "main", "--output", "json", *place))
    assert moved["head_commit_id"] == second
    assert repo_path in forebay("repos", "list", *place)
    other = repo_path + "-at-a-commit"
    assert first[:10] in forebay("repos", "create", url, "--path", other, "--provider", "gitHub", "--commit", first, *place)
    forebay("repos", "delete", other, *place)


def test_missing_branch_leaves_everything_as_it_was(api, origin, url, repo_path):
    head = origin.commit({"n.py": NOTEBOOK.format("v1")})
    repo = create(api, url, repo_path)
    for body in ({"branch": "nowhere"}, {"tag": "nowhere"}):
        message = refused(
            api.call("PATCH", f"/api/2.0/repos/{repo['id']}", json=body),
            (400, 404),
            {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "GIT_ERROR"},
        )
        assert "nowhere" in message
    refused(api.call("PATCH", f"/api/2.0/repos/{repo['id']}", json={"branch": "main", "tag": "x"}), 400, "INVALID_PARAMETER_VALUE")
    after = api.get(f"/api/2.0/repos/{repo['id']}")
    assert (after["branch"], after["head_commit_id"]) == ("main", head)


def test_rewritten_history_is_followed(api, origin, url, repo_path):
    origin.commit({"n.py": NOTEBOOK.format("v1")})
    repo = create(api, url, repo_path)
    from harness.git import git

    git(origin.work, "commit", "--quiet", "--amend", "--message", "rewritten")
    git(origin.work, "push", "--quiet", "--force", "origin", "HEAD:main")
    api.call("PATCH", f"/api/2.0/repos/{repo['id']}", json={"branch": "main"})
    assert api.get(f"/api/2.0/repos/{repo['id']}")["head_commit_id"] == git(origin.work, "rev-parse", "HEAD")


def test_list_get_delete(api, w, origin, url, repo_path):
    origin.commit({"n.py": NOTEBOOK.format("v1")})
    repo = create(api, url, repo_path)
    assert repo["id"] in {entry.id for entry in w.repos.list(path_prefix="/Repos/acceptance")}
    assert [entry.id for entry in w.repos.list(path_prefix=repo_path)] == [repo["id"]]
    refused(api.call("POST", "/api/2.0/repos", json={"url": url, "provider": "gitHub", "path": repo_path}), 400, "RESOURCE_ALREADY_EXISTS")
    w.repos.delete(repo["id"])
    with pytest.raises(NotFound):
        w.repos.get(repo["id"])
    with pytest.raises(NotFound):
        w.workspace.get_status(repo_path)
    create(api, url, repo_path)  # the place is free again


def test_default_path_is_below_the_users_folder(api, w, origin, url):
    origin.commit({"n.py": NOTEBOOK.format("v1")})
    repo = w.repos.create(url=url, provider="gitLab")
    assert repo.path == f"/Repos/{w.current_user.me().user_name}/{origin.bare.stem}"


def test_private_repository_needs_the_stored_credential(api, w, git_root, http_git):
    from harness.git import Origin

    origin = Origin(git_root / "private", "hidden")
    head = origin.commit({"n.py": NOTEBOOK.format("v1")})
    url = f"{http_git.url}/private/hidden.git"
    api.mkdirs("/Repos/acceptance")
    response = api.call("POST", "/api/2.0/repos", json={"url": url, "provider": "gitHub", "path": "/Repos/acceptance/hidden"})
    refused(
        response,
        (400, 401, 403, 404),
        {"PERMISSION_DENIED", "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "GIT_ERROR"},
    )
    credential = w.git_credentials.create(git_provider="gitHub", git_username=http_git.user, personal_access_token=http_git.password)
    try:
        assert http_git.password not in api.call("GET", "/api/2.0/git-credentials").text
        assert w.git_credentials.get(credential.credential_id).git_username == http_git.user
        assert create(api, url, "/Repos/acceptance/hidden")["head_commit_id"] == head
        w.git_credentials.update(credential.credential_id, git_provider="gitHub", git_username=http_git.user, personal_access_token="wrong")
        newer = origin.commit({"n.py": NOTEBOOK.format("v2")})
        repo_id = api.get("/api/2.0/workspace/get-status", path="/Repos/acceptance/hidden")["object_id"]
        assert not api.call("PATCH", f"/api/2.0/repos/{repo_id}", json={"branch": "main"}).ok
        w.git_credentials.update(
            credential.credential_id, git_provider="gitHub", git_username=http_git.user, personal_access_token=http_git.password
        )
        assert api.call("PATCH", f"/api/2.0/repos/{repo_id}", json={"branch": "main"}).ok
        assert api.get(f"/api/2.0/repos/{repo_id}")["head_commit_id"] == newer
    finally:
        w.git_credentials.delete(credential.credential_id)
    assert credential.credential_id not in {entry.credential_id for entry in w.git_credentials.list()}


def test_clone_over_ssh(api, origin, repo_path, ssh_git):
    head = origin.commit({"n.py": NOTEBOOK.format("v1")})
    repo = create(api, ssh_git.url(origin.bare), repo_path, provider="gitHubEnterprise")
    assert repo["head_commit_id"] == head


@pytest.mark.parametrize("form", ["{0}", "file://{0}"])
def test_local_address_below_an_allowed_folder(api, origin, repo_path, form):
    head = origin.commit({"n.py": NOTEBOOK.format("v1")})
    assert create(api, form.format(origin.bare), repo_path)["head_commit_id"] == head


def test_local_address_elsewhere_is_refused(api, origin, repo_path, git_root, tmp_path):
    origin.commit({"n.py": NOTEBOOK.format("v1")})
    outside = tmp_path / "outside.git"
    shutil.copytree(origin.bare, outside)
    (git_root / f"link-{origin.bare.stem}").symlink_to(outside)
    for address in (outside, f"file://{outside}", f"{git_root}/../{outside.relative_to('/')}", git_root / f"link-{origin.bare.stem}"):
        response = api.call("POST", "/api/2.0/repos", json={"url": str(address), "provider": "gitHub", "path": repo_path})
        refused(response, (400, 403), {"INVALID_PARAMETER_VALUE", "PERMISSION_DENIED"})


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/nobody/listens.git",
        "ext::sh -c touch% /tmp/forebay-was-here",
        "--upload-pack=touch /tmp/forebay-was-here",
        "ssh://-oProxyCommand=touch$IFS/tmp/forebay-was-here/x",
        "not an address",
    ],
)
def test_bad_addresses_are_refused_in_plain_words(api, repo_path, address):
    response = api.call("POST", "/api/2.0/repos", json={"url": address, "provider": "gitHub", "path": repo_path}, timeout=90)
    refused(
        response, (400, 403, 404), {"INVALID_PARAMETER_VALUE", "PERMISSION_DENIED", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "GIT_ERROR"}
    )
    import os

    assert not os.path.exists("/tmp/forebay-was-here")
    assert api.call("GET", "/api/2.0/workspace/get-status", params={"path": repo_path}).status_code == 404


def test_legacy_cli_creates_and_updates(legacy, api, origin, url, repo_path):
    first = origin.commit({"n.py": NOTEBOOK.format("v1")}, tag="v1")
    made = json.loads(legacy("repos", "create", "--url", url, "--provider", "gitHub", "--path", repo_path))
    assert made["head_commit_id"] == first
    second = origin.commit({"n.py": NOTEBOOK.format("v2")})
    legacy("repos", "update", "--path", repo_path, "--branch", "main")
    assert json.loads(legacy("repos", "get", "--path", repo_path))["head_commit_id"] == second
    legacy("repos", "update", "--repo-id", made["id"], "--tag", "v1")
    assert json.loads(legacy("repos", "get", "--repo-id", made["id"]))["head_commit_id"] == first
    assert repo_path in legacy("repos", "list", "--path-prefix", repo_path)
    legacy("repos", "delete", "--path", repo_path)
    assert api.call("GET", f"/api/2.0/repos/{made['id']}").status_code == 404


def test_notebook_in_a_repo_imports_its_module_and_runs_its_neighbour(api, origin, url, repo_path, cluster_id):
    origin.commit(
        {
            "lib/__init__.py": "",
            "lib/scores.py": "def double(x):\n    return 2 * x\n",
            "notebooks/setup.py": "# Databricks notebook source\nfactor = 21\n",
            "notebooks/main.py": "# Databricks notebook source\n# MAGIC %run ./../notebooks/setup\n\n# COMMAND ----------\n\n"
            "from lib.scores import double\ndbutils.notebook.exit(str(double(factor)))\n",
        }
    )
    create(api, url, repo_path)
    run = api.finished(api.submit(f"{repo_path}/notebooks/main", cluster_id))
    output = api.output(run["run_id"])
    assert run["state"].get("result_state") == "SUCCESS", output
    assert output["notebook_output"]["result"] == "42"


def test_git_info_names_the_commit(api, origin, url, repo_path):
    head = origin.commit({"n.py": NOTEBOOK.format("v1")})
    create(api, url, repo_path)
    info = api.get("/api/2.0/workspace/get-status", path=f"{repo_path}/n", return_git_info="true")["git_info"]
    assert (info["branch"], info["head_commit_id"], info["path"]) == ("main", head, repo_path)
