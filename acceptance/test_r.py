"""R in runs: notebooks in source and Jupyter form, scripts, other languages beside, packages from a repository."""

import base64
import json
import subprocess

import pytest
from test_libraries import settled

from harness.api import new_cluster, text_of

HEADER = "# Databricks notebook source\n"


def r_cells(*sources):
    return HEADER + "\n\n# COMMAND ----------\n\n".join(sources) + "\n"


@pytest.fixture
def notebook(api, home):
    """Imports an R notebook and returns its path."""
    return lambda name, *sources: api.notebook(f"{home}/{name}", r_cells(*sources), language="R")


@pytest.fixture
def finish(api, cluster_id):
    """Runs a notebook and returns (run, output)."""

    def run(path, parameters=None, **extra):
        done = api.finished(api.submit(path, cluster_id, parameters, **extra), 90)
        return done, api.output(done["run_id"])

    return run


def succeeded(done, output):
    assert done["state"].get("result_state") == "SUCCESS", json.dumps([done["state"], output.get("error"), output.get("error_trace")])


def test_an_r_notebook_with_parameters_output_and_exit_value(api, notebook, finish, home):
    path = notebook(
        "model",
        "# MAGIC %md\n# MAGIC # A model",
        "dbutils.widgets.text('dist', '0')\nfit <- lm(speed ~ dist, data = cars)\nround(coef(fit), 3)",
        "plot(fit$fitted.values)\ndisplay(head(cars, 3))",
        "getwd()",
        "speed <- predict(fit, data.frame(dist = as.numeric(getArgument('dist'))))\ndbutils.notebook.exit(sprintf('%.2f', speed))",
    )
    assert api.get("/api/2.0/workspace/get-status", path=path)["language"] == "R"
    done, output = finish(path, {"dist": "100"})
    succeeded(done, output)
    assert output["notebook_output"]["result"] == "24.84"
    executed = api.executed(done["run_id"])
    assert executed["metadata"]["kernelspec"]["name"] == "ir"
    text = text_of(executed)
    assert "(Intercept)        dist \n      8.284       0.166" in text
    assert f'"/Workspace{home}"' in text
    kinds = [sorted({kind for each in cell.get("outputs", []) for kind in each.get("data", {})}) for cell in executed["cells"]]
    assert kinds[2] == ["image/png", "text/html", "text/plain"]


def test_an_error_points_at_cell_and_line(api, notebook, finish, home):
    notebook("lib", "x <- 1", "explode <- function() {\n  stop('deep inside')\n}")
    done, output = finish(notebook("n", "# MAGIC %run ./lib", "1 + 1\nexplode()"))
    assert done["state"]["result_state"] == "FAILED"
    assert output["error"] == "Error: deep inside"
    assert f"at {home}/n#cell 2, line 2: explode()" in output["error_trace"]
    assert f'at {home}/lib#cell 2, line 2: stop("deep inside")' in output["error_trace"]


