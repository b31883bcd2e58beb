"""Email, queued in the database until a mail server has accepted it: a server that is down loses no email and delays no
request."""

import logging
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPResponseException

from django.core.mail import EmailMessage
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

logger = logging.getLogger(__name__)

FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(hours=1)
BATCH = 100


class Email(models.Model):
    """A message to be sent."""

    to = models.EmailField(editable=False)
    subject = models.CharField(max_length=200, editable=False)
    body = models.TextField(editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    due_at = models.DateTimeField(default=timezone.now, editable=False)

    @classmethod
    def queue(cls, to: str, subject: str, body: str) -> None:
        """Send it once the transaction at hand has committed; not at all where `to` is empty."""
        if to:
            cls.objects.create(to=to, subject=subject, body=body)


def send_due() -> int:
    """Send the due messages, and return how many were sent. A message that the server rejects is retried, after twice
    as long each time, up to an hour."""
    sent = 0
    now = timezone.now()
    due = Q(due_at__lte=now) | Q(due_at__gt=now + LONGEST_WAIT)  # the latter: dated by a clock that was ahead
    for email in Email.objects.filter(due).order_by("due_at")[:BATCH]:
        # Claimed before it is sent, without holding a lock meanwhile: two senders do not send it twice, and if one is
        # killed at that moment it is sent again later.
        wait = min(FIRST_WAIT * 2 ** min(email.attempts, 10), LONGEST_WAIT)
        claimed = Email.objects.filter(pk=email.pk, attempts=email.attempts)
        if not claimed.update(attempts=F("attempts") + 1, due_at=timezone.now() + wait):
            continue
        try:
            EmailMessage(email.subject, email.body, to=[email.to]).send()
        except (SMTPRecipientsRefused, SMTPResponseException, ValueError) as error:  # this message or its recipient
            logger.warning("The mail server rejected an email, which will be retried: %s", error)
            continue
        except OSError as error:
            logger.warning("Email will be retried: the mail server cannot be reached: %s", error)
            break
        email.delete()
        sent += 1
    return sent
