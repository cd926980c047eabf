"""The workspace tree: folders, notebooks, files; import and export in each format; whole directories."""

import base64
import concurrent.futures
import io
import json
from urllib.parse import quote

import pytest
from databricks.sdk.errors import BadRequest, NotFound, ResourceAlreadyExists, ResourceDoesNotExist
from databricks.sdk.service.workspace import ExportFormat, ImportFormat, Language, ObjectType

from harness.api import cells, ok, refused

TWO_CELLS = cells("x = 1\nprint(x)", "# MAGIC %md\n# MAGIC ## A title")


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def import_body(path, content, **more):
    return {"path": path, "content": b64(content), "format": "SOURCE", "language": "PYTHON", **more}


# --- folders -----------------------------------------------------------------------------------------


def test_mkdirs_makes_parents_and_may_be_repeated(api, home):
    for _ in range(2):
        api.mkdirs(f"{home}/a/b/c")
    assert [entry["path"] for entry in api.get("/api/2.0/workspace/list", path=f"{home}/a")["objects"]] == [f"{home}/a/b"]


def test_object_has_what_clients_need(api, home):
    api.notebook(f"{home}/n", TWO_CELLS)
    status = api.get("/api/2.0/workspace/get-status", path=f"{home}/n")
    assert status["object_type"] == "NOTEBOOK"
    assert status["language"] == "PYTHON"
    assert isinstance(status["object_id"], int) and 0 < status["object_id"] < 2**53
    assert "language" not in api.get("/api/2.0/workspace/get-status", path=home)


def test_workspace_prefix_names_the_same_object(api, home):
    api.notebook(f"{home}/n", TWO_CELLS)
    plain = api.get("/api/2.0/workspace/get-status", path=f"{home}/n")
    assert api.get("/api/2.0/workspace/get-status", path=f"/Workspace{home}/n")["object_id"] == plain["object_id"]
    listed = api.get("/api/2.0/workspace/list", path=f"/Workspace{home}")["objects"]
    assert listed[0]["path"].endswith(f"{home}/n")


def test_listing_a_notebook_gives_that_notebook(api, home):
    api.notebook(f"{home}/n", TWO_CELLS)
    for path in (f"{home}/n", f"/Workspace{home}/n"):
        assert [entry["path"] for entry in api.get("/api/2.0/workspace/list", path=path)["objects"]] == [path]


def test_missing_path_is_404(api, w, home):
    message = refused(api.call("GET", "/api/2.0/workspace/list", params={"path": f"{home}/nothing"}), 404, "RESOURCE_DOES_NOT_EXIST")
    assert f"{home}/nothing" in message
    with pytest.raises(ResourceDoesNotExist):
        w.workspace.get_status(f"{home}/nothing")


def test_mkdirs_over_a_notebook_is_refused(api, home):
    api.notebook(f"{home}/n", TWO_CELLS)
    for path in (f"{home}/n", f"{home}/n/below"):
        refused(api.call("POST", "/api/2.0/workspace/mkdirs", json={"path": path}), 400, "RESOURCE_ALREADY_EXISTS")


def test_delete_wants_recursive_for_a_full_folder(api, home):
    api.notebook(f"{home}/full/n", TWO_CELLS)
    message = refused(api.call("POST", "/api/2.0/workspace/delete", json={"path": f"{home}/full"}), 400, "DIRECTORY_NOT_EMPTY")
    assert "not empty" in message
    api.get("/api/2.0/workspace/get-status", path=f"{home}/full/n")
    api.post("/api/2.0/workspace/delete", {"path": f"{home}/full", "recursive": True})
    refused(api.call("POST", "/api/2.0/workspace/delete", json={"path": f"{home}/full"}), 404, "RESOURCE_DOES_NOT_EXIST")


def test_odd_names_survive(w, home):
    for name in ("with space", "ünïcode-名", "percent%20sign", "plus+and&"):
        w.workspace.import_(f"{home}/{name}", content=b64(TWO_CELLS), format=ImportFormat.SOURCE, language=Language.PYTHON)
    names = {entry.path.rsplit("/", 1)[1] for entry in w.workspace.list(home)}
    assert names == {"with space", "ünïcode-名", "percent%20sign", "plus+and&"}


# --- import and export -------------------------------------------------------------------------------


