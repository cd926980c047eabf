"""DBFS: whole files, blocks, directories, and the legacy CLI's copies in both directions."""

import base64
import hashlib
import io
import os

import pytest
from databricks.sdk.errors import NotFound

from harness.api import refused

MIB = 1 << 20
BINARY = bytes(range(256)) * 16 * 1024  # 4 MiB with every byte value


def b64(data):
    return base64.b64encode(data).decode()


def put(api, path, data, **more):
    api.post("/api/2.0/dbfs/put", {"path": path, "contents": b64(data), **more})


# --- calls -------------------------------------------------------------------------------------------


def test_put_status_read_delete(api, dbfs_home):
    put(api, f"{dbfs_home}/f", b"hello")
    status = api.get("/api/2.0/dbfs/get-status", path=f"dbfs:{dbfs_home}/f")
    assert (status["path"], status["is_dir"], status["file_size"]) == (f"{dbfs_home}/f", False, 5)
    assert status["modification_time"] > 1_600_000_000_000
    read = api.get("/api/2.0/dbfs/read", path=f"{dbfs_home}/f", offset=1, length=3)
    assert (read["bytes_read"], base64.b64decode(read["data"])) == (3, b"ell")
    assert api.get("/api/2.0/dbfs/read", path=f"{dbfs_home}/f", offset=99)["bytes_read"] == 0
    for _ in range(2):  # deleting what is gone succeeds
        api.post("/api/2.0/dbfs/delete", {"path": f"{dbfs_home}/f"})
    refused(api.call("GET", "/api/2.0/dbfs/get-status", params={"path": f"{dbfs_home}/f"}), 404, "RESOURCE_DOES_NOT_EXIST")


def test_list_is_sorted_and_a_file_lists_itself(api, dbfs_home):
    for name in ("b", "a", "c/d"):
        put(api, f"{dbfs_home}/{name}", b"x")
    files = api.get("/api/2.0/dbfs/list", path=dbfs_home)["files"]
    assert [(entry["path"], entry["is_dir"]) for entry in files] == [
        (f"{dbfs_home}/a", False),
        (f"{dbfs_home}/b", False),
        (f"{dbfs_home}/c", True),
    ]
    assert [entry["path"] for entry in api.get("/api/2.0/dbfs/list", path=f"{dbfs_home}/a")["files"]] == [f"{dbfs_home}/a"]


def test_blocks_of_exactly_one_mebibyte(api, dbfs_home):
    handle = api.post("/api/2.0/dbfs/create", {"path": f"{dbfs_home}/blocks", "overwrite": True})["handle"]
    assert isinstance(handle, int)
    for start in range(0, len(BINARY), MIB):
        api.post("/api/2.0/dbfs/add-block", {"handle": handle, "data": b64(BINARY[start : start + MIB])})
    api.post("/api/2.0/dbfs/close", {"handle": handle})
    parts = [
        base64.b64decode(api.get("/api/2.0/dbfs/read", path=f"{dbfs_home}/blocks", offset=start, length=MIB)["data"])
        for start in range(0, len(BINARY), MIB)
    ]
    assert b"".join(parts) == BINARY


def test_unfinished_upload_is_not_visible(api, dbfs_home):
    put(api, f"{dbfs_home}/f", b"old")
    handle = api.post("/api/2.0/dbfs/create", {"path": f"{dbfs_home}/f", "overwrite": True})["handle"]
    api.post("/api/2.0/dbfs/add-block", {"handle": handle, "data": b64(b"new, longer")})
    assert [entry["file_size"] for entry in api.get("/api/2.0/dbfs/list", path=dbfs_home)["files"]] == [3]
    api.post("/api/2.0/dbfs/close", {"handle": handle})
    assert api.get("/api/2.0/dbfs/get-status", path=f"{dbfs_home}/f")["file_size"] == 11


def test_existing_file_needs_overwrite(api, dbfs_home):
    put(api, f"{dbfs_home}/f", b"old")
    for path, body in (("put", {"contents": b64(b"new")}), ("create", {})):
        refused(api.call("POST", f"/api/2.0/dbfs/{path}", json={"path": f"{dbfs_home}/f", **body}), 400, "RESOURCE_ALREADY_EXISTS")
    put(api, f"{dbfs_home}/f", b"newer", overwrite=True)
    assert api.get("/api/2.0/dbfs/get-status", path=f"{dbfs_home}/f")["file_size"] == 5


def test_move_and_recursive_delete(api, dbfs_home):
    put(api, f"{dbfs_home}/a/f", b"x")
    api.post("/api/2.0/dbfs/move", {"source_path": f"{dbfs_home}/a", "destination_path": f"{dbfs_home}/b"})
    api.get("/api/2.0/dbfs/get-status", path=f"{dbfs_home}/b/f")
    refused(api.call("POST", "/api/2.0/dbfs/delete", json={"path": f"{dbfs_home}/b"}), 400, {"IO_ERROR", "BAD_REQUEST"})
    api.post("/api/2.0/dbfs/delete", {"path": f"{dbfs_home}/b", "recursive": True})
    refused(api.call("GET", "/api/2.0/dbfs/get-status", params={"path": f"{dbfs_home}/b"}), 404, "RESOURCE_DOES_NOT_EXIST")
    put(api, f"{dbfs_home}/one", b"1")
    put(api, f"{dbfs_home}/two", b"2")
    refused(
        api.call("POST", "/api/2.0/dbfs/move", json={"source_path": f"{dbfs_home}/one", "destination_path": f"{dbfs_home}/two"}),
        400,
        "RESOURCE_ALREADY_EXISTS",
    )


