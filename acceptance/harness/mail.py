"""A mail server that keeps what it is given: plain, after STARTTLS, or by TLS from the first byte."""

import base64
import contextlib
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path

USER, PASSWORD = "forebay", "a secret"


class Session(socketserver.StreamRequestHandler):
    """As much of SMTP as one mail needs."""

    def setup(self):
        self.secure = self.server.security == "tls"
        if self.secure:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self):
        self.say("220 test")
        self.known = False
        while line := self.rfile.readline():
            verb, *words = line.decode().split() or [""]
            if verb.upper() == "QUIT":
                self.say("221 bye")
                return
            getattr(self, "do_" + verb.upper(), self.do_any)(words)

    def do_any(self, _words):
        self.say("250 well" if self.is_open() else "530 first sign in, over TLS")

    def do_EHLO(self, _words):
        self.say("250-test")
        if self.server.security == "starttls" and not self.secure:
            self.say("250-STARTTLS")
        self.say("250 AUTH PLAIN" if self.secure else "250 8BITMIME")

    def do_STARTTLS(self, _words):
        self.say("220 go on")
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
        self.secure = True

    def do_AUTH(self, words):
        given = base64.b64decode(words[1]).decode().split("\0")[1:]
        self.known = given == [USER, PASSWORD]
        self.say("235 welcome" if self.known else "535 no")

    def do_DATA(self, words):
        if not self.is_open():
            return self.do_any(words)
        self.say("354 go on")
        mail = b""
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            mail += line
        self.server.mails.append(mail.decode())
        return self.say("250 taken")

    def is_open(self):
        return self.server.security == "none" or (self.secure and self.known)

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")


class MailServer(socketserver.ThreadingTCPServer):
    """Listens on `port`; `mails` are those it was given."""

    daemon_threads = True

    def __init__(self, folder, security):
        super().__init__(("127.0.0.1", 0), Session)
        self.port, self.security, self.mails = self.server_address[1], security, []
        self.certificate, key = Path(folder) / "mail.pem", Path(folder) / "mail.key"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        words += ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
        words += ["-keyout", key, "-out", self.certificate]
        subprocess.run(words, check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate, key)

    def handle_error(self, request, client_address):
        """A client that hangs up is its own affair."""

    def config(self):
        """Its section of `forebay.toml`."""
        text = f'[smtp]\nhost = "localhost"\nport = {self.port}\nfrom = "forebay@example.com"\nsecurity = "{self.security}"\n'
        return text if self.security == "none" else text + f'username = "{USER}"\npassword = "{PASSWORD}"\n'


@contextlib.contextmanager
def mail_server(folder, security):
    with MailServer(folder, security) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
