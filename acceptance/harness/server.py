"""A running Forebay server with its own data folder and ports."""

import configparser
import os
import select
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from .api import Api

WORKSPACES = ("dev", "staging", "prod")


@dataclass(frozen=True)
class Profile:
    """One section of the `databrickscfg` that the server writes."""

    name: str
    host: str
    token: str


def binary():
    """The built server; a clear failure when it is not there."""
    chosen = os.environ.get("FOREBAY_BIN")
    path = Path(chosen) if chosen else target_dir() / "debug" / "forebay"
    assert path.is_file(), f"there is no server binary at {path}; run `./test acceptance`, or set FOREBAY_BIN"
    return path


def target_dir():
    if os.environ.get("CARGO_TARGET_DIR"):
        return Path(os.environ["CARGO_TARGET_DIR"])
    return cache_home() / "forebay" / "target"


def cache_home():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def free_ports(count=3):
    """The first of `count` neighbouring ports that nobody listens on."""
    for _ in range(200):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        if first + count < 65536 and all(is_free(first + step) for step in range(count)):
            return first
    raise AssertionError(f"no {count} neighbouring free ports found")


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Server:
    """Starts `forebay up` on a data folder; can be stopped, killed and started again on the same folder."""

    def __init__(self, folder, repo_roots=(), extra_args=(), env=None, prefix=(), environments=None):
        self.folder = Path(folder)
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        # Where its log lines go, if not there too.
        self.stderr = None
        self.repo_roots = [Path(root) for root in repo_roots]
        self.extra_args = list(extra_args)
        self.extra_env = dict(env or {})
        # Words before the command, such as `unshare -n`.
        self.prefix = list(prefix)
        # Test servers have their Python environments in common, unless told where else (or, with
        # `False`, to build their own).
        shared = cache_home() / "forebay" / "environments"
        self.environments = shared if environments is None else environments
        self.port = free_ports()
        self.process = None
        self.folder.mkdir(parents=True, exist_ok=True)

    # --- life ---

    def command(self):
        words = [*self.prefix, str(binary()), "up", "--data", str(self.data), "--port", str(self.port)]
        for root in self.repo_roots:
            words += ["--repo-root", str(root)]
        return words + self.extra_args

    def env(self):
        """A small environment: what the person at the keyboard has set must not leak into the tests."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "XDG_CACHE_HOME": str(cache_home())}
        if self.environments:
            own["FOREBAY_ENVIRONMENTS"] = str(self.environments)
        return {**kept, **own, **self.extra_env}

    def start(self, timeout=60):
        assert self.process is None, "this server is running already"
        with self.log.open("ab") as log, (self.stderr or self.log).open("ab") as errors:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=errors, env=self.env(), start_new_session=True
            )
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout):
        deadline = time.monotonic() + timeout
        waiting = [f"http://127.0.0.1:{self.port + step}/healthz" for step in range(len(WORKSPACES))]
        while waiting:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode} at start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer from {waiting} after {timeout} s:\n{self.log_tail()}")
            if answers(waiting[0]):
                waiting.pop(0)
            else:
                time.sleep(0.02)

    def stop(self, timeout=30):
        """Asks the server to end, as Ctrl-C or a service manager does, and returns its exit status."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not stop within {timeout} s of SIGTERM:\n{self.log_tail()}") from None

    def kill(self):
        """Takes the server away without warning; nothing it started is touched."""
        process, self.process = self.process, None
        process.send_signal(signal.SIGKILL)
        process.wait()

    def runner(self):
        """The process that executes the runs, which outlives a killed server; `None` when there is none."""
        try:
            pid = int((self.data / "runner" / "lock").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if b"runner" in command and str(self.data).encode() in command else None

    def kill_runner(self):
        pid = self.runner()
        if pid is not None:
            watch = os.pidfd_open(pid)
            signal.pidfd_send_signal(watch, signal.SIGKILL)
            # Readable when it has ended.
            select.select([watch], [], [], 10)
            os.close(watch)
        return pid

    def close(self):
        """Ends the server and its runner, whichever of them is there; nothing writes to the folder after it."""
        try:
            if self.alive():
                self.stop()
        finally:
            self.kill_runner()

    def log_tail(self, lines=60):
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def alive(self):
        return self.process is not None and self.process.poll() is None

    # --- clients ---

    @property
    def config_file(self):
        return self.data / "databrickscfg"

    def profile(self, name="dev"):
        parser = configparser.ConfigParser()
        assert parser.read(self.config_file), f"the server wrote no {self.config_file}"
        return Profile(name, parser[name]["host"].rstrip("/"), parser[name]["token"])

    def direct(self, name="dev"):
        """The workspace's own port; the profile may name another address of the same workspace."""
        return f"http://127.0.0.1:{self.port + WORKSPACES.index(name)}"

    def api(self, name="dev", token=None):
        return Api(self.direct(name), token or self.profile(name).token)

    def sdk(self, name="dev", token=None):
        # Only here, so that the benchmarks can use this file without the SDK.
        from databricks.sdk import WorkspaceClient

        profile = self.profile(name)
        return WorkspaceClient(host=profile.host, token=token or profile.token, auth_type="pat")

    def client_env(self, name="dev", token=None):
        """The environment of an outside program: host and token, and no file that could help it."""
        profile = self.profile(name)
        env = {key: os.environ[key] for key in KEPT_VARIABLES if key in os.environ}
        env["HOME"] = str(self.folder / "home")
        env["DATABRICKS_HOST"] = profile.host
        env["DATABRICKS_TOKEN"] = token or profile.token
        if urlsplit(profile.host).port:
            # The legacy CLI forgets the port of its host. Where the server could not listen on port 80,
            # a proxy setting brings its requests to the right place.
            env["http_proxy"] = self.direct(name)
        return env


# Servers that are alive now, so that a failed test can show their logs.
RUNNING = []


def run_server(folder, **options):
    """Starts a server and yields it; the caller's end is its end."""
    server = Server(folder, **options)
    RUNNING.append(server)
    try:
        yield server.start()
    finally:
        RUNNING.remove(server)
        server.close()


KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONDONTWRITEBYTECODE",
    "FOREBAY_CACHE",
    # Where this machine gets its packages from: the server builds environments with the same settings.
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "PIP_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_NATIVE_TLS",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
)


def answers(url):
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=2).status_code == 200
    except requests.RequestException:
        return False
