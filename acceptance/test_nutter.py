"""nutter, unmodified, finds its test notebooks, runs them on the server and decides."""

import xml.etree.ElementTree as ElementTree

import pytest

from harness.programs import Program, beside_python
from harness.tls import HttpsProxy

FIXTURE = """from runtime.nutterfixture import NutterFixture


class {name}(NutterFixture):
    def before_all(self):
        self.threshold = int(dbutils.widgets.get("threshold")) if "threshold" in dbutils.widgets.getAll() else 10

    def run_adds(self):
        self.total = 1 + 2

    def assertion_adds(self):
        assert self.total == {expected}

    def assertion_threshold(self):
        assert self.threshold == 10

    def run_threshold(self):
        pass


result = {name}().execute_tests()
print(result.to_string())"""


def fixture(name, expected):
    return ["# MAGIC %pip install nutter==0.1.35", FIXTURE.format(name=name, expected=expected), "result.exit(dbutils)"]


@pytest.fixture
def nutter(server, tmp_path):
    """nutter puts `https://` before every host, so it gets what a reverse proxy would give it."""
    proxy = HttpsProxy(tmp_path / "tls", server.direct())
    yield Program([beside_python("nutter")], {**server.client_env(), **proxy.client_env()}, folder=tmp_path)
    proxy.close()


def cases(folder):
    [report] = folder.glob("test-nutter-result*.xml")
    return {case.get("name"): case.find("failure") is None for case in ElementTree.parse(report).getroot().iter("testcase")}


def test_passing_tests_are_found_run_and_reported(nutter, api, home, cluster_id, tmp_path):
    api.notebook(f"{home}/test_sums", fixture("SumsFixture", 3))
    api.notebook(f"{home}/deeper/test_more", fixture("MoreFixture", 3))
    api.notebook(f"{home}/deeper/helper", ["raise RuntimeError('not a test')"])
    result = nutter.run(
        "run", f"{home}/", "--cluster_id", cluster_id, "--junit_report", "--recursive", "--timeout", 200, "--poll_wait_time", 2, timeout=280
    )
    assert result.status == 0, result.shown()
    assert "test_sums" in result.stdout and "test_more" in result.stdout
    assert cases(tmp_path) == {"adds": True, "threshold": True}


def test_failing_test_fails_the_command(nutter, api, home, cluster_id, tmp_path):
    api.notebook(f"{home}/test_sums", fixture("SumsFixture", 4))
    result = nutter.run(
        "run", f"{home}/test_sums", "--cluster_id", cluster_id, "--junit_report", "--timeout", 200, "--poll_wait_time", 2, timeout=280
    )
    assert result.status != 0, result.shown()
    assert cases(tmp_path) == {"adds": False, "threshold": True}


def test_list_shows_only_tests(nutter, api, home):
    api.notebook(f"{home}/test_one", ["x = 1"])
    api.notebook(f"{home}/other", ["x = 1"])
    listed = nutter("list", home)
    assert "test_one" in listed and "other" not in listed
