"""The emails to an owner about what happened to the account."""

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.sentences import actor_name, detail, shown
from console.outbox import Email

NOTICES = {
    Kind.KEY_VIEWED: gettext_lazy("The API key %(key)s was viewed."),
    Kind.KEY_DELETED: gettext_lazy("The API key %(key)s was deleted. All calls that use it are denied."),
    Kind.KEY_LEAKED: gettext_lazy(
        "The API key %(key)s was reported as leaked and has been deleted. All calls that use it are denied."
    ),
    Kind.KEY_DAMAGED: gettext_lazy(
        "The API key %(key)s cannot be decrypted: its stored data was modified outside the console."
    ),
    Kind.SHOW_ONCE_ON: gettext_lazy(
        "API keys that are created from now on are shown once. No copy is kept that can be viewed again."
    ),
    Kind.SHOW_ONCE_OFF: gettext_lazy(
        "A copy of each API key that is created from now on is kept, and can be viewed again with a security code."
    ),
    Kind.COPIES_DELETED: gettext_lazy(
        "The copies of your existing API keys were deleted. The keys still work, and can no longer be viewed."
    ),
    Kind.FACTOR_ADDED: gettext_lazy("A factor was added to user %(user)s: %(factor)s."),
    Kind.RECOVERY_CODES_CREATED: gettext_lazy(
        "User %(user)s has new recovery codes. The earlier codes no longer work."
    ),
    Kind.FACTOR_REMOVED: gettext_lazy("A factor was removed from user %(user)s."),
    Kind.FACTOR_DAMAGED: gettext_lazy(
        "The %(factor)s of user %(user)s cannot be checked: its stored data was modified outside the console."
    ),
    Kind.LOCKED_OUT: gettext_lazy(
        "The log-on of user %(who)s is locked for 15 minutes after too many incorrect passwords."
    ),
    Kind.PASSWORD_CHANGED: gettext_lazy("The password of user %(user)s was changed."),
    Kind.RENAMED: gettext_lazy("User %(earlier)s was renamed. The new user name for logging on is %(user)s."),
    Kind.EMAIL_CHANGED: gettext_lazy("The email of the account was changed."),
}


def notify(entry: Entry) -> None:
    """Queue the email about `entry` to the account's owner, where there is one for its kind."""
    kind = Kind(entry.kind)
    if kind in NOTICES:
        subject = f"{kind.label}: {entry.account.username}"
        Email.queue(entry.account.email, subject, body(entry, str(NOTICES[kind])))


def body(entry: Entry, notice: str) -> str:
    none = _("unknown")
    lines = [
        notice % {**shown(entry.params), "key": entry.key, "who": entry.who},
        detail(entry),
        "",
        _("Account: %s") % entry.account,
        _("User: %s") % actor_name(entry),
        _("Time: %s UTC") % f"{entry.at:%Y-%m-%d %H:%M:%S}",
        _("IP address: %s") % (entry.address or none),
        _("Browser: %s") % (entry.browser or none),
        "",
        _("If this was not you, see %(url)s and contact your operator.") % {"url": f"{settings.CONSOLE_URL}/activity/"},
    ]
    return "\n".join(lines)
