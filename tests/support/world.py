"""Users who have passed the log-on, and what an owner has at hand."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client

from apikeys.models import ApiKey
from console.factors.models import Authenticator, RecoveryCodes
from console.models import User
from console.sessions.store import stored_key
from tests.support.person import PASSWORD

if TYPE_CHECKING:

    class Enrolled(User):
        """A user whose recovery codes the test knows."""

        spare_codes: list[str]
else:
    Enrolled = User


only_postgres = pytest.mark.postgres  # a test of what only PostgreSQL does


def whole(sentence: str) -> str:
    """For `pytest.raises(match=…)`: this sentence, and nothing before or after it."""
    return rf"\A{re.escape(sentence)}\Z"


def enrolled(name: str, **fields: object) -> Enrolled:
    """A user with an authenticator and recovery codes."""
    user = Enrolled.objects.create(username=name, password=make_password(PASSWORD), **fields)
    user.spare_codes = Authenticator.pending(user).confirm(replacing=False)
    return user


def verified_client(user: User, **options: bool) -> Client:
    """A browser in which `user` has passed both steps of the log-on."""
    client = Client(**options)  # type: ignore[arg-type]
    client.force_login(user, backend="console.security.PasswordBackend")
    session = client.session
    session["otp_device_id"] = Authenticator.objects.get(user=user).persistent_id
    session.save()
    return client


class Operator(Client):
    """An operator's verified browser, and the codes to act with."""

    def __init__(self, name: str = "operator") -> None:
        super().__init__()
        self.user = enrolled(name, is_staff=True)
        self.cookies = verified_client(self.user).cookies
        self.codes = iter(self.user.spare_codes)

    def new_codes(self) -> list[str]:
        return RecoveryCodes.issue(self.user)

    def act(self, action: str, *chosen: Any, address: str = "/admin/console/user/") -> Any:
        """Choose those rows, and confirm with a code."""
        data = {"action": action, "_selected_action": [row.pk for row in chosen], "otp_token": next(self.codes)}
        return self.post(address, data, follow=True)


@dataclass
class World:
    """An owner with two browsers, a key, and codes to spend."""

    owner: Enrolled
    browser: Client
    second: Client
    key: ApiKey
    code: str

    def state(self) -> list[Any]:
        """All that an action may change."""
        owner = User.objects.get(pk=self.owner.pk)
        return [
            owner.password,
            owner.email,
            owner.show_once,
            list(ApiKey.objects.values_list("pk", "deleted_at").order_by("pk")),
            ApiKey.objects.filter(sealed_secret=None).count(),
            list(Authenticator.objects.filter(confirmed=True).values_list("pk", "user")),
            len(RecoveryCodes.objects.get(user=owner).digests) == 10,  # spending one is no action
            owner.sessions.filter(session_key=stored_key(self.second.session)).exists(),
        ]
