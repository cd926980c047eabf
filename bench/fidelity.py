"""A notebook of awkward cells through Forebay and through nbclient with ipykernel, compared cell by cell.

Times, addresses, file names and colours are made equal first; everything else has to be the same. `--show` prints both sides of each
difference. The cells that must fail are run one by one, because a failed cell ends a job.
"""

import argparse
import difflib
import json
import re

import nbformat
from common import folder, machine, new_cluster, server, table, until_ended
from nbclient import NotebookClient

# Name, source; run in this order in one session.
CELLS = [
    ("top-level await", "import asyncio\nawait asyncio.sleep(0.01)\n'awaited'"),
    ("coroutine defined and awaited", "async def double(x):\n    await asyncio.sleep(0)\n    return 2 * x\nawait double(21)"),
    ("gathered tasks", "sum(await asyncio.gather(*(double(n) for n in range(5))))"),
    ("running loop", "asyncio.get_running_loop().is_running()"),
    ("%%time", "%%time\nsum(range(1000))"),
    ("%timeit", "%timeit -n2 -r2 sum(range(10))"),
    ("shell echo", "!echo from the shell"),
    ("shell capture", "lines = !printf 'a\\nb\\n'\nlines"),
    ("%%bash", "%%bash\necho bash $((40 + 2))\necho error >&2"),
    ("%%capture", "%%capture caught\nprint('hidden')"),
    ("captured text", "caught.stdout"),
    ("matplotlib figure", "%matplotlib inline\nimport matplotlib.pyplot as plt\nfigure = plt.figure(figsize=(2, 1))\nplt.plot([1, 2, 3]);"),
    ("two figures", "for n in range(2):\n    plt.figure(figsize=(1, 1))\n    plt.plot([n, 1])\nplt.show()"),
    (
        "HTML and Markdown",
        "from IPython.display import HTML, JSON, Markdown, display as show\nshow(HTML('<b>bold</b>'))\nshow(Markdown('*md*'))\nJSON({'a': 1})",
    ),
    ("display id and update", "handle = show(HTML('first'), display_id=True)\nhandle.update(HTML('second'))"),
    ("clear_output", "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('stays')"),
    ("data frame", "import pandas as pd\nframe = pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\nframe"),
    ("last results", "1 + 1"),
    ("underscore", "_ * 10"),
    ("several underscores", "[_, __]"),
    ("trailing semicolon", "42;"),
    ("expression in the middle", "1\n2\n3"),
    (
        "rich repr",
        "class Rich:\n    def _repr_html_(self):\n        return '<i>rich</i>'\n    def __repr__(self):\n        return 'plain'\nRich()",
    ),
    ("warning", "import warnings\nwarnings.warn('look out')"),
    ("stderr and stdout", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('out again')"),
    ("threads", "import threading\nthread = threading.Thread(target=lambda: print('from a thread'))\nthread.start()\nthread.join()"),
    (
        "fork pool",
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n    answer = pool.map(abs, [-1, -2, -3])\nanswer",
    ),
    ("sub-process", "import subprocess\nsubprocess.run(['echo', 'captured'], capture_output=True, text=True).stdout"),
    ("os.system", "import os\nos.system('echo by os.system')"),
    ("C level output", "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.puts(b'from C')\nlibc.fflush(None);"),
    ("carriage return", "import time\nfor n in range(3):\n    print(n, end='\\r')\n    time.sleep(0.01)\nprint('done')"),
    ("unicode", "print('ü 名 \\N{SNOWMAN}')\n'名'"),
    ("%who and %env", "import os\nos.environ['AWKWARD'] = 'yes'\n%env AWKWARD"),
    ("%%writefile", "%%writefile awkward.txt\nwritten"),
    ("file read back", "print(open('awkward.txt').read())"),
    ("alias and %cd", "%cd -q .\nos.path.basename(os.getcwd()) != ''"),
    ("type object help", "print(len.__doc__.splitlines()[0])"),
    ("class with state", "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\nPoint(3)"),
    ("pickle of a class of this notebook", "import pickle\npickle.loads(pickle.dumps(Point(4)))"),
    ("inspect source", "import inspect\nprint(inspect.getsource(Rich._repr_html_))"),
]
# Each in a session of its own: these end it.
FAILING = [
    ("exception in a function", "def inner(x):\n    return 1 / x\ninner(0)"),
    ("chained exception", "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('outer') from error"),
    ("syntax error", "x = = 2"),
    ("name error after output", "print('before')\nundefined_name"),
    ("SystemExit", "import sys\nsys.exit(3)"),
    ("KeyboardInterrupt raised", "raise KeyboardInterrupt"),
    ("assertion with message", "assert 1 == 2, 'one is not two'"),
    ("failing %%bash", "%%bash\nexit 3"),
]

PLAIN = [
    (re.compile(r"\x1b\[[0-9;]*m"), ""),
    (re.compile(r"0x[0-9a-f]{6,}"), "0xADDRESS"),
    (re.compile(r"\b\d+(\.\d+)?(e-?\d+)? ?(ns|µs|μs|us|ms|s|min)\b"), "TIME"),
    (re.compile(r"± ?"), "± "),
    (re.compile(r"/[^\s:\"']*ipykernel[^\s:\"']*"), "FILE"),
    (re.compile(r"(File |Cell )[^\n]*?(line \d+)"), r"\1\2"),
    (re.compile(r"<ipython-input[^>]*>|<notebook[^>]*>"), "FILE"),
    (re.compile(r"\([^()\n]*, (line \d+)\)"), r"(FILE, \1)"),
    (re.compile(r"In ?\[\d*\]"), "In []"),
    (re.compile(r"^[^\n]*: (\w*Warning): ", re.MULTILINE), r"FILE: \1: "),
    (re.compile(r"\bpid[= ]\d+"), "pid"),
]


def plain(text):
    text = text if isinstance(text, str) else "".join(text)
    for expression, replacement in PLAIN:
        text = expression.sub(replacement, text)
    # What a terminal would show of a line that was written over.
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n"))


def normalised(cell):
    """The outputs of a cell in a form that can be compared: streams joined by name, data by kind, errors by name and value."""
    streams, rest = {}, []
    for output in cell.get("outputs", []):
        if output["output_type"] == "stream":
            streams[output["name"]] = streams.get(output["name"], "") + (
                output["text"] if isinstance(output["text"], str) else "".join(output["text"])
            )
        elif output["output_type"] == "error":
            frames = plain("\n".join(output["traceback"]))
            rest.append(["error", output["ename"], plain(output["evalue"]), frames.splitlines()[-1:] if frames else []])
        else:
            data = {
                kind: "PNG" if kind == "image/png" else plain(value if isinstance(value, (str, list)) else json.dumps(value))
                for kind, value in sorted(output["data"].items())
            }
            rest.append([output["output_type"], data])
    return [*sorted([name, plain(text)] for name, text in streams.items()), *rest]


def by_nbclient(path, sources, stop_on_error):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=120, allow_errors=not stop_on_error, resources={"metadata": {"path": str(path)}}
    )
    client.execute()
    return notebook["cells"]


