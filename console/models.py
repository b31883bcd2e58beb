"""Every table of this app, for Django to find."""

from console.accounts import User
from console.factors.models import Authenticator, RecoveryCodes
from console.ledger.budget import Budget
from console.ledger.models import Entry, InstallationEntry
from console.operator_requests import OperatorRequest
from console.outbox import Email
from console.rate_limits import Tally
from console.recovery import Recovery
from console.sessions.store import Session
from console.vault_keys import VaultKey

__all__ = [
    "Authenticator",
    "Budget",
    "Email",
    "Entry",
    "InstallationEntry",
    "OperatorRequest",
    "Recovery",
    "RecoveryCodes",
    "Session",
    "Tally",
    "User",
    "VaultKey",
]
