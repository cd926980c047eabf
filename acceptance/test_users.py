"""Users, groups and permissions through the Python SDK."""

import io

import pytest
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied, Unauthenticated
from databricks.sdk.service import iam, jobs
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.workspace import ImportFormat

from harness.api import Api, cells


def test_a_user_comes_is_switched_off_and_goes(w, api, server):
    made = w.users.create(user_name="carol@example.com", display_name="Carol")
    assert [user.id for user in w.users.list(filter='userName eq "carol@example.com"')] == [made.id]
    token = api.post("/api/forebay/v1/users/carol@example.com/tokens", {"comment": "hers"})["token_value"]
    hers = Api(server.direct(), token)
    assert hers.get("/api/2.0/preview/scim/v2/Me")["displayName"] == "Carol"
    off = iam.Patch(op=iam.PatchOp.REPLACE, path="active", value=False)
    w.users.patch(made.id, operations=[off], schemas=[iam.PatchSchema.URN_IETF_PARAMS_SCIM_API_MESSAGES_2_0_PATCH_OP])
    assert hers.call("GET", "/api/2.0/preview/scim/v2/Me").status_code == 401
    w.users.update(made.id, user_name="carol@example.com", display_name="C.", active=True)
    assert hers.get("/api/2.0/preview/scim/v2/Me")["displayName"] == "C."
    w.users.delete(made.id)
    with pytest.raises(NotFound):
        w.users.get(made.id)
    assert hers.call("GET", "/api/2.0/preview/scim/v2/Me").status_code == 401


def test_groups_are_the_two_of_every_workspace(w):
    groups = {group.display_name: group for group in w.groups.list()}
    assert set(groups) == {"admins", "users"}
    me = w.current_user.me()
    assert me.id in {member.value for member in w.groups.get(groups["admins"].id).members}


def test_permissions_of_a_cluster(w, plain_user, cluster_id):
    name, token = plain_user
    theirs = type(w)(host=w.config.host, token=token)
    with pytest.raises(PermissionDenied):
        theirs.clusters.get(cluster_id)
    levels = w.permissions.get_permission_levels("clusters", cluster_id).permission_levels
    assert {level.permission_level for level in levels} == {
        PermissionLevel.CAN_ATTACH_TO,
        PermissionLevel.CAN_RESTART,
        PermissionLevel.CAN_MANAGE,
    }
    grant = AccessControlRequest(user_name=name, permission_level=PermissionLevel.CAN_ATTACH_TO)
    now = w.permissions.update("clusters", cluster_id, access_control_list=[grant])
    assert name in {entry.user_name for entry in now.access_control_list}
    assert theirs.clusters.get(cluster_id).cluster_id == cluster_id
    with pytest.raises(PermissionDenied):
        theirs.clusters.permanent_delete(cluster_id)
    w.permissions.set("clusters", cluster_id, access_control_list=[])
    with pytest.raises(PermissionDenied):
        theirs.clusters.get(cluster_id)


def test_a_job_has_exactly_one_owner(w, plain_user):
    name, token = plain_user
    theirs = type(w)(host=w.config.host, token=token)
    task = jobs.Task(task_key="t", notebook_task=jobs.NotebookTask(notebook_path="/Shared/none"))
    job_id = w.jobs.create(name="owned", tasks=[task]).job_id
    with pytest.raises(PermissionDenied):
        theirs.jobs.get(job_id)
    second = AccessControlRequest(user_name=name, permission_level=PermissionLevel.IS_OWNER)
    with pytest.raises(InvalidParameterValue, match="exactly one owner"):
        w.permissions.update("jobs", str(job_id), access_control_list=[second])
    w.permissions.set("jobs", str(job_id), access_control_list=[second])
    assert theirs.jobs.get(job_id).job_id == job_id
    theirs.jobs.delete(job_id)


def test_a_made_up_token_is_nobody(w):
    with pytest.raises(Unauthenticated):
        type(w)(host=w.config.host, token="dapi" + "0" * 32).users.list().__next__()


def test_permissions_of_the_workspace_tree(server, w, api, home, plain_user, cluster_id):
    name, token = plain_user
    theirs = server.sdk(token=token)
    folder = f"/Users/{w.current_user.me().user_name}/shared-{home.rsplit('/', 1)[1]}"
    api.notebook(f"{folder}/n", cells("dbutils.notebook.exit(open('data.txt').read())"))
    w.workspace.upload(f"{folder}/data.txt", io.BytesIO(b"42"), format=ImportFormat.AUTO)
    with pytest.raises(PermissionDenied):
        theirs.workspace.get_status(f"{folder}/n")
    directory = str(w.workspace.get_status(folder).object_id)
    levels = w.permissions.get_permission_levels("directories", directory).permission_levels
    assert [level.permission_level.value for level in levels] == ["CAN_READ", "CAN_RUN", "CAN_EDIT", "CAN_MANAGE"]
    grant = AccessControlRequest(user_name=name, permission_level=PermissionLevel.CAN_RUN)
    w.permissions.set("directories", directory, access_control_list=[grant])
    assert {entry.path for entry in theirs.workspace.list(folder)} == {f"{folder}/n", f"{folder}/data.txt"}
    with pytest.raises(PermissionDenied):
        theirs.workspace.delete(f"{folder}/n")
    notebook = str(theirs.workspace.get_status(f"{folder}/n").object_id)
    entries = theirs.permissions.get("notebooks", notebook).access_control_list
    inherited = {entry.user_name: entry.all_permissions[0].inherited_from_object for entry in entries}
    assert inherited[name] == [f"/directories/{directory}"]
    # What the run of a plain user sees on its disk follows the same rule.
    theirs_api = server.api(token=token)
    run = theirs_api.finished(theirs_api.post("/api/2.0/jobs/runs/submit", {"notebook_task": {"notebook_path": f"{folder}/n"}})["run_id"])
    assert theirs_api.output(run["run_id"])["notebook_output"]["result"] == "42"
    w.permissions.set("directories", directory, access_control_list=[])
    with pytest.raises(PermissionDenied):
        list(theirs.workspace.list(folder))


def test_a_job_is_shared_when_it_is_made(server, w, api, home, plain_user, cluster_id):
    name, token = plain_user
    api.notebook(f"{home}/n", cells("x = 1"))
    job = w.jobs.create(
        name="shared",
        tasks=[jobs.Task(task_key="t", existing_cluster_id=cluster_id, notebook_task=jobs.NotebookTask(notebook_path=f"{home}/n"))],
        access_control_list=[jobs.JobAccessControlRequest(user_name=name, permission_level=jobs.JobPermissionLevel.CAN_VIEW)],
    )
    theirs = server.sdk(token=token)
    assert theirs.jobs.get(job.job_id).settings.name == "shared"
    with pytest.raises(PermissionDenied):
        theirs.jobs.run_now(job.job_id)
