"""The pages: what runs, what failed and where; on a phone, and without JavaScript."""

import pytest

from harness.api import cells
from harness.pages import DESK, PHONE, fits

CELLS = [
    "# MAGIC %md\n# MAGIC # Monthly report",
    "print('visible output')",
    "import pandas as pd\npd.DataFrame({'region': ['north'], 'sales': [3]})",
]


@pytest.fixture(scope="session")
def good_run(api, cluster_id):
    run, _ = api.run_cells("/Shared/pages/report", CELLS, cluster_id)
    return run


@pytest.fixture(scope="session")
def bad_run(api, cluster_id):
    run, _ = api.run_cells("/Shared/pages/broken", ["x = 1", "def share(total):\n    return 1 / total\nshare(0)"], cluster_id)
    return run


@pytest.mark.parametrize("javascript", [True, False])
def test_home_names_the_workspaces_and_the_failed_run(browse, bad_run, javascript):
    page = browse("/", javascript=javascript)
    text = page.inner_text("body")
    for name in ("dev", "staging", "prod"):
        assert name in text
    assert "broken" in text


@pytest.mark.parametrize("javascript", [True, False])
def test_run_page_shows_cells_and_output(browse, good_run, javascript, server):
    page = browse(path_of(good_run), javascript=javascript)
    text = page.inner_text("body")
    assert "Monthly report" in text and "visible output" in text
    assert "north" in text


def test_failed_run_shows_the_error_first(browse, bad_run):
    page = browse(path_of(bad_run))
    text = page.inner_text("body")
    assert "ZeroDivisionError" in text
    assert text.index("ZeroDivisionError") < text.index("def share")


def path_of(run):
    """The page that clients print for a run, below whatever host."""
    return "/" + run["run_page_url"].split("//", 1)[1].split("/", 1)[1]


def test_workspace_browser_renders_a_notebook(browse, good_run):
    page = browse("/workspace/Shared/pages")
    page.click("text=report")
    page.wait_for_load_state()
    assert "Monthly report" in page.inner_text("body")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/runs",
        "/runs?state=failed",
        "/queue",
        "/jobs",
        "/schedule",
        "/repos",
        "/clusters",
        "/workspace/Shared",
        "/workspace/Shared/pages/report",
    ],
)
def test_pages_fit_a_phone(browse, good_run, path):
    assert fits(browse(path, size=PHONE))


def test_run_page_fits_a_phone(browse, good_run, bad_run):
    for run in (good_run, bad_run):
        assert fits(browse(path_of(run), size=PHONE))


def test_run_page_with_long_names_and_much_output_fits_a_phone(browse, api, cluster_id):
    run, _ = api.run_cells("/Shared/pages/" + "long_name_" * 15, ["print('x' * 100_000)", "1 / 0"], cluster_id)
    page = browse(path_of(run), size={"width": 360, "height": 780})
    assert fits(page)
    assert "are left out here" in page.inner_text("body")


def test_pages_want_a_sign_in(browse, good_run):
    page = browse(path_of(good_run), signed_in=False)
    assert "visible output" not in page.inner_text("body")


def test_output_of_a_notebook_cannot_run_script_on_our_page(browse, api, cluster_id):
    """HTML that a notebook shows is somebody else's text: it must not act with the rights of who reads it."""
    run, _ = api.run_cells(
        "/Shared/pages/hostile",
        [
            'displayHTML(\'<b id=seen>shown</b><script>parent.document.title = document.title = "owned"</script>'
            "<img src=data:image/png;base64,AAAA onerror=\"parent.document.title = document.title = \\'owned\\'\">')",
            "# MAGIC %md\n# MAGIC <script>document.title = 'owned'</script> text",
        ],
        cluster_id,
    )
    page = browse(path_of(run))
    page.wait_for_timeout(500)
    assert page.title() != "owned"


def test_live_output_appears_while_the_run_goes_on(browse, api, cluster_id):
    api.notebook("/Shared/pages/live", ["print('first part')", "import time\ntime.sleep(6)\nprint('second part')"])
    run_id = api.submit("/Shared/pages/live", cluster_id)
    page = browse(path_of(api.run(run_id)))
    page.wait_for_selector("text=first part")
    page.wait_for_selector("text=second part")
    api.finished(run_id)


