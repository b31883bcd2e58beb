"""The emails to an owner about what happened to the account."""

from datetime import timedelta

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.browsers import browser_and_system
from console.ledger.kinds import Kind
from console.ledger.models import Entry
from console.ledger.sentences import actor_name, detail, shown
from console.outbox import Email

NOTICES = {
    Kind.LOGGED_ON_UNFAMILIAR: gettext_lazy(
        "User %(who)s logged on with a browser or from a network that this user has not used lately."
    ),
    Kind.PASSWORD_ACCEPTED: gettext_lazy(
        "Somebody entered the right password of user %(user)s, but no right security code. Change the password if this "
        "was not you."
    ),
    Kind.KEY_CREATED: gettext_lazy("The API key %(key)s was created."),
    Kind.KEY_VIEWED: gettext_lazy("The API key %(key)s was viewed."),
    Kind.KEY_DELETED: gettext_lazy("The API key %(key)s was deleted. All calls that use it are denied."),
    Kind.KEY_LEAKED: gettext_lazy(
        "The API key %(key)s was reported as leaked and has been deleted. All calls that use it are denied. The page "
        "Activity says where it was found, if the report does."
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
    Kind.RECOVERY_CANCELLED: gettext_lazy("The recovery link of user %(user)s no longer works."),
    Kind.CODES_GUESSED: gettext_lazy(
        "Somebody entered %(count)s wrong security codes in a row for user %(user)s. If this was not you, somebody has "
        "your password or your session: change the password, and end all other sessions."
    ),
    Kind.FACTOR_SUSPENDED: gettext_lazy(
        "The %(factor)s of user %(user)s is suspended after 100 incorrect codes in a row. Replace it, with a recovery "
        "code."
    ),
    Kind.FACTOR_DAMAGED: gettext_lazy(
        "The %(factor)s of user %(user)s cannot be checked: its stored data was modified outside the console."
    ),
    Kind.LOCKED_OUT: gettext_lazy(
        "Too many incorrect passwords were entered for user %(who)s. More are refused for 15 minutes."
    ),
    Kind.LOCKOUT_LIFTED: gettext_lazy("An operator lifted the lockout of user %(user)s: passwords can be tried again."),
    Kind.PASSWORD_CHANGED: gettext_lazy("The password of user %(user)s was changed."),
    Kind.RENAMED: gettext_lazy("User %(earlier)s was renamed. The new user name for logging on is %(user)s."),
    Kind.SESSION_ENDED: gettext_lazy("A session of user %(user)s was ended."),
    Kind.SESSIONS_ENDED: gettext_lazy("An operator ended all sessions of user %(user)s."),
    Kind.USER_CREATED: gettext_lazy("User %(user)s was created."),
    Kind.OPERATOR_ADDED: gettext_lazy("User %(user)s is an operator now."),
    Kind.ACT_REQUESTED: gettext_lazy("An operator requested an action on the account, or on a key of it."),
    Kind.ACT_REJECTED: gettext_lazy("An action that an operator had requested was rejected. Nothing has changed."),
    Kind.OPERATOR_WITHDRAWN: gettext_lazy("User %(user)s is no longer an operator."),
    Kind.INVITED: gettext_lazy("An operator created an invitation link for user %(user)s."),
    Kind.DISABLED: gettext_lazy("User %(user)s was disabled."),
    Kind.ENABLED: gettext_lazy("User %(user)s was enabled."),
    Kind.LIMITS_CHANGED: gettext_lazy("The limits of the account were changed."),
    Kind.EMAIL_CHANGED: gettext_lazy("The email of the account was changed."),
}


# Kinds that are not emailed; every other one is.
UNMAILED = {
    Kind.LOGGED_ON,  # with a browser and from a network that the user has used lately; otherwise LOGGED_ON_UNFAMILIAR
    Kind.PASSWORD_REFUSED,  # anybody's typing error; many are LOCKED_OUT
    Kind.CODE_REFUSED,  # likewise; many are CODES_GUESSED
    Kind.CREATION_REFUSED,  # nothing has happened, and whoever asked was told
    Kind.ACCESS_REFUSED,  # the same
    Kind.CLOCK_SET_BACK,  # the server's
    Kind.RECOVERY_CREATED,  # console.recovery does, with the link that cancels it
    Kind.BREAK_GLASS,  # likewise
    Kind.MORE,
    Kind.ACT_CONFIRMED,  # what was confirmed is
    Kind.INSTALLATION_BEGUN,  # of no account
}
TOGETHER = timedelta(minutes=10)  # after an email, further ones of its kind wait so long for each other


def notify(entry: Entry) -> None:
    """Queue the email about `entry` to the account's owner, unless its kind is one that is not emailed."""
    kind = Kind(entry.kind)
    if kind not in UNMAILED:
        subject = f"{kind.label}: {entry.account.username}"
        later = TOGETHER if is_one_of_many(entry) else timedelta(0)
        Email.queue(entry.account.email, subject, body(entry, str(NOTICES[kind])), later=later)


def is_one_of_many(entry: Entry) -> bool:
    """Whether there was another of its kind shortly before."""
    others = Entry.objects.filter(account=entry.account, kind=entry.kind, number__lt=entry.number)
    before = others.only("at").order_by("-number").first()
    return before is not None and abs(entry.at - before.at) < TOGETHER


def body(entry: Entry, notice: str) -> str:
    """Nothing in it is a stranger's choice: names are of users and factors that exist, the browser's is from a list,
    and the URL in a leak report is on the page Activity alone."""
    unknown = _("unknown")
    browser, system = browser_and_system(entry.browser)
    lines = [
        notice % {**shown(entry.params), "key": entry.key, "who": entry.who},
        "" if "url" in entry.params else detail(entry),
        "",
        _("Account: %s") % entry.account,
        _("User: %s") % actor_name(entry),
        _("Time: %s UTC") % f"{entry.at:%Y-%m-%d %H:%M:%S}",
        _("IP address: %s") % (entry.address or unknown),
        _("Browser: %(browser)s on %(system)s") % {"browser": browser or unknown, "system": system or unknown},
        head_line(entry),
        "",
        _("If this was not you, see %(url)s and contact your operator.") % {"url": f"{settings.CONSOLE_URL}/activity/"},
    ]
    return "\n".join(lines)


def head_line(entry: Entry) -> str:
    """The ledger's last row, kept where nobody who writes to the database can change it (console.ledger.chain)."""
    return _("Ledger: row %(number)s, hash %(hash)s") % {"number": entry.number, "hash": bytes(entry.hash).hex()}
