"""The kinds of events in a ledger. A row stores a kind's code; its label is for people."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Kind(TextChoices):
    LOGGED_ON = "user.logged_on", _("Logged on")
    LOGGED_ON_UNFAMILIAR = "user.logged_on_unfamiliar", _("Logged on with a new browser or network")
    PASSWORD_ACCEPTED = "password.accepted", _("Right password without a security code")
    PASSWORD_REFUSED = "password.refused", _("Password refused")
    CODE_REFUSED = "code.refused", _("Security code refused")
    CODES_GUESSED = "codes.guessed", _("Security codes guessed at")
    LOCKED_OUT = "user.locked_out", _("Log-on locked")
    PASSWORD_CHANGED = "password.changed", _("Password changed")
    EMAIL_CHANGED = "email.changed", _("Email changed")
    FACTOR_ADDED = "factor.added", _("Factor added")
    FACTOR_REMOVED = "factor.removed", _("Factor removed")
    FACTOR_SUSPENDED = "factor.suspended", _("Factor suspended")
    FACTOR_DAMAGED = "factor.damaged", _("Factor damaged")
    RECOVERY_CODES_CREATED = "recovery_codes.created", _("Recovery codes created")
    RECOVERY_CREATED = "recovery.created", _("Recovery link created")
    RECOVERY_CANCELLED = "recovery.cancelled", _("Recovery link cancelled")
    BREAK_GLASS = "recovery.break_glass", _("Recovery link created at the command line")
    SESSION_ENDED = "session.ended", _("Session ended")
    SESSIONS_ENDED = "sessions.ended", _("All sessions ended")
    KEY_CREATED = "key.created", _("API key created")
    KEY_VIEWED = "key.viewed", _("API key viewed")
    KEY_DELETED = "key.deleted", _("API key deleted")
    KEY_LEAKED = "key.leaked", _("Leaked API key deleted")
    KEY_DAMAGED = "key.damaged", _("API key damaged")
    SHOW_ONCE_ON = "show_once.turned_on", _("Show once turned on")
    SHOW_ONCE_OFF = "show_once.turned_off", _("Show once turned off")
    COPIES_DELETED = "copies.deleted", _("Copies of API keys deleted")
    CREATION_REFUSED = "key.creation_refused", _("API key creation refused")
    ACCESS_REFUSED = "access.refused", _("Access refused")
    USER_CREATED = "user.created", _("User created")
    RENAMED = "user.renamed", _("User renamed")
    INVITED = "user.invited", _("User invited")
    DISABLED = "user.disabled", _("User disabled")
    ENABLED = "user.enabled", _("User enabled")
    OPERATOR_WITHDRAWN = "operator.withdrawn", _("Operator’s role withdrawn")
    LOCKOUT_LIFTED = "lockout.lifted", _("Lockout lifted")
    LIMITS_CHANGED = "limits.changed", _("Limits changed")
    OPERATOR_ADDED = "operator.added", _("Operator’s role granted")
    ACT_REQUESTED = "act.requested", _("Operator’s action requested")
    ACT_CONFIRMED = "act.confirmed", _("Operator’s action confirmed")
    ACT_REJECTED = "act.rejected", _("Operator’s action rejected")
    INSTALLATION_BEGUN = "installation.begun", _("Ledger of the installation begun")
    CLOCK_SET_BACK = "clock.set_back", _("Clock set back")
    MORE = "events.omitted", _("Events omitted")

    @property
    def stored(self) -> list[str]:
        """The codes that rows of any format have for it."""
        return [self.value, *(word for word, kind in FIRST_FORMAT.items() if kind is self)]

    @classmethod
    def of(cls, stored: str) -> "Kind":
        return FIRST_FORMAT.get(stored) or cls(stored)


# What operators and management commands do, which the installation's ledger has too.
OF_OPERATORS = {
    Kind.USER_CREATED,
    Kind.RENAMED,
    Kind.INVITED,
    Kind.DISABLED,
    Kind.ENABLED,
    Kind.SESSIONS_ENDED,
    Kind.RECOVERY_CREATED,
    Kind.BREAK_GLASS,
    Kind.LOCKOUT_LIFTED,
    Kind.LIMITS_CHANGED,
    Kind.OPERATOR_ADDED,
    Kind.OPERATOR_WITHDRAWN,
    Kind.KEY_LEAKED,
    Kind.ACT_REQUESTED,
    Kind.ACT_CONFIRMED,
    Kind.ACT_REJECTED,
}

# What rows of the first format call them: those stay as they were hashed.
FIRST_FORMAT = {
    "logged on": Kind.LOGGED_ON,
    "password refused": Kind.PASSWORD_REFUSED,
    "code refused": Kind.CODE_REFUSED,
    "locked out": Kind.LOCKED_OUT,
    "password changed": Kind.PASSWORD_CHANGED,
    "mail address changed": Kind.EMAIL_CHANGED,
    "factor added": Kind.FACTOR_ADDED,
    "factor removed": Kind.FACTOR_REMOVED,
    "factor damaged": Kind.FACTOR_DAMAGED,
    "recovery codes made": Kind.RECOVERY_CODES_CREATED,
    "session ended": Kind.SESSION_ENDED,
    "key created": Kind.KEY_CREATED,
    "key viewed": Kind.KEY_VIEWED,
    "key deleted": Kind.KEY_DELETED,
    "key leaked": Kind.KEY_LEAKED,
    "key damaged": Kind.KEY_DAMAGED,
    "key refused": Kind.CREATION_REFUSED,
    "user created": Kind.USER_CREATED,
    "invited": Kind.INVITED,
    "disabled": Kind.DISABLED,
    "enabled": Kind.ENABLED,
    "lockout lifted": Kind.LOCKOUT_LIFTED,
    "limits changed": Kind.LIMITS_CHANGED,
}
