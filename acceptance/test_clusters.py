"""Clusters: definitions, states, chosen ids, and the lists that clients choose from."""

import base64
import json

import pytest
from databricks.sdk.errors import BadRequest
from databricks.sdk.errors.platform import ResourceDoesNotExist
from databricks.sdk.service.compute import ClusterSpec, State
from databricks.sdk.service.jobs import JobCluster, NotebookTask, Task, TaskDependency

from harness.api import new_cluster, refused


def definition(api, **more):
    versions = api.get("/api/2.0/clusters/spark-versions")["versions"]
    nodes = api.get("/api/2.0/clusters/list-node-types")["node_types"]
    return {"cluster_name": "c", "spark_version": versions[0]["key"], "node_type_id": nodes[0]["node_type_id"], "num_workers": 0, **more}


def test_sdk_helpers_find_a_version_and_a_node_type(w):
    version = w.clusters.select_spark_version(long_term_support=True)
    assert version in {entry.key for entry in w.clusters.spark_versions().versions}
    assert w.clusters.select_node_type(min_memory_gb=1, min_cores=1)
    assert w.clusters.list_zones().default_zone


def test_life_of_a_cluster(w, api):
    made = w.clusters.create(**definition(api, cluster_name="life", custom_tags={"team": "risk"}, autotermination_minutes=30)).result()
    assert made.state == State.RUNNING
    assert made.cluster_id in {entry.cluster_id for entry in w.clusters.list()}
    got = w.clusters.get(made.cluster_id)
    assert (got.cluster_name, got.custom_tags, got.creator_user_name) == ("life", {"team": "risk"}, w.current_user.me().user_name)
    w.clusters.delete(made.cluster_id).result()
    assert w.clusters.get(made.cluster_id).state == State.TERMINATED
    w.clusters.start(made.cluster_id).result()
    with pytest.raises(BadRequest, match=made.cluster_id):
        w.clusters.start(made.cluster_id)
    w.clusters.permanent_delete(made.cluster_id)
    with pytest.raises(ResourceDoesNotExist):
        w.clusters.get(made.cluster_id)


def test_edit_and_events(w, api):
    body = definition(api, cluster_name="before")
    made = w.clusters.create(**body).result()
    w.clusters.edit(made.cluster_id, **{**body, "cluster_name": "after"}).result()
    assert w.clusters.get(made.cluster_id).cluster_name == "after"
    assert [event.type.value for event in w.clusters.events(made.cluster_id, limit=5)]
    w.clusters.permanent_delete(made.cluster_id)


def test_init_scripts_come_before_the_program(w, api, home, dbfs_home):
    scripts = {"one": 'echo "$STAGE" > /tmp/stage; echo said', "two": "cat /tmp/stage > /local_disk0/copy; exit $CODE"}
    for name, text in scripts.items():
        w.dbfs.put(f"{dbfs_home}/{name}.sh", contents=base64.b64encode(text.encode()).decode(), overwrite=True)
    places = [{"dbfs": {"destination": f"dbfs:{dbfs_home}/{name}.sh"}} for name in scripts]
    for code, wanted in [("0", "SUCCESS"), ("3", "FAILED")]:
        variables = {"STAGE": "prod", "CODE": code}
        cluster_id = new_cluster(api, init_scripts=places, spark_env_vars=variables)
        cells = ["dbutils.notebook.exit(open('/local_disk0/copy').read())"]
        run, output = api.run_cells(f"{home}/init{code}", cells, cluster_id)
        assert run["state"]["result_state"] == wanted, output
        if code == "0":
            assert output["notebook_output"]["result"] == "prod\n"
        else:
            assert "two.sh ended with exit code 3" in output["error"]


def test_missing_cluster_is_named(api):
    message = refused(
        api.call("GET", "/api/2.1/clusters/get", params={"cluster_id": "0101-000000-missing0"}), 400, "INVALID_PARAMETER_VALUE"
    )
    assert message == "Cluster 0101-000000-missing0 does not exist"


@pytest.mark.parametrize(
    "change, word",
    [({"spark_version": "1.0.x"}, "spark_version"), ({"num_workers": "many"}, "num_workers"), ({"spark_version": None}, "spark_version")],
)
def test_bad_definition_names_the_field(api, change, word):
    body = {key: value for key, value in {**definition(api), **change}.items() if value is not None}
    assert word in refused(api.call("POST", "/api/2.0/clusters/create", json=body), 400, {"INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST"})