def test_jupyter_notebooks_with_an_r_kernel_run(api, finish, home):
    document = {
        "cells": [{"cell_type": "code", "source": ["dbutils.notebook.exit(R.version$language)"], "metadata": {}, "outputs": []}],
        "metadata": {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    content = base64.b64encode(json.dumps(document).encode()).decode()
    api.mkdirs(home)
    api.post("/api/2.0/workspace/import", {"path": f"{home}/nb", "format": "JUPYTER", "content": content})
    done, output = finish(f"{home}/nb")
    succeeded(done, output)
    assert output["notebook_output"]["result"] == "R"


def test_languages_call_each_other(api, notebook, finish, home):
    notebook("child", "dbutils.notebook.exit(paste('R got', getArgument('x'), dbutils.widgets.get('branch')))")
    api.notebook(f"{home}/py", ["dbutils.notebook.exit('Python got ' + dbutils.widgets.get('x'))"])
    path = notebook(
        "master",
        "# MAGIC %md\n# MAGIC An R notebook whose work is done in Python",
        "# MAGIC %python\n# MAGIC branch = getArgument('branch')\n"
        "# MAGIC first = dbutils.notebook.run('./child', 600, {'x': '1', 'branch': branch})\n# MAGIC print(first)",
        "second <- dbutils.notebook.run('./py', 600, list(x = 2))\ncat(second, '\\n')",
        "# MAGIC %sh\n# MAGIC echo from a shell",
        "# MAGIC %python\n# MAGIC dbutils.notebook.exit(first)",
    )
    done, output = finish(path, {"branch": "main"})
    succeeded(done, output)
    assert output["notebook_output"]["result"] == "R got 1 main"
    text = text_of(api.executed(done["run_id"]))
    assert "Python got 2" in text and "from a shell" in text
    api.notebook(f"{home}/mixed", ["x = 1", "# MAGIC %r\n# MAGIC dbutils.notebook.exit(toupper('from r'))"])
    done, output = finish(f"{home}/mixed")
    succeeded(done, output)
    assert output["notebook_output"]["result"] == "FROM R"


def test_a_failed_child_in_r_fails_its_parent(api, notebook, finish, home):
    notebook("broken", "stop('no such model')")
    api.notebook(f"{home}/parent", ["dbutils.notebook.run('./broken', 60)"])
    done, output = finish(f"{home}/parent")
    assert done["state"]["result_state"] == "FAILED"
    assert "broken" in output["error"]
    done, output = finish(
        notebook("survivor", "r <- tryCatch(dbutils.notebook.run('./broken', 60), error = function(e) 'caught')\ndbutils.notebook.exit(r)")
    )
    succeeded(done, output)
    assert output["notebook_output"]["result"] == "caught"


def test_secrets_are_hidden_in_r_output(api, notebook, finish):
    api.post("/api/2.0/secrets/scopes/create", {"scope": "of-r"})
    api.post("/api/2.0/secrets/put", {"scope": "of-r", "key": "k", "string_value": "hunter2-from-r"})
    done, output = finish(
        notebook("n", "secret <- dbutils.secrets.get('of-r', 'k')\nprint(secret); message(secret)\nnchar(secret)\nstop(secret)")
    )
    text = text_of(api.executed(done["run_id"])) + json.dumps(output)
    assert "[REDACTED]" in text and "[1] 14" in text and "hunter2-from-r" not in text


def test_r_scripts_are_tasks(api, home, cluster_id):
    def run(*parameters):
        task = {"task_key": "s", "existing_cluster_id": cluster_id}
        task["spark_python_task"] = {"python_file": "dbfs:/scripts/score.R", "parameters": list(parameters)}
        done = api.finished(api.post("/api/2.1/jobs/runs/submit", {"run_name": "r", "tasks": [task]})["run_id"], 90)
        return done["state"]["result_state"], api.output(done["tasks"][0]["run_id"])

    source = "x <- commandArgs(trailingOnly = TRUE)\ncat('scored', x, '\\n')\nif (x[1] == 'bad') quit(status = 4)\n"
    api.post("/api/2.0/dbfs/put", {"path": "/scripts/score.R", "contents": base64.b64encode(source.encode()).decode(), "overwrite": True})
    state, output = run("a b")
    assert state == "SUCCESS" and "scored a b" in output["logs"]
    state, output = run("bad")
    assert state == "FAILED" and "exit code 4" in output["error"]


@pytest.fixture
def repository(api, tmp_path):
    """A repository of R packages in DBFS; returns a function that adds one, compiled from C."""

    def add(name, code):
        package = tmp_path / name
        (package / "src").mkdir(parents=True)
        (package / "R").mkdir()
        description = f"Package: {name}\nVersion: 1.0\nTitle: T\nDescription: D.\nLicense: GPL\n"
        (package / "DESCRIPTION").write_text(description)
        (package / "NAMESPACE").write_text(f"useDynLib({name})\nexport(answer)\n")
        (package / "R" / "a.R").write_text(f"answer <- function() .C('answer', x = 0L, PACKAGE = '{name}')$x\n")
        (package / "src" / "a.c").write_text(code)
        archive = tmp_path / f"{name}_1.0.tar.gz"
        subprocess.run(["tar", "-C", str(tmp_path), "-czf", str(archive), name], check=True)
        for path, data in ((f"{name}_1.0.tar.gz", archive.read_bytes()), ("PACKAGES", description.encode())):
            content = base64.b64encode(data).decode()
            api.post("/api/2.0/dbfs/put", {"path": f"/cran/{name}/src/contrib/{path}", "contents": content, "overwrite": True})
        return {"cran": {"package": name, "repo": f"dbfs:/cran/{name}"}}

    return add


def test_packages_of_a_job_come_from_its_repository(repository, notebook, finish, api):
    path = notebook("n", "dbutils.notebook.exit(as.character(answers::answer()))")
    library = repository("answers", "void answer(int *x) { *x = 42; }\n")
    # One that the machine has needs no repository.
    libraries = [library, {"cran": {"package": "testthat"}}]
    for _ in range(2):
        done, output = finish(path, libraries=libraries)
        succeeded(done, output)
        assert output["notebook_output"]["result"] == "42"


def test_a_package_that_does_not_compile_shows_the_compilers_words(repository, notebook, finish, api):
    library = repository("broken", "void answer(int *x) { this is no C }\n")
    done, output = finish(notebook("n", "1"), libraries=[library])
    assert done["state"]["result_state"] == "FAILED"
    assert "the R package broken was not installed" in output["error"] and "a.c:1:23: error" in output["error"]
    # Of a cluster it is the message of the library.
    cluster = new_cluster(api)
    api.post("/api/2.0/libraries/install", {"cluster_id": cluster, "libraries": [library]})
    ((_, status, said),) = settled(api, cluster)
    assert status == "FAILED" and "the R package broken was not installed" in said[0] and "a.c:1:23: error" in said[0]
    api.post("/api/2.0/clusters/permanent-delete", {"cluster_id": cluster})
    answer = api.call(
        "POST",
        "/api/2.1/jobs/create",
        json={"name": "j", "notebook_task": {"notebook_path": "/n"}, "libraries": [{"cran": {"package": "--clean"}}]},
    )
    assert answer.status_code == 400 and "libraries.cran.package" in answer.json()["message"]
