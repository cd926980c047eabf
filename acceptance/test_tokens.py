"""Personal access tokens: made, listed without their value, used, withdrawn."""

import pytest
from databricks.sdk.errors import NotFound

from harness.api import Api, refused


def test_sdk_creates_uses_and_deletes_a_token(server, w):
    made = w.tokens.create(comment="acceptance", lifetime_seconds=3600)
    assert made.token_info.comment == "acceptance"
    assert made.token_info.expiry_time - made.token_info.creation_time == 3600_000
    user = Api(server.direct(), made.token_value)
    assert user.get("/api/2.0/preview/scim/v2/Me")["userName"] == w.current_user.me().user_name

    listed = {info.token_id: info for info in w.tokens.list()}
    assert made.token_info.token_id in listed
    w.tokens.delete(made.token_info.token_id)
    assert user.call("GET", "/api/2.0/preview/scim/v2/Me").status_code == 401
    assert made.token_info.token_id not in {info.token_id for info in w.tokens.list()}


def test_listing_never_shows_a_value(api):
    value = api.post("/api/2.0/token/create", {"comment": "hidden"})["token_value"]
    assert value not in api.call("GET", "/api/2.0/token/list").text


def test_token_without_lifetime_never_expires(api):
    assert api.post("/api/2.0/token/create")["token_info"]["expiry_time"] == -1


def test_deleting_an_unknown_token_is_404(api, w):
    refused(api.call("POST", "/api/2.0/token/delete", json={"token_id": "0" * 64}), 404, "RESOURCE_DOES_NOT_EXIST")
    with pytest.raises(NotFound):
        w.tokens.delete("0" * 64)


def test_token_value_is_not_kept_in_the_data_folder(server, api):
    value = api.post("/api/2.0/token/create")["token_value"].encode()
    for path in server.data.rglob("*"):
        if path.is_file():
            assert value not in path.read_bytes(), path


def test_legacy_cli_manages_tokens(legacy):
    import json

    made = json.loads(legacy("tokens", "create", "--comment", "from the cli", "--lifetime-seconds", 600))
    assert made["token_info"]["comment"] == "from the cli"
    assert made["token_info"]["token_id"] in legacy("tokens", "list")
    legacy("tokens", "revoke", "--token-id", made["token_info"]["token_id"])
    assert made["token_info"]["token_id"] not in legacy("tokens", "list")
