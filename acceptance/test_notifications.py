"""Notifications through the SDK: a webhook that checks its signature, and mail through a real SMTP server."""

import hashlib
import hmac
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from databricks.sdk.errors import NotImplemented as NotThere
from databricks.sdk.service import jobs, settings, workspace

from harness.mail import mail_server
from harness.server import run_server
from harness.wait import until


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def hook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@contextmanager
def configured(tmp_path, text, **options):
    config = tmp_path / "forebay.toml"
    config.write_text(text)
    yield from run_server(tmp_path / "server", extra_args=["--config", str(config)], **options)


def failing_job(w, **more):
    w.workspace.upload(
        "/Shared/fails", b"raise ValueError('no')\n", format=workspace.ImportFormat.SOURCE, language=workspace.Language.PYTHON
    )
    task = jobs.Task(task_key="t", notebook_task=jobs.NotebookTask(notebook_path="/Shared/fails"))
    return w.jobs.create(name="nightly", tasks=[task], **more).job_id


def test_a_webhook_gets_databricks_body_and_a_signature_that_holds(tmp_path, hook):
    with configured(tmp_path, '[notifications]\nallow_addresses = ["127.0.0.1"]\n') as server:
        w = server.sdk()
        url = f"http://127.0.0.1:{hook.server_address[1]}/hook"
        config = settings.Config(generic_webhook=settings.GenericWebhookConfig(url=url))
        made = w.notification_destinations.create(display_name="hook", config=config)
        assert made.destination_type == settings.DestinationType.WEBHOOK
        assert made.config.generic_webhook.url is None and made.config.generic_webhook.url_set
        assert [d.id for d in w.notification_destinations.list()] == [made.id]
        renamed = w.notification_destinations.update(made.id, display_name="other")
        assert renamed.display_name == w.notification_destinations.get(made.id).display_name == "other"

        told = jobs.WebhookNotifications(on_failure=[jobs.Webhook(id=made.id)])
        job = failing_job(w, webhook_notifications=told)
        run = w.jobs.run_now(job).run_id
        until("a notification", lambda: hook.seen, timeout=60)
        headers, body = hook.seen[0]
        event = json.loads(body)
        assert event["event_type"] == "jobs.on_failure"
        assert event["workspace_id"] == str(w.get_workspace_id())
        assert event["run"] == {"run_id": str(run)}
        assert event["job"] == {"job_id": str(job), "name": "nightly"}

        api = server.api()
        key = api.get(f"/api/forebay/v1/notification-destinations/{made.id}/signing-key")["signing_key"]
        parts = dict(part.split("=", 1) for part in headers["X-Forebay-Signature"].split(","))
        signed = f"{parts['t']}.".encode() + body
        assert hmac.compare_digest(parts["v1"], hmac.new(key.encode(), signed, hashlib.sha256).hexdigest())
        deliveries = api.get(f"/api/forebay/v1/runs/{run}/notifications")["notifications"]
        assert [d["id"] for d in deliveries] == [headers["X-Forebay-Delivery"]]
        api.post(f"/api/forebay/v1/notifications/{deliveries[0]['id']}/redeliver", {})
        until("the same notification again", lambda: len(hook.seen) == 2)
        assert hook.seen[1][1] == body
        w.notification_destinations.delete(made.id)


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_mail_goes_out_when_there_is_a_mail_server(tmp_path, security):
    with (
        mail_server(tmp_path, security) as mailbox,
        configured(tmp_path, mailbox.config(), env={"SSL_CERT_FILE": str(mailbox.certificate)}) as server,
    ):
        w = server.sdk()
        told = jobs.JobEmailNotifications(on_failure=["ann@example.com"])
        w.jobs.run_now(failing_job(w, email_notifications=told))
        until("a mail", lambda: mailbox.mails, timeout=60)
        mail = mailbox.mails[0]
        assert "To: ann@example.com" in mail
        assert "Subject: The run nightly failed" in mail
        assert "/jobs/" in mail and "Message-ID: <" in mail


def test_a_mail_server_that_nobody_vouches_for_is_told_nothing(tmp_path):
    with mail_server(tmp_path, "starttls") as mailbox, configured(tmp_path, mailbox.config()) as server:
        w = server.sdk()
        told = jobs.JobEmailNotifications(on_failure=["ann@example.com"])
        run = w.jobs.run_now(failing_job(w, email_notifications=told)).run_id

        def tried():
            found = server.api().get(f"/api/forebay/v1/runs/{run}/notifications")["notifications"]
            return found[0] if found and found[0]["tries"] else None

        first = until("a first try", tried, timeout=60)
        assert "certificate" in first["error"].lower(), first
        assert first["state"] == "due" and not mailbox.mails


def test_mail_is_refused_by_name_without_a_mail_server(tmp_path):
    with configured(tmp_path, "") as server, pytest.raises(NotThere, match=r"\[smtp\]"):
        failing_job(server.sdk(), email_notifications=jobs.JobEmailNotifications(on_failure=["ann@example.com"]))


def test_a_closed_port_is_shown_with_its_next_try(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with configured(tmp_path, '[notifications]\nallow_addresses = ["127.0.0.1"]\n') as server:
        w = server.sdk()
        config = settings.Config(slack=settings.SlackConfig(url=f"http://127.0.0.1:{port}/secret-path"))
        made = w.notification_destinations.create(display_name="slack", config=config)
        job = failing_job(w, webhook_notifications=jobs.WebhookNotifications(on_failure=[jobs.Webhook(id=made.id)]))
        run = w.jobs.run_now(job).run_id
        api = server.api()

        def tried():
            found = api.get(f"/api/forebay/v1/runs/{run}/notifications")["notifications"]
            return found[0] if found and found[0]["tries"] else None

        first = until("a first try", tried, timeout=60)
        assert first["state"] == "due" and first["next_try_at"] > first["tried_at"]
        assert "secret-path" not in first["error"]
