"""What happens inside a Python notebook: magics, `%run`, dbutils, outputs, paths, isolation between runs."""

import base64
import json
import os
import re
import signal
import time

import pytest

from harness import wait
from harness.api import text_of, text_of_cell


@pytest.fixture
def run(api, home, cluster_id):
    """Runs cells and returns (run, output, executed notebook); insists on success."""

    def execute(*sources, parameters=None, path="n", timeout=90):
        done, output = api.run_cells(f"{home}/{path}", list(sources), cluster_id, parameters, timeout)
        assert done["state"].get("result_state") == "SUCCESS", json.dumps([done["state"], output.get("error"), output.get("error_trace")])
        return done, output, api.executed(done["run_id"])

    return execute


# --- cells and magics --------------------------------------------------------------------------------


def test_cells_share_state_and_echo_their_last_value(run):
    _, _, notebook = run("x = 6\nx * 7", "print('x is', x)", "x;")
    assert [text_of_cell(cell).strip() for cell in notebook["cells"]] == ["42", "x is 6", ""]


def test_markdown_shell_and_language_magics(run):
    _, _, notebook = run(
        "# MAGIC %md\n# MAGIC # Heading",
        "# MAGIC %sh\n# MAGIC echo from $((40 + 2))\n# MAGIC pwd",
        "# MAGIC %python\n# MAGIC print('python cell')",
        "%lsmagic",
        "names = !echo captured\nprint(names)",
        "# DBTITLE 1,Shown\nprint('titled')",
    )
    text = text_of(notebook)
    assert "from 42" in text and "python cell" in text and "captured" in text and "titled" in text
    assert notebook["cells"][0]["cell_type"] == "markdown"


def test_what_a_process_writes_is_in_its_cell_however_late_it_is_read(server, api, home, cluster_id):
    api.post("/api/2.0/dbfs/mkdirs", {"path": "/late"})
    there = server.data / "dev/dbfs/late"
    waits = "import os, time\nopen('/dbfs/late/begun', 'w')\nwhile not os.path.exists('/dbfs/late/go'):\n    time.sleep(0.01)"
    writes = "# MAGIC %sh\n# MAGIC echo from the last; touch /dbfs/late/written"
    api.notebook(f"{home}/late", [waits, "# MAGIC %md\n# MAGIC nothing", writes])
    run_id = api.submit(f"{home}/late", cluster_id)
    wait.until("the first cell to begin", (there / "begun").exists)
    runner = server.runner()
    os.kill(runner, signal.SIGSTOP)
    try:
        (there / "go").touch()
        # Time enough for a process that does not wait until its cell is known.
        deadline = time.monotonic() + 1
        while not (there / "written").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        os.kill(runner, signal.SIGCONT)
    assert api.finished(run_id)["state"]["result_state"] == "SUCCESS"
    assert [text_of_cell(cell) for cell in api.executed(run_id)["cells"]] == ["", "", "from the last\n"]


def test_shell_failure_is_seen_and_fails_the_cell_when_asked(run, api, home, cluster_id):
    _, _, notebook = run("# MAGIC %sh\n# MAGIC echo 'before'; exit 7", "print('goes on')")
    assert "before" in text_of(notebook) and "goes on" in text_of(notebook)
    done, output = api.run_cells(f"{home}/strict", ["# MAGIC %sh -e\n# MAGIC exit 7", "print('after')"], cluster_id)
    assert done["state"]["result_state"] == "FAILED"
    assert "7" in output["error"]


def test_top_level_await_and_timing_magics(run):
    _, _, notebook = run("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'", "%%time\nsum(range(1000))", "%timeit -n1 -r1 1 + 1")
    assert "awaited" in text_of(notebook) and "Wall time" in text_of(notebook)


def test_run_magic_inlines_with_relative_absolute_and_odd_spelling(api, run, home):
    api.notebook(f"{home}/lib/one", ["dbutils.widgets.text('name', 'default')\none = 'one ' + dbutils.widgets.get('name')"])
    api.notebook(f"{home}/lib/two", ["# MAGIC %run ./one", "two = one + ' then two'"])
    _, output, _ = run(
        "# MAGIC %run ./lib/two",
        "# MAGIC %run  ../" + home.rsplit("/", 1)[1] + "/lib/one",
        f'# MAGIC %run {home}/lib/one $name="given"',
        "dbutils.notebook.exit(two + ' / ' + one)",
    )
    assert output["notebook_output"]["result"] == "one default then two / one given"


