"""Environments of Python that somebody deletes while the server uses them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from harness import wait
from harness.api import new_cluster, text_of
from harness.server import cache_home, run_server

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def own(tmp_path):
    """A server whose environments are its own: copies by link of those that the tests have in common."""
    shared, environments = cache_home() / "forebay" / "environments", tmp_path / "environments"
    if shared.is_dir():
        subprocess.run(["cp", "-al", shared, environments], check=True)
    yield from run_server(tmp_path / "forebay", environments=environments)


def test_an_environment_that_is_deleted_is_built_anew_and_other_runs_go_on(own, tmp_path):
    api = own.api()
    cluster_id = new_cluster(api)

    def imports():
        # Parts of packages that no parent of runs has imported, and an engine that is a process of its own.
        cells = ["import sys, pyarrow.csv, pyarrow.dataset\nprint(spark.range(3).count())\ndbutils.notebook.exit(sys.prefix)"]
        run, output = api.run_cells("/Shared/imports", cells, cluster_id, timeout=600)
        assert run["state"]["result_state"] == "SUCCESS", output
        return Path(output["notebook_output"]["result"])

    folder = imports()
    # Nothing is ever deleted but this test's own copy.
    assert tmp_path in folder.parents
    api.notebook(
        "/Shared/neighbour",
        ["import os, time\nprint('begun')\nwhile not os.path.exists('/dbfs/go'):\n    time.sleep(0.05)\nprint('unharmed')"],
    )
    neighbour = api.submit("/Shared/neighbour", cluster_id)
    wait.until("the neighbour to work", lambda: "begun" in text_of(api.executed(neighbour)), timeout=60)

    # Away in one step: whatever still compiles it finds nothing to fill again.
    shutil.rmtree(folder.rename(tmp_path / "gone"))
    assert imports() == folder
    assert (folder / "bin/python").exists()
    # What was left by half a deletion is no environment either.
    shutil.rmtree(folder / "bin")
    assert imports() == folder
    assert (own.data / "runner" / "log").read_text().count("somebody deleted the environment of python-3.11") == 2

    api.post("/api/2.0/dbfs/put", {"path": "/go", "contents": ""})
    assert api.finished(neighbour)["state"]["result_state"] == "SUCCESS"
    assert "unharmed" in text_of(api.executed(neighbour))
