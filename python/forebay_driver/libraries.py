"""Libraries of one run: a folder before all others on `sys.path`, filled by `uv`."""

import contextlib
import importlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile

from . import requirements
from .shelf import Shelf

_LOG_LINES_MAX = 60
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
        args, eggs, facts, pins = [], set(), [], set()
        for library in libraries:
            fact, own = requirements.facts(library)
            facts.append(fact)
            pins = None if pins is None or own is None else pins | own
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
                shadowed.update(self._take(args, facts, pins))
            finally:
                self._quiet = False
        return sorted(shadowed)

    def _take(self, args, facts, pins):
        """Has the run use the set of these packages, which is installed if no run had it before. What
        fits packages without a version (`pins` is `None`) is looked for anew each time."""
        wanted = self._missing(args, None) if pins is None else None
        if wanted == []:
            return []

        def install(draft):
            missing = self._missing(args, pins) if wanted is None else wanted
            if missing:
                # Beside what was downloaded, so nothing is copied.
                self._put(draft, args, missing, pins, "--link-mode", "hardlink")

        place = self._shelf.place(self._interpreter, requirements.indexes(), facts, wanted)
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
            needs = requirements.of_egg(os.path.join(facts, "requires.txt"))
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
                self._uv_run([*words, "--python", self._interpreter], capture=self._quiet)
            else:
                raise InstallError(f"%pip {words[0]} is not available; only install, list, show")
        return shadowed

    def _install(self, args):
        os.makedirs(self.path, exist_ok=True)
        before = set(os.listdir(self.path))
        pins = requirements.pins(args)
        # `--target` alone would install every dependency again; ask first what is missing.
        wanted = self._missing(args, pins)
        if wanted:
            self._put(self.path, args, wanted, pins)
        importlib.invalidate_caches()
        new = set(os.listdir(self.path)) - before
        return sorted(self._shadowed(new))

    def _missing(self, args, pins):
        """Exact requirements that the environment lacks, as resolved against it. `pins` of all arguments, or `None`:
        where nothing else is missing, an index has nothing to add to what is in the cache."""
        command = ["install", "--dry-run", "--python", self._interpreter, *args]
        plan = self._cached(command, pins)
        wanted = None if plan is None else list(requirements.planned(plan))
        if wanted is None or not requirements.are_given(wanted, pins):
            wanted = list(requirements.planned(self._uv_run(command, capture=True)))
        if not wanted and not self._quiet:
            print("All requirements are already satisfied.")
        return wanted

    def _put(self, folder, args, wanted, pins, *how):
        """Installs `wanted`, the plan of `args`. The installer reads `args` once more, for it alone knows what is in
        the files that they name: their hashes, which it has to check, and the indexes that they ask."""
        alone = () if "--no-deps" in args else ("--no-deps",)
        with tempfile.NamedTemporaryFile("w", prefix="plan-", suffix=".txt") as plan:
            plan.write(requirements.overrides(wanted))
            plan.flush()
            command = ["install", *how, "--target", folder, *alone, *args, "--override", plan.name, *wanted]
            said = self._cached(command, pins)
            if said is None:
                self._uv_run(command, capture=self._quiet)
            elif not self._quiet:
                print(said, end="", file=sys.stderr)

    def _cached(self, command, pins):
        """What the installer says when it has to do without an index; `None` if it cannot."""
        if not self._uv or self._offline or pins is None:
            return None
        command = requirements.from_cache(command)
        done = command and self._uv_call(command, capture=True)
        return done.stdout + done.stderr if done and done.returncode == 0 else None

    def _shadowed(self, entries):
        own = (self.path, *self._shelf.taken())
        for entry in entries:
            module = sys.modules.get(entry.removesuffix(".py"))
            origin = getattr(module, "__file__", None) or ""
            if module is not None and not origin.startswith(own):
                yield entry.removesuffix(".py")

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


def _put_first(name, folders):
    """In a variable that lists folders."""
    others = [folder for folder in os.environ.get(name, "").split(os.pathsep) if folder and folder not in folders]
    os.environ[name] = os.pathsep.join([*folders, *others])


def _commands(source):
    joined = source.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]
