"""Recovery links: how a user whose factors or password are lost gets back in. One proof is left, and is asked for: who
lost the factors enters the password, who lost the password a code. So an operator, who creates the link, cannot become
somebody, nor can whoever else has only one of the two. Where both are lost, `manage.py breakglass` is what remains."""

import secrets
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from django.conf import settings
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.accounts import User, lock
from console.factors.models import Authenticator, RecoveryCodes, delete_in_order
from console.ledger.kinds import Kind
from console.ledger.notices import body
from console.ledger.record import record
from console.outbox import Email
from console.sessions.store import Session, digest_of

VALID = timedelta(hours=24)


class Lost(StrEnum):
    FACTORS = "factors"
    PASSWORD = "password"
    BOTH = "both"  # at the command line alone


NOTICES = {
    Lost.FACTORS: gettext_lazy(
        "A link was created with which user %(user)s can enroll a new authenticator app, after entering the password."
    ),
    Lost.PASSWORD: gettext_lazy(
        "A link was created with which user %(user)s can set a new password, after entering a security code."
    ),
    Lost.BOTH: gettext_lazy(
        "A link was created at the command line with which user %(user)s can set a new password and enroll a new "
        "authenticator app. It asks for nothing else."
    ),
}


class Recovery(models.Model):
    """A link that can still be used, once. A user has at most one: another ends the one before, and so does an
    invitation. It ends with any complete log-on, which proves that nothing is lost."""

    user = models.OneToOneField(User, models.CASCADE, primary_key=True, editable=False)
    lost = models.CharField(max_length=16, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)  # of the link's token
    cancel_digest = models.CharField(max_length=64, unique=True, editable=False)  # of the token that cancels it
    usable_at = models.DateTimeField(editable=False)

    @classmethod
    def begin(cls, user: User, lost: Lost) -> tuple[str, datetime]:
        """A new link, and when it can first be used. Where the account has an email, that is after
        settings.RECOVERY_DELAY: whoever reads it can cancel the link until then. Where it has none, nobody could, and a
        delay would only keep the owner waiting; nor is there one at the command line, whose user can do anything."""
        token, cancel_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        with transaction.atomic():
            account = lock(user.root)
            delay = settings.RECOVERY_DELAY if account.email and lost is not Lost.BOTH else timedelta(0)
            usable_at = timezone.now() + delay
            fields = {"digest": digest_of(token), "cancel_digest": digest_of(cancel_token), "usable_at": usable_at}
            cls.objects.update_or_create(user=user, defaults={"lost": lost, **fields})
            User.objects.filter(pk=user.pk).update(invited_at=timezone.now())  # an unused invitation ends
            kind = Kind.BREAK_GLASS if lost is Lost.BOTH else Kind.RECOVERY_CREATED
            record(kind, user, user=user.username, reason=lost.value, usable=f"{usable_at:%Y-%m-%d %H:%M}")
            entry = account.ledger.latest("number")
            cancel = _("Unless you expected this, cancel the link: %s") % link("console:cancel-recovery", cancel_token)
            Email.queue(
                account.email, f"{kind.label}: {account.username}", f"{cancel}\n\n{body(entry, str(NOTICES[lost]))}"
            )
        return link("console:recovery", token), usable_at

    @classmethod
    def found(cls, **which: object) -> Self | None:
        """Unless it has expired."""
        unexpired = cls.objects.filter(usable_at__gt=timezone.now() - VALID)
        return unexpired.select_related("user__account").filter(**which).first()

    @property
    def is_usable(self) -> bool:
        return self.usable_at <= timezone.now()

    def cancel(self, reason: str) -> None:
        with transaction.atomic():
            if self.spend():
                record(Kind.RECOVERY_CANCELLED, self.user, user=self.user.username, reason=reason)

    def spend(self) -> bool:
        """Whether it was still there: used once, or cancelled, it is not."""
        with transaction.atomic():
            lock(self.user.root)
            return bool(Recovery.objects.filter(digest=self.digest).delete()[0])

    def set_password(self, password: str) -> bool:
        """Use it, which ends all sessions and, where the factors are lost too, removes them. False where it was not
        there any more."""
        user = self.user
        with transaction.atomic():
            if not self.spend():
                return False
            if self.lost == Lost.BOTH:
                delete_in_order(Authenticator.objects.filter(user=user))
                delete_in_order(RecoveryCodes.objects.filter(user=user))
                record(Kind.FACTOR_REMOVED, user, user=user.username, reason="break_glass")
            record(Kind.PASSWORD_CHANGED, user, user=user.username, reason="recovery")
            user.set_password(password)
            user.must_change_password = False
            user.save(update_fields=["password", "must_change_password"])
            Session.objects.filter(user=user).delete()
        return True


def link(name: str, token: str) -> str:
    return f"{settings.CONSOLE_URL}{reverse(name, args=[token])}"
