"""Conditions, for-each, run-job, references, repair and large jobs, through the Python SDK."""

import json
from datetime import timedelta

import pytest
from databricks.sdk.errors import InvalidParameterValue, OperationFailed, ResourceConflict
from databricks.sdk.service import jobs
from databricks.sdk.service.workspace import ImportFormat

from harness.api import refused


@pytest.fixture
def notebook(api, home, cluster_id):
    """Imports a notebook and gives what a task of it needs."""

    def make(name, *cells, **parameters):
        path = api.notebook(f"{home}/{name}", cells)
        return {"existing_cluster_id": cluster_id, "notebook_task": jobs.NotebookTask(path, base_parameters=parameters)}

    return make


def after(*keys, outcome=None):
    return [jobs.TaskDependency(key, outcome) for key in keys]


def condition(op, left, right):
    return jobs.ConditionTask(op=jobs.ConditionTaskOp(op), left=left, right=right)


def create(w, name, *tasks, **more):
    return w.jobs.create(name=name, tasks=list(tasks), **more).job_id


def results(run):
    return {task.task_key: task.state.result_state.value for task in run.tasks}


def exit_value(w, task):
    return w.jobs.get_run_output(task.run_id).notebook_output.result


def test_condition_takes_one_branch(w, notebook):
    count = notebook("count", "dbutils.jobs.taskValues.set('rows', 12)")
    say = "dbutils.notebook.exit(dbutils.widgets.get('said'))"
    job_id = create(
        w,
        "branches",
        jobs.Task("count", **count),
        jobs.Task("enough", depends_on=after("count"), condition_task=condition("GREATER_THAN", "{{tasks.count.values.rows}}", "9")),
        jobs.Task("yes", depends_on=after("enough", outcome="true"), **notebook("yes", say, said="{{tasks.enough.result_state}}")),
        jobs.Task("no", depends_on=after("enough", outcome="false"), **notebook("no", say, said="no")),
        jobs.Task("join", depends_on=after("yes", "no"), run_if=jobs.RunIf.NONE_FAILED, **notebook("join", say, said="{{job.name}}")),
    )
    run = w.jobs.run_now(job_id).result(timeout=timedelta(minutes=3))
    assert results(run) == {"count": "SUCCESS", "enough": "SUCCESS", "yes": "SUCCESS", "no": "EXCLUDED", "join": "SUCCESS"}
    tasks = {task.task_key: task for task in run.tasks}
    assert tasks["enough"].condition_task.outcome == "true"
    assert exit_value(w, tasks["yes"]) == "success"
    assert exit_value(w, tasks["join"]) == "branches"


def test_for_each_over_what_a_task_found(w, notebook):
    find = notebook(
        "find", "dbutils.jobs.taskValues.set('countries', [{'code': 'nl', 'n': 1}, {'code': 'be', 'n': 2}, {'code': 'lu', 'n': 3}])"
    )
    load = notebook(
        "load", "dbutils.notebook.exit(dbutils.widgets.get('code') + dbutils.widgets.get('n'))", code="{{input.code}}", n="{{input.n}}"
    )
    each = jobs.ForEachTask(inputs="{{tasks.find.values.countries}}", concurrency=2, task=jobs.Task("load", **load))
    run_id = (
        w.jobs.submit(
            run_name="each",
            tasks=[
                jobs.SubmitTask("find", **find),
                jobs.SubmitTask("each", depends_on=after("find"), for_each_task=each),
            ],
        )
        .result(timeout=timedelta(minutes=3))
        .run_id
    )
    run = w.jobs.get_run(run_id)
    stats = run.tasks[1].for_each_task.stats.task_run_stats
    assert (stats.total_iterations, stats.succeeded_iterations, stats.failed_iterations) == (3, 3, 0)
    each = w.jobs.get_run(run.tasks[1].run_id)
    assert [exit_value(w, one) for one in each.iterations] == ["nl1", "be2", "lu3"]


