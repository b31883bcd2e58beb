"""What operators do to an account. Every act is in the account's ledger, which its owner reads."""

import secrets

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.dispatch import Signal
from django.urls import reverse
from django.utils import timezone

from console import rate_limits
from console.accounts import User, fold_names, folded, invitation_tokens, lock
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.recovery import Recovery
from console.sessions.store import Session

activity_changed = Signal()  # `user` was enabled or disabled; sent within the transaction of the change
stopping = Signal()  # asks what stops if `accounts` are disabled; receivers return sentences
database_restored = Signal()  # or may have been: what was deleted before is deleted again, receivers return how much


def create_root(
    name: str, password: str = "", *, operator: bool = False, email: str = "", printed: bool = False
) -> str:
    """Create the root account `name` and return its password, a random one if none is given. A password that gets
    `printed` must be changed at the first log-on. Raises ValidationError."""
    user = User(username=name, email=email, is_staff=operator, is_superuser=operator, must_change_password=printed)
    password = password or secrets.token_urlsafe(18)
    user.set_password(password)
    user.full_clean()
    with transaction.atomic():
        user.save()
        record(Kind.USER_CREATED, user, user=user.username)
        if operator:
            record(Kind.OPERATOR_ADDED, user, user=user.username)
    return password


def invite(user: User) -> str:
    """A link to set the first password: signed, for one use within a day, so that no operator ever knows a password.
    It ends the one before. Raises ValueError where the user has a password: a link would be a way around it."""
    if user.has_usable_password():
        raise ValueError(f"{user} already has a password, which only {user} can change.")
    with transaction.atomic():
        record(Kind.INVITED, user, user=user.username)
        Recovery.objects.filter(user=user).delete()  # a link of `manage.py breakglass`
        user.invited_at = timezone.now()
        user.save(update_fields=["invited_at"])
    path = reverse("console:invitation", args=[user.pk, invitation_tokens.make_token(user)])
    return f"{settings.CONSOLE_URL}{path}"


def rename(user: User, name: str) -> None:
    """Change the name that the user logs on with. Earlier rows of the ledger keep the old one. Raises
    ValidationError."""
    with transaction.atomic():
        lock(user.root)
        earlier, user.username = user.username, name
        user.full_clean()
        user.clean_name()
        user.folded_name = folded(user.username)
        user.save(update_fields=["username", "folded_name"])
        record(Kind.RENAMED, user, user=user.username, earlier=earlier)
        fold_names(User.objects)  # a twin of the earlier name is alone now


def set_active(user: User, active: bool) -> None:
    """Enable or disable the user. Disabling ends all sessions at once; a root account's RAM users are logged out too,
    and its keys are denied, also at the gate."""
    with transaction.atomic():
        lock(user.root)
        user.refresh_from_db(fields=["is_active"])
        if user.is_active == active:
            return
        record(Kind.ENABLED if active else Kind.DISABLED, user, user=user.username)
        user.is_active = active
        user.save(update_fields=["is_active"])
        activity_changed.send(User, user=user)
        if not active:
            sessions_of(user).delete()


def sessions_of(user: User) -> QuerySet[Session]:
    """Of a root account, also those of its RAM users."""
    return Session.objects.filter(Q(user=user) | Q(user__account=user))


def end_sessions(user: User) -> None:
    with transaction.atomic():
        lock(user.root)
        if ended := sessions_of(user).delete()[0]:
            record(Kind.SESSIONS_ENDED, user, user=user.username, count=ended)


def grant_role(user: User) -> None:
    """The user is an operator from the next request on."""
    with transaction.atomic():
        lock(user.root)
        user.refresh_from_db(fields=["is_staff", "is_superuser"])
        if not user.is_staff:
            record(Kind.OPERATOR_ADDED, user, user=user.username)
            user.is_staff = user.is_superuser = True
            user.save(update_fields=["is_staff", "is_superuser"])


def withdraw_role(user: User) -> None:
    """The user is no operator any more, and logs on anew."""
    with transaction.atomic():
        lock(user.root)
        user.refresh_from_db(fields=["is_staff", "is_superuser"])
        if user.is_staff:
            record(Kind.OPERATOR_WITHDRAWN, user, user=user.username)
            user.is_staff = user.is_superuser = False
            user.save(update_fields=["is_staff", "is_superuser"])
            Session.objects.filter(user=user).delete()


def lift_lockout(user: User) -> None:
    """Allow passwords to be tried again at once. Codes are not: only a right one, or a new factor, ends their wait."""
    with transaction.atomic():
        lock(user.root)
        lifted = rate_limits.forget(folded(user.username))
        if lifted:
            record(Kind.LOCKOUT_LIFTED, user, user=user.username)
