"""Secret scopes, values and who may read them."""

import base64
import json

import pytest
from databricks.sdk.errors import NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service.workspace import AclPermission

from harness import wait
from harness.api import Api, new_cluster, refused, text_of


@pytest.fixture
def scope(w, request):
    name = f"scope.{request.node.name}"[:100]
    w.secrets.create_scope(name)
    yield name
    w.secrets.delete_scope(name)


def test_sdk_puts_lists_reads_and_deletes(w, scope):
    w.secrets.put_secret(scope, "text", string_value="s3cret")
    w.secrets.put_secret(scope, "bytes", bytes_value=base64.b64encode(b"\x00\xff").decode())
    assert base64.b64decode(w.secrets.get_secret(scope, "text").value) == b"s3cret"
    assert base64.b64decode(w.secrets.get_secret(scope, "bytes").value) == b"\x00\xff"
    assert {entry.key for entry in w.secrets.list_secrets(scope)} == {"text", "bytes"}
    w.secrets.delete_secret(scope, "text")
    with pytest.raises(NotFound):
        w.secrets.get_secret(scope, "text")


def test_scope_names_are_unique_and_checked(api, w, scope):
    with pytest.raises(ResourceAlreadyExists):
        w.secrets.create_scope(scope)
    for bad in ("with space", "sl/ash", "x" * 129, ""):
        refused(api.call("POST", "/api/2.0/secrets/scopes/create", json={"scope": bad}), 400, "INVALID_PARAMETER_VALUE")
    message = refused(api.call("POST", "/api/2.0/secrets/scopes/delete", json={"scope": "none"}), 404, "RESOURCE_DOES_NOT_EXIST")
    assert "none" in message


def test_value_limit(api, scope):
    api.post("/api/2.0/secrets/put", {"scope": scope, "key": "largest", "string_value": "x" * 128 * 1024})
    response = api.call("POST", "/api/2.0/secrets/put", json={"scope": scope, "key": "k", "string_value": "x" * (128 * 1024 + 1)})
    refused(response, 400, {"INVALID_PARAMETER_VALUE", "RESOURCE_LIMIT_EXCEEDED"})
    refused(api.call("POST", "/api/2.0/secrets/put", json={"scope": scope, "key": "k"}), 400, "INVALID_PARAMETER_VALUE")


def test_acl_decides_who_reads(server, w, scope, plain_user):
    name, token = plain_user
    bob = server.sdk(token=token)
    w.secrets.put_secret(scope, "key", string_value="s3cret")
    with pytest.raises(PermissionDenied):
        bob.secrets.get_secret(scope, "key")
    w.secrets.put_acl(scope, name, AclPermission.READ)
    assert base64.b64decode(bob.secrets.get_secret(scope, "key").value) == b"s3cret"
    with pytest.raises(PermissionDenied):
        bob.secrets.put_secret(scope, "key", string_value="mine now")
    assert {item.principal: item.permission for item in w.secrets.list_acls(scope)}[name] == AclPermission.READ
    assert w.secrets.get_acl(scope, name).permission == AclPermission.READ
    w.secrets.delete_acl(scope, name)
    with pytest.raises(PermissionDenied):
        bob.secrets.list_secrets(scope)


def test_empty_lists_keep_their_keys(api, scope):
    assert api.get("/api/2.0/secrets/list", scope=scope).get("secrets", []) == []
    assert scope in [entry["name"] for entry in api.get("/api/2.0/secrets/scopes/list")["scopes"]]


def test_value_is_neither_listed_nor_stored_in_clear(server, api, scope):
    value = "Unm1stakable-Secret-Value"
    api.post("/api/2.0/secrets/put", {"scope": scope, "key": "k", "string_value": value})
    assert value not in api.call("GET", "/api/2.0/secrets/list", params={"scope": scope}).text
    needles = (value.encode(), base64.b64encode(value.encode()))
    for path in server.data.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(needle in content for needle in needles), path


def test_notebook_reads_a_secret_and_shows_it_redacted(api, w, scope, home, cluster_id):
    w.secrets.put_secret(scope, "key", string_value="Hidden-From-Output")
    run, output = api.run_cells(
        f"{home}/n",
        [
            f"value = dbutils.secrets.get('{scope}', 'key')\nprint('it is', value)\nprint(len(value))\nvalue",
            "import base64\nprint(base64.b64encode(value.encode()).decode())",
            "import os\nos.system('echo ' + value)",
            "dbutils.notebook.exit(value)",
        ],
        cluster_id,
    )
    assert run["state"]["result_state"] == "SUCCESS", output
    shown = json.dumps(api.executed(run["run_id"])) + json.dumps(output)
    assert "[REDACTED]" in shown
    assert "Hidden-From-Output" not in shown
    assert base64.b64encode(b"Hidden-From-Output").decode() not in shown
    assert "18" in shown