def sql_file(w, path, statements):
    w.workspace.mkdirs(path.rsplit("/", 1)[0])
    w.workspace.upload(path, statements.encode(), format=ImportFormat.AUTO)
    return jobs.SqlTask(warehouse_id="", file=jobs.SqlTaskFile(path=path))


def test_rows_of_sql_are_the_inputs_of_a_for_each_and_its_first_row_decides(w, home, notebook):
    statements = """
select 'not this one' as code;
${verb} *, named_struct('name', upper(code), 'zip', array(1, 2)) as place
from values ('nl', 2, null), ('be', 1, 0.5) as t(code, `the count`, share);
-- select
create or replace temp view seen as select 1"""
    find = sql_file(w, f"{home}/find.sql", statements)
    find.parameters = {"verb": "select"}
    say = "dbutils.notebook.exit('|'.join(dbutils.widgets.get(name) for name in ('code', 'n', 'share', 'place', 'first')))"
    names = {"code": "code", "n": "`the count`", "share": "share", "place": "place"}
    inputs = {name: f"{{{{input.{column}}}}}" for name, column in names.items()}
    load = notebook("load", say, **inputs, first="{{tasks.find.output.first_row.code}}")
    each = jobs.ForEachTask(inputs="{{tasks.find.output.rows}}", concurrency=2, task=jobs.Task("load", **load))
    enough = condition("GREATER_THAN", "{{tasks.find.output.first_row.`the count`}}", "1")
    job_id = create(
        w,
        "rows",
        jobs.Task("find", sql_task=find),
        jobs.Task("enough", depends_on=after("find"), condition_task=enough),
        jobs.Task("each", depends_on=after("enough", outcome="true"), for_each_task=each),
        jobs.Task("less", depends_on=after("enough", outcome="false"), for_each_task=each),
    )
    run = w.jobs.run_now(job_id).result(timeout=timedelta(minutes=4))
    assert results(run) == {"find": "SUCCESS", "enough": "SUCCESS", "each": "SUCCESS", "less": "EXCLUDED"}
    tasks = {task.task_key: task for task in run.tasks}
    iterations = w.jobs.get_run(tasks["each"].run_id).iterations
    assert [exit_value(w, one) for one in iterations] == [
        'nl|2|null|{"name":"NL","zip":[1,2]}|nl',
        'be|1|0.5|{"name":"BE","zip":[1,2]}|nl',
    ]


def test_what_an_output_does_not_have_fails_the_task_and_says_why(w, home, notebook):
    many = sql_file(w, f"{home}/many.sql", "select id from range(1001)")
    tables = sql_file(w, f"{home}/none.sql", "create or replace temp view seen as select 1 as n")
    wrong = {
        "rows": ("{{tasks.many.output.rows}}", "more than 1000 rows"),
        "column": ("{{tasks.many.output.first_row.name}}", "no column 'name'; it has id"),
        "none": ("{{tasks.tables.output.rows}}", "has shown no table"),
        "alert": ("{{tasks.many.output.alert_state}}", "there are no alerts here"),
        "other": ("{{tasks.plain.output.rows}}", "only a SQL task"),
        "backfill": ("{{backfill.iso_date}}", "there are no backfills here"),
    }
    first = condition("EQUAL_TO", "{{tasks.many.output.first_row.id}}", "0")
    waiter = w.jobs.submit(
        run_name="outputs",
        tasks=[
            jobs.SubmitTask("many", sql_task=many),
            jobs.SubmitTask("tables", sql_task=tables),
            jobs.SubmitTask("plain", **notebook("plain", "1")),
            jobs.SubmitTask("first", depends_on=after("many"), condition_task=first),
            *(
                jobs.SubmitTask(key, depends_on=after("many", "tables", "plain"), condition_task=condition("EQUAL_TO", text, "1"))
                for key, (text, _) in wrong.items()
            ),
        ],
    )
    with pytest.raises(OperationFailed):
        waiter.result(timeout=timedelta(minutes=4))
    tasks = {task.task_key: task for task in w.jobs.get_run(waiter.run_id).tasks}
    assert [tasks[key].state.result_state.value for key in ("many", "tables", "plain", "first")] == ["SUCCESS"] * 4
    assert tasks["first"].condition_task.outcome == "true"
    for key, (text, reason) in wrong.items():
        message = tasks[key].state.state_message
        assert tasks[key].state.result_state.value == "FAILED" and text in message and reason in message, (key, message)