def test_run_magic_of_a_missing_notebook_names_it(api, home, cluster_id):
    done, output = api.run_cells(f"{home}/n", ["# MAGIC %run ./nowhere"], cluster_id)
    assert done["state"]["result_state"] == "FAILED"
    assert "nowhere" in output["error"]


def test_error_inside_a_run_notebook_points_at_its_cell(api, home, cluster_id):
    api.notebook(f"{home}/lib", ["x = 1", "def explode():\n    raise RuntimeError('deep inside')\n"])
    _done, output = api.run_cells(f"{home}/n", ["# MAGIC %run ./lib", "explode()"], cluster_id)
    assert "deep inside" in output["error"]
    assert f"{home}/lib" in output["error_trace"] or "lib" in output["error_trace"]


def test_syntax_error_is_reported(api, home, cluster_id):
    done, output = api.run_cells(f"{home}/n", ["print('fine')", "def broken(:\n    pass"], cluster_id)
    assert done["state"]["result_state"] == "FAILED"
    assert "SyntaxError" in output["error"]
    assert "fine" in text_of(api.executed(done["run_id"]))


def test_spark_is_refused_in_clear_words_or_works(api, home, cluster_id):
    done, output = api.run_cells(f"{home}/n", ["dbutils.notebook.exit(str(spark.range(3).count()))"], cluster_id)
    if done["state"]["result_state"] == "SUCCESS":
        assert output["notebook_output"]["result"] == "3"
    else:
        assert "spark" in output["error"].lower()


# --- outputs -----------------------------------------------------------------------------------------


def test_rich_outputs_are_kept(run):
    _, _, notebook = run(
        "import pandas as pd\nframe = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\nframe",
        "display(frame)",
        "displayHTML('<b>bold</b>')",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.title('figure')\nplt.show()",
        "from IPython.display import display as show, Markdown\nshow(Markdown('*md*'))",
    )
    kinds = [sorted({kind for output in cell["outputs"] for kind in output.get("data", {})}) for cell in notebook["cells"]]
    assert "text/html" in kinds[0] and "text/html" in kinds[1] and "text/html" in kinds[2]
    assert "image/png" in kinds[3]
    assert "text/markdown" in kinds[4]
    image = next(output["data"]["image/png"] for output in notebook["cells"][3]["outputs"] if "image/png" in output.get("data", {}))
    assert base64.b64decode("".join(image)).startswith(b"\x89PNG")


def test_stdout_stderr_and_children_are_all_seen_in_order(run):
    _, _, notebook = run(
        "import os, sys, subprocess\nprint('one', flush=True)\nos.system('echo two')\n"
        "subprocess.run(['echo', 'three'])\nprint('four', file=sys.stderr)"
    )
    text = text_of(notebook)
    assert [word for word in text.split() if word in ("one", "two", "three", "four")] == ["one", "two", "three", "four"] or all(
        word in text for word in ("one", "two", "three", "four")
    )


# --- dbutils -----------------------------------------------------------------------------------------


def test_widgets_of_all_kinds(run):
    _, output, _ = run(
        "dbutils.widgets.text('t', 'text', 'A label')\ndbutils.widgets.dropdown('d', 'one', ['one', 'two'])\n"
        "dbutils.widgets.combobox('c', 'red', ['red', 'blue'])\ndbutils.widgets.multiselect('m', 'a', ['a', 'b'])",
        "values = [dbutils.widgets.get(name) for name in 'tdcm'] + [getArgument('given'), getArgument('absent', 'fallback')]",
        "dbutils.widgets.remove('t')\ntry:\n    dbutils.widgets.get('t')\nexcept Exception as error:\n    values.append(type(error).__name__ + str(error))\n"
        "dbutils.notebook.exit('|'.join(values))",
        parameters={"d": "two", "given": "g"},
    )
    values = output["notebook_output"]["result"].split("|")
    assert values[:6] == ["text", "two", "red", "a", "g", "fallback"]
    assert "InputWidgetNotDefined" in values[6]