def test_source_comes_back_byte_for_byte(api, home):
    for name, text in {
        "plain": TWO_CELLS,
        "titles": cells("# DBTITLE 1,Load\nx = 1", "# MAGIC %sh\n# MAGIC ls"),
        "awkward": cells("s = '''\n# not a separator\n'''", "#  MAGIC with two blanks\nx=1"),
    }.items():
        api.post("/api/2.0/workspace/import", import_body(f"{home}/{name}", text))
        exported = api.get("/api/2.0/workspace/export", path=f"{home}/{name}", format="SOURCE")
        assert base64.b64decode(exported["content"]).decode().rstrip("\n") == text.rstrip("\n")
        raw = api.call("GET", "/api/2.0/workspace/export", params={"path": f"{home}/{name}", "format": "SOURCE", "direct_download": "true"})
        assert raw.text.rstrip("\n") == text.rstrip("\n")


def test_source_import_keeps_the_name_and_auto_strips_the_extension(api, home):
    api.post("/api/2.0/workspace/import", import_body(f"{home}/kept.py", TWO_CELLS))
    api.post("/api/2.0/workspace/import", {"path": f"{home}/stripped.py", "content": b64(TWO_CELLS), "format": "AUTO"})
    api.post("/api/2.0/workspace/import", {"path": f"{home}/module.py", "content": b64("x = 1\n"), "format": "AUTO"})
    kinds = {entry["path"].rsplit("/", 1)[1]: entry["object_type"] for entry in api.get("/api/2.0/workspace/list", path=home)["objects"]}
    assert kinds == {"kept.py": "NOTEBOOK", "stripped": "NOTEBOOK", "module.py": "FILE"}


def test_source_without_header_is_a_notebook_of_one_cell(api, home):
    api.post("/api/2.0/workspace/import", import_body(f"{home}/bare", "print('hello')\n"))
    exported = base64.b64decode(api.get("/api/2.0/workspace/export", path=f"{home}/bare", format="SOURCE")["content"]).decode()
    assert exported.startswith("# Databricks notebook source\n")
    assert "print('hello')" in exported


def test_ipynb_keeps_cells_through_both_formats(api, home):
    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "text"]},
            {"cell_type": "code", "id": "b", "metadata": {}, "execution_count": None, "outputs": [], "source": ["x = 1\n", "x"]},
        ],
    }
    api.post("/api/2.0/workspace/import", {"path": f"{home}/nb.ipynb", "content": b64(json.dumps(notebook)), "format": "AUTO"})
    assert api.get("/api/2.0/workspace/get-status", path=f"{home}/nb")["object_type"] == "NOTEBOOK"
    source = base64.b64decode(api.get("/api/2.0/workspace/export", path=f"{home}/nb", format="SOURCE")["content"]).decode()
    assert "# MAGIC %md" in source and "x = 1" in source
    back = json.loads(base64.b64decode(api.get("/api/2.0/workspace/export", path=f"{home}/nb", format="JUPYTER")["content"]))
    assert back["nbformat"] == 4
    assert ["".join(cell["source"]) for cell in back["cells"]] == ["# Title\ntext", "x = 1\nx"]
    assert [cell["cell_type"] for cell in back["cells"]] == ["markdown", "code"]


def test_source_notebook_exports_as_jupyter_and_html(w, home):
    w.workspace.import_(f"{home}/n", content=b64(TWO_CELLS), format=ImportFormat.SOURCE, language=Language.PYTHON)
    jupyter = json.loads(base64.b64decode(w.workspace.export(f"{home}/n", format=ExportFormat.JUPYTER).content))
    assert len(jupyter["cells"]) == 2
    html = base64.b64decode(w.workspace.export(f"{home}/n", format=ExportFormat.HTML).content).decode()
    assert "A title" in html and html.lstrip().lower().startswith("<!doctype html")


def test_second_import_needs_overwrite(api, w, home):
    api.post("/api/2.0/workspace/import", import_body(f"{home}/n", TWO_CELLS))
    refused(api.call("POST", "/api/2.0/workspace/import", json=import_body(f"{home}/n", cells("y = 2"))), 400, "RESOURCE_ALREADY_EXISTS")
    with pytest.raises(ResourceAlreadyExists):
        w.workspace.import_(f"{home}/n", content=b64(TWO_CELLS), format=ImportFormat.SOURCE, language=Language.PYTHON)
    before = api.get("/api/2.0/workspace/get-status", path=f"{home}/n")["object_id"]
    api.post("/api/2.0/workspace/import", import_body(f"{home}/n", cells("y = 2"), overwrite=True))
    assert api.get("/api/2.0/workspace/get-status", path=f"{home}/n")["object_id"] == before
    assert "y = 2" in base64.b64decode(api.get("/api/2.0/workspace/export", path=f"{home}/n", format="SOURCE")["content"]).decode()


