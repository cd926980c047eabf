"""A plain HTTP client of one workspace, for what no SDK would send or show."""

import base64

import requests

from . import wait

TERMINAL = {"TERMINATED", "SKIPPED", "INTERNAL_ERROR"}


class Api:
    """Calls one workspace with one token. `get` and `post` insist on success; `call` returns any response."""

    def __init__(self, host, token):
        self.host = host
        self.token = token
        self.session = requests.Session()
        # Without this, requests would let a ~/.netrc override the token.
        self.session.trust_env = False

    def call(self, method, path, headers=None, timeout=60, **kwargs):
        headers = dict(headers or {})
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        return self.session.request(method, self.host + path, headers=headers, timeout=timeout, **kwargs)

    def get(self, url, /, **params):
        return ok(self.call("GET", url, params=params))

    def post(self, path, body=None):
        return ok(self.call("POST", path, json=body or {}))

    # --- shorthands that many tests share ---

    def mkdirs(self, path):
        self.post("/api/2.0/workspace/mkdirs", {"path": path})

    def notebook(self, path, source, language="PYTHON"):
        """Imports `source` (cells joined by the caller, header optional) as a notebook and returns its path."""
        self.mkdirs(path.rsplit("/", 1)[0] or "/")
        if isinstance(source, (list, tuple)):
            source = cells(*source)
        self.post(
            "/api/2.0/workspace/import",
            {
                "path": path,
                "format": "SOURCE",
                "language": language,
                "overwrite": True,
                "content": base64.b64encode(source.encode()).decode(),
            },
        )
        return path

    def submit(self, notebook_path, cluster_id, parameters=None, **extra):
        """Submits one notebook in the 2.0 form and returns the run id."""
        task = {"notebook_path": notebook_path}
        if parameters is not None:
            task["base_parameters"] = parameters
        body = {"run_name": "acceptance", "existing_cluster_id": cluster_id, "notebook_task": task, **extra}
        return self.post("/api/2.0/jobs/runs/submit", body)["run_id"]

    def run(self, run_id):
        return self.get("/api/2.1/jobs/runs/get", run_id=run_id)

    def finished(self, run_id, timeout=90):
        """Waits for the end of a run and returns it."""

        def ended():
            run = self.run(run_id)
            return run if run["state"]["life_cycle_state"] in TERMINAL else None

        return wait.until(f"run {run_id} to end", ended, timeout=timeout, interval=0.1)

    def output(self, run_id):
        """The output of a run with one task."""
        run = self.run(run_id)
        tasks = run.get("tasks") or []
        return self.get("/api/2.1/jobs/runs/get-output", run_id=tasks[0]["run_id"] if tasks else run_id)

    def run_cells(self, path, sources, cluster_id, parameters=None, timeout=90):
        """Imports the cells, runs them, waits and returns (run, output)."""
        self.notebook(path, sources)
        run = self.finished(self.submit(path, cluster_id, parameters), timeout)
        return run, self.output(run["run_id"])

    def executed(self, run_id):
        """The executed notebook (nbformat 4, with outputs) of a run with one task."""
        run = self.run(run_id)
        tasks = run.get("tasks") or []
        return self.get(f"/api/forebay/v1/runs/{tasks[0]['run_id'] if tasks else run_id}/notebook")


def new_cluster(api, **more):
    """Defines a cluster with the first version and node type that the server offers."""
    versions = api.get("/api/2.0/clusters/spark-versions")["versions"]
    nodes = api.get("/api/2.0/clusters/list-node-types")["node_types"]
    return api.post(
        "/api/2.0/clusters/create",
        {
            "cluster_name": "acceptance",
            "spark_version": versions[0]["key"],
            "node_type_id": nodes[0]["node_type_id"],
            "num_workers": 0,
            **more,
        },
    )["cluster_id"]


def new_token_of(api, name):
    """A token of a plain user, who is created when there is none of that name."""
    return api.post(f"/api/forebay/v1/users/{name}/tokens", {"create_user": True, "comment": "acceptance"})["token_value"]


def cells(*sources):
    """Python notebook source from its cells."""
    return "# Databricks notebook source\n" + "\n\n# COMMAND ----------\n\n".join(sources) + "\n"


def ok(response):
    """The JSON of a successful answer; otherwise an error that shows what the server said."""
    assert response.ok, f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
    return response.json() if response.content else {}


def refused(response, status, code):
    """Checks that an answer is an error of the API's own form with this status and code; returns its message."""
    shown = f"{response.request.method} {response.request.url}: {response.status_code} {response.text[:2000]}"
    statuses = status if isinstance(status, (tuple, list, set)) else (status,)
    codes = code if isinstance(code, (tuple, list, set)) else (code,)
    assert response.status_code in statuses, shown
    assert response.headers["Content-Type"].startswith("application/json"), shown
    body = response.json()
    assert body["error_code"] in codes, shown
    assert body["message"].strip(), shown
    return body["message"]


def text_of(notebook):
    """All text that the cells of an executed notebook printed, showed or raised, in order."""
    return "".join(text_of_cell(cell) for cell in notebook["cells"])


def text_of_cell(cell):
    parts = []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            parts.append(joined(output["text"]))
        elif output["output_type"] == "error":
            parts.append("\n".join(output["traceback"]) or f"{output['ename']}: {output['evalue']}")
        else:
            parts.append(joined(output["data"].get("text/plain", "")))
    return "\n".join(parts)


def joined(text):
    return text if isinstance(text, str) else "".join(text)
