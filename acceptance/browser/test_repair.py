"""Repairing a run from its page: what failed runs again, what was before stays to be seen."""

import pytest

from harness.pages import DESK, PHONE, fits

FINE, BROKEN, MENDED = "/Shared/repair/load", ["print('adding up')\n1 / 0"], ["print('all added up')"]


@pytest.mark.parametrize(("javascript", "size"), [(True, DESK), (False, PHONE)])
def test_a_failed_run_is_repaired_from_its_page(browse, api, cluster_id, javascript, size):
    path = "/Shared/repair/sum" + ("_phone" if size is PHONE else "")
    api.notebook(FINE, ["print('loaded')"])
    api.notebook(path, BROKEN)
    tasks = [
        {"task_key": "load", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": FINE}},
        {
            "task_key": "sum",
            "existing_cluster_id": cluster_id,
            "depends_on": [{"task_key": "load"}],
            "notebook_task": {"notebook_path": path},
        },
    ]
    job = api.post("/api/2.1/jobs/create", {"name": "Sums", "tasks": tasks})["job_id"]
    run_id = api.post("/api/2.1/jobs/run-now", {"job_id": job})["run_id"]
    assert api.finished(run_id)["state"]["result_state"] == "FAILED"
    page = browse(f"/jobs/{job}/runs/{run_id}", javascript=javascript, size=size)
    assert "division by zero" in page.inner_text("body")
    # The bug is mended over the API, as a deployment would do it.
    api.notebook(path, MENDED)
    page.click("summary >> text=Repair run")
    assert page.locator("[name=task]:checked").evaluate_all("boxes => boxes.map(box => box.value)") == ["sum"]
    assert fits(page)
    page.click("button >> text=Run again")
    page.wait_for_load_state()
    assert "The tasks run again." in page.inner_text("body")
    assert api.finished(run_id)["state"]["result_state"] == "SUCCESS"
    page.goto(page.url.split("?")[0])
    text = page.inner_text("body")
    assert "2 attempts" in text and "all added up" in text and "division by zero" not in text
    assert page.locator(".times tbody tr").count() == 2
    assert "Succeeded" in page.inner_text(".title") and fits(page)
    page.click("text=1. Original run")
    page.wait_for_load_state()
    text = page.inner_text("body")
    assert "how the run stood after attempt 1" in text and "division by zero" in text
    assert "all added up" not in text and fits(page)
    history = api.get("/api/2.1/jobs/runs/get", run_id=run_id, include_history="true")["repair_history"]
    assert [one["type"] for one in history] == ["ORIGINAL", "REPAIR"]
