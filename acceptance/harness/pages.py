"""Signing in to the pages, and looking at them in windows of two sizes."""

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def sign_in(page, server, workspace):
    page.goto(server.direct(workspace) + "/login")
    page.fill("input[name=token]", server.profile(workspace).token)
    page.click("button[type=submit]")
    page.wait_for_load_state()


def fits(page):
    """Whether nothing makes the page wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
