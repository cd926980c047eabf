"""With the network cut, everything that was built once still runs; nothing is fetched at run time."""

import subprocess
import sys

import pytest

from harness.api import new_cluster
from harness.server import run_server

DRIVER = """
import json, sys
sys.path.insert(0, {acceptance!r})
from harness.api import new_cluster
from harness.server import Server

server = Server({folder!r}, environments=False)
server.start()
try:
    api = server.api()
    cluster_id = new_cluster(api)
    run, output = api.run_cells("/Shared/n", [
        "import pandas as pd\\nprint(pd.DataFrame({{'a': [1]}}))",
        "import socket\\ntry:\\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\\n    print('network')\\nexcept OSError:\\n    print('no network')",
        "dbutils.notebook.exit('offline')"], cluster_id)
    print(json.dumps([run["state"], output.get("notebook_output"), output.get("error")]))
finally:
    server.stop()
"""


@pytest.mark.timeout(400)
def test_notebook_runs_with_the_network_cut(tmp_path, request):
    folder = tmp_path / "forebay"
    # Once with the network: the one test whose server builds its environment from nothing.
    for server in run_server(folder, environments=False):
        api = server.api()
        assert not list((server.data / "exec").glob("envs/*"))
        run, _ = api.run_cells("/Shared/warm", ["import pandas"], new_cluster(api), timeout=240)
        assert run["state"]["result_state"] == "SUCCESS"
        assert list((server.data / "exec").glob("envs/*"))
    script = tmp_path / "offline.py"
    script.write_text(DRIVER.format(acceptance=str(request.config.rootpath), folder=str(folder)))
    # A network namespace of its own, with nothing but a loopback address.
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", f"ip link set lo up && exec {sys.executable} {script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"SUCCESS"' in done.stdout and '"offline"' in done.stdout, done.stdout
