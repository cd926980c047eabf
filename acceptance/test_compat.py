"""The endpoint table against the real SDK and the real router: every call works, works in part, or is refused by name."""

import re

import pytest
import sdk_coverage

from harness.api import Api


@pytest.fixture(scope="module")
def compared():
    return sdk_coverage.compare(sdk_coverage.sdk_calls(), sdk_coverage.server_table())


def url(path):
    path = path.replace("/permissions/{}/", "/permissions/jobs/")
    return re.sub(r"(?<=[^/])\{\}", "/x", path).replace("{}", "1")


def test_every_row_of_the_table_names_the_test_that_drove_it(request):
    root = request.config.rootpath.parent
    for row in sdk_coverage.server_table():
        assert row["status"] in sdk_coverage.STATES, row
        # Some rows name a test of one of the crates, which is not a file of this suite.
        assert row["status"] == "refused" or row["test"], row
        assert not row["test"].startswith("acceptance/") or (root / row["test"].split("::")[0]).is_file(), row
        assert row["status"] != "partial" or row["note"], row


def test_refused_calls_are_refused_by_name(api, compared):
    wrong = []
    refused = [(method, path) for _, method, path, row in compared if sdk_coverage.state(row) == "refused"]
    assert len(refused) > 100
    for method, path in refused:
        response = api.call(method, url(path), json={} if method in ("POST", "PUT", "PATCH") else None)
        if response.status_code not in (404, 405, 501):
            wrong.append((method, path, response.status_code))
        elif method != "HEAD" and response.json().get("error_code") not in (
            "ENDPOINT_NOT_FOUND",
            "NOT_IMPLEMENTED",
            "METHOD_NOT_ALLOWED",
            "FEATURE_DISABLED",
        ):
            wrong.append((method, path, response.text))
    assert not wrong, wrong[:20]


def test_known_calls_reach_a_handler_and_want_a_token(server, api, compared):
    anonymous = Api(server.direct(), None)
    wrong = []
    for _, method, path, row in compared:
        if sdk_coverage.state(row) == "refused" or "well-known" in path or "/oidc" in path:
            continue
        body = {} if method in ("POST", "PUT", "PATCH") else None
        response = anonymous.call(method, url(path), json=body)
        if response.status_code != 401:
            wrong.append((method, path, "without a token", response.status_code))
        # Nothing is asked of methods that change things: an empty request must not be accepted by accident.
        if method == "GET":
            response = api.call(method, url(path))
            if response.status_code >= 500 or "ENDPOINT_NOT_FOUND" in response.text:
                wrong.append((method, path, response.status_code, response.text[:200]))
    assert not wrong, wrong


def test_compat_page_is_up_to_date(compared, request):
    page = (request.config.rootpath.parent / "docs" / "compat.md").read_text()
    texts = sdk_coverage.sections(compared, sdk_coverage.server_table())
    command = "scripts/run-in acceptance python acceptance/sdk_coverage.py --write docs/compat.md"
    assert sdk_coverage.generated(page, texts) == page, f"the page is out of date; run: {command}"


def test_the_server_knows_every_call_of_the_sdk_by_name(request):
    path = request.config.rootpath.parent / "crates" / "wire" / "src" / "sdk_calls.txt"
    assert path.read_text() == sdk_coverage.call_list(sdk_coverage.sdk_calls()), (
        "run: scripts/run-in acceptance python acceptance/sdk_coverage.py --write-calls crates/wire/src/sdk_calls.txt"
    )
