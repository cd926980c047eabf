"""A backup made while the server works, restored as another server that clients can go on with."""

import subprocess

import pytest
from databricks.sdk.service import jobs, workspace

from harness.server import Server, binary, run_server


def forebay(*args):
    return subprocess.run([binary(), *map(str, args)], capture_output=True, text=True, check=False)


@pytest.fixture
def first(tmp_path):
    yield from run_server(tmp_path / "first")


def test_a_restored_server_goes_on(first, tmp_path):
    w = first.sdk()
    w.secrets.create_scope("s")
    w.secrets.put_secret("s", "k", string_value="opensesame")
    source = b"print('kept output')\ndbutils.notebook.exit('done')\n"
    w.workspace.upload("/Shared/n", source, format=workspace.ImportFormat.SOURCE, language=workspace.Language.PYTHON)
    task = jobs.Task(task_key="t", notebook_task=jobs.NotebookTask(notebook_path="/Shared/n"))
    job = w.jobs.create(name="kept", tasks=[task]).job_id
    run = w.jobs.run_now(job).result()
    backup = tmp_path / "b.tar"
    done = forebay("backup", "--data", first.data, backup)
    assert done.returncode == 0, done.stderr
    assert "Backed up dev, prod, staging" in done.stdout
    token = first.profile().token
    w.jobs.delete(job)
    first.stop()

    second = Server(tmp_path / "second")
    done = forebay("restore", backup, "--data", second.data)
    assert done.returncode == 0, done.stderr
    second.start()
    try:
        assert second.profile().token == token, "tokens stay valid"
        w = second.sdk()
        assert w.secrets.get_secret("s", "k").value == "b3BlbnNlc2FtZQ=="
        assert w.jobs.get(job).settings.name == "kept"
        output = w.jobs.get_run_output(run.tasks[0].run_id)
        assert output.notebook_output.result == "done"
        assert w.jobs.run_now(job).result().state.result_state == jobs.RunResultState.SUCCESS
    finally:
        second.stop()
    checked = forebay("doctor", "--data", second.data)
    assert "dev: 2 runs agree with their" in checked.stdout, checked.stdout


def test_a_full_disk_leaves_no_half_backup_and_no_half_folder(first, tmp_path):
    (first.data / "dev/dbfs/FileStore/big").write_bytes(b"x" * (6 << 20))
    good = forebay("backup", "--data", first.data, tmp_path / "good.tar")
    assert good.returncode == 0, good.stderr
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"this test needs the right to mount a tmpfs: {done.stderr}"
    try:
        for args in (
            ("backup", "--data", first.data, small / "b.tar"),
            ("restore", tmp_path / "good.tar", "--data", small / "new"),
        ):
            full = forebay(*args)
            assert full.returncode == 1
            assert "No space left" in full.stderr or "disk is full" in full.stderr, full.stderr
            assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
