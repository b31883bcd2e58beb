"""SMTP with a time limit for the whole conversation. A socket's timeout starts again with every byte: a mail server
that sends one now and then would never time out."""

import smtplib
import socket
import time
from typing import Any

from django.conf import settings
from django.core.mail.backends import smtp


class Replies:
    """A server's lines, until the deadline: what smtplib reads instead of the socket's file."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock, self.deadline, self.received = sock, deadline, b""

    def readline(self, limit: int) -> bytes:
        """A line of at most `limit` bytes, less where the connection ended. Raises TimeoutError."""
        while b"\n" not in self.received and len(self.received) < limit:
            data = self.receive(limit)
            if not data:
                break
            self.received += data
        end = min(self.received.find(b"\n") + 1 or len(self.received), limit)
        line, self.received = self.received[:end], self.received[end:]
        return line

    def receive(self, limit: int) -> bytes:
        left = self.deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            return self.sock.recv(limit)
        except TimeoutError:
            message = f"the conversation took longer than {settings.EMAIL_CONVERSATION_SECONDS} s"
            raise TimeoutError(message) from None

    def close(self) -> None:
        """The socket's owner closes it."""


class Limited(smtplib.SMTP):
    file: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.deadline = time.monotonic() + settings.EMAIL_CONVERSATION_SECONDS
        super().__init__(*args, **kwargs)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None:
            assert self.sock is not None  # smtplib has connected it
            self.file = Replies(self.sock, self.deadline)
        return super().getreply()


class LimitedTls(Limited, smtplib.SMTP_SSL):
    pass


class EmailBackend(smtp.EmailBackend):
    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return LimitedTls if self.use_ssl else Limited
