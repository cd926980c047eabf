"""HTTPS in front of a server, as a reverse proxy gives it: some clients refuse anything else."""

import http.client
import http.server
import socket
import socketserver
import ssl
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

HOST = "forebay.test"


class HttpsProxy:
    """Ends TLS and passes requests on. Clients reach it as https://forebay.test through the proxy setting in `client_env`."""

    def __init__(self, folder, target):
        self.folder, self.target = Path(folder), urlsplit(target).netloc
        self.folder.mkdir(parents=True)
        self.certificate = self.folder / "certificate.pem"
        self.key = self.folder / "key.pem"
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
        subprocess.run(
            [*words, "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", self.key, "-out", self.certificate],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), forwarder(self.target))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        # The client believes that it speaks to port 443 of the host; this takes it to ours.
        self.tunnel = socketserver.ThreadingTCPServer(("127.0.0.1", 0), tunneller(self.server.server_address))
        self.tunnel.daemon_threads = True
        for server in (self.server, self.tunnel):
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def client_env(self):
        return {
            "DATABRICKS_HOST": f"https://{HOST}",
            "https_proxy": f"http://127.0.0.1:{self.tunnel.server_address[1]}",
            "REQUESTS_CA_BUNDLE": str(self.certificate),
        }

    def close(self):
        for server in (self.server, self.tunnel):
            server.shutdown()
            server.server_close()


def forwarder(target):
    class Forwarder(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def forward(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(target, timeout=120)
            connection.request(
                self.command, self.path, body, {name: value for name, value in self.headers.items() if name.lower() != "host"}
            )
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

    return Forwarder


def tunneller(address):
    class Tunneller(socketserver.StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            with socket.create_connection(address) as upstream:
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=pump, args=(upstream, self.connection), daemon=True)
                back.start()
                pump(self.connection, upstream)
                back.join()

    return Tunneller


def pump(source, target):
    """Bytes from one socket to another until either ends."""
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