def test_import_into_a_missing_folder_is_404(api, home):
    message = refused(
        api.call("POST", "/api/2.0/workspace/import", json=import_body(f"{home}/no/n", TWO_CELLS)), 404, "RESOURCE_DOES_NOT_EXIST"
    )
    assert "parent folder" in message


def test_multipart_import_of_the_sdk(w, home):
    w.workspace.upload(
        f"{home}/up.py", io.BytesIO(TWO_CELLS.encode()), format=ImportFormat.SOURCE, language=Language.PYTHON, overwrite=True
    )
    w.workspace.upload(f"{home}/data.csv", io.BytesIO(b"a,b\n1,2\n"), format=ImportFormat.AUTO, overwrite=True)
    assert w.workspace.get_status(f"{home}/data.csv").object_type == ObjectType.FILE
    with w.workspace.download(f"{home}/data.csv") as content:
        assert content.read() == b"a,b\n1,2\n"


@pytest.mark.parametrize("escaped", [True, False])
def test_import_file_reads_back_and_is_atomic(api, home, escaped):
    path = f"{home}/state.json".lstrip("/")
    url = "/api/2.0/workspace-files/import-file/" + (path.replace("/", "%2F") if escaped else path)
    ok(api.call("POST", url + "?overwrite=false", data=b'{"lock": 1}'))
    assert api.call("POST", url + "?overwrite=false", data=b"{}").status_code == 409
    assert api.call("GET", "/api/2.0/workspace-files/" + path).content == b'{"lock": 1}'
    ok(api.call("POST", url + "?overwrite=true", data=b'{"lock": 2}'))
    exported = api.call("GET", "/api/2.0/workspace/export", params={"path": f"/{path}", "direct_download": "true"})
    assert exported.content == b'{"lock": 2}'


def test_import_file_into_a_missing_folder_is_404(api, home):
    assert api.call("POST", f"/api/2.0/workspace-files/import-file{home}/no/x.txt?overwrite=false", data=b"x").status_code == 404


def test_only_one_of_many_creators_wins(api, home):
    url = f"/api/2.0/workspace-files/import-file{home}/deploy.lock?overwrite=false"
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda number: api.call("POST", url, data=str(number)).status_code, range(20)))
    assert sorted(codes) == [200] + [409] * 19


def test_twenty_parallel_imports_of_a_megabyte(api, home):
    content = "# Databricks notebook source\n" + "x = 1  # padding\n" * 60_000
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda number: api.post("/api/2.0/workspace/import", import_body(f"{home}/n{number}", content)), range(20)))
    assert len(api.get("/api/2.0/workspace/list", path=home)["objects"]) == 20
    exported = api.get("/api/2.0/workspace/export", path=f"{home}/n7", format="SOURCE")["content"]
    assert base64.b64decode(exported).decode().rstrip() == content.rstrip()


def test_sdk_walks_a_tree(w, home):
    w.workspace.mkdirs(f"{home}/a/b")
    w.workspace.import_(f"{home}/a/b/n", content=b64(TWO_CELLS), format=ImportFormat.SOURCE, language=Language.PYTHON)
    assert [entry.path for entry in w.workspace.list(home, recursive=True) if entry.object_type == ObjectType.NOTEBOOK] == [f"{home}/a/b/n"]
    with pytest.raises(BadRequest):
        w.workspace.delete(f"{home}/a")
    w.workspace.delete(f"{home}/a", recursive=True)
    with pytest.raises(NotFound):
        w.workspace.get_status(f"{home}/a")


# --- the legacy CLI ----------------------------------------------------------------------------------


def test_legacy_import_keeps_the_target_name(legacy, api, home, tmp_path):
    source = tmp_path / "test-master.r"
    source.write_text("# Databricks notebook source\nx <- 1\n")
    legacy("workspace", "mkdirs", f"{home}/build")
    legacy("workspace", "import", source, f"{home}/build/test-master.r", "-o", "-l", "R")
    status = api.get("/api/2.0/workspace/get-status", path=f"{home}/build/test-master.r")
    assert (status["object_type"], status["language"]) == ("NOTEBOOK", "R")
    assert legacy("workspace", "ls", f"{home}/build").split() == ["test-master.r"]


