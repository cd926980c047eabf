"""Triggers through the unmodified SDK: created, changed, paused, and fired for real by a file, an event and another job."""

import io
import json

import pytest
from databricks.sdk.errors import InvalidParameterValue, NotImplemented
from databricks.sdk.service.jobs import (
    Continuous,
    CronSchedule,
    FileArrivalTriggerConfiguration,
    JobParameterDefinition,
    JobSettings,
    NotebookTask,
    PauseStatus,
    PeriodicTriggerConfiguration,
    PeriodicTriggerConfigurationTimeUnit,
    Task,
    TriggerSettings,
    TriggerType,
)

from harness import wait

NIGHTLY = CronSchedule("0 0 3 ? * MON-FRI", "Europe/Berlin", pause_status=PauseStatus.UNPAUSED)


@pytest.fixture
def tasks(api, home):
    """One notebook that gives back the files it was told of."""
    cells = ["dbutils.widgets.text('files', '')", "dbutils.notebook.exit(dbutils.widgets.get('files'))"]
    path = api.notebook(f"{home}/told", cells)
    return [Task(task_key="told", notebook_task=NotebookTask(notebook_path=path))]


def runs_of(w, job_id):
    return list(w.jobs.list_runs(job_id=job_id))


def first_run(w, api, job_id, timeout=60):
    run = wait.until(f"a run of job {job_id}", lambda: next(iter(runs_of(w, job_id)), None), timeout=timeout, interval=0.2)
    return api.finished(run.run_id)


def trigger(api, job_id):
    return api.get(f"/api/forebay/v1/jobs/{job_id}/trigger")["triggers"][0]


def test_a_schedule_is_created_changed_paused_and_taken_away(w, api, tasks):
    job_id = w.jobs.create(name="nightly", tasks=tasks, schedule=NIGHTLY).job_id
    try:
        schedule = w.jobs.get(job_id).settings.schedule
        assert (schedule.quartz_cron_expression, schedule.pause_status) == ("0 0 3 ? * MON-FRI", PauseStatus.UNPAUSED)
        wait.until("the next firing", lambda: trigger(api, job_id).get("next_firing"), timeout=10)

        paused = CronSchedule("0 0 3 ? * MON-FRI", "Europe/Berlin", pause_status=PauseStatus.PAUSED)
        w.jobs.update(job_id, new_settings=JobSettings(schedule=paused))
        assert w.jobs.get(job_id).settings.schedule.pause_status == PauseStatus.PAUSED
        assert trigger(api, job_id)["paused"] and "next_firing" not in trigger(api, job_id)

        w.jobs.update(job_id, new_settings=JobSettings(schedule=NIGHTLY))
        assert not trigger(api, job_id)["paused"]

        every = PeriodicTriggerConfiguration(interval=1, unit=PeriodicTriggerConfigurationTimeUnit.DAYS)
        w.jobs.update(job_id, new_settings=JobSettings(trigger=TriggerSettings(periodic=every)), fields_to_remove=["schedule"])
        assert trigger(api, job_id)["kind"] == "periodic"
        w.jobs.reset(job_id, new_settings=JobSettings(name="by hand", tasks=tasks))
        assert api.get(f"/api/forebay/v1/jobs/{job_id}/trigger")["triggers"] == []
        assert runs_of(w, job_id) == []
    finally:
        w.jobs.delete(job_id)


def test_what_cannot_fire_is_refused_by_field(w, tasks):
    with pytest.raises(InvalidParameterValue, match=r"schedule\.quartz_cron_expression': hours, position 5"):
        w.jobs.create(tasks=tasks, schedule=CronSchedule("0 0 25 * * ?", "UTC"))
    with pytest.raises(InvalidParameterValue, match=r"schedule\.timezone_id': 'Mars/Base'"):
        w.jobs.create(tasks=tasks, schedule=CronSchedule("0 0 3 * * ?", "Mars/Base"))
    with pytest.raises(InvalidParameterValue, match="exclude each other"):
        w.jobs.create(tasks=tasks, schedule=NIGHTLY, continuous=Continuous())
    missing = FileArrivalTriggerConfiguration(url="dbfs:/not/there")
    with pytest.raises(InvalidParameterValue, match=r"trigger\.file_arrival\.url"):
        w.jobs.create(tasks=tasks, trigger=TriggerSettings(file_arrival=missing))
    with pytest.raises(NotImplemented, match=r"trigger\.model"):
        w.api_client.do("POST", "/api/2.2/jobs/create", body={"tasks": [task.as_dict() for task in tasks], "trigger": {"model": {}}})


