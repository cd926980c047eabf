"""Clones a repository at a branch, runs its integration test on an existing cluster and ends with its verdict.

Reads everything from the environment, as a CI job does: DATABRICKS_HOST, DATABRICKS_TOKEN, CLUSTER_ID, REPO_URL, BRANCH,
WORKSPACE_FOLDER (where the clone goes) and TEST_NOTEBOOK (inside the repository, without extension).
"""

import os
import sys
import time

from databricks_cli.sdk import ApiClient, JobsService, ReposService, WorkspaceService

PAUSE_SECONDS = float(os.environ.get("POLL_SECONDS", "2"))


def main():
    client = ApiClient(host=os.environ["DATABRICKS_HOST"], token=os.environ["DATABRICKS_TOKEN"])
    folder = os.environ["WORKSPACE_FOLDER"]
    path = f"{folder}/build-{os.getpid()}"
    WorkspaceService(client).mkdirs(folder)
    repos = ReposService(client)
    repo = repos.create_repo(url=os.environ["REPO_URL"], provider="gitHub", path=path)
    try:
        repos.update_repo(repo["id"], branch=os.environ["BRANCH"])
        commit = repos.get_repo(repo["id"])["head_commit_id"]
        print(f"checked out {os.environ['BRANCH']} at {commit}")
        state = run_test(JobsService(client), f"{path}/{os.environ['TEST_NOTEBOOK']}", commit)
    finally:
        repos.delete_repo(repo["id"])
    print(f"verdict: {state['result_state']} {state.get('state_message', '')}")
    return 0 if state["result_state"] == "SUCCESS" else 1


def run_test(jobs, notebook, commit):
    run = jobs.submit_run(
        run_name=f"integration test of {commit[:8]}",
        existing_cluster_id=os.environ["CLUSTER_ID"],
        notebook_task={"notebook_path": notebook, "base_parameters": {"commit": commit}},
    )
    while True:
        answer = jobs.get_run(run["run_id"])
        state = answer["state"]
        print(f"{answer['run_page_url']} {state['life_cycle_state']}")
        # The field appears only when the run has ended.
        if "result_state" in state:
            return state
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