def test_legacy_import_dir_strips_extensions_and_leaves_hidden_files(legacy, api, home, tmp_path):
    tree = {
        "one.py": "# Databricks notebook source\nprint(1)\n",
        "two.r": "# Databricks notebook source\nprint(2)\n",
        "sub/three.sql": "-- Databricks notebook source\nselect 3\n",
        "sub/four.scala": "// Databricks notebook source\nprintln(4)\n",
        ".hidden.py": "# Databricks notebook source\n",
        ".git/config": "[core]\n",
        "readme.txt": "not a notebook",
    }
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for _ in range(2):  # the second time proves --overwrite
        legacy("workspace", "import_dir", "-o", "-e", tmp_path, f"{home}/tree")
    found = {
        entry["path"]: entry.get("language")
        for folder in (f"{home}/tree", f"{home}/tree/sub")
        for entry in api.get("/api/2.0/workspace/list", path=folder)["objects"]
        if entry["object_type"] == "NOTEBOOK"
    }
    assert found == {
        f"{home}/tree/one": "PYTHON",
        f"{home}/tree/two": "R",
        f"{home}/tree/sub/three": "SQL",
        f"{home}/tree/sub/four": "SCALA",
    }


def test_legacy_import_dir_takes_pages_and_archives(legacy, w, home, tmp_path):
    w.workspace.import_(f"{home}/n", content=b64(TWO_CELLS), format=ImportFormat.SOURCE, language=Language.PYTHON)
    w.workspace.mkdirs(f"{home}/folder")
    w.workspace.import_(f"{home}/folder/m", content=b64(TWO_CELLS), format=ImportFormat.SOURCE, language=Language.PYTHON)
    for path, name, format in (("n", "page.html", "HTML"), ("n", "one.dbc", "DBC"), ("folder", "all.dbc", "DBC")):
        legacy("workspace", "export", f"{home}/{path}", tmp_path / name, "-f", format)
    legacy("workspace", "import_dir", tmp_path, f"{home}/back")
    objects = {entry.path: entry.object_type for entry in w.workspace.list(f"{home}/back", recursive=True)}
    assert {path for path, kind in objects.items() if kind == ObjectType.NOTEBOOK} == {
        f"{home}/back/page",
        f"{home}/back/one",
        f"{home}/back/all/m",
    }
    for path in ("page", "one", "all/m"):
        source = base64.b64decode(w.workspace.export(f"{home}/back/{path}", format=ExportFormat.SOURCE).content).decode()
        assert source.rstrip() == TWO_CELLS.rstrip()


def test_a_page_that_databricks_exported_is_a_notebook(w, home):
    model = {
        "version": "NotebookV1",
        "origId": 4071,
        "name": "sales",
        "language": "scala",
        "commands": [
            {"version": "CommandV1", "origId": 2, "position": 2.0, "command": "%md\nDone", "commandVersion": 0, "state": "finished"},
            {
                "version": "CommandV1",
                "origId": 1,
                "position": 1.0,
                "command": "val x = 1",
                "commandTitle": "Read",
                "showCommandTitle": True,
            },
        ],
        "dashboards": [],
        "globalVars": {},
    }
    encoded = base64.b64encode(quote(json.dumps(model)).encode()).decode()
    page = f"<!DOCTYPE html><html><head><script>window.settings = {{}};</script></head><body><script>var __DATABRICKS_NOTEBOOK_MODEL = '{encoded}';</script></body></html>"
    w.workspace.import_(f"{home}/sales", content=b64(page), format=ImportFormat.HTML)
    status = w.workspace.get_status(f"{home}/sales")
    assert (status.object_type, status.language) == (ObjectType.NOTEBOOK, Language.SCALA)
    source = base64.b64decode(w.workspace.export(f"{home}/sales", format=ExportFormat.SOURCE).content).decode()
    assert source.startswith("// Databricks notebook source\n// DBTITLE 1,Read\nval x = 1\n")
    assert "// MAGIC %md\n// MAGIC Done" in source


def test_legacy_export_dir_gives_the_sources_back(legacy, home, tmp_path):
    original, copy = tmp_path / "original", tmp_path / "copy"
    (original / "sub").mkdir(parents=True)
    (original / "one.py").write_text(TWO_CELLS)
    (original / "sub" / "two.r").write_text("# Databricks notebook source\nprint(2)\n")
    legacy("workspace", "import_dir", original, f"{home}/tree")
    legacy("workspace", "export_dir", "-o", f"{home}/tree", copy)
    for name in ("one.py", "sub/two.r"):
        assert (copy / name).read_text().rstrip() == (original / name).read_text().rstrip()


def test_legacy_rm_recursive(legacy, api, home):
    api.notebook(f"{home}/gone/n", TWO_CELLS)
    legacy("workspace", "rm", "-r", f"{home}/gone", "--debug")
    assert legacy("workspace", "ls", home).split() == []