def test_for_each_fails_with_any_iteration_and_retries_its_own(w, notebook, dbfs_home):
    code = f"""
import pathlib
n = dbutils.widgets.get('n')
tried = pathlib.Path('/dbfs{dbfs_home}/tried-' + n)
first = not tried.exists()
tried.touch()
if n == '2' or first:
    raise ValueError('on purpose')
"""
    inner = jobs.Task("try", max_retries=1, **notebook("try", code, n="{{input}}"))
    waiter = w.jobs.submit(run_name="each", tasks=[jobs.SubmitTask("each", for_each_task=jobs.ForEachTask("[1, 2]", inner))])
    with pytest.raises(OperationFailed):
        waiter.result(timeout=timedelta(minutes=3))
    run = w.jobs.get_run(waiter.run_id)
    assert "1 of 2 iterations failed" in run.tasks[0].state.state_message
    iterations = w.jobs.get_run(run.tasks[0].run_id).iterations
    assert [(one.attempt_number, one.state.result_state.value) for one in iterations] == [(1, "SUCCESS"), (1, "FAILED")]
    errors = run.tasks[0].for_each_task.stats.error_message_stats
    assert errors[0].count == 1


def test_run_job_passes_parameters_and_its_result(w, notebook):
    show = notebook("show", "dbutils.notebook.exit(dbutils.widgets.get('day') + '/' + dbutils.widgets.get('from'))")
    child = create(
        w,
        "child",
        jobs.Task("show", **show),
        parameters=[jobs.JobParameterDefinition("day", "none"), jobs.JobParameterDefinition("from", "none")],
    )
    call = jobs.RunJobTask(child, job_parameters={"from": "{{job.name}}"})
    parent = create(w, "parent", jobs.Task("call", run_job_task=call), parameters=[jobs.JobParameterDefinition("day", "mon")])
    run = w.jobs.run_now(parent, job_parameters={"day": "tue"}).result(timeout=timedelta(minutes=3))
    started = w.jobs.get_run(w.jobs.get_run_output(run.tasks[0].run_id).run_job_output.run_id)
    assert started.job_id == child
    assert started.trigger == jobs.TriggerType.RUN_JOB_TASK
    assert exit_value(w, started.tasks[0]) == "tue/parent"
    with pytest.raises(InvalidParameterValue, match="circle"):
        w.jobs.update(child, new_settings=jobs.JobSettings(tasks=[jobs.Task("back", run_job_task=jobs.RunJobTask(parent))]))


def test_repair_goes_on_where_the_run_failed(w, api, home, notebook):
    good = notebook("good", "dbutils.notebook.exit('{{not.ours}}')")
    bad = notebook("bad", "raise ValueError('not yet')", repair="{{job.repair_count}}")
    job_id = create(
        w, "mended", jobs.Task("a", **good), jobs.Task("b", depends_on=after("a"), **bad), jobs.Task("c", depends_on=after("b"), **good)
    )
    waiter = w.jobs.run_now(job_id)
    with pytest.raises(OperationFailed):
        waiter.result(timeout=timedelta(minutes=3))
    run_id = waiter.run_id
    assert results(w.jobs.get_run(run_id)) == {"a": "SUCCESS", "b": "FAILED", "c": "UPSTREAM_FAILED"}
    with pytest.raises(InvalidParameterValue, match="nowhere"):
        w.jobs.repair_run(run_id, rerun_tasks=["nowhere"])
    api.notebook(f"{home}/bad", ["dbutils.notebook.exit(dbutils.widgets.get('repair'))"])
    run = w.jobs.repair_run(run_id, rerun_all_failed_tasks=True).result(timeout=timedelta(minutes=3))
    assert (run.run_id, run.state.result_state.value) == (run_id, "SUCCESS")
    tasks = {task.task_key: task for task in run.tasks}
    assert [tasks[key].attempt_number for key in "abc"] == [0, 1, 1]
    assert exit_value(w, tasks["b"]) == "1"
    history = w.jobs.get_run(run_id, include_history=True).repair_history
    assert [item.type.value for item in history] == ["ORIGINAL", "REPAIR"]
    assert [item.state.result_state.value for item in history] == ["FAILED", "SUCCESS"]
    assert set(history[1].task_run_ids) == {tasks["b"].run_id, tasks["c"].run_id}
    with pytest.raises(ResourceConflict):
        w.jobs.repair_run(run_id, rerun_tasks=["a"], latest_repair_id=1)
    again = w.jobs.repair_run(run_id, rerun_tasks=["a"], rerun_dependent_tasks=True, latest_repair_id=history[1].id)
    run = again.result(timeout=timedelta(minutes=3))
    assert [task.attempt_number for task in run.tasks] == [1, 2, 2]


