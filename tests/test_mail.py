"""What is mailed to an owner, once, after the change: from the queue to a server that may be down."""

import contextlib
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.db.models import F
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.models import User
from console.outbox import Email
from tests.support import html
from tests.support.actions import ACTIONS, change_email, delete
from tests.support.certificates import Authority
from tests.support.person import PASSWORD
from tests.support.servers import ROOT, running
from tests.support.world import Enrolled, World, verified_client

pytestmark = pytest.mark.django_db


def ago(**age: int) -> datetime:
    return timezone.now() - timedelta(**age)


class MailServer(socketserver.TCPServer):
    """Takes mail for whoever is here."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self.taken: list[str] = []
        self.called, self.left, self.enough = threading.Event(), threading.Event(), threading.Event()


class MailSession(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, MailServer)
        self.wfile.write(b"220 here\r\n")
        self.converse()

    def converse(self) -> None:
        assert isinstance(self.server, MailServer)
        for line in self.rfile:
            words = line.decode().upper().split()
            if words[0] == "RCPT" and "GONE@" in words[1]:
                answer = b"550 nobody of that name"
            elif words[0] == "DATA":
                self.wfile.write(b"354 go on\r\n")
                text = list(iter(self.rfile.readline, b".\r\n"))
                self.server.taken += [part[4:].decode().strip() for part in text if part.startswith(b"To: ")]
                answer = b"250 taken"
            else:
                answer = b"221 bye" if words[0] == "QUIT" else b"250 good"
            self.wfile.write(answer + b"\r\n")


def fail_on(table: str, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if sql.startswith(f'UPDATE "{table}"'):
        raise DatabaseError("injected")
    return execute(sql, params, many, context)


@pytest.fixture(autouse=True)
def address(world: World) -> None:
    User.objects.filter(pk=world.owner.pk).update(email="owner@example.org")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Kind.KEY_VIEWED, "was viewed"),
        (Kind.KEY_DELETED, "was deleted"),
        (Kind.FACTOR_ADDED, "A factor was added to user owner: Authenticator app."),
        (Kind.SHOW_ONCE_ON, "are shown once. No copy is kept that can be viewed again."),
        (Kind.COPIES_DELETED, "can no longer be viewed.\nAPI keys: 1."),
        (Kind.PASSWORD_CHANGED, "The password of user owner was changed."),
        (Kind.RECOVERY_CODES_CREATED, "User owner has new recovery codes. The earlier codes no longer work."),
    ],
)
def test_the_owner_is_told(kind: Kind, says: str, world: World) -> None:
    ACTIONS[kind](world)
    assert not mail.outbox
    Email.objects.update(due_at=timezone.now())  # that of a second factor waits for others
    call_command("housekeep", "--once")
    told = [sent for sent in mail.outbox if says in sent.body]
    assert len(told) == 1 and told[0].to == ["owner@example.org"]
    assert "/activity/" in told[0].body and not Email.objects.exists()


def test_of_a_new_address_the_old_one_is_told_too(world: World) -> None:
    assert "owner@example.org" in world.browser.get("/security/email/").content.decode()
    assert change_email(world).status_code == 302
    call_command("housekeep", "--once")
    told = {sent.to[0]: sent.body for sent in mail.outbox}
    assert "The email of the account was changed.\nNew email: new@example.org." in told["owner@example.org"]
    assert told.keys() == {"owner@example.org", "new@example.org"}
    assert "are sent to new@example.org" in world.browser.get("/security/").content.decode()


def test_what_is_no_address_changes_nothing(world: World) -> None:
    data = {"email": "nonsense", "password": PASSWORD, "otp_token": world.code}
    answer = world.browser.post("/security/email/", data)
    assert answer.status_code == 422 and "Enter a valid email address." in answer.content.decode()
    longer = data | {"email": f"{'a' * 200}@{'b' * 60}.com"}  # than the column
    assert world.browser.post("/security/email/", longer).status_code == 422
    assert world.browser.post("/security/email/", data | {"email": "owner@example.org"}).status_code == 302
    assert not Entry.objects.filter(kind=Kind.EMAIL_CHANGED).exists() and not Email.objects.exists()


def test_without_an_address_the_owner_is_told_that_nobody_is(world: World) -> None:
    assert world.browser.post("/security/email/", {"password": PASSWORD, "otp_token": world.code}).status_code == 302
    assert "You are not notified" in world.browser.get("/security/").content.decode()
    delete(world)
    assert not Email.objects.exclude(to="owner@example.org").exists()


def test_a_ram_user_has_no_say_in_it(ram_user: Enrolled) -> None:
    answer = verified_client(ram_user).get("/security/email/")
    assert answer.status_code == 403 and "Contact the owner of the root account owner" in answer.content.decode()


def test_a_lockout_is_told(world: World) -> None:
    for _ in range(11):
        Client().post("/login/", {"username": "owner", "password": "wrong"})
    call_command("housekeep", "--once")
    assert [sent.subject for sent in mail.outbox] == ["Log-on locked: owner"]


def test_a_change_that_failed_tells_nobody(world: World) -> None:
    world.browser.raise_request_exception = False
    with connection.execute_wrapper(lambda *words: fail_on("apikeys_apikey", *words)):
        answer = delete(world)
    assert answer.status_code == 503
    assert b"injected" not in answer.content and b"Traceback" not in answer.content and html.text(answer.content, "h1")
    assert not Email.objects.exists()


def test_two_senders_send_a_mail_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    delete(world)
    Email.objects.create(to="x@example.org", subject="x", body="x")
    monkeypatch.setattr(EmailMessage, "send", lambda mail: Email.objects.update(attempts=F("attempts") + 1))
    call_command("housekeep", "--once")
    assert Email.objects.count() == 1, "the other sender has that one"


def test_a_server_that_is_down_loses_nothing_and_blocks_nobody(
    world: World, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = (
        "console.smtp.EmailBackend",
        "127.0.0.1",
        1,
    )
    assert delete(world).status_code == 302
    Email.queue("owner@example.org", "Another", "")
    call_command("housekeep", "--once")
    assert Email.objects.get(subject="Another").attempts == 0, "while it is down it is asked once a round"
    Email.objects.get(subject="Another").delete()
    assert Email.objects.get().attempts == 1 and "mail server cannot be reached" in caplog.text
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    call_command("housekeep", "--once")
    assert not mail.outbox, "it waits before it is tried again"
    Email.objects.update(due_at="2020-01-01T00:00:00Z")
    call_command("housekeep", "--once")
    assert len(mail.outbox) == 1 and not Email.objects.exists()


def test_one_that_the_server_does_not_take_waits_and_holds_up_no_other(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    Email.objects.create(to="gone@example.org", subject="first", body="x")
    Email.objects.create(to="here@example.org", subject="second", body="x")
    with MailServer(("127.0.0.1", 0), MailSession) as server:
        threading.Thread(target=server.serve_forever).start()
        settings.EMAIL_BACKEND = "console.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
        call_command("housekeep", "--once")
        server.shutdown()
    waiting = Email.objects.get()
    assert (waiting.subject, waiting.attempts) == ("first", 1) and waiting.due_at > timezone.now()
    assert server.taken == ["here@example.org"] and "The mail server rejected an email" in caplog.text


class TestGivenUp:
    @pytest.fixture(autouse=True)
    def mail_server(self, settings: Settings) -> Iterator[None]:
        with MailServer(("127.0.0.1", 0), MailSession) as server:
            threading.Thread(target=server.serve_forever).start()
            settings.EMAIL_BACKEND = "console.smtp.EmailBackend"
            settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
            yield
            server.shutdown()

    def send(self, to: str, **age: int) -> None:
        """One that was written so long ago, and is due."""
        Email.objects.create(to=to, subject="API key viewed: owner", body="Text", created_at=ago(**age))
        call_command("housekeep", "--once")

    def test_one_that_the_server_does_not_take_for_days(self, caplog: pytest.LogCaptureFixture) -> None:
        self.send("gone@example.org", days=4)
        assert Email.objects.get().given_up_at is None and "which will be retried" in caplog.text
        Email.objects.update(created_at=ago(days=5), due_at=ago(hours=1))
        for _ in range(2):
            call_command("housekeep", "--once")
        email = Email.objects.get()
        assert (email.attempts, email.body) == (2, "") and email.given_up_at
        assert "550" in email.error and caplog.text.count("which was given up") == 1

    def test_it_is_shown_to_the_owner_until_one_arrives(self, world: World) -> None:
        def shown() -> bool:
            return "could not be delivered to gone@example.org" in world.browser.get("/security/").content.decode()

        User.objects.filter(pk=world.owner.pk).update(email="gone@example.org")
        self.send("gone@example.org", days=5)
        assert shown()
        User.objects.filter(pk=world.owner.pk).update(email="here@example.org")
        Email.objects.update(to="here@example.org")
        self.send("here@example.org", days=0)
        assert not shown() and not Email.objects.exists()

    def test_it_is_shown_to_operators_without_what_it_says(self, world: World) -> None:
        self.send("gone@example.org", days=5)
        self.send("gone@example.org", days=0)
        User.objects.filter(pk=world.owner.pk).update(is_staff=True)
        page = world.browser.get("/admin/console/email/").content
        assert len(html.select(page, "#result_list tbody tr")) == 2 and "550" in html.text(page, "#result_list")
        assert "Text" not in html.text(page, "#result_list")
        one = world.browser.get(f"/admin/console/email/{Email.objects.latest('pk').pk}/change/")
        assert one.status_code == 200 and "Text" not in html.text(one.content, "#content")

    def test_it_is_not_shown_forever(self) -> None:
        self.send("gone@example.org", days=5)
        Email.objects.update(given_up_at=ago(days=90))
        call_command("housekeep", "--once")
        assert not Email.objects.exists()


class TlsSession(MailSession):
    context: ssl.SSLContext

    def setup(self) -> None:
        self.request = self.context.wrap_socket(self.request, server_side=True)
        super().setup()


class StartTlsSession(MailSession):
    def handle(self) -> None:
        for line in (b"220 here\r\n", b"250-here\r\n250 STARTTLS\r\n", b"220 go on\r\n"):
            self.wfile.write(line)
            if not line.endswith(b"on\r\n"):
                self.rfile.readline()
        self.request = TlsSession.context.wrap_socket(self.request, server_side=True)
        self.setup()
        self.converse()


@pytest.mark.parametrize(("session", "scheme"), [(TlsSession, "ssl"), (StartTlsSession, "tls")])
def test_it_is_sent_over_tls(
    session: type[MailSession], scheme: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = Authority(tmp_path).issue("mail", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    TlsSession.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    TlsSession.context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    settings.EMAIL_BACKEND = "console.smtp.EmailBackend"
    settings.EMAIL_USE_SSL, settings.EMAIL_USE_TLS = scheme == "ssl", scheme == "tls"
    Email.objects.create(to="here@example.org", subject="first", body="x")
    with MailServer(("127.0.0.1", 0), session) as server:
        threading.Thread(target=server.serve_forever).start()
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
        call_command("housekeep", "--once")
        server.shutdown()
    assert server.taken == ["here@example.org"] and not Email.objects.exists()


class SlowSession(MailSession):
    """Says what a mail server says, but from a line of its choice on no line ends: a byte, and another, and another."""

    slow_from = 0
    disable_nagle_algorithm = True

    def handle(self) -> None:
        assert isinstance(self.server, MailServer)
        self.server.called.set()
        self.lines, self.wfile = 0, self  # type: ignore[assignment]
        with contextlib.suppress(OSError):
            super().handle()
        self.server.left.set()

    def write(self, line: bytes) -> None:
        assert isinstance(self.server, MailServer)
        self.lines += 1
        for _ in range(1000 if self.lines > self.slow_from else 0):
            self.connection.sendall(b"2")
            if self.server.enough.wait(0.05):
                break
        self.connection.sendall(line)

    def finish(self) -> None:
        """There is no file to close."""


@pytest.mark.parametrize("slow_from", [0, 1, 4, 5], ids=["greeting", "EHLO", "DATA", "taken"])
def test_a_server_that_says_a_byte_now_and_then_is_given_up(
    slow_from: int, settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlowSession, "slow_from", slow_from)
    settings.EMAIL_BACKEND, settings.EMAIL_CONVERSATION_SECONDS = "console.smtp.EmailBackend", 0.5
    Email.objects.create(to="first@example.org", subject="first", body="x")
    Email.objects.create(to="second@example.org", subject="second", body="x")
    with MailServer(("127.0.0.1", 0), SlowSession) as server:
        threading.Thread(target=server.serve_forever).start()
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
        call_command("housekeep", "--once")
        server.shutdown()
    assert "the conversation took longer than 0.5 s" in caplog.text
    assert [*Email.objects.order_by("pk").values_list("subject", "attempts")] == [("first", 1), ("second", 0)]
    assert Email.objects.get(subject="first").due_at > timezone.now(), "the other one is the next that is tried"


class EndlessSession(MailSession):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.connection.sendall(b"220-here\r\n" * 100)


class BrokenSession(MailSession):
    def handle(self) -> None:
        self.wfile.write(b"220 he")


@pytest.mark.parametrize(
    ("session", "why"),
    [(EndlessSession, "the conversation took longer than 0.5 s"), (BrokenSession, "Connection unexpectedly closed")],
)
def test_so_is_one_that_never_ends_a_reply(
    session: type[MailSession], why: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.EMAIL_BACKEND, settings.EMAIL_CONVERSATION_SECONDS = "console.smtp.EmailBackend", 0.5
    Email.objects.create(to="first@example.org", subject="first", body="x")
    with MailServer(("127.0.0.1", 0), session) as server:
        threading.Thread(target=server.serve_forever).start()
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address[:2]
        call_command("housekeep", "--once")
        server.shutdown()
    assert why in caplog.text and Email.objects.get().attempts == 1


QUEUE = "from console.outbox import Email; Email.queue('owner@example.org', 'Subject', 'Text')"
EXPIRED = """
import time
from console.sessions.store import Session
Session.objects.create(session_key="x", expire_date="2020-01-01T00:00Z")
while Session.objects.exists():
    time.sleep(0.1)
"""


@pytest.mark.once
def test_a_slow_server_holds_nothing_else_up(tmp_path: Path) -> None:
    with MailServer(("127.0.0.1", 0), SlowSession) as slow:
        threading.Thread(target=slow.serve_forever).start()
        with running(tmp_path / "data", EMAIL_URL=f"smtp://127.0.0.1:{slow.server_address[1]}") as server:

            def shell(code: str) -> None:
                command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", code]
                subprocess.run(command, cwd=ROOT, env=server.environment, check=True, timeout=25)

            shell(QUEUE)
            assert slow.called.wait(20)
            shell(EXPIRED)
            assert not slow.left.is_set(), "that conversation still goes on"
            slow.enough.set()
        slow.shutdown()


def test_a_command_can_name_the_address(db: None) -> None:
    call_command("createroot", "second", "--email", "second@example.org")
    assert User.objects.get(username="second").email == "second@example.org"
    with pytest.raises(CommandError, match="Enter a valid email address."):
        call_command("createroot", "third", "--email", "nonsense")
    assert not User.objects.filter(username="third").exists()