def test_nested_notebook_run_returns_its_exit_value(api, run, home):
    api.notebook(
        f"{home}/child",
        [
            "dbutils.widgets.text('n', '0')\nn = int(dbutils.widgets.get('n'))",
            "dbutils.notebook.exit(str(n) if n == 0 else dbutils.notebook.run('./child', 60, {'n': n - 1}) + str(n))",
        ],
    )
    _, output, _ = run("dbutils.notebook.exit(dbutils.notebook.run('./child', 60, {'n': '2'}))")
    assert output["notebook_output"]["result"] == "012"


def test_failure_of_a_nested_run_can_be_caught(api, run, home):
    api.notebook(f"{home}/bad", ["raise ValueError('child failed')"])
    _, output, _ = run(
        "try:\n    dbutils.notebook.run('bad', 60)\nexcept Exception as error:\n    dbutils.notebook.exit('caught ' + str(error))"
    )
    assert output["notebook_output"]["result"].startswith("caught")


def test_nested_run_respects_its_timeout(api, run, home):
    api.notebook(f"{home}/slow", ["import time\ntime.sleep(300)"])
    _, output, _ = run("try:\n    dbutils.notebook.run('slow', 2)\nexcept Exception as error:\n    dbutils.notebook.exit(str(error))")
    told = output["notebook_output"]["result"]
    assert "slow timed out: The task exceeded its time limit of 2 seconds" in told
    # It is stopped, not waited for; how long a stop takes is the machine's affair.
    nested = api.run(int(re.search(r"Its run is (\d+)", told)[1]))
    assert nested["end_time"] - nested["start_time"] < 60_000


def test_exit_skips_the_rest(run):
    _, output, notebook = run("dbutils.notebook.exit('early')", "raise RuntimeError('must not run')")
    assert output["notebook_output"]["result"] == "early"
    assert "must not run" not in text_of(notebook)


def test_fs_calls(run, dbfs_home, api):
    _, output, _ = run(
        f"root = 'dbfs:{dbfs_home}'\ndbutils.fs.mkdirs(root + '/d')\ndbutils.fs.put(root + '/d/f', 'hello', True)",
        "entries = dbutils.fs.ls(root)\nentry = dbutils.fs.ls(root + '/d')[0]\nfacts = [entries[0].path, entries[0].name, entry.name, entry.size]",
        "dbutils.fs.cp(root + '/d', root + '/copy', True)\ndbutils.fs.mv(root + '/copy/f', root + '/moved')\n"
        "facts += [dbutils.fs.head(root + '/moved'), dbutils.fs.rm(root + '/d', True), [e.name for e in dbutils.fs.ls(root)]]",
        "open('/dbfs' + root[5:] + '/plain', 'w').write('through the mount')",
        "import json\ndbutils.notebook.exit(json.dumps(facts))",
    )
    assert json.loads(output["notebook_output"]["result"]) == [f"dbfs:{dbfs_home}/d/", "d/", "f", 5, "hello", True, ["copy/", "moved"]]
    assert base64.b64decode(api.get("/api/2.0/dbfs/read", path=f"{dbfs_home}/plain")["data"]) == b"through the mount"


def test_fs_magic(run, dbfs_home):
    _, _, notebook = run(
        f"dbutils.fs.put('{dbfs_home}/shown.txt', 'x')", f"# MAGIC %fs ls {dbfs_home}", f"# MAGIC %fs head {dbfs_home}/shown.txt"
    )
    assert "shown.txt" in text_of_cell(notebook["cells"][1]) or "shown.txt" in json.dumps(notebook["cells"][1])


def test_dbfs_written_by_a_client_is_read_in_python(api, run, dbfs_home):
    api.post("/api/2.0/dbfs/put", {"path": f"{dbfs_home}/in.csv", "contents": base64.b64encode(b"height,weight\n79,192\n").decode()})
    _, output, _ = run(f"import pandas as pd\ndbutils.notebook.exit(str(pd.read_csv('/dbfs{dbfs_home}/in.csv').weight[0]))")
    assert output["notebook_output"]["result"] == "192"


