"""The pages of libraries: versions and their users, and the move of all of them, on a desk and on a phone."""

import sys
from pathlib import Path

import pytest

from harness.pages import DESK, PHONE, fits

sys.path.insert(0, str(Path(__file__).parent.parent))

from test_workspace_libraries import Old, jar, jars_of, job


@pytest.fixture(scope="session")
def library(api):
    """(name, a job on its oldest version)"""
    for version in ("1.10.0", "1.4.0", "1.9.0"):
        Old(api).id_of(Old(api).upload(f"paged-{version}", jar(version), "/Shared/paged"))
    return "paged", job(api, "on the page", "dbfs:/FileStore/jars/paged-1.4.0.jar")


@pytest.mark.parametrize("size", [DESK, PHONE])
@pytest.mark.parametrize("javascript", [True, False])
def test_versions_and_users_are_shown(browse, library, size, javascript):
    page = browse("/libraries", size=size, javascript=javascript)
    assert fits(page)
    row = page.inner_text("tr:has-text('paged')")
    assert "1.10.0" in row and "1 job" in row
    page.click("text=paged")
    page.wait_for_load_state()
    assert fits(page)
    text = page.inner_text("main")
    assert text.index("1.10.0") < text.index("1.9.0") < text.index("1.4.0")
    assert "on the page" in page.inner_text("tr:has-text('1.4.0')")


def test_the_form_shows_what_moves_and_then_moves_it(browse, library, api):
    name, job_id = library
    page = browse(f"/libraries/{name}", size=PHONE)
    page.select_option("select[name=to]", "1.10.0")
    page.fill("input[name=spark_version]", "16.4.x-scala2.12")
    page.click("text=See what would move")
    page.wait_for_load_state()
    assert fits(page)
    assert "on the page" in page.inner_text("main") and "16.4.x-scala2.12" in page.inner_text("main")
    assert jars_of(api, job_id)[0] == ["dbfs:/FileStore/jars/paged-1.4.0.jar"]
    page.click("text=Move them all")
    page.wait_for_load_state()
    assert "on the page" in page.inner_text("tr:has-text('1.10.0')")
    assert jars_of(api, job_id) == (["dbfs:/FileStore/jars/paged-1.10.0.jar"], "16.4.x-scala2.12")


def test_a_library_that_is_not_there_is_named(browse):
    page = browse("/libraries/nothing")
    assert "There is no library 'nothing'" in page.inner_text("main")