def test_legacy_cli_manages_scopes(legacy, server):
    legacy("secrets", "create-scope", "--scope", "legacy", "--initial-manage-principal", "users")
    legacy("secrets", "put", "--scope", "legacy", "--key", "k", "--string-value", "v")
    assert "legacy" in legacy("secrets", "list-scopes")
    assert "k" in legacy("secrets", "list", "--scope", "legacy")
    legacy("secrets", "put-acl", "--scope", "legacy", "--principal", "users", "--permission", "READ")
    assert "READ" in legacy("secrets", "list-acls", "--scope", "legacy")
    legacy("secrets", "delete", "--scope", "legacy", "--key", "k")
    legacy("secrets", "delete-scope", "--scope", "legacy")
    assert "legacy" not in legacy("secrets", "list-scopes")
    assert "RESOURCE_DOES_NOT_EXIST" in legacy.run("secrets", "delete-scope", "--scope", "legacy").stdout


def test_unknown_user_token_gets_nothing(server, scope):
    assert Api(server.direct(), "wrong").call("GET", "/api/2.0/secrets/list", params={"scope": scope}).status_code == 401


def test_variables_and_settings_of_clusters_can_be_secrets(own_server):
    api, w = own_server.api(), own_server.sdk()
    old, new = "Old-Secret-Of-Cluster", "Newer-Secret-Of-Cluster"
    w.secrets.create_scope("mail")
    w.secrets.put_secret("mail", "pass", string_value=old)
    reference = "{{secrets/mail/pass}}"
    api.post(
        "/api/2.0/workspace/import", {"path": "/Shared/init.sh", "format": "AUTO", "content": base64.b64encode(b"echo init $PASS").decode()}
    )
    settings = {
        "spark_env_vars": {"PASS": reference, "STAGE": "prod"},
        "spark_conf": {"spark.hadoop.my.password": reference},
        "init_scripts": [{"workspace": {"destination": "/Shared/init.sh"}}],
    }
    cluster_id = new_cluster(api, **settings)
    shown = api.get("/api/2.0/clusters/get", cluster_id=cluster_id)
    assert (shown["spark_env_vars"]["PASS"], shown["spark_conf"]) == (reference, settings["spark_conf"])
    cells = [
        "import os, time\nprint('has', len(os.environ['PASS']), os.environ['PASS'], os.environ['STAGE'])",
        "os.system('echo shell $PASS')\nimport base64\nprint(base64.b64encode(os.environ['PASS'].encode()).decode())",
        "import glob\nwhile os.environ['FOREBAY_IDEMPOTENCY_KEY'].endswith('-0') and not glob.glob('/dbfs/tmp/go'): time.sleep(0.05)",
        "if os.environ['FOREBAY_IDEMPOTENCY_KEY'].endswith('-0'): raise ValueError(os.environ['PASS'])",
        "dbutils.notebook.exit(os.environ['PASS'])",
    ]
    path = api.notebook("/Shared/n", cells)
    task = {"task_key": "main", "notebook_task": {"notebook_path": path}, "existing_cluster_id": cluster_id, "max_retries": 1}
    run_id = api.post("/api/2.1/jobs/runs/submit", {"tasks": [task]})["run_id"]
    wait.until("the program to print", lambda: f"has {len(old)} [REDACTED] prod" in text_of(api.executed(run_id)), timeout=90)
    own_server.kill()
    own_server.start()
    # A retry has the value of its own start, whatever drivers are warm.
    w.secrets.put_secret("mail", "pass", string_value=new)
    api.post("/api/2.0/dbfs/put", {"path": "/tmp/go", "contents": ""})
    run = api.finished(run_id, 120)
    assert run["state"]["result_state"] == "SUCCESS", run["state"]
    second = max(run["tasks"], key=lambda task: task["attempt_number"])
    assert f"has {len(new)} [REDACTED] prod" in text_of(api.executed(second["run_id"]))
    assert api.output(second["run_id"])["notebook_output"]["result"] == "[REDACTED]"
    facts = lambda run: api.get(f"/api/forebay/v1/runs/{run['run_id']}/facts")["tasks"][0]["inputs"]["cluster_sha256"]  # noqa: E731
    before = facts(run)
    w.secrets.put_secret("mail", "pass", string_value=old)
    again = api.finished(api.post("/api/2.1/jobs/runs/submit", {"tasks": [{**task, "max_retries": 0}]})["run_id"], 120)
    assert "[REDACTED]" in json.dumps(api.output(again["tasks"][0]["run_id"])), "it failed with the value in its message"
    assert f"has {len(old)} [REDACTED] prod" in text_of(api.executed(again["tasks"][0]["run_id"]))
    assert facts(again) == before, "the fingerprint is of the reference"
    own = {"spark_version": shown["spark_version"], "node_type_id": shown["node_type_id"], "num_workers": 0, **settings}
    conf = api.notebook("/Shared/conf", ["value = spark.conf.get('spark.hadoop.my.password')\nprint('conf', len(value), value)"])
    job = {"tasks": [{"task_key": "main", "notebook_task": {"notebook_path": conf}, "new_cluster": own}]}
    run = api.finished(api.post("/api/2.1/jobs/runs/submit", job)["run_id"], 120)
    assert f"conf {len(old)} [REDACTED]" in text_of(api.executed(run["run_id"])), run["state"]
    everything = [api.get("/api/2.0/clusters/list"), api.get("/api/2.1/jobs/runs/list", expand_tasks="true")]
    everything += [api.post("/api/2.0/clusters/events", {"cluster_id": cluster_id})]
    values = [old.encode(), new.encode()]
    assert not any(value in json.dumps(everything).encode() for value in values)
    own_server.kill()
    for file in own_server.data.rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            assert not any(needle in content for value in values for needle in (value, base64.b64encode(value))), file