def test_chosen_id_resolves(api, forebay, server, home):
    """A pipeline that carries a literal cluster id finds that cluster."""
    chosen = "0924-164345-sofa329"
    made = api.post("/api/2.0/clusters/create", definition(api, cluster_id=chosen))
    assert made["cluster_id"] == chosen
    assert api.get("/api/2.0/clusters/get", cluster_id=chosen)["cluster_id"] == chosen
    run, _ = api.run_cells(f"{home}/n", ["dbutils.notebook.exit('here')"], chosen)
    assert run["state"]["result_state"] == "SUCCESS"
    refused(
        api.call("POST", "/api/2.0/clusters/create", json=definition(api, cluster_id=chosen)),
        400,
        {"RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"},
    )


def test_legacy_cli_lists_and_gets(legacy, cluster_id):
    assert cluster_id in legacy("clusters", "list")
    assert json.loads(legacy("clusters", "get", "--cluster-id", cluster_id))["cluster_id"] == cluster_id
    assert "versions" in json.loads(legacy("clusters", "spark-versions"))
    assert "node_types" in json.loads(legacy("clusters", "list-node-types"))
    json_file_answer = json.loads(legacy("clusters", "list", "--output", "JSON"))
    assert cluster_id in {entry["cluster_id"] for entry in json_file_answer["clusters"]}


def test_stopped_cluster_is_started_by_a_run_or_the_run_says_why(api, w, home):
    made = w.clusters.create(**definition(api, cluster_name="stopped")).result()
    w.clusters.delete(made.cluster_id).result()
    api.notebook(f"{home}/n", ["print('awake')"])
    run = api.finished(api.submit(f"{home}/n", made.cluster_id))
    assert run["state"]["result_state"] == "SUCCESS" or "cluster" in run["state"]["state_message"].lower()
    w.clusters.permanent_delete(made.cluster_id)


def test_run_on_an_unknown_cluster_ends_with_its_reason(api, home):
    api.notebook(f"{home}/n", ["print(1)"])
    body = {"run_name": "x", "existing_cluster_id": "0101-000000-missing0", "notebook_task": {"notebook_path": f"{home}/n"}}
    response = api.call("POST", "/api/2.0/jobs/runs/submit", json=body)
    if response.status_code == 400:
        assert "0101-000000-missing0" in response.json()["message"]
        return
    run = api.finished(response.json()["run_id"])
    assert run["state"]["result_state"] == "FAILED"
    assert "0101-000000-missing0" in run["state"]["state_message"]


def test_run_on_a_new_cluster(api, home):
    api.notebook(f"{home}/n", ["print('own cluster')"])
    new_cluster = {key: value for key, value in definition(api).items() if key != "cluster_name"}
    run_id = api.post(
        "/api/2.0/jobs/runs/submit", {"run_name": "x", "new_cluster": new_cluster, "notebook_task": {"notebook_path": f"{home}/n"}}
    )["run_id"]
    assert api.finished(run_id)["state"]["result_state"] == "SUCCESS"


def test_tasks_of_a_run_share_the_cluster_of_their_job_and_runs_do_not(w, api, home):
    version = w.clusters.spark_versions().versions[0].key
    notebook = NotebookTask(notebook_path=api.notebook(f"{home}/n", ["print('shared')"]))
    job = w.jobs.create(
        name="shared",
        job_clusters=[JobCluster("etl", ClusterSpec(spark_version=version, node_type_id="any", num_workers=0))],
        tasks=[
            Task(task_key="first", job_cluster_key="etl", notebook_task=notebook),
            Task(task_key="second", job_cluster_key="etl", notebook_task=notebook, depends_on=[TaskDependency("first")]),
            Task(task_key="alone", new_cluster=ClusterSpec(spark_version=version, num_workers=0), notebook_task=notebook),
        ],
    )
    runs = [w.jobs.run_now_and_wait(job.job_id) for _ in range(2)]
    found = [{task.task_key: task.cluster_instance.cluster_id for task in run.tasks} for run in runs]
    for of_run in found:
        assert of_run["first"] == of_run["second"] != of_run["alone"], found
        for cluster in set(of_run.values()):
            ended = w.clusters.wait_get_cluster_terminated(cluster)
            assert ended.cluster_source.value == "JOB" and ended.termination_reason.code.value == "JOB_FINISHED"
    assert not set(found[0].values()) & set(found[1].values())


def test_cluster_without_warm_parents_gives_each_run_a_process_of_its_own(api, home):
    """For libraries that do not survive a fork."""
    cluster_id = new_cluster(api, spark_conf={"forebay.warm": "false"})
    imported = ["import sys\ndbutils.notebook.exit(str('pandas' in sys.modules))"]
    _, output = api.run_cells(f"{home}/n", imported, cluster_id)
    assert output["notebook_output"]["result"] == "False"
