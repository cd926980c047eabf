"""Fixtures: one server that most tests share, private servers for those that break theirs, and the clients."""

import itertools
import re
from pathlib import Path

import pytest

from harness.api import new_cluster, new_token_of
from harness.git import HttpGit, Origin, SshGit
from harness.programs import Program, beside_python
from harness.server import RUNNING, binary, run_server

_numbers = itertools.count(1)


def pytest_configure(config):
    # One failure that explains itself is better than one for each test.
    try:
        binary()
    except AssertionError as missing:
        if not config.option.collectonly:
            raise pytest.UsageError(str(missing)) from None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        for server in RUNNING:
            report.sections.append((f"log of the server in {server.folder}", server.log_tail(40)))


def pytest_sessionfinish(session, exitstatus):
    # A skipped test proves nothing; a level in which something was skipped has not passed.
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and reporter and reporter.stats.get("skipped"):
        session.exitstatus = 1


@pytest.fixture(scope="session")
def git_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("git")
    (root / "private").mkdir()
    return root


@pytest.fixture(scope="session")
def ssh_git(tmp_path_factory):
    ssh = SshGit(tmp_path_factory.mktemp("ssh") / "sshd")
    yield ssh
    ssh.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory, git_root, ssh_git):
    yield from run_server(tmp_path_factory.mktemp("forebay"), repo_roots=[git_root], env=ssh_git.client_env())


@pytest.fixture
def own_server(tmp_path):
    """A server for one test, which may do to it what it likes."""
    yield from run_server(tmp_path / "forebay")


@pytest.fixture(scope="session")
def forebay(server):
    """The program itself, as a person at a terminal uses it against the shared server."""
    return Program([binary()], server.env())


@pytest.fixture(scope="session")
def api(server):
    return server.api()


@pytest.fixture(scope="session")
def w(server):
    """The Python SDK on the dev workspace."""
    return server.sdk()


@pytest.fixture(scope="session")
def legacy(server):
    """The legacy CLI on the dev workspace; it knows host and token from its environment only."""
    return Program([beside_python("databricks")], server.client_env())


@pytest.fixture(scope="session")
def cluster_id(api):
    return new_cluster(api)


@pytest.fixture
def home(api, request):
    """A fresh workspace folder named after the test."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")
    path = f"/Shared/acceptance/{name}-{next(_numbers)}"
    api.mkdirs(path)
    return path


@pytest.fixture
def dbfs_home(api, request):
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")
    path = f"/acceptance/{name}-{next(_numbers)}"
    api.post("/api/2.0/dbfs/mkdirs", {"path": path})
    return path


@pytest.fixture(scope="session")
def plain_user(api):
    """(user name, token) of somebody who is not an administrator."""
    name = "bob@example.com"
    return name, new_token_of(api, name)


@pytest.fixture(scope="session")
def http_git(git_root):
    host = HttpGit(git_root)
    yield host
    host.close()


@pytest.fixture
def origin(git_root, request):
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")
    return Origin(git_root, f"{name}-{next(_numbers)}")


@pytest.fixture(scope="session")
def seeds():
    return Path(__file__).parent / "seeds"
