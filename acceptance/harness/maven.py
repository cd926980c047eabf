"""Projects built with Maven."""

import shutil
import subprocess


def built(project, folder, *options):
    """The JAR of a project, built in a copy of it."""
    copy = shutil.copytree(project, folder, ignore=shutil.ignore_patterns("target"))
    done = subprocess.run(["mvn", "-B", "-q", *options, "package"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    (jar,) = (copy / "target").glob("*.jar")
    return jar
