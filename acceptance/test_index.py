"""Where packages come from is said once, in the server's environment, and holds for what a run installs too."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_runs import wheel

from harness.api import new_cluster, text_of
from harness.server import run_server

NAME = "forebay_index_probe"


@pytest.fixture
def index(tmp_path):
    """An index with one package that is nowhere else, and a password in its URL that it does not ask for."""
    name, content = wheel(NAME, init="WHENCE = 'the own index'\n")
    folder = tmp_path / "index" / "simple" / NAME.replace("_", "-")
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    (folder / "index.html").write_text(f'<a href="{name}">{name}</a>')
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "index")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://bob:s3cret@127.0.0.1:{served.server_port}/simple/"
        served.shutdown()


@pytest.fixture
def own(tmp_path, index):
    env = {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": "", "https_proxy": "http://127.0.0.1:9", "no_proxy": "corp.example"}
    yield from run_server(tmp_path / "forebay", env=env)


def test_a_run_installs_from_the_servers_index_and_sees_no_password(own):
    api = own.api()
    cells = [
        f"%pip install {NAME.replace('_', '-')}",
        f"import {NAME}, os\nprint({NAME}.WHENCE)",
        "print('s3cret' in str(dict(os.environ)), os.environ['UV_DEFAULT_INDEX'].count('@'), os.environ['https_proxy'])",
        "print(os.environ['no_proxy'])",
        "dbutils.notebook.exit(str(len(dbutils.fs.ls('/'))))",
    ]
    run, output = api.run_cells("/Shared/index", cells, new_cluster(api))
    assert run["state"]["result_state"] == "SUCCESS", output
    said = text_of(api.executed(run["run_id"]))
    assert "the own index" in said
    assert "False 0 http://127.0.0.1:9" in said
    assert "corp.example,localhost,127.0.0.1,::1" in said
