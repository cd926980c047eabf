"""Outside programs run as a person runs them: from a shell, with an environment and a folder."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    command: list
    status: int
    stdout: str
    stderr: str

    def shown(self):
        words = " ".join(str(word) for word in self.command)
        return f"$ {words}\nstatus {self.status}\n{self.stdout}\n{self.stderr}"


class Program:
    """One outside program with its environment. Calling it insists on success; `failing` on failure."""

    def __init__(self, words, env, folder=None):
        self.words = list(words)
        self.env = dict(env)
        self.folder = folder

    def run(self, *args, timeout=120, env=None, folder=None):
        command = [*self.words, *(str(arg) for arg in args)]
        done = subprocess.run(
            command,
            env={**self.env, **(env or {})},
            cwd=folder or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(command, done.returncode, done.stdout, done.stderr)

    def __call__(self, *args, **kwargs):
        result = self.run(*args, **kwargs)
        # The legacy CLI prints some failures and still ends with 0.
        assert result.status == 0 and not result.stdout.startswith("Error:"), result.shown()
        return result.stdout

    def failing(self, *args, **kwargs):
        result = self.run(*args, **kwargs)
        assert result.status != 0, result.shown()
        return result


def beside_python(name):
    """A program of the environment that runs these tests."""
    path = Path(sys.executable).parent / name
    assert path.exists(), f"{path} is missing; run `scripts/setup acceptance`"
    return str(path)