def test_limits_have_their_own_codes(api, dbfs_home):
    handle = api.post("/api/2.0/dbfs/create", {"path": f"{dbfs_home}/big"})["handle"]
    refused(
        api.call("POST", "/api/2.0/dbfs/add-block", json={"handle": handle, "data": b64(b"x" * (MIB + 1))}), 400, "MAX_BLOCK_SIZE_EXCEEDED"
    )
    refused(
        api.call("POST", "/api/2.0/dbfs/put", json={"path": f"{dbfs_home}/x", "contents": b64(b"x" * (MIB + 1))}),
        400,
        "MAX_BLOCK_SIZE_EXCEEDED",
    )
    put(api, f"{dbfs_home}/f", b"x")
    refused(api.call("GET", "/api/2.0/dbfs/read", params={"path": f"{dbfs_home}/f", "length": MIB + 1}), 400, "MAX_READ_SIZE_EXCEEDED")
    for bad in ({"offset": -1}, {"length": -1}):
        refused(api.call("GET", "/api/2.0/dbfs/read", params={"path": f"{dbfs_home}/f", **bad}), 400, "INVALID_PARAMETER_VALUE")
    refused(api.call("GET", "/api/2.0/dbfs/read", params={"path": dbfs_home}), 400, "INVALID_PARAMETER_VALUE")
    for call in ("add-block", "close"):
        refused(api.call("POST", f"/api/2.0/dbfs/{call}", json={"handle": 424242, "data": b64(b"x")}), 404, "RESOURCE_DOES_NOT_EXIST")


def test_multipart_put_with_the_forms_that_clients_send(api, dbfs_home):
    for number, overwrite in enumerate(("True", "true", "False")):
        files = {
            "file": ("any name", BINARY, "multipart/form-data"),
            "path": (None, f"{dbfs_home}/m{number}"),
            "overwrite": (None, overwrite),
        }
        response = api.call("POST", "/api/2.0/dbfs/put", files=files)
        assert response.ok, response.text
        assert api.get("/api/2.0/dbfs/get-status", path=f"{dbfs_home}/m{number}")["file_size"] == len(BINARY)


# --- the SDK -----------------------------------------------------------------------------------------


def test_sdk_uploads_downloads_and_moves(w, dbfs_home):
    w.dbfs.upload(f"{dbfs_home}/sdk.bin", io.BytesIO(BINARY), overwrite=True)
    assert w.dbfs.download(f"{dbfs_home}/sdk.bin").read() == BINARY
    with w.dbfs.open(f"dbfs:{dbfs_home}/handle", write=True, overwrite=True) as target:
        target.write(b"written through a handle")
    assert w.dbfs.exists(f"{dbfs_home}/handle")
    w.dbfs.mkdirs(f"{dbfs_home}/deep/er")
    w.dbfs.move_(f"{dbfs_home}/handle", f"{dbfs_home}/deep/er/moved")
    assert [entry.path for entry in w.dbfs.list(dbfs_home, recursive=True) if not entry.is_dir] == [
        f"{dbfs_home}/sdk.bin",
        f"{dbfs_home}/deep/er/moved",
    ]
    with pytest.raises(NotFound):
        w.dbfs.get_status(f"{dbfs_home}/handle")


# --- the legacy CLI ----------------------------------------------------------------------------------


def checksums(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_legacy_copies_a_tree_there_and_back(legacy, dbfs_home, tmp_path):
    source, back = tmp_path / "models", tmp_path / "back"
    for name, data in {"model.rds": os.urandom(3 * MIB + 17), "sub/empty": b"", "sub/text.csv": b"a,b\n1,2\n", "exact": b"x" * MIB}.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    legacy("fs", "cp", "-r", source, f"dbfs:{dbfs_home}/models")
    legacy("fs", "cp", "-r", f"dbfs:{dbfs_home}/models", back, "--overwrite")
    assert checksums(back) == checksums(source)

    (source / "sub" / "text.csv").write_bytes(b"changed\n")
    legacy("fs", "cp", "-r", source, f"dbfs:{dbfs_home}/models")
    assert legacy("fs", "cat", f"dbfs:{dbfs_home}/models/sub/text.csv") == "a,b\n1,2\n", "without --overwrite the old file stays"
    legacy("fs", "cp", "-r", source, f"dbfs:{dbfs_home}/models", "--overwrite")
    assert legacy("fs", "cat", f"dbfs:{dbfs_home}/models/sub/text.csv") == "changed\n"


def test_legacy_ls_mkdirs_mv_rm(legacy, dbfs_home, tmp_path):
    (tmp_path / "one").write_text("1")
    legacy("fs", "mkdirs", f"dbfs:{dbfs_home}/deep/er")
    legacy("fs", "cp", tmp_path / "one", f"dbfs:{dbfs_home}/deep")
    assert legacy("fs", "ls", f"dbfs:{dbfs_home}/deep").split() == ["er", "one"]
    assert "file" in legacy("fs", "ls", "-l", "--absolute", f"dbfs:{dbfs_home}/deep")
    legacy("fs", "mv", f"dbfs:{dbfs_home}/deep/one", f"dbfs:{dbfs_home}/deep/two")
    assert legacy("fs", "ls", f"dbfs:{dbfs_home}/deep").split() == ["er", "two"]
    legacy("fs", "rm", "-r", f"dbfs:{dbfs_home}/deep", "--debug")
    assert legacy("fs", "ls", f"dbfs:{dbfs_home}").split() == []
    assert "RESOURCE_DOES_NOT_EXIST" in legacy.failing("fs", "ls", f"dbfs:{dbfs_home}/deep").stdout