def test_context_names_the_workspace_and_its_token_works(run, home, w):
    _, output, _ = run(
        "import json, urllib.request\ncontext = dbutils.notebook.entry_point.getDbutils().notebook().getContext()",
        "request = urllib.request.Request(context.apiUrl().get() + '/api/2.0/preview/scim/v2/Me', headers={'Authorization': 'Bearer ' + context.apiToken().get()})\n"
        "me = json.load(urllib.request.urlopen(request))",
        "dbutils.notebook.exit(json.dumps([context.notebookPath().get(), me['userName']]))",
    )
    assert json.loads(output["notebook_output"]["result"]) == [f"{home}/n", w.current_user.me().user_name]


def test_pip_magic_installs_for_this_run_only(run):
    _, output, _ = run(
        "# MAGIC %pip install tabulate==0.9.0", "import tabulate\ndbutils.notebook.exit(tabulate.__version__)", path="with", timeout=180
    )
    assert output["notebook_output"]["result"] == "0.9.0"
    _, output, _ = run("import importlib.util\ndbutils.notebook.exit(str(importlib.util.find_spec('tabulate')))", path="without")
    assert output["notebook_output"]["result"] == "None"


def test_restart_python_forgets_variables_and_keeps_widgets(run):
    _, output, _ = run(
        "dbutils.widgets.text('kept', 'yes')\nforgotten = 1",
        "dbutils.library.restartPython()",
        "dbutils.notebook.exit(dbutils.widgets.get('kept') + str('forgotten' in globals()))",
    )
    assert output["notebook_output"]["result"] == "yesFalse"


# --- where a run lives -------------------------------------------------------------------------------


def test_working_directory_is_the_notebooks_folder(api, run, home):
    api.post(
        "/api/2.0/workspace/import", {"path": f"{home}/settings.json", "format": "AUTO", "content": base64.b64encode(b'{"a": 1}').decode()}
    )
    api.post(
        "/api/2.0/workspace/import", {"path": f"{home}/helper.py", "format": "AUTO", "content": base64.b64encode(b"VALUE = 5\n").decode()}
    )
    _, output, _ = run(
        "import json, os, helper\ndbutils.notebook.exit(json.dumps([os.getcwd(), json.load(open('settings.json')), helper.VALUE]))"
    )
    assert json.loads(output["notebook_output"]["result"]) == [f"/Workspace{home}", {"a": 1}, 5]


def test_runs_do_not_see_each_other_nor_the_server(run, server):
    run("import sys, os\nsys.marker = 1\nopen('/tmp/marker', 'w').write('x')\nos.environ['MARKER'] = '1'", path="first")
    _, output, _ = run(
        "import os, sys\nseen = [hasattr(sys, 'marker'), os.path.exists('/tmp/marker'), 'MARKER' in os.environ,\n"
        f"        os.path.exists('{server.config_file}')]\ndbutils.notebook.exit(str(seen))",
        path="second",
    )
    assert output["notebook_output"]["result"] == str([False] * 4)


def test_random_numbers_differ_between_runs(run):
    values = set()
    for name in ("a", "b"):
        _, output, _ = run(
            "import random, uuid, numpy as np\ndbutils.notebook.exit(f'{random.random()} {np.random.rand()} {uuid.uuid4()}')", path=name
        )
        values.update(output["notebook_output"]["result"].split())
    assert len(values) == 6


def test_ipynb_runs_like_source(api, home, cluster_id):
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title"]},
            {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": None, "outputs": [], "source": ["x = 2\n", "x"]},
            {
                "cell_type": "code",
                "id": "c",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": ["dbutils.notebook.exit(str(x))"],
            },
        ],
    }
    api.post(
        "/api/2.0/workspace/import",
        {"path": f"{home}/nb.ipynb", "format": "AUTO", "content": base64.b64encode(json.dumps(notebook).encode()).decode()},
    )
    done = api.finished(api.submit(f"{home}/nb", cluster_id))
    assert api.output(done["run_id"])["notebook_output"]["result"] == "2"