def test_a_secret_of_a_cluster_takes_the_right_of_whom_the_run_acts_for(api, w, scope, home, plain_user):
    name, _ = plain_user
    w.secrets.put_secret(scope, "key", string_value="Hidden-From-Output")
    reference = f"{{{{secrets/{scope}/key}}}}"
    versions, nodes = api.get("/api/2.0/clusters/spark-versions")["versions"], api.get("/api/2.0/clusters/list-node-types")["node_types"]
    cluster = {"spark_version": versions[0]["key"], "node_type_id": nodes[0]["node_type_id"], "num_workers": 0}
    cluster["spark_env_vars"] = {"PASS": reference}
    path = api.notebook("/Shared/secret-of-cluster", ["import os\nprint('has', len(os.environ['PASS']))"])
    settings = {
        "name": "as bob",
        "tasks": [{"task_key": "main", "notebook_task": {"notebook_path": path}, "new_cluster": cluster}],
        "run_as": {"user_name": name},
    }
    job_id = api.post("/api/2.2/jobs/create", settings)["job_id"]
    run = lambda **more: api.finished(api.post("/api/2.2/jobs/run-now", {"job_id": job_id, **more})["run_id"], 120)  # noqa: E731
    ended = lambda run: (run["state"].get("result_state"), run["tasks"][0]["state"]["state_message"])  # noqa: E731
    state, message = ended(run())
    assert (
        state == "FAILED" and f"'spark_env_vars.PASS' of the cluster is {reference}: User {name} does not have READ permission" in message
    )
    w.secrets.put_acl(scope, name, AclPermission.READ)
    allowed = run()
    assert ended(allowed)[0] == "SUCCESS", ended(allowed)
    assert "has 18" in text_of(api.executed(allowed["run_id"]))
    w.secrets.delete_secret(scope, "key")
    state, message = ended(run())
    assert state == "FAILED" and reference in message and "'spark_env_vars.PASS'" in message and "does not exist" in message, message
    api.post("/api/2.2/jobs/delete", {"job_id": job_id})

    # Who may give parameters may not choose secrets.
    settings["tasks"][0]["new_cluster"] = {**cluster, "spark_env_vars": {"PASS": "{{job.parameters.which}}"}}
    settings["parameters"] = [{"name": "which", "default": "plain"}]
    job_id = api.post("/api/2.2/jobs/create", settings)["job_id"]
    assert ended(run())[0] == "SUCCESS"
    state, message = ended(run(job_parameters={"which": reference}))
    assert state == "FAILED" and "cannot come from a parameter" in message
    api.post("/api/2.2/jobs/delete", {"job_id": job_id})


def test_references_that_are_none_are_refused_by_field(api, cluster_id):
    shown = api.get("/api/2.0/clusters/get", cluster_id=cluster_id)
    plain = {"spark_version": shown["spark_version"], "node_type_id": shown["node_type_id"], "num_workers": 0}
    for field, name, value in (
        ("spark_env_vars", "PASS", "{{secrets/a}}"),
        ("spark_env_vars", "PASS", "x{{secrets/a/b}}"),
        ("spark_conf", "spark.x", "{{secrets/a/b/c}}"),
        ("spark_conf", "forebay.warm", "{{secrets/a/b}}"),
    ):
        bad = {**plain, field: {name: value}}
        message = refused(api.call("POST", "/api/2.0/clusters/create", json=bad), 400, "INVALID_PARAMETER_VALUE")
        assert f"'{field}.{name}'" in message
        job = {"tasks": [{"task_key": "main", "notebook_task": {"notebook_path": "/Shared/n"}, "new_cluster": bad}]}
        message = refused(api.call("POST", "/api/2.2/jobs/create", json=job), 400, "INVALID_PARAMETER_VALUE")
        assert f"{field}.{name}'" in message
