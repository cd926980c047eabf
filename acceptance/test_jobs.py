"""Job definitions: three API versions over one store, the legacy template, list, reset, update, delete."""

import json
import re

import pytest
from databricks.sdk.errors.platform import InvalidParameterValue, ResourceDoesNotExist
from databricks.sdk.service.jobs import JobParameterDefinition, JobSettings, NotebookTask, Task, TaskDependency

from harness.api import refused

TEMPLATE = """{
  "name": "build-#{repo-name}#",
  "existing_cluster_id": "#{cluster-id}#",
  "libraries": [],
  "email_notifications": {},
  "timeout_seconds": 0,
  "notebook_task": {
    "notebook_path": "#{master-notebook}#",
    "base_parameters": {"run_id": "0", "branch": "main"}
  }
}"""


def filled(template, **tokens):
    text = re.sub(r"#\{([a-z-]+)\}#", lambda match: tokens[match[1].replace("-", "_")], template)
    json.loads(text)
    return text


@pytest.fixture
def echo(api, home):
    """A notebook that exits with the parameters it got."""
    return api.notebook(
        f"{home}/echo",
        [
            "import json\nfor name in ('run_id', 'branch', 'repo', 'build', 'owner'):\n    dbutils.widgets.text(name, '')",
            "dbutils.notebook.exit(json.dumps({name: dbutils.widgets.get(name) for name in ('run_id', 'branch', 'repo', 'build', 'owner')}))",
        ],
    )


def test_template_to_result_with_the_legacy_cli(legacy, api, echo, cluster_id, tmp_path, request):
    """The road of article 2: create from a template, find by name, run with five parameters, read the result."""
    name = f"build-{request.node.name}"
    path = tmp_path / "job.json"
    path.write_text(filled(TEMPLATE, repo_name=request.node.name, cluster_id=cluster_id, master_notebook=echo))
    job_id = json.loads(legacy("jobs", "create", "--json-file", path))["job_id"]
    listed = json.loads(legacy("jobs", "list", "--output", "JSON"))
    assert [job["job_id"] for job in listed["jobs"] if job["settings"]["name"] == name] == [job_id]
    parameters = {"run_id": "77", "branch": "feature/x", "repo": "risk", "build": "2026.1", "owner": 'a b "c"'}
    run_id = json.loads(legacy("jobs", "run-now", "--job-id", job_id, "--notebook-params", json.dumps(parameters)))["run_id"]
    run = api.finished(run_id)
    assert run["state"]["result_state"] == "SUCCESS"
    got = json.loads(legacy("runs", "get", "--run-id", run_id))
    assert (got["state"]["life_cycle_state"], got["state"]["result_state"]) == ("TERMINATED", "SUCCESS")
    output = json.loads(legacy("runs", "get-output", "--run-id", run_id))
    assert json.loads(output["notebook_output"]["result"]) == parameters


