"""Libraries of one run: a folder before all others on `sys.path`, filled by `uv`."""

import contextlib
import hashlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile

from .shelf import Shelf

_LOG_LINES_MAX = 60
# A package with its version: `name==1.2`, `name[extra]==1.2`.
_EXACT = re.compile(r"[A-Za-z0-9._-]+(\[[A-Za-z0-9._, -]+\])?\s*==\s*[A-Za-z0-9.+!]+\s*(;[^-]*)?(\s+--hash=\S+)*$")
# What uv says when it could not reach an index.
_UNREACHABLE = ("error sending request", "Failed to fetch", "dns error", "Connect", "timed out", "Request failed")


class InstallError(Exception):
    pass


class LibraryInstallationError(Exception):
    """A library of the task or its cluster was not installed. The server knows this name."""


@contextlib.contextmanager
def installing():
    """Around the installation of what a run names: whatever goes wrong there has one name."""
    try:
        yield
    except Exception as error:
        raise LibraryInstallationError(str(error) or type(error).__name__) from error


class Layer:
    def __init__(self, job):
        self._uv = job["uv"]
        self._interpreter = job["interpreter"]
        # What the program installs itself.
        self.path = os.path.join(job["local_dir"], "python")
        # What the task and its cluster name.
        self._shelf = Shelf(os.path.join(job["env"]["UV_CACHE_DIR"], "sets"), os.path.join(job["local_dir"], ".python-library"))
        self._quiet = False
        self._offline = False

    def activate(self):
        """Its folder is there when something is in it."""
        folders = [self.path, *self._shelf.taken()]
        sys.path[:] = [*folders, *(path for path in sys.path if path not in folders)]
        # Programs started by the run see the same libraries.
        _put_first("PYTHONPATH", folders)
        _put_first("PATH", [os.path.join(folder, "bin") for folder in folders])

    def install(self, libraries):
        """Installs the libraries of the task. The names of modules that it came too late for."""
        args, eggs, facts, is_exact = [], set(), [], True
        for library in libraries:
            fact, names_versions = _facts(library)
            facts.append(fact)
            is_exact &= names_versions
            if library["type"] == "egg":
                needs, new = self._unpack(library["path"])
                args += needs
                eggs |= new
            elif library["type"] == "pypi":
                args.append(library["package"])
                if library["repo"]:
                    args += ["--index", library["repo"]]
            elif library["type"] == "whl":
                args.append(library["path"])
            else:
                args += ["-r", library["path"]]
        shadowed = set(self._shadowed(eggs))
        if args:
            # An error has to carry what the installer said; otherwise a run looks alike, whether its
            # libraries were there or not.
            self._quiet = True
            try:
                shadowed.update(self._take(args, facts, is_exact))
            finally:
                self._quiet = False
        return sorted(shadowed)

    def _take(self, args, facts, is_exact):
        """Has the run use the set of these packages, which is installed if no run had it before. What
        fits packages without a version is looked for anew each time."""
        wanted = None if is_exact else self._missing(args)
        if wanted == []:
            return []

        def install(draft):
            missing = self._missing(args) if wanted is None else wanted
            if missing:
                # Beside what was downloaded, so nothing is copied.
                self._pip(["install", "--link-mode", "hardlink", "--target", draft, "--no-deps", *_options(args), *missing])

        place = self._shelf.place(self._interpreter, facts, wanted)
        self._shelf.take(place, install)
        self.activate()
        importlib.invalidate_caches()
        return self._shadowed(os.listdir(place))

    def _unpack(self, path):
        """Puts the content of an egg into the layer. What it needs, and the names of its modules."""
        name = os.path.basename(path.rstrip("/")).removesuffix(".egg")
        with tempfile.TemporaryDirectory(dir=os.path.dirname(self.path)) as draft:
            with zipfile.ZipFile(path) as egg:
                egg.extractall(draft)
            facts = os.path.join(draft, "EGG-INFO")
            if not os.path.exists(os.path.join(facts, "PKG-INFO")):
                raise InstallError(f"{path} is not an egg: it has no EGG-INFO/PKG-INFO")
            needs = _requirements(os.path.join(facts, "requires.txt"))
            # Where `importlib.metadata` finds it.
            os.rename(facts, os.path.join(draft, f"{name}.egg-info"))
            entries = set(os.listdir(draft))
            shutil.copytree(draft, self.path, dirs_exist_ok=True)
        importlib.invalidate_caches()
        return needs, entries

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
        if not wanted and not self._quiet:
            print("All requirements are already satisfied.")
        return wanted

    def _shadowed(self, entries):
        own = (self.path, *self._shelf.taken())
        for entry in entries:
            module = sys.modules.get(entry.removesuffix(".py"))
            origin = getattr(module, "__file__", None) or ""
            if module is not None and not origin.startswith(own):
                yield entry.removesuffix(".py")

    def _pip(self, args):
        self._uv_run(args, capture=self._quiet)

    def _uv_run(self, args, capture):
        if not self._uv:
            raise InstallError("no libraries can be installed: this server has no uv")
        done = self._uv_call(args, capture)
        if done.returncode and capture and args[0] == "install" and any(word in done.stderr for word in _UNREACHABLE):
            # What was installed once is in the cache, whether or not the index can be reached now.
            self._offline = True
            cached = self._uv_call(args, capture)
            if cached.returncode:
                self._offline = False
            else:
                print("The package index cannot be reached: libraries come from the cache.", file=sys.stderr)
                done = cached
        if done.returncode:
            log = (done.stderr or "").strip().split("\n") if capture else []
            detail = "\n".join(log[-_LOG_LINES_MAX:]) or "see the output above"
            raise InstallError(f"uv ended with exit code {done.returncode}: {detail}")
        return (done.stdout or "") + (done.stderr or "") if capture else ""

    def _uv_call(self, args, capture):
        sys.stdout.flush()
        sys.stderr.flush()
        return subprocess.run(
            [self._uv, "pip", *args, *(["--offline"] if self._offline else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.PIPE if capture else None,
            text=True,
        )


def _facts(library):
    """What determines which files are installed, and whether that is all that does."""
    kind = library["type"]
    if kind == "pypi":
        return [kind, library["package"], library["repo"]], bool(_EXACT.match(library["package"]))
    if kind == "egg":
        return [kind, library["path"]], False
    with open(library["path"], "rb") as file:
        content = file.read()
    fact = [kind, os.path.basename(library["path"]), hashlib.sha256(content).hexdigest()]
    if kind == "whl":
        return fact, True
    lines = content.decode("utf-8", "replace").replace("\\\n", " ").splitlines()
    return fact, all(_EXACT.match(line) for line in (line.split("#")[0].strip() for line in lines) if line)


def _put_first(name, folders):
    """In a variable that lists folders."""
    others = [folder for folder in os.environ.get(name, "").split(os.pathsep) if folder and folder not in folders]
    os.environ[name] = os.pathsep.join([*folders, *others])


def _requirements(path):
    """Without those of extras, which follow in sections of their own."""
    try:
        with open(path) as file:
            lines = file.read().split("\n[", 1)[0].splitlines()
    except FileNotFoundError:
        return []
    return [line.strip() for line in lines if line.strip() and not line.startswith(("[", "#"))]


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
