"""The Files API on volumes: streams, ranges, directories and uploads in parts."""

import hashlib
import io
import os

import pytest
from databricks.sdk.errors import AlreadyExists, NotFound, ResourceConflict

from harness.api import refused

VOLUME = "/Volumes/main/default/acceptance"


@pytest.fixture
def volume(w, request):
    path = f"{VOLUME}/{request.node.name}"
    w.files.create_directory(path)
    return path


def test_sdk_uploads_downloads_and_deletes(w, volume):
    data = os.urandom(3_000_017)
    w.files.upload(f"{volume}/a b/ü.bin", io.BytesIO(data), overwrite=True)
    assert w.files.download(f"{volume}/a b/ü.bin").contents.read() == data
    meta = w.files.get_metadata(f"{volume}/a b/ü.bin")
    assert meta.content_length == len(data)
    assert meta.last_modified
    w.files.delete(f"{volume}/a b/ü.bin")
    with pytest.raises(NotFound):
        w.files.download(f"{volume}/a b/ü.bin")


def test_existing_file_needs_overwrite(w, volume):
    w.files.upload(f"{volume}/f", io.BytesIO(b"one"))
    with pytest.raises((AlreadyExists, ResourceConflict)):
        w.files.upload(f"{volume}/f", io.BytesIO(b"two"), overwrite=False)
    w.files.upload(f"{volume}/f", io.BytesIO(b"three"), overwrite=True)
    assert w.files.download(f"{volume}/f").contents.read() == b"three"


def test_directories_list_and_refuse_to_go_while_full(w, api, volume):
    for name in ("b", "a"):
        w.files.upload(f"{volume}/d/{name}", io.BytesIO(name.encode()))
    entries = list(w.files.list_directory_contents(f"{volume}/d"))
    assert [(entry.name, entry.is_directory, entry.file_size) for entry in entries] == [("a", False, 1), ("b", False, 1)]
    w.files.get_directory_metadata(f"{volume}/d")
    response = api.call("DELETE", f"/api/2.0/fs/directories{volume}/d")
    assert response.status_code == 400
    assert "FILES_API_DIRECTORY_IS_NOT_EMPTY" in response.text
    for entry in entries:
        w.files.delete(entry.path)
    w.files.delete_directory(f"{volume}/d")
    with pytest.raises(NotFound):
        w.files.get_directory_metadata(f"{volume}/d")


def test_listing_is_paged(api, w, volume):
    for number in range(5):
        w.files.upload(f"{volume}/f{number}", io.BytesIO(b"x"))
    seen, token = [], None
    for _ in range(9):
        page = api.get(f"/api/2.0/fs/directories{volume}", page_size=2, **({"page_token": token} if token else {}))
        seen += [entry["name"] for entry in page["contents"]]
        token = page.get("next_page_token")
        if not token:
            break
    assert seen == [f"f{number}" for number in range(5)]


def test_ranges_and_preconditions(api, w, volume):
    w.files.upload(f"{volume}/f", io.BytesIO(b"0123456789"))
    url = f"/api/2.0/fs/files{volume}/f"
    part = api.call("GET", url, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    assert api.call("GET", url, headers={"Range": "bytes=7-"}).content == b"789"
    assert api.call("GET", url, headers={"Range": "bytes=99-"}).status_code == 416
    assert api.call("GET", url, headers={"If-Unmodified-Since": "Thu, 01 Jan 1998 00:00:00 GMT"}).status_code == 412
    head = api.call("HEAD", url)
    assert head.headers["Content-Length"] == "10"
    refused(api.call("GET", f"/api/2.0/fs/files{volume}/none"), 404, {"NOT_FOUND", "RESOURCE_DOES_NOT_EXIST"})


def test_large_stream_of_unknown_size_goes_up_in_parts(w, volume):
    """Above 50 MiB the SDK asks for an upload in parts; this drives that road from end to end."""
    block = os.urandom(1 << 20)
    digest = hashlib.sha256(block * 60).hexdigest()
    w.files.upload(f"{volume}/large", io.BytesIO(block * 60), overwrite=True)
    received = hashlib.sha256()
    with w.files.download(f"{volume}/large").contents as stream:
        while chunk := stream.read(1 << 20):
            received.update(chunk)
    assert received.hexdigest() == digest