def test_a_file_that_arrives_starts_a_run_that_is_told_its_name(w, api, tasks, dbfs_home):
    w.dbfs.upload(f"{dbfs_home}/old.csv", io.BytesIO(b"a\n"))
    arrival = TriggerSettings(file_arrival=FileArrivalTriggerConfiguration(url=f"dbfs:{dbfs_home}"))
    job_id = w.jobs.create(
        name="scoring", tasks=tasks, trigger=arrival, parameters=[JobParameterDefinition(name="files", default="[]")]
    ).job_id
    try:
        own = {"job_id": job_id, "new_settings": {"forebay": {"file_arrival": {"parameter": "files"}}}}
        api.post("/api/2.2/jobs/update", own)
        state = w.jobs.get(job_id).trigger_state
        assert state.file_arrival.using_file_events is False
        w.dbfs.upload(f"{dbfs_home}/empty.csv", io.BytesIO(b""))
        w.dbfs.upload(f"{dbfs_home}/r_input_file1.csv", io.BytesIO(b"weight\n1\n"))
        run = first_run(w, api, job_id)
        assert run["state"]["result_state"] == "SUCCESS"
        assert runs_of(w, job_id)[0].trigger == TriggerType.FILE_ARRIVAL
        told = json.loads(api.output(run["run_id"])["notebook_output"]["result"])
        assert told == [f"dbfs:{dbfs_home}/r_input_file1.csv"]
        assert trigger(api, job_id)["files_known"] == 2
    finally:
        w.jobs.delete(job_id)


def test_an_event_starts_a_run_and_that_another_job(w, api, tasks):
    first = w.jobs.create(name="first", tasks=tasks).job_id
    second = w.jobs.create(name="second", tasks=tasks).job_id
    try:
        own = {"forebay": {"on_event": {"topic": "deliveries", "parameter": "files"}}}
        api.post("/api/2.2/jobs/update", {"job_id": first, "new_settings": own})
        api.post("/api/2.2/jobs/update", {"job_id": second, "new_settings": {"forebay": {"after_job": {"job_id": first}}}})
        for _ in range(2):
            sent = api.call("POST", "/api/forebay/v1/events/deliveries", json=["x.csv"], headers={"Idempotency-Key": f"k{first}"})
            assert sent.status_code == 202
        run = first_run(w, api, first)
        assert json.loads(api.output(run["run_id"])["notebook_output"]["result"]) == ["x.csv"]
        after = first_run(w, api, second)
        assert after["trigger_info"]["run_id"] == run["run_id"]
        assert (len(runs_of(w, first)), len(runs_of(w, second))) == (1, 1)
    finally:
        w.jobs.delete(second)
        w.jobs.delete(first)


def test_a_continuous_job_runs_until_it_is_paused(w, api, tasks):
    job_id = w.jobs.create(name="always", tasks=tasks, continuous=Continuous(pause_status=PauseStatus.UNPAUSED)).job_id
    try:
        first_run(w, api, job_id)
        wait.until("a second run", lambda: len(runs_of(w, job_id)) > 1, timeout=60, interval=0.5)
        assert runs_of(w, job_id)[0].trigger == TriggerType.CONTINUOUS
        w.jobs.update(job_id, new_settings=JobSettings(continuous=Continuous(pause_status=PauseStatus.PAUSED)))
        assert trigger(api, job_id)["paused"]
    finally:
        w.jobs.delete(job_id)


def test_a_schedule_is_previewed_at_a_terminal(forebay, server):
    shown = forebay("schedule", "0 30 2 28 3 ?", "--timezone", "Europe/Berlin", "--data", server.data).splitlines()
    assert len(shown) == 10
    assert all(line[4:19] == "-03-28T02:30:00" for line in shown)
