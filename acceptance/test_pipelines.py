"""Whole pipelines as teams run them: a build with the legacy CLI, a deployment with its Python library."""

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from harness.api import new_cluster
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
def build_r(server, seeds, cluster_id, tmp_path, request):
    """Runs build.sh on a copy of the R example."""
    source, results = tmp_path / "timber", tmp_path / "results"
    shutil.copytree(seeds.parent.parent / "examples" / "timber", source)
    program = Program(
        ["bash", str(seeds / "build.sh")],
        {
            **server.client_env(),
            "REPO_NAME": f"timber-{request.node.name}",
            "BRANCH": "main",
            "CLUSTER_ID": cluster_id,
            "SOURCE": str(source),
            "RESULTS": str(results),
            "DRIVER": ".run-checks.r",
            "TEMPLATE": str(source / "ci" / "job-template.json"),
            "POLL_SECONDS": "1",
        },
    )

    def run(build_id):
        return program.run(timeout=180, env={"BUILD_ID": build_id})

    run.source, run.results = source, results
    return run


def verdicts(path):
    """By test: testthat writes a case for each expectation, so one of them is enough to fail it."""
    found = {}
    for name, passed in ((case.get("name"), case.find("failure") is None) for case in ElementTree.parse(path).getroot().iter("testcase")):
        found[name] = found.get(name, True) and passed
    return found


def test_r_build_trains_tests_and_fetches_junit(build_r, api):
    result = build_r("301")
    assert result.status == 0, result.shown()
    assert len(verdicts(build_r.results / "unit.xml")) == 3 and all(verdicts(build_r.results / "unit.xml").values())
    assert len(verdicts(build_r.results / "model.xml")) == 2 and all(verdicts(build_r.results / "model.xml").values())
    again = build_r("302")
    assert again.status == 0 and "found job" in again.stdout, again.shown()


def test_red_r_build_fails_and_still_brings_its_reports(build_r):
    functions = build_r.source / "notebooks" / "volume.r"
    functions.write_text(functions.read_text().replace("unname(exp(", "unname(1.2 * exp("))
    result = build_r("303")
    assert result.status == 1, result.shown()
    assert "build failed: FAILED" in result.stderr
    assert verdicts(build_r.results / "unit.xml")["cones_are_learned_exactly"] is False
    assert verdicts(build_r.results / "unit.xml")["scoring_keeps_every_row"] is True
    assert verdicts(build_r.results / "model.xml")["it_explains_nearly_all_there_is"] is True


def test_model_of_r_scores_in_another_workspace(server, seeds, tmp_path):
    """A release: the scoring notebook and the model, byte by byte as it was trained, go to where they work."""
    example = seeds.parent.parent / "examples" / "timber"
    model = tmp_path / "volume.rds"
    train = f"source('{example}/notebooks/volume.r'); saveRDS(train_volume(read.csv('{example}/data/trees.csv')), '{model}')"
    subprocess.run(["Rscript", "-e", train], check=True)
    cli = Program(["databricks"], server.client_env("staging"))
    assert cli.run("workspace", "mkdirs", "/Shared/timber").status == 0
    for name in ("volume", "score"):
        source = str(example / "notebooks" / f"{name}.r")
        assert cli.run("workspace", "import", source, f"/Shared/timber/{name}", "-l", "R").status == 0
    assert cli.run("fs", "mkdirs", "dbfs:/timber").status == 0
    assert cli.run("fs", "cp", str(model), "dbfs:/timber/models/volume.rds").status == 0
    (tmp_path / "new.csv").write_text("diameter,height\n0.35,24\n0.25,20\n")
    assert cli.run("fs", "cp", str(tmp_path / "new.csv"), "dbfs:/timber/in.csv").status == 0
    api = server.api("staging")
    parameters = {"input": "/dbfs/timber/in.csv", "output": "/dbfs/timber/out.csv"}
    run = api.finished(api.submit("/Shared/timber/score", new_cluster(api), parameters), 90)
    assert run["state"]["result_state"] == "SUCCESS", api.output(run["run_id"])
    assert api.output(run["run_id"])["notebook_output"]["result"] == "2"
    assert cli.run("fs", "cp", "dbfs:/timber/out.csv", str(tmp_path / "out.csv")).status == 0
    assert (tmp_path / "out.csv").read_text() == "diameter,height,volume\n0.35,24,0.8891\n0.25,20,0.3721\n"


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