def test_reference_without_a_value_fails_the_task_with_its_reason(w, api, notebook):
    show = notebook("show", "pass", x="{{tasks.before.values.none}}")
    waiter = w.jobs.submit(
        run_name="slip",
        tasks=[jobs.SubmitTask("before", **notebook("before", "pass")), jobs.SubmitTask("show", depends_on=after("before"), **show)],
    )
    with pytest.raises(OperationFailed):
        waiter.result(timeout=timedelta(minutes=3))
    task = api.run(waiter.run_id)["tasks"][1]
    assert "task 'before' has set no value 'none'" in task["state"]["state_message"]
    assert task["status"]["termination_details"]["code"] == "INVALID_RUN_CONFIGURATION"


def test_disabled_task_counts_as_left_out(w, notebook):
    plain = notebook("plain", "pass")
    run = w.jobs.submit(
        run_name="disabled",
        tasks=[
            jobs.SubmitTask("a", **plain),
            jobs.SubmitTask("b", disabled=True, **plain),
            jobs.SubmitTask("c", depends_on=after("a", "b"), **plain),
        ],
    ).result(timeout=timedelta(minutes=3))
    assert results(run) == {"a": "SUCCESS", "b": "DISABLED", "c": "SUCCESS"}


def test_one_task_is_canceled_alone(w, api, notebook):
    waiter = w.jobs.submit(
        run_name="part",
        tasks=[
            jobs.SubmitTask("endless", **notebook("endless", "import time\ntime.sleep(600)")),
            jobs.SubmitTask("beside", **notebook("beside", "pass")),
            jobs.SubmitTask("behind", depends_on=after("endless"), **notebook("behind", "pass")),
        ],
    )
    endless = api.run(waiter.run_id)["tasks"][0]["run_id"]
    api.post("/api/2.1/jobs/runs/cancel", {"run_id": endless})
    run = api.finished(waiter.run_id)
    states = {task["task_key"]: task["state"]["result_state"] for task in run["tasks"]}
    assert states == {"endless": "CANCELED", "beside": "SUCCESS", "behind": "UPSTREAM_CANCELED"}


def test_over_a_hundred_tasks_need_api_2_2(w, api):
    def task(number):
        return {"task_key": f"t{number}", "condition_task": {"op": "EQUAL_TO", "left": str(number), "right": "7"}}

    body = {"name": "large", "tasks": [task(number) for number in range(150)]}
    for path in ("jobs/create", "jobs/runs/submit"):
        message = refused(api.call("POST", f"/api/2.1/{path}", json=body), 400, "INVALID_PARAMETER_VALUE")
        assert message == "Resources with more than 100 tasks can only be handled by API 2.2 and above"
    job_id = api.post("/api/2.2/jobs/create", body)["job_id"]
    refused(api.call("GET", "/api/2.1/jobs/get", params={"job_id": job_id}), 400, "INVALID_PARAMETER_VALUE")
    assert len(w.jobs.get(job_id).settings.tasks) == 150
    run = w.jobs.run_now(job_id).result(timeout=timedelta(minutes=3))
    assert len(w.jobs.get_run(run.run_id).tasks) == 150
    refused(api.call("GET", "/api/2.1/jobs/runs/get", params={"run_id": run.run_id}), 400, "INVALID_PARAMETER_VALUE")
    too_many = {"name": "huge", "tasks": [task(number) for number in range(1001)]}
    assert "1001 tasks, at most 1000" in refused(api.call("POST", "/api/2.2/jobs/create", json=too_many), 400, "INVALID_PARAMETER_VALUE")


