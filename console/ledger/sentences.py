"""What a row of the ledger says to a person, made where it is read and in that person's language."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from console.ledger.kinds import Kind
from console.ledger.models import LedgerRow
from console.origin import ActorKind

FACTORS = {
    "totp": _("Authenticator app"),
    "recovery-code": _("Recovery code"),
}
ACTORS = {
    ActorKind.COMMAND.value: _("Command line"),
    ActorKind.REPORT.value: _("Leak report"),
    ActorKind.SYSTEM.value: _("System"),
}

# What an operator may need another one for, by the name of the action (console.admin, apikeys.admin).
ACTIONS = {
    "invite_again": _("Invite again"),
    "reset_factors": _("Reset a lost authenticator"),
    "reset_password": _("Reset a forgotten password"),
    "lift_lockout": _("Lift lockout"),
    "end_sessions": _("End sessions"),
    "disable": _("Disable"),
    "enable": _("Enable"),
    "grant_role": _("Make an operator"),
    "withdraw_role": _("Withdraw the operator’s role"),
    "delete_leaked": _("Delete API keys as leaked"),
}

# By kind and, where the row has one, its parameter `reason`.
DETAILS = {
    (Kind.LOGGED_ON_UNFAMILIAR, "network"): _("From a network that the user has not used in the last 90 days."),
    (Kind.LOGGED_ON_UNFAMILIAR, "browser"): _("With a browser that the user has not used in the last 90 days."),
    (Kind.CODE_REFUSED, "wrong"): _("The code was incorrect."),
    (Kind.CODE_REFUSED, "used"): _("The code had been used before."),
    (Kind.CODE_REFUSED, "unknown-recovery-code"): _("The recovery code was incorrect or had already been used."),
    (Kind.CODES_GUESSED, ""): _("%(count)s in a row, for user %(user)s."),
    (Kind.LOCKED_OUT, "address"): _("Too many incorrect passwords from one network."),
    (Kind.LOCKED_OUT, "unfamiliar"): _("Too many incorrect passwords from unfamiliar networks."),
    (Kind.LOCKED_OUT, "device"): _("Too many incorrect passwords in a browser that the user had logged on with."),
    (Kind.LOCKED_OUT, "session"): _("Too many incorrect passwords in a session of the user."),
    (Kind.PASSWORD_CHANGED, ""): _("User: %(user)s."),
    (Kind.PASSWORD_CHANGED, "invitation"): _("First password of user %(user)s, set through an invitation."),
    (Kind.PASSWORD_CHANGED, "recovery"): _("Password of user %(user)s, set through a recovery link."),
    (Kind.EMAIL_CHANGED, ""): _("New email: %(email)s."),
    (Kind.EMAIL_CHANGED, "removed"): _("No email is set."),
    (Kind.FACTOR_ADDED, ""): _("%(factor)s of user %(user)s."),
    (Kind.FACTOR_REMOVED, ""): _("%(factor)s of user %(user)s."),
    (Kind.FACTOR_REMOVED, "reset"): _("All factors of user %(user)s, reset by an operator."),
    (Kind.FACTOR_REMOVED, "break_glass"): _("All factors of user %(user)s, through a link from the command line."),
    (Kind.FACTOR_SUSPENDED, ""): _("%(factor)s of user %(user)s, after 100 incorrect codes in a row."),
    (Kind.FACTOR_DAMAGED, ""): _("The stored %(factor)s of user %(user)s was modified outside the console."),
    (Kind.RECOVERY_CODES_CREATED, ""): _("User: %(user)s."),
    (Kind.RECOVERY_CREATED, "factors"): _("For a new authenticator app of user %(user)s, from %(usable)s UTC."),
    (Kind.RECOVERY_CREATED, "password"): _("For a new password of user %(user)s, from %(usable)s UTC."),
    (Kind.RECOVERY_CANCELLED, "email"): _("User: %(user)s. Cancelled through the email about it."),
    (Kind.RECOVERY_CANCELLED, "logged_on"): _("User: %(user)s, who logged on without it."),
    (Kind.BREAK_GLASS, "both"): _("For a new password and a new authenticator app of user %(user)s."),
    (Kind.SESSION_ENDED, ""): _("Session of user %(user)s from %(address)s."),
    (Kind.SESSIONS_ENDED, ""): _("Of user %(user)s: %(count)s."),
    (Kind.KEY_DELETED, "again"): _(
        "The key had already been deleted, but was active again: the database was restored from a backup or modified "
        "outside the console."
    ),
    (Kind.KEY_LEAKED, "reported"): _("According to the report, it was found at %(url)s."),
    (Kind.KEY_LEAKED, "signed"): _("According to a report with a verified signature, it was found at %(url)s."),
    (Kind.KEY_DAMAGED, ""): _("The stored key was modified outside the console."),
    (Kind.COPIES_DELETED, ""): _("API keys: %(count)s."),
    (Kind.CREATION_REFUSED, "max_active"): _("%(used)s of %(max)s API keys were in use."),
    (Kind.CREATION_REFUSED, "max_created_per_day"): _("%(used)s of %(max)s API keys had been created that day."),
    (Kind.CREATION_REFUSED, "request_used"): _("The same request had created the API key %(existing)s."),
    (Kind.CREATION_REFUSED, "request_used_key_deleted"): _("The same request had created the API key %(existing)s."),
    (Kind.CREATION_REFUSED, "request_used_shown_once"): _("The same request had created the API key %(existing)s."),
    (Kind.CREATION_REFUSED, "account_disabled"): _("The account was disabled."),
    (Kind.ACCESS_REFUSED, ""): _("Only the root account can do this."),
    (Kind.USER_CREATED, ""): _("User %(user)s."),
    (Kind.USER_CREATED, "earlier"): _("User %(user)s, before this ledger began."),
    (Kind.RENAMED, ""): _("From %(earlier)s to %(user)s."),
    (Kind.INVITED, ""): _("User %(user)s."),
    (Kind.DISABLED, ""): _("User %(user)s."),
    (Kind.ENABLED, ""): _("User %(user)s."),
    (Kind.OPERATOR_WITHDRAWN, ""): _("User %(user)s."),
    (Kind.OPERATOR_ADDED, ""): _("User %(user)s."),
    (Kind.ACT_REQUESTED, ""): _("%(action)s. Another operator has to confirm it."),
    (Kind.ACT_CONFIRMED, ""): _("%(action)s, as requested by %(by)s."),
    (Kind.ACT_REJECTED, ""): _("%(action)s, as requested by %(by)s."),
    (Kind.LOCKOUT_LIFTED, ""): _("User %(user)s."),
    (Kind.CLOCK_SET_BACK, ""): _("The server’s clock was ahead by about %(minutes)s min when the last code was used."),
    (Kind.MORE, ""): ngettext_lazy(
        "%(more)s more event of this kind within an hour: %(kind)s.",
        "%(more)s more events of this kind within an hour: %(kind)s.",
        "more",
    ),
    (Kind.LIMITS_CHANGED, ""): _("Active keys: %(max_active_keys)s. Keys created per day: %(max_keys_a_day)s."),
}


def factor_name(code: str) -> str:
    """A factor by its code. Rows of the first format have a name already."""
    return str(FACTORS.get(code, code))


def actor_name(entry: LedgerRow) -> str:
    return str(ACTORS.get(entry.actor, entry.who))


def detail(entry: LedgerRow) -> str:
    """What the row says beyond its kind, actor and key; empty where there is nothing more."""
    if entry.format == 1:
        return entry.detail
    kind, params = Kind(entry.kind), shown(entry.params)
    return str(DETAILS.get((kind, params.get("reason", "")), "") % params)


def shown(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as a sentence takes them."""
    shown = {name: "–" if value is None else value for name, value in params.items()}
    if "action" in shown:
        shown["action"] = ACTIONS[shown["action"]]
    if "kind" in shown:
        shown["kind"] = Kind(shown["kind"]).label
    if "factor" in shown:
        shown["factor"] = factor_name(shown["factor"])
    return shown
