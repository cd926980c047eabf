"""Whole pipelines as teams run them: a build with the legacy CLI, a deployment with its Python library."""

import json
import shutil
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from harness.programs import Program

NOTEBOOK = "# Databricks notebook source\n"


@pytest.fixture
def build(server, seeds, cluster_id, tmp_path, request):
    """Runs build.sh on a copy of the weights project that the test may change; returns a function."""
    source, results = tmp_path / "source", tmp_path / "results"
    shutil.copytree(seeds / "weights", source)
    program = Program(
        ["bash", str(seeds / "build.sh")],
        {
            **server.client_env(),
            "REPO_NAME": f"weights-{request.node.name}",
            "BRANCH": "feature/x",
            "CLUSTER_ID": cluster_id,
            "SOURCE": str(source),
            "RESULTS": str(results),
            "POLL_SECONDS": "1",
        },
    )

    def run(build_id):
        return program.run(timeout=180, env={"BUILD_ID": build_id})

    run.source, run.results = source, results
    return run


def cases(path):
    return {case.get("name"): case.find("failure") is None for case in ElementTree.parse(path).getroot().iter("testcase")}


def test_green_build_fetches_reports_and_cleans_up(build, api):
    result = build("101")
    assert result.status == 0, result.shown()
    assert cases(build.results / "unit.xml") == {"two_points_lie_on_the_line": True, "scoring_keeps_every_row": True}
    assert cases(build.results / "model.xml") == {"a_known_height_gives_the_known_weight": True}
    assert "created job" in result.stdout
    for path in ("/api/2.0/workspace/get-status", "/api/2.0/dbfs/get-status"):
        folder = "/Shared/build" if "workspace" in path else "/mnt/build"
        repo = result.stdout.split("== workspace: /Shared/build/")[1].split("/")[0]
        assert api.call("GET", path, params={"path": f"{folder}/{repo}/101"}).status_code == 404

    again = build("102")
    assert again.status == 0, again.shown()
    assert "found job" in again.stdout


def test_red_build_fails_and_still_brings_its_reports(build):
    (build.source / "models" / "line.json").write_text(json.dumps({"intercept": 0, "slope": 1}))
    result = build("103")
    assert result.status == 1, result.shown()
    assert "build failed: FAILED" in result.stderr
    assert cases(build.results / "model.xml") == {"a_known_height_gives_the_known_weight": False}
    assert all(cases(build.results / "unit.xml").values())


def test_broken_notebook_fails_the_build(build):
    (build.source / "notebooks" / "score.py").write_text(NOTEBOOK + "def predict_weight(:\n")
    result = build("104")
    assert result.status == 1, result.shown()


@pytest.fixture
def deploy(server, seeds, cluster_id, origin, git_root, http_git):
    origin.commit(
        {
            "notebooks/__init__.py": "",
            "features.py": "def double(x):\n    return 2 * x\n",
            "notebooks/pipeline.py": NOTEBOOK + "from features import double\nresult = double(int(limit))\n",
            "tests/integration_test.py": NOTEBOOK
            + "# MAGIC %md\n# MAGIC The pipeline with a test configuration\n\n# COMMAND ----------\n\nlimit = '21'\n"
            "\n# COMMAND ----------\n\n# MAGIC %run  ./../notebooks/pipeline\n\n# COMMAND ----------\n\nassert result == 42, result\n",
        }
    )
    program = Program(
        [sys.executable, str(seeds / "deploy.py")],
        {
            **server.client_env(),
            "CLUSTER_ID": cluster_id,
            "REPO_URL": f"{http_git.url}/{origin.bare.relative_to(git_root)}",
            "BRANCH": "main",
            "WORKSPACE_FOLDER": "/Repos/ci",
            "TEST_NOTEBOOK": "tests/integration_test",
            "POLL_SECONDS": "0.2",
        },
    )
    return program


def test_deploy_script_ends_with_the_verdict(deploy, origin, api):
    passed = deploy.run()
    assert passed.status == 0, passed.shown()
    assert "verdict: SUCCESS" in passed.stdout
    origin.commit({"features.py": "def double(x):\n    return 3 * x\n"}, branch="broken")
    failed = deploy.run(env={"BRANCH": "broken"})
    assert failed.status == 1, failed.shown()
    assert "verdict: FAILED" in failed.stdout
    assert api.get("/api/2.0/workspace/list", path="/Repos/ci").get("objects", []) == [], "each build removes its clone"


def test_poller_without_pause_is_survived(server, api, home, cluster_id):
    """A script that polls in a tight loop may be told to slow down, but never breaks and never breaks the server."""
    run, _ = api.run_cells(f"{home}/n", ["x = 1"], cluster_id)
    seen = {api.call("GET", "/api/2.0/jobs/runs/get", params={"run_id": run["run_id"]}).status_code for _ in range(2000)}
    assert seen <= {200, 429}
    assert server.alive()
