"""Secret scopes, values and who may read them."""

import base64
import json

import pytest
from databricks.sdk.errors import NotFound, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service.workspace import AclPermission

from harness.api import Api, refused


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