def test_flat_job_is_flat_on_2_0_and_has_tasks_on_2_1(api, echo, cluster_id):
    job_id = api.post(
        "/api/2.0/jobs/create", {"name": "flat", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": echo}}
    )["job_id"]
    old = api.get("/api/2.0/jobs/get", job_id=job_id)["settings"]
    assert old["notebook_task"]["notebook_path"] == echo
    assert old["format"] == "SINGLE_TASK"
    new = api.get("/api/2.1/jobs/get", job_id=job_id)["settings"]
    assert new["tasks"][0]["notebook_task"]["notebook_path"] == echo
    assert "notebook_task" not in new


def test_list_2_0_is_whole_and_2_1_is_paged(api, echo, cluster_id):
    ids = [
        api.post(
            "/api/2.1/jobs/create",
            {"name": "paged", "tasks": [{"task_key": "t", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": echo}}]},
        )["job_id"]
        for _ in range(25)
    ]
    everything = [job["job_id"] for job in api.get("/api/2.0/jobs/list")["jobs"]]
    assert set(ids) <= set(everything)
    first = api.get("/api/2.1/jobs/list")
    assert len(first["jobs"]) == 20 and first["has_more"] and first["next_page_token"]
    assert "tasks" not in first["jobs"][0]["settings"]
    named, token = [], None
    while True:
        page = api.get("/api/2.1/jobs/list", name="PAGED", limit=10, expand_tasks="true", **({"page_token": token} if token else {}))
        named += [job["job_id"] for job in page.get("jobs", [])]
        assert all(job["settings"]["tasks"] for job in page.get("jobs", []))
        token = page.get("next_page_token")
        if not token:
            assert not page.get("has_more")
            break
    assert sorted(named) == sorted(ids)
    assert api.get("/api/2.1/jobs/list", offset=0, limit=5)["jobs"]


def test_get_with_a_json_body_is_understood(api, echo, cluster_id):
    job_id = api.post(
        "/api/2.1/jobs/create",
        {"name": "by body", "tasks": [{"task_key": "t", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": echo}}]},
    )["job_id"]
    body = api.call("GET", "/api/2.1/jobs/list", json={"name": "by body"}).json()
    assert [job["job_id"] for job in body["jobs"]] == [job_id]


def test_ids_may_come_as_strings(api, echo, cluster_id):
    job_id = api.post("/api/2.0/jobs/create", {"name": "s", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": echo}})[
        "job_id"
    ]
    run = api.post("/api/2.0/jobs/run-now", {"job_id": str(job_id)})
    assert run["number_in_job"] == run["run_id"]
    api.finished(run["run_id"])
    api.post("/api/2.0/jobs/delete", {"job_id": str(job_id)})


def test_sdk_creates_resets_updates_and_deletes(w, echo, cluster_id):
    task = Task(
        task_key="main", existing_cluster_id=cluster_id, notebook_task=NotebookTask(notebook_path=echo, base_parameters={"repo": "r"})
    )
    job_id = w.jobs.create(
        name="sdk", tasks=[task], tags={"team": "risk"}, parameters=[JobParameterDefinition(name="branch", default="main")]
    ).job_id
    got = w.jobs.get(job_id)
    assert got.creator_user_name == w.current_user.me().user_name
    assert (got.settings.name, got.settings.tags, got.settings.max_concurrent_runs) == ("sdk", {"team": "risk"}, 1)
    w.jobs.update(job_id, new_settings=JobSettings(name="renamed"), fields_to_remove=["tags"])
    got = w.jobs.get(job_id).settings
    assert (got.name, got.tags, got.tasks[0].notebook_task.base_parameters) == ("renamed", None, {"repo": "r"})
    w.jobs.reset(job_id, JobSettings(name="again", tasks=[task]))
    assert not w.jobs.get(job_id).settings.parameters
    run = w.jobs.run_now(job_id).result()
    assert run.state.result_state.value == "SUCCESS"
    w.jobs.delete(job_id)
    with pytest.raises(ResourceDoesNotExist):
        w.jobs.get(job_id)


def test_missing_job_has_the_exact_words(api):
    for method, path, options in (
        ("GET", "/api/2.0/jobs/get", {"params": {"job_id": 4242424242}}),
        ("POST", "/api/2.1/jobs/delete", {"json": {"job_id": 4242424242}}),
        ("POST", "/api/2.1/jobs/run-now", {"json": {"job_id": 4242424242}}),
    ):
        message = refused(api.call(method, path, **options), 400, "INVALID_PARAMETER_VALUE")
        assert message == "Job 4242424242 does not exist."


def test_job_parameters_reach_every_task_and_win(w, api, echo, cluster_id):
    tasks = [
        Task(
            task_key=key,
            existing_cluster_id=cluster_id,
            notebook_task=NotebookTask(notebook_path=echo, base_parameters={"branch": "task-level", "repo": "r"}),
        )
        for key in ("one", "two")
    ]
    job_id = w.jobs.create(name="params", tasks=tasks, parameters=[JobParameterDefinition(name="branch", default="main")]).job_id
    run = w.jobs.run_now(job_id, job_parameters={"branch": "release"}).result()
    for task in run.tasks:
        values = json.loads(w.jobs.get_run_output(task.run_id).notebook_output.result)
        assert (values["branch"], values["repo"]) == ("release", "r")
    refused(
        api.call(
            "POST", "/api/2.1/jobs/run-now", json={"job_id": job_id, "job_parameters": {"branch": "x"}, "notebook_params": {"a": "b"}}
        ),
        400,
        "INVALID_PARAMETER_VALUE",
    )


@pytest.mark.parametrize(
    "change, word",
    [
        ({"tasks": [{"task_key": "a"}]}, "a"),
        ({"tasks": [{"task_key": "a b", "notebook_task": {"notebook_path": "/x"}}]}, "task_key"),
        ({"tasks": [{"task_key": "a", "notebook_task": {"notebook_path": "/x"}, "depends_on": [{"task_key": "zzz"}]}]}, "zzz"),
        (
            {
                "tasks": [
                    {"task_key": "a", "notebook_task": {"notebook_path": "/x"}, "depends_on": [{"task_key": "b"}]},
                    {"task_key": "b", "notebook_task": {"notebook_path": "/x"}, "depends_on": [{"task_key": "a"}]},
                ]
            },
            "cycl",
        ),
        (
            {
                "tasks": [
                    {"task_key": "a", "notebook_task": {"notebook_path": "/x"}},
                    {"task_key": "a", "notebook_task": {"notebook_path": "/x"}},
                ]
            },
            "a",
        ),
        ({"name": "x" * 5000}, "name"),
        ({"tasks": "none"}, "tasks"),
        ({"timeout_seconds": "soon"}, "timeout_seconds"),
    ],
)
def test_bad_settings_name_what_is_wrong(api, cluster_id, change, word):
    good = {"name": "bad", "tasks": [{"task_key": "a", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": "/x"}}]}
    for task in change.get("tasks", []) if isinstance(change.get("tasks"), list) else []:
        task.setdefault("existing_cluster_id", cluster_id)
    before = len(api.get("/api/2.0/jobs/list")["jobs"])
    message = refused(
        api.call("POST", "/api/2.1/jobs/create", json={**good, **change}), 400, {"INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"}
    )
    assert word in message.lower()
    assert len(api.get("/api/2.0/jobs/list")["jobs"]) == before


def test_unsupported_task_type_is_refused_by_name(api):
    body = {"name": "x", "tasks": [{"task_key": "p", "pipeline_task": {"pipeline_id": "1"}}]}
    assert "pipeline_task" in refused(
        api.call("POST", "/api/2.1/jobs/create", json=body), (400, 501), {"INVALID_PARAMETER_VALUE", "NOT_IMPLEMENTED"}
    )


def test_sdk_sees_bad_parameter_as_such(w):
    with pytest.raises(InvalidParameterValue):
        w.jobs.create(
            name="cycle",
            tasks=[Task(task_key="a", depends_on=[TaskDependency(task_key="a")], notebook_task=NotebookTask(notebook_path="/x"))],
        )


def test_legacy_cli_resets_and_deletes(legacy, echo, cluster_id, tmp_path):
    path = tmp_path / "job.json"
    settings = {"name": "legacy", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": echo}}
    path.write_text(json.dumps(settings))
    job_id = json.loads(legacy("jobs", "create", "--json-file", path))["job_id"]
    path.write_text(json.dumps({**settings, "name": "legacy again"}))
    legacy("jobs", "reset", "--job-id", job_id, "--json-file", path)
    assert json.loads(legacy("jobs", "get", "--job-id", job_id))["settings"]["name"] == "legacy again"
    assert "legacy again" in legacy("jobs", "list", "--version", "2.1", "--all")
    legacy("jobs", "delete", "--job-id", job_id)
    assert str(job_id) not in legacy("jobs", "list")
