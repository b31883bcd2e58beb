"""What an owner does in a browser that the ledger records."""

import uuid
from collections.abc import Callable
from typing import Any

from console.ledger.kinds import Kind
from console.sessions.store import stored_key
from tests.support.person import PASSWORD, code
from tests.support.world import World

NEW_PASSWORD = "a quite different sentence"


def create(world: World) -> Any:
    return world.browser.post("/api-keys/create/", {"request_id": uuid.uuid4()})


def view(world: World) -> Any:
    return world.browser.post(f"/api-keys/{world.key.id}/view/", {"otp_token": world.code})


def delete(world: World) -> Any:
    return world.browser.post(f"/api-keys/{world.key.id}/delete/", {"otp_token": world.code})


def new_codes(world: World) -> Any:
    return world.browser.post("/security/recovery-codes/", {"password": PASSWORD, "otp_token": world.code})


def replace_authenticator(world: World) -> Any:
    page = world.browser.get("/security/authenticator/")
    if page.status_code != 200:
        return page
    data = {"otp_token": code(page.context["secret"]), "current-password": PASSWORD, "current-otp_token": world.code}
    return world.browser.post("/security/authenticator/", data)


def change_password(world: World) -> Any:
    data = {"password": PASSWORD, "new_password": NEW_PASSWORD, "otp_token": world.code}
    return world.browser.post("/security/password/", data)


def change_email(world: World) -> Any:
    data = {"email": "new@example.org", "password": PASSWORD, "otp_token": world.code}
    return world.browser.post("/security/email/", data)


def end_session(world: World) -> Any:
    names = [session.name for session in world.owner.sessions.filter(session_key=stored_key(world.second.session))]
    return world.browser.post("/security/sessions/", {"session": names, "otp_token": world.code})


def show_once(world: World) -> Any:
    return world.browser.post("/security/show-once/", {"existing": "delete", "otp_token": world.code})


ACTIONS: dict[Kind, Callable[[World], Any]] = {
    Kind.KEY_CREATED: create,
    Kind.KEY_VIEWED: view,
    Kind.KEY_DELETED: delete,
    Kind.SHOW_ONCE_ON: show_once,
    Kind.COPIES_DELETED: show_once,
    Kind.RECOVERY_CODES_CREATED: new_codes,
    Kind.FACTOR_ADDED: replace_authenticator,
    Kind.FACTOR_REMOVED: replace_authenticator,
    Kind.PASSWORD_CHANGED: change_password,
    Kind.EMAIL_CHANGED: change_email,
    Kind.SESSION_ENDED: end_session,
}
