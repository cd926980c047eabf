"""A real browser (Debian's Chromium) on the pages of a running server."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

from harness.pages import DESK, sign_in


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium")
    assert path, "chromium is missing; run `scripts/setup acceptance`"
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that containers rarely give; the pages are ours.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium, server):
    """Opens a page of the server as somebody who has signed in; returns the page. Errors on the page fail the test."""
    contexts, problems = [], []

    def failed(request):
        # "Aborted" is the browser's own doing: the page was left before its icon had come.
        if request.failure != "net::ERR_ABORTED":
            problems.append(f"{request.url}: {request.failure}")

    def open_page(path, workspace="dev", javascript=True, size=DESK, signed_in=True):
        context = chromium.new_context(java_script_enabled=javascript, viewport=size, color_scheme="light")
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", failed)
        page.set_default_timeout(15_000)
        if signed_in:
            sign_in(page, server, workspace)
        page.goto(server.direct(workspace) + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, problems
