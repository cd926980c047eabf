"""Bytes in and out: parallel workspace imports, and large files through DBFS and the Files API beside `cp`."""

import argparse
import base64
import concurrent.futures
import os
import shutil
import subprocess
import time

from common import folder, machine, memory, server, table, timed

MIB = 1 << 20


class Peak:
    """The largest memory of a process while a block runs, above what it had before."""

    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        # Writing 5 resets the kernel's own high-water mark, so nothing between two looks is missed.
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")
        self.before = memory(self.pid)
        return self

    def __exit__(self, *_):
        self.grown = max(0, memory(self.pid, "VmHWM") - self.before)


def make_file(path, size):
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(size // MIB):
            file.write(block)


def copy_durably(source, target):
    with open(source, "rb") as reader, open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer, MIB)
        writer.flush()
        os.fsync(writer.fileno())


def multipart(path, source):
    """A multipart body from a file, made piece by piece: what a streaming client sends."""
    edge = "forebay-bench-edge"
    head = "".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("path", path), ("overwrite", "true"))
    )
    head += f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'

    def pieces():
        yield head.encode()
        with open(source, "rb") as file:
            while piece := file.read(MIB):
                yield piece
        yield f"\r\n--{edge}--\r\n".encode()

    return pieces(), f"multipart/form-data; boundary={edge}"


def download(api, url, target):
    with api.call("GET", url, stream=True, timeout=600) as response, open(target, "wb") as file:
        response.raise_for_status()
        for piece in response.iter_content(MIB):
            file.write(piece)


def curl(api, *words):
    """Another client that nobody changed, which costs next to nothing itself: what is left is the server's share."""
    token = ["--header", f"Authorization: Bearer {api.token}"]
    subprocess.run(["curl", "--silent", "--show-error", "--fail", *token, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def blocks_up(api, path, source, count):
    handle = api.post("/api/2.0/dbfs/create", {"path": path, "overwrite": True})["handle"]
    with open(source, "rb") as file:
        for _ in range(count):
            api.post("/api/2.0/dbfs/add-block", {"handle": handle, "data": base64.b64encode(file.read(MIB)).decode()})
    api.post("/api/2.0/dbfs/close", {"handle": handle})


def blocks_down(api, path, count):
    for number in range(count):
        base64.b64decode(api.get("/api/2.0/dbfs/read", path=path, offset=number * MIB, length=MIB)["data"])


def imports(running):
    """Twenty parallel imports of notebooks of one mebibyte, each by a client of its own."""
    source = "# Databricks notebook source\n" + "x = 1  # some padding text\n" * (MIB // 26)
    content = base64.b64encode(source.encode()).decode()
    running.api().mkdirs("/Shared/bench")

    def one(number):
        running.api().post(
            "/api/2.0/workspace/import",
            {"path": f"/Shared/bench/n{number}", "format": "SOURCE", "language": "PYTHON", "overwrite": True, "content": content},
        )

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    where, size = machine(), options.mib * MIB
    with folder() as path, server(path) as running:
        api, pid = running.api(), running.process.pid
        source, target = path / "source", path / "target"
        make_file(source, size)
        api.call("PUT", "/api/2.0/fs/directories/Volumes/main/default/bench")
        volume = "/api/2.0/fs/files/Volumes/main/default/bench/f"

        def put_multipart():
            body, kind = multipart("/bench/f", source)
            api.call("POST", "/api/2.0/dbfs/put", data=body, headers={"Content-Type": kind}, timeout=600).raise_for_status()

        def put_file():
            with open(source, "rb") as file:
                api.call("PUT", volume + "?overwrite=true", data=file, timeout=600).raise_for_status()

        few = min(options.mib, 64)
        actions = {
            "cp": (lambda: shutil.copyfile(source, target), size),
            "cp, durable (fsync)": (lambda: copy_durably(source, target), size),
            "Files API upload": (put_file, size),
            "Files API upload, curl": (lambda: curl(api, "--upload-file", source, f"{api.host}{volume}?overwrite=true"), size),
            "Files API download": (lambda: download(api, volume, target), size),
            "Files API download, curl": (lambda: curl(api, "--output", target, f"{api.host}{volume}"), size),
            "DBFS multipart put": (put_multipart, size),
            f"DBFS blocks up ({few} MiB)": (lambda: blocks_up(api, "/bench/b", source, few), few * MIB),
            f"DBFS blocks down ({few} MiB)": (lambda: blocks_down(api, "/bench/b", few), few * MIB),
            "20 imports of 1 MiB in parallel": (lambda: imports(running), 20 * MIB),
        }
        rows = []
        speeds = {}
        for name, (action, count) in actions.items():
            seconds, grown = [], 0
            for _ in range(options.rounds):
                with Peak(pid) as peak:
                    seconds.append(timed(action)[0])
                grown = max(grown, peak.grown)
                time.sleep(0.5)  # lets the disk settle, so that one row does not pay for the one before
            median = sorted(seconds)[len(seconds) // 2]
            speeds[name] = count / median
            against = speeds["cp, durable (fsync)"] if "upload" in name or "put" in name else speeds["cp"]
            rows.append(
                [name, f"{median * 1000:,.0f}", f"{count / median / MIB:,.0f}", f"{against / speeds[name]:.2f}x", f"{grown / MIB:.0f}"]
            )
        table(
            f"Transfer of {options.mib} MiB",
            ["what", "ms", "MiB/s", "time against cp", "server grew by MiB"],
            rows,
            f"median of {options.rounds}; uploads are compared with a durable copy, since an acknowledged upload is on the disk; {where}",
        )


if __name__ == "__main__":
    main()