def by_forebay(api, cluster_id, name, sources):
    api.notebook(f"/Shared/fidelity/{name}", sources)
    run = until_ended(api, api.submit(f"/Shared/fidelity/{name}", cluster_id))
    return run, api.executed(run["run_id"])["cells"]


def difference(theirs, ours):
    left, right = (json.dumps(side, indent=1, ensure_ascii=False).splitlines() for side in (theirs, ours))
    return "\n".join(difflib.unified_diff(left, right, "ipykernel", "forebay", lineterm="", n=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--show", action="store_true", help="print both sides of each difference")
    options = parser.parse_args()
    where, rows, differences = machine(), [], []

    def compare(name, theirs, ours):
        left, right = normalised(theirs), normalised(ours)
        rows.append([len(rows) + 1, name, "same" if left == right else "differs"])
        if left != right:
            differences.append((name, difference(left, right)))

    with folder() as path, server(path) as running:
        api = running.api()
        cluster_id = new_cluster(api)
        work = path / "work"
        work.mkdir()
        theirs = by_nbclient(work, [source for _, source in CELLS], stop_on_error=True)
        run, ours = by_forebay(api, cluster_id, "cells", [source for _, source in CELLS])
        if run["state"]["result_state"] != "SUCCESS":
            print("the run of the cells ended early:", run["state"])
        for (name, _), left, right in zip(CELLS, theirs, ours, strict=False):
            compare(name, left, right)
        for number, (name, source) in enumerate(FAILING):
            run, ours = by_forebay(api, cluster_id, f"failing{number}", [source])
            compare(name, by_nbclient(work, [source], stop_on_error=False)[0], ours[0])
            if run["state"]["result_state"] != "FAILED":
                rows[-1][2] += f", run {run['state']['result_state']}"
    same = sum(row[2] == "same" for row in rows)
    table(f"Fidelity: {same} of {len(rows)} cells give the same outputs as ipykernel", ["", "cell", "result"], rows, where)
    for name, text in differences:
        if options.show:
            print(f"\n--- {name}\n{text}")


if __name__ == "__main__":
    main()
