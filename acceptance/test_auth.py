"""Who may call: tokens in every form that clients use, and the answers when there is none."""

import base64

import pytest
from databricks.sdk import WorkspaceClient

from harness.api import Api, ok, refused
from harness.programs import Program, beside_python

PROTECTED = [
    ("GET", "/api/2.0/preview/scim/v2/Me"),
    ("GET", "/api/2.0/workspace/list?path=/"),
    ("GET", "/api/2.0/dbfs/list?path=/"),
    ("POST", "/api/2.0/workspace/mkdirs"),
    ("GET", "/api/2.0/repos"),
    ("GET", "/api/2.0/secrets/scopes/list"),
    ("GET", "/api/2.1/jobs/list"),
    ("GET", "/api/2.2/jobs/runs/list"),
    ("GET", "/api/2.1/clusters/list"),
    ("PUT", "/api/2.0/fs/files/Volumes/main/default/data/x"),
    ("GET", "/api/2.0/token/list"),
    ("POST", "/api/2.0/jobs/runs/submit"),
]


@pytest.mark.parametrize("method, path", PROTECTED)
@pytest.mark.parametrize("token", [None, "not-a-token"])
def test_call_without_valid_token_is_401_in_json(server, method, path, token):
    api = Api(server.direct(), token)
    response = api.call(method, path, allow_redirects=False)
    refused(response, 401, {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNAUTHORIZED"})


def test_bearer_and_basic_forms_are_the_same_person(server):
    profile = server.profile()
    anonymous = Api(server.direct(), None)
    basic = base64.b64encode(f"token:{profile.token}".encode()).decode()
    names = {
        ok(anonymous.call("GET", "/api/2.0/preview/scim/v2/Me", headers={"Authorization": header}))["userName"]
        for header in (f"Bearer {profile.token}", f"Basic {basic}")
    }
    assert len(names) == 1


def test_sdk_knows_who_it_is(w):
    me = w.current_user.me()
    assert me.user_name
    assert me.id
    assert me.active


def test_me_names_the_workspace(api):
    response = api.call("GET", "/api/2.0/preview/scim/v2/Me?excludedAttributes=entitlements")
    assert ok(response)["userName"]
    assert response.headers["X-Databricks-Org-Id"].isdigit()


def test_discovery_needs_no_token(server):
    body = ok(Api(server.direct(), None).call("GET", "/.well-known/databricks-config"))
    assert body["oidc_endpoint"].endswith("/oidc")
    assert body["workspace_id"].isdigit()


def test_config_file_works_for_sdk_and_legacy_cli(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(server.config_file))
    for name in ("dev", "staging", "prod"):
        assert WorkspaceClient(profile=name).current_user.me().user_name
    env = server.client_env()
    del env["DATABRICKS_HOST"], env["DATABRICKS_TOKEN"]
    cli = Program([beside_python("databricks")], {**env, "DATABRICKS_CONFIG_FILE": str(server.config_file)})
    for name in ("dev", "staging", "prod"):
        assert "Shared" in cli("workspace", "ls", "/", "--profile", name)


def test_config_file_is_private(server):
    assert server.config_file.stat().st_mode & 0o077 == 0


def test_unknown_route_is_an_error_by_name(api):
    message = refused(api.call("GET", "/api/2.0/no-such-thing/list"), (404, 501), {"ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED"})
    assert "no-such-thing" in message


def test_unknown_route_without_token_says_nothing_about_routes(server):
    refused(
        Api(server.direct(), None).call("GET", "/api/2.0/no-such-thing"),
        (401, 404),
        {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNAUTHORIZED", "ENDPOINT_NOT_FOUND"},
    )


def test_telemetry_is_counted_so_that_clients_do_not_retry(api):
    answer = api.post("/telemetry-ext", {"uploadTime": 1, "items": [], "protoLogs": ["{}", "{}"]})
    assert answer["numProtoSuccess"] == 2
    assert answer["errors"] == []
