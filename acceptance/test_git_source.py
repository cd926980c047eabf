"""Jobs and submitted runs that bring their code from Git."""

from datetime import timedelta

import pytest
from databricks.sdk.errors import InvalidParameterValue, OperationFailed
from databricks.sdk.service import jobs

from harness.api import cells

WAIT = timedelta(minutes=2)


@pytest.fixture
def source(origin):
    """A repository with a module, notebooks that run each other, and a script."""
    origin.commit(
        {
            "lib/__init__.py": "",
            "lib/scores.py": "def double(x):\n    return 2 * x\n",
            "notebooks/setup.py": cells("factor = 21"),
            "notebooks/child.py": cells("dbutils.notebook.exit('child of ' + dbutils.widgets.get('who'))"),
            "notebooks/main.py": cells(
                "# MAGIC %run ./setup",
                "from lib.scores import double",
                "child = dbutils.notebook.run('./child', 60, {'who': 'main'})",
                "import os\nhere = os.getcwd()\ntry:\n    open('new', 'w')\n    writable = True\nexcept OSError:\n    writable = False",
                "dbutils.notebook.exit(f'{double(factor)}|{child}|{writable}|{here}')",
            ),
            "scripts/say.py": "import sys\nfrom lib.scores import double\nprint(double(int(sys.argv[1])))\n",
        },
        tag="v1",
    )
    return jobs.GitSource(git_url=str(origin.bare), git_provider=jobs.GitProvider.GIT_HUB, git_branch="main")


def notebook(cluster_id, path, key="main", source=None, **more):
    task = jobs.NotebookTask(notebook_path=path, source=source)
    return jobs.SubmitTask(task_key=key, existing_cluster_id=cluster_id, notebook_task=task, **more)


def result(w, run, task=0):
    return w.jobs.get_run_output(run.tasks[task].run_id).notebook_output.result


def test_a_submitted_run_takes_everything_from_its_commit(w, api, origin, source, cluster_id, home):
    from harness.git import git

    head = git(origin.work, "rev-parse", "HEAD")
    api.notebook(f"{home}/n", ["dbutils.notebook.exit('from the workspace')"])
    script = jobs.SubmitTask(
        task_key="script",
        existing_cluster_id=cluster_id,
        depends_on=[jobs.TaskDependency(task_key="main")],
        spark_python_task=jobs.SparkPythonTask(python_file="scripts/say.py", source=jobs.Source.GIT, parameters=["4"]),
    )
    tasks = [
        notebook(cluster_id, "notebooks/main"),
        script,
        notebook(cluster_id, f"{home}/n", key="other", source=jobs.Source.WORKSPACE),
    ]
    run = w.jobs.submit(run_name="git", git_source=source, tasks=tasks).result(timeout=WAIT)
    assert run.git_source.git_snapshot.used_commit == head
    assert run.git_source.git_branch == "main"
    folder = f"/Workspace/Repos/.internal/{head}/notebooks"
    by_key = {task.task_key: w.jobs.get_run_output(task.run_id) for task in run.tasks}
    assert by_key["main"].notebook_output.result == f"42|child of main|False|{folder}"
    assert by_key["script"].logs == "8\n"
    assert by_key["other"].notebook_output.result == "from the workspace"


def test_a_job_runs_the_newest_commit_of_its_branch_and_a_tag_stays(w, origin, source, cluster_id):
    task = jobs.Task(task_key="t", existing_cluster_id=cluster_id, notebook_task=jobs.NotebookTask(notebook_path="notebooks/v"))
    first = origin.commit({"notebooks/v.py": cells("dbutils.notebook.exit('first')")}, tag="v2")
    job = w.jobs.create(name="follows", git_source=source, tasks=[task])
    assert w.jobs.get(job.job_id).settings.git_source.git_url == source.git_url
    run = w.jobs.run_now(job.job_id).result(timeout=WAIT)
    assert (result(w, run), run.git_source.git_snapshot.used_commit) == ("first", first)
    second = origin.commit({"notebooks/v.py": cells("dbutils.notebook.exit('second')")})
    run = w.jobs.run_now(job.job_id).result(timeout=WAIT)
    assert (result(w, run), run.git_source.git_snapshot.used_commit) == ("second", second)
    for revision in ({"git_tag": "v2"}, {"git_commit": first}):
        pinned = jobs.GitSource(git_url=source.git_url, git_provider=source.git_provider, **revision)
        w.jobs.update(job.job_id, new_settings=jobs.JobSettings(git_source=pinned))
        run = w.jobs.run_now(job.job_id).result(timeout=WAIT)
        assert (result(w, run), run.git_source.git_snapshot.used_commit) == ("first", first)


def test_a_private_repository_wants_the_credential_of_the_runs_user(server, api, git_root, http_git, plain_user):
    from harness.git import Origin

    origin = Origin(git_root / "private", "job-source")
    origin.commit({"n.py": cells("dbutils.notebook.exit('private')")})
    url = f"{http_git.url}/private/job-source.git"
    _, token = plain_user
    w = server.sdk(token=token)
    own = jobs.GitSource(git_url=url, git_provider=jobs.GitProvider.GIT_LAB, git_branch="main")
    tasks = [jobs.SubmitTask(task_key="main", notebook_task=jobs.NotebookTask(notebook_path="n"))]
    with pytest.raises(OperationFailed) as failed:
        w.jobs.submit(run_name="git", git_source=own, tasks=tasks).result(timeout=WAIT)
    assert "add a Git credential" in str(failed.value)
    w.git_credentials.create("gitLab", git_username=http_git.user, personal_access_token=http_git.password)
    run = w.jobs.submit(run_name="git", git_source=own, tasks=tasks).result(timeout=WAIT)
    assert result(w, run) == "private"


def test_wrong_sources_are_refused_and_missing_ones_fail_by_name(w, api, source, cluster_id):
    task = notebook(cluster_id, "/notebooks/main")
    with pytest.raises(InvalidParameterValue, match="relative to the root"):
        w.jobs.submit(run_name="git", git_source=source, tasks=[task])
    source.git_branch = "nowhere"
    waiter = w.jobs.submit(run_name="git", git_source=source, tasks=[notebook(cluster_id, "notebooks/main")])
    with pytest.raises(OperationFailed, match="nowhere"):
        waiter.result(timeout=WAIT)
    run = w.jobs.get_run(waiter.run_id)
    assert run.tasks[0].status.termination_details.code.value == "REPOSITORY_CHECKOUT_FAILED"
    assert run.tasks[0].state.life_cycle_state == jobs.RunLifeCycleState.INTERNAL_ERROR
