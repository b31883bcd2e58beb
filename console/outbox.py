"""Mail to owners, kept in the database until a mail server has taken it: one that is down loses nothing and blocks
nobody."""

import logging
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPResponseException
from typing import TYPE_CHECKING

from django.core.mail import EmailMessage
from django.db import models
from django.db.models import F
from django.utils import timezone

if TYPE_CHECKING:
    from console.models import User

logger = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(hours=1)


class Mail(models.Model):
    """One that waits to be sent."""

    to = models.EmailField(editable=False)
    subject = models.CharField(max_length=200, editable=False)
    body = models.TextField(editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    due_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "mail"

    @classmethod
    def queue(cls, user: "User", subject: str, body: str) -> None:
        """Send it once the transaction under way is committed; to nobody where the user has no address."""
        if user.email:
            cls.objects.create(to=user.email, subject=subject, body=body)


def send_due() -> int:
    """Send what is due; how many were. One that the server does not take waits, longer each time, up to an hour."""
    sent = 0
    for mail in Mail.objects.filter(due_at__lte=timezone.now()).order_by("due_at")[:100]:
        # Claimed before it is sent and without holding a lock meanwhile: two senders do not send it twice, and one that
        # is killed at that moment sends it again later.
        wait = min(timedelta(seconds=15) * 2 ** min(mail.attempts, 10), LONGEST_WAIT)
        claimed = Mail.objects.filter(pk=mail.pk, attempts=mail.attempts)
        if not claimed.update(attempts=F("attempts") + 1, due_at=timezone.now() + wait):
            continue
        try:
            EmailMessage(mail.subject, mail.body, to=[mail.to]).send()
        except (SMTPRecipientsRefused, SMTPResponseException, ValueError) as error:  # this one, or its address
            logger.warning("A mail waits, the mail server does not take it: %s", error)
            continue
        except OSError as error:
            logger.warning("Mail waits, the mail server cannot be reached: %s", error)
            break
        mail.delete()
        sent += 1
    return sent
