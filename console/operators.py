"""What operators do to an account. Every act is in the account's ledger, which its owner reads."""

import secrets

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal
from django.urls import reverse

from console.accounts import User, fold_names, folded, lock
from console.factors.models import Authenticator, RecoveryCodes, delete_in_order
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.security import counted_name
from console.sessions.store import Session

activity_changed = Signal()  # `user` was enabled or disabled; sent within the transaction of the change
database_restored = Signal()  # from a backup: what was deleted since is deleted again, and receivers return how much


def create_root(name: str, password: str = "", *, operator: bool = False, email: str = "") -> str:
    """Create the root account `name` and return its password, a random one where none is given. Raises
    ValidationError."""
    user = User(username=name, email=email, is_staff=operator, is_superuser=operator)
    password = password or secrets.token_urlsafe(18)
    user.set_password(password)
    user.full_clean()
    with transaction.atomic():
        user.save()
        record(Kind.USER_CREATED, user, user=user.username)
    return password


def invite(user: User) -> str:
    """A link to set the first password: signed, for one use within a day, so that no operator ever knows a password.
    Raises ValueError where the user has a password: a link would be a way around it."""
    if user.has_usable_password():
        raise ValueError(f"{user} already has a password, which only {user} can change.")
    with transaction.atomic():
        record(Kind.INVITED, user, user=user.username)
    path = reverse("console:invitation", args=[user.pk, default_token_generator.make_token(user)])
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
            Session.objects.filter(Q(user=user) | Q(user__account=user)).delete()


def reset_factors(user: User) -> None:
    """Remove all factors: the next log-on, with the password, enrolls a new authenticator. Ends all sessions."""
    with transaction.atomic():
        lock(user.root)
        removed = delete_in_order(Authenticator.objects.filter(user=user))
        removed += delete_in_order(RecoveryCodes.objects.filter(user=user))
        if removed:
            record(Kind.FACTOR_REMOVED, user, user=user.username, reason="reset")
        Session.objects.filter(user=user).delete()


def lift_lockout(user: User) -> None:
    """Allow passwords and codes to be tried again at once."""
    with transaction.atomic():
        lock(user.root)
        lifted = AccessAttempt.objects.filter(username=counted_name(user.username)).delete()[0]
        for factors in (Authenticator.objects, RecoveryCodes.objects):
            throttled = factors.filter(user=user, throttling_failure_count__gt=0)
            lifted += throttled.update(throttling_failure_timestamp=None, throttling_failure_count=0)
        if lifted:
            record(Kind.LOCKOUT_LIFTED, user, user=user.username)