def test_a_run_is_canceled_from_its_page(browse, api, cluster_id):
    api.notebook("/Shared/pages/endless", ["import time\nwhile True:\n    time.sleep(0.1)"])
    run_id = api.submit("/Shared/pages/endless", cluster_id)
    page = browse(path_of(api.run(run_id)), javascript=False)
    page.click("text=Cancel run")
    page.click("text=Yes, cancel this run")
    page.wait_for_load_state()
    assert "asked to stop" in page.inner_text("body")
    assert api.finished(run_id)["state"]["result_state"] == "CANCELED"
    page.reload()
    assert "Canceled" in page.inner_text(".title")


def test_html_output_shows_in_a_frame_with_its_own_style(browse, api, cluster_id):
    run, _ = api.run_cells(
        "/Shared/pages/framed", ["displayHTML('<style>p { color: rgb(1, 2, 3) }</style><p>styled text</p>')"], cluster_id
    )
    page = browse(path_of(run))
    text = page.frame_locator("iframe").locator("p")
    assert text.inner_text() == "styled text"
    assert text.evaluate("node => getComputedStyle(node).color") == "rgb(1, 2, 3)"


@pytest.fixture(scope="session")
def nightly(api, cluster_id):
    """A job of two tasks with a parameter; the second task fails when the parameter says so."""
    api.notebook("/Shared/pages/load", ["print('loaded for', dbutils.widgets.get('day'))"])
    api.notebook("/Shared/pages/check", ["if dbutils.widgets.get('strict') == 'yes':\n    raise ValueError('too many gaps')"])
    tasks = [
        {"task_key": "load", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": "/Shared/pages/load"}},
        {
            "task_key": "check",
            "existing_cluster_id": cluster_id,
            "depends_on": [{"task_key": "load"}],
            "notebook_task": {"notebook_path": "/Shared/pages/check"},
        },
    ]
    parameters = [{"name": "day", "default": "today"}, {"name": "strict", "default": "no"}]
    return api.post("/api/2.1/jobs/create", {"name": "Nightly", "tasks": tasks, "parameters": parameters})["job_id"]


@pytest.mark.parametrize("javascript", [True, False])
def test_a_job_is_run_from_its_page_with_a_parameter(browse, api, nightly, javascript):
    page = browse(f"/jobs/{nightly}", javascript=javascript)
    page.click("text=Run now")
    page.fill("input[name='parameter.day']", "monday")
    page.click("text=Start the run")
    page.wait_for_load_state()
    assert "The run was started." in page.inner_text("body")
    run = api.get("/api/2.1/jobs/runs/list", job_id=nightly, limit=1)["runs"][0]
    assert api.finished(run["run_id"])["state"]["result_state"] == "SUCCESS"
    page.goto(page.url.split("?")[0])
    page.click("#run-timeline a.name >> text=load")
    assert "loaded for monday" in page.inner_text("body")


def test_the_matrix_follows_the_runs_and_leads_to_their_output(browse, api, nightly):
    page = browse(f"/jobs/{nightly}")
    run = api.post("/api/2.1/jobs/run-now", {"job_id": nightly, "job_parameters": {"strict": "yes"}})["run_id"]
    page.click(f"a.cell-link.bad[href*='/runs/{run}']")
    page.wait_for_load_state()
    text = page.inner_text("body")
    assert "too many gaps" in text and "In task check" in text
    api.finished(run)


def test_job_pages_fit_a_phone(browse, nightly):
    for path in ("/jobs", f"/jobs/{nightly}"):
        assert fits(browse(path, size=PHONE))


@pytest.mark.parametrize("javascript", [True, False])
def test_a_schedule_is_tried_out_and_its_error_is_marked(browse, javascript):
    page = browse("/schedule", javascript=javascript, size=PHONE)
    page.fill("#expression", "0 30 2 ? * MON-FRI")
    page.fill("#timezone", "Europe/Berlin")
    page.click("text=Show the next firings")
    assert page.locator(".firings tbody tr").count() == 10
    assert fits(page)
    page.fill("#expression", "0 30 25 ? * MON-FRI")
    page.click("text=Show the next firings")
    assert page.inner_text("mark").strip() == "2"
    assert fits(page)


def test_a_schedule_is_paused_from_the_page_of_its_job(browse, api, cluster_id):
    api.notebook("/Shared/pages/load", ["print('loaded')"])
    task = {"task_key": "load", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": "/Shared/pages/load"}}
    schedule = {"quartz_cron_expression": "0 0 3 * * ?", "timezone_id": "America/New_York"}
    job = api.post("/api/2.1/jobs/create", {"name": "Scheduled", "tasks": [task], "schedule": schedule})["job_id"]
    page = browse(f"/jobs/{job}", javascript=False)
    assert "America/New_York" in page.inner_text(".trigger")
    page.click("button >> text=Pause")
    assert "starts no more by itself" in page.inner_text("[role=status]")
    page.click("button >> text=Go on")
    assert api.get("/api/2.1/jobs/get", job_id=job)["settings"]["schedule"]["pause_status"] == "UNPAUSED"


def test_the_queue_tells_why_a_run_waits(browse, api, cluster_id):
    api.notebook("/Shared/pages/slow", ["import time\ntime.sleep(60)"])
    task = {"task_key": "slow", "existing_cluster_id": cluster_id, "notebook_task": {"notebook_path": "/Shared/pages/slow"}}
    job = api.post("/api/2.1/jobs/create", {"name": "One at a time", "tasks": [task], "queue": {"enabled": True}})["job_id"]
    page = browse("/queue", size=PHONE)
    for _ in range(2):
        api.post("/api/2.1/jobs/run-now", {"job_id": job})
    page.wait_for_selector("#waiting >> text=One at a time")
    page.wait_for_selector("#running >> text=One at a time")
    page.wait_for_selector("#waiting >> text=the job has 1 of 1 concurrent runs")
    assert "Job One at a time\n1 of 1, full" in page.inner_text("#caps")
    assert fits(page)
    api.post("/api/2.1/jobs/runs/cancel-all", {"job_id": job})
    # What has ended goes from the page without anybody's doing.
    page.wait_for_selector("#waiting >> text=Nothing waits")
    page.wait_for_function("!document.querySelector('#running').innerText.includes('One at a time')")


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_a_repo_shows_where_it_stands_and_is_pulled(browse, api, origin, size):
    origin.commit({"n.py": cells("x = 1"), "gone.txt": "x"}, message="Read the orders", tag="v1")
    path = f"/Repos/acceptance/{origin.bare.stem}"
    api.mkdirs("/Repos/acceptance")
    repo = api.post("/api/2.0/repos", {"url": str(origin.bare), "provider": "gitHub", "path": path})
    origin.commit({"n.py": cells("x = 2"), "lib/new.py": "y = 1\n"}, message="Add up the sales")
    page = browse("/repos", size=size)
    page.get_by_role("link", name=path, exact=True).click()
    page.wait_for_load_state()
    text = page.inner_text("body")
    assert "Read the orders" in text and "Ada Author" in text and "v1" in text and "main" in text
    assert fits(page)
    page.click("text=Pull main")
    page.wait_for_load_state()
    text = page.inner_text("body")
    assert "Add up the sales" in text and "lib/new.py" in text and repo["head_commit_id"][:10] in text
    page.select_option("select[name=kind]", "tag")
    page.fill("input[name=name][type=text]", "v1")
    page.click("button:has-text('Check out')")
    page.wait_for_load_state()
    assert page.locator("text=Pull main").count() == 0
    assert api.get(f"/api/2.0/repos/{repo['id']}")["head_commit_id"] == repo["head_commit_id"]
    page.select_option("select[name=kind]", "branch")
    page.fill("input[name=name][type=text]", "nowhere")
    page.click("button:has-text('Check out')")
    page.wait_for_load_state()
    assert "Branch 'nowhere' does not exist" in page.inner_text("body")
    assert fits(page)
