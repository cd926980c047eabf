"""Real Git servers on the loopback address: HTTP through `git http-backend`, and SSH through Debian's sshd."""

import base64
import http.server
import os
import pwd
import subprocess
import threading
from pathlib import Path

from . import wait
from .server import free_ports

IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada Author",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada Author",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
}


def git(folder, *args):
    done = subprocess.run(["git", *args], cwd=folder, env={**os.environ, **IDENTITY}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


class Origin:
    """A bare repository and a working copy that pushes to it."""

    def __init__(self, root, name):
        self.bare = Path(root) / f"{name}.git"
        self.work = Path(root) / f"{name}.work"
        git(root, "init", "--quiet", "--bare", "--initial-branch=main", str(self.bare))
        git(root, "init", "--quiet", "--initial-branch=main", str(self.work))
        git(self.work, "remote", "add", "origin", str(self.bare))
        git(self.bare, "config", "http.receivepack", "false")

    def commit(self, files, branch="main", message="a change", tag=None):
        """Writes `files` (path -> text or bytes), commits, pushes and returns the commit id."""
        if git(self.work, "branch", "--list", branch):
            git(self.work, "checkout", "--quiet", branch)
        elif git(self.work, "rev-list", "-n", "1", "--all"):
            git(self.work, "checkout", "--quiet", "-b", branch)
        for path, content in files.items():
            target = self.work / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        git(self.work, "add", "--all")
        git(self.work, "commit", "--quiet", "--message", message)
        git(self.work, "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        if tag:
            git(self.work, "tag", tag)
            git(self.work, "push", "--quiet", "origin", tag)
        return git(self.work, "rev-parse", "HEAD")


class HttpGit:
    """Serves the bare repositories below a folder; those below `private/` want a user and a password."""

    def __init__(self, root, user="ada", password="secret-word"):
        self.root, self.user, self.password = Path(root), user, password
        self.seen = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def allows(self, path, header):
        if not path.startswith("/private/"):
            return True
        return header == "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def handler(outer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.serve()

            def do_POST(self):
                self.serve()

            def serve(self):
                outer.seen.append((self.command, self.path))
                path, _, query = self.path.partition("?")
                if not outer.allows(path, self.headers.get("Authorization")):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.end_headers()
                    return
                body = self.body()
                env = {
                    **os.environ,
                    **IDENTITY,
                    "GIT_PROJECT_ROOT": str(outer.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "REQUEST_METHOD": self.command,
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "CONTENT_LENGTH": str(len(body)),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                    "REMOTE_ADDR": "127.0.0.1",
                }
                done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
                self.answer(done.stdout)

            def body(self):
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    return b"".join(iter(self.chunk, b""))
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def chunk(self):
                data = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
                self.rfile.readline()
                return data

            def answer(self, output):
                head, _, content = output.partition(b"\r\n\r\n")
                headers = [line.decode().split(": ", 1) for line in head.split(b"\r\n") if b": " in line]
                status = next((value for name, value in headers if name.lower() == "status"), "200 OK")
                self.send_response(int(status.split()[0]))
                for name, value in headers:
                    if name.lower() != "status":
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        return Handler


class SshGit:
    """An SSH server for the user who runs the tests, with keys and settings of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.port = free_ports(1)
        self.key = self.folder / "client"
        self.known_hosts = self.folder / "known_hosts"
        for name in ("client", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)], check=True)
        (self.folder / "authorized").write_text((self.folder / "client.pub").read_text())
        host_key = (self.folder / "host.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}")
        config = self.folder / "sshd_config"
        config.write_text(SSHD_CONFIG.format(folder=self.folder, port=self.port))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.log = self.folder / "sshd.log"
        self.process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(config), "-E", str(self.log)])
        wait.until("sshd to listen", self.listens)
        self.user = pwd.getpwuid(os.geteuid()).pw_name

    def listens(self):
        import socket

        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True

    def url(self, path):
        return f"ssh://{self.user}@127.0.0.1:{self.port}{path}"

    def client_env(self):
        """What the server's environment needs so that its `ssh` uses our key and knows the host."""
        return {
            "GIT_SSH_COMMAND": f"ssh -F /dev/null -i {self.key} -o IdentitiesOnly=yes "
            f"-o UserKnownHostsFile={self.known_hosts} -o BatchMode=yes"
        }

    def close(self):
        self.process.terminate()
        self.process.wait()


SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
"""