def test_resolved_values_are_shown_on_request(w, notebook):
    show = notebook("show", "pass", day="{{job.parameters.day}}", run="{{job.run_id}}")
    job_id = create(w, "resolved", jobs.Task("show", **show), parameters=[jobs.JobParameterDefinition("day", "mon")])
    run = w.jobs.run_now(job_id).result(timeout=timedelta(minutes=3))
    shown = w.jobs.get_run(run.run_id, include_resolved_values=True).tasks[0].resolved_values
    assert shown.notebook_task.base_parameters == {"day": "mon", "run": str(run.run_id)}
    assert w.jobs.get_run(run.run_id).tasks[0].resolved_values is None


def test_environment_of_a_task_gives_its_libraries(api, w, dbfs_home, cluster_id):
    import io

    w.dbfs.upload(f"{dbfs_home}/show.py", io.BytesIO(b"import cowsay\nprint('has', cowsay.__name__)\n"))
    environment = {"environment_key": "small", "spec": {"environment_version": "2", "dependencies": ["cowsay==6.1"]}}
    task = {
        "task_key": "s",
        "environment_key": "small",
        "existing_cluster_id": cluster_id,
        "spark_python_task": {"python_file": f"dbfs:{dbfs_home}/show.py"},
    }
    run_id = api.post("/api/2.2/jobs/runs/submit", {"tasks": [task], "environments": [environment]})["run_id"]
    run = api.finished(run_id, timeout=180)
    assert run["state"]["result_state"] == "SUCCESS", json.dumps(run)
    assert "has cowsay" in api.output(run_id)["logs"]
    unknown = {"tasks": [{**task, "environment_key": "other"}], "environments": [environment]}
    assert "'other'" in refused(api.call("POST", "/api/2.2/jobs/runs/submit", json=unknown), 400, "INVALID_PARAMETER_VALUE")


def test_run_as_somebody_else_takes_an_administrator(w, api, home, cluster_id, plain_user, server):
    name, token = plain_user
    api.notebook(
        f"{home}/who", ["dbutils.notebook.exit(dbutils.notebook.entry_point.getDbutils().notebook().getContext().userName().get())"]
    )
    settings = {
        "name": "as bob",
        "run_as": {"user_name": name},
        "tasks": [{"task_key": "t", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": f"{home}/who"}}],
    }
    job_id = api.post("/api/2.2/jobs/create", settings)["job_id"]
    assert api.get("/api/2.2/jobs/get", job_id=job_id)["run_as_user_name"] == name
    nobody = {**settings, "run_as": {"user_name": "nobody@example.com"}}
    assert "nobody@example.com" in refused(api.call("POST", "/api/2.2/jobs/create", json=nobody), 400, "INVALID_PARAMETER_VALUE")
    me = w.current_user.me().user_name
    stranger = {**settings, "run_as": {"user_name": me}}
    refused(server.api(token=token).call("POST", "/api/2.2/jobs/create", json=stranger), 403, "PERMISSION_DENIED")


def test_some_tasks_of_a_job_run_alone(w, notebook):
    job_id = create(
        w,
        "some",
        jobs.Task("load", **notebook("load", "raise ValueError('not wanted')")),
        jobs.Task("train", depends_on=after("load"), **notebook("train", "print(1)")),
        jobs.Task("score", depends_on=after("train"), **notebook("score", "print(2)")),
    )
    run = w.jobs.run_now(job_id, only=["train+"]).result(timeout=timedelta(minutes=3))
    assert results(run) == {"train": "SUCCESS", "score": "SUCCESS"}
    with pytest.raises(InvalidParameterValue, match="no task 'sell'"):
        w.jobs.run_now(job_id, only=["sell"])
