"""Libraries of one run: a folder before all others on `sys.path`, filled by `uv`."""

import importlib
import os
import shlex
import subprocess
import sys


class InstallError(Exception):
    pass


class Layer:
    def __init__(self, job):
        self._uv = job["uv"]
        self._interpreter = job["interpreter"]
        self.path = os.path.join(job["local_dir"], "python")

    def activate(self):
        """Its folder is there when something is in it."""
        if self.path not in sys.path:
            sys.path.insert(0, self.path)
        # Programs started by the run see the same libraries.
        inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        paths = [self.path] + [path for path in inherited if path and path != self.path]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        os.environ["PATH"] = os.path.join(self.path, "bin") + os.pathsep + os.environ["PATH"]

    def install(self, libraries):
        """Installs the libraries of the task. The names of modules that it came too late for."""
        args = []
        for library in libraries:
            if library["type"] == "pypi":
                args.append(library["package"])
                if library["repo"]:
                    args += ["--index", library["repo"]]
            elif library["type"] == "whl":
                args.append(library["path"])
            else:
                args += ["-r", library["path"]]
        return self._install(args)

    def pip(self, line):
        """A `%pip` line: `install` with any arguments, `list`, `show` and `freeze`."""
        shadowed = []
        for command in _commands(line):
            words = shlex.split(command)
            if words and words[0] in ("%pip", "pip"):
                words.pop(0)
            if not words:
                continue
            if words[0] == "install":
                ignored = ("-q", "--quiet", "-U", "--user", "--no-cache-dir")
                args = [word for word in words[1:] if word not in ignored]
                if "-U" in words:
                    args.insert(0, "--upgrade")
                shadowed += self._install(args)
            elif words[0] in ("list", "show", "freeze"):
                self._pip([*words, "--python", self._interpreter])
            else:
                raise InstallError(f"%pip {words[0]} is not available; only install, list, show")
        return shadowed

    def _install(self, args):
        os.makedirs(self.path, exist_ok=True)
        before = set(os.listdir(self.path))
        # `--target` alone would install every dependency again; ask first what is missing.
        wanted = self._missing(args)
        if wanted:
            options = list(_options(args))
            self._pip(["install", "--target", self.path, "--no-deps", *options, *wanted])
        importlib.invalidate_caches()
        new = set(os.listdir(self.path)) - before
        return sorted(self._shadowed(new))

    def _missing(self, args):
        """Exact requirements that the environment lacks, as resolved against it."""
        plan = self._uv_run(["install", "--dry-run", "--python", self._interpreter, *args], capture=True)
        wanted = []
        for line in plan.splitlines():
            if line.startswith(" + "):
                name, _, origin = line[3:].partition(" (from ")
                package = name.split("==")[0]
                wanted.append(f"{package} @ {origin[:-1]}" if origin else name)
        if not wanted:
            print("All requirements are already satisfied.")
        return wanted

    def _shadowed(self, entries):
        for entry in entries:
            module = sys.modules.get(entry.removesuffix(".py"))
            origin = getattr(module, "__file__", None) or ""
            if module is not None and not origin.startswith(self.path):
                yield entry.removesuffix(".py")

    def _pip(self, args):
        self._uv_run(args, capture=False)

    def _uv_run(self, args, capture):
        if not self._uv:
            raise InstallError("no libraries can be installed: this server has no uv")
        command = [self._uv, "pip", *args]
        sys.stdout.flush()
        sys.stderr.flush()
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
        )
        if result.returncode:
            detail = (result.stderr or "").strip() if capture else "see the output above"
            raise InstallError(f"uv ended with exit code {result.returncode}: {detail}")
        return (result.stdout or "") + (result.stderr or "") if capture else ""


def _commands(source):
    joined = source.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def _options(args):
    """The index options among the arguments, which the second step needs as well."""
    words = iter(args)
    for word in words:
        name = word.split("=")[0]
        if name in ("--index", "--index-url", "-i", "--extra-index-url", "-f", "--find-links"):
            yield word
            if "=" not in word:
                yield next(words, "")
        elif name == "--no-index":
            yield word
