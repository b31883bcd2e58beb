"""Email, queued in the database until a mail server has accepted it: a server that is down loses no email and delays no
request."""

import logging
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPResponseException

from django.core.mail import EmailMessage
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Concat
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

logger = logging.getLogger(__name__)

FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=5)  # RFC 5321, 4.5.4.1
SHOWN = timedelta(days=90)  # of what was given up
BATCH = 100
BETWEEN = "\n\n----\n\n"  # messages that are sent together


class Email(models.Model):
    """A message to be sent, or one that was given up because the mail server rejected it for days."""

    to = models.EmailField(_("to"), editable=False)
    subject = models.CharField(_("subject"), max_length=200, editable=False)
    body = models.TextField(editable=False)  # "" once it was given up
    attempts = models.PositiveIntegerField(_("attempts"), default=0, editable=False)
    created_at = models.DateTimeField(_("created"), default=timezone.now, editable=False)
    due_at = models.DateTimeField(default=timezone.now, editable=False)
    given_up_at = models.DateTimeField(_("given up"), null=True, editable=False)
    error = models.CharField(_("the mail server’s answer"), max_length=200, editable=False)

    class Meta:
        verbose_name = _("undelivered email")
        verbose_name_plural = _("undelivered email")

    @classmethod
    def queue(cls, to: str, subject: str, body: str, *, later: timedelta = timedelta(0)) -> None:
        """Send it once the transaction at hand has committed; not at all where `to` is empty. With `later`, send it
        that much later, together with what is queued until then to the same recipient under the same subject."""
        if not to:
            return
        now = timezone.now()
        waiting = cls.objects.filter(to=to, subject=subject, attempts=0, due_at__gt=now, due_at__lte=now + later)
        if not (later and waiting.update(body=Concat("body", Value(f"{BETWEEN}{body}")))):
            cls.objects.create(to=to, subject=subject, body=body, due_at=now + later)

    @classmethod
    def given_up(cls, to: str) -> "Email | None":
        """The last one to that address, unless another has been delivered there since."""
        return cls.objects.filter(to=to, given_up_at__isnull=False).order_by("-given_up_at").first()

    def note_rejection(self, error: Exception) -> None:
        self.error = str(error)[:200]
        if self.created_at <= timezone.now() - GIVE_UP_AFTER:
            self.given_up_at, self.body = timezone.now(), ""
        self.save(update_fields=["error", "given_up_at", "body"])

    def note_delivery(self) -> None:
        Email.objects.filter(to=self.to, given_up_at__isnull=False).delete()
        self.delete()


def send_due() -> int:
    """Send the due messages, and return how many were sent. A message that the server rejects is retried, after twice
    as long each time, up to an hour; after days of that it is given up."""
    sent = 0
    now = timezone.now()
    due = Q(due_at__lte=now) | Q(due_at__gt=now + LONGEST_WAIT)  # the latter: dated by a clock that was ahead
    for email in Email.objects.filter(due, given_up_at=None).order_by("due_at")[:BATCH]:
        # Claimed before it is sent, without holding a lock meanwhile: two senders do not send it twice, and if one is
        # killed at that moment it is sent again later.
        wait = min(FIRST_WAIT * 2 ** min(email.attempts, 10), LONGEST_WAIT)
        claimed = Email.objects.filter(pk=email.pk, attempts=email.attempts)
        if not claimed.update(attempts=F("attempts") + 1, due_at=timezone.now() + wait):
            continue
        email.refresh_from_db(fields=["body"])  # of one that is claimed, nothing is added any more
        try:
            EmailMessage(email.subject, email.body, to=[email.to]).send()
        except (SMTPRecipientsRefused, SMTPResponseException, ValueError) as error:  # this message or its recipient
            email.note_rejection(error)
            what = "was given up" if email.given_up_at else "will be retried"
            logger.warning("The mail server rejected an email, which %s: %s", what, error)
            continue
        except OSError as error:
            logger.warning("Email will be retried: the mail server cannot be reached: %s", error)
            break
        email.note_delivery()
        sent += 1
    return sent


def forget_given_up() -> None:
    Email.objects.filter(given_up_at__lte=timezone.now() - SHOWN).delete()
