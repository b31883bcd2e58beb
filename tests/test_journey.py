"""The whole journey through the Django test client, with nothing mocked."""

import pytest
from django.test import Client

from console.operators import create_root
from tests.support import html
from tests.support.person import code, fields


@pytest.mark.django_db
def test_it_goes_from_the_first_log_on_to_the_deletion() -> None:
    password = create_root("first")
    browser = Client(enforce_csrf_checks=True)

    def page(address: str) -> str:
        response = browser.get(address, follow=True)
        assert response.status_code == 200
        return response.content.decode()

    def send(address: str, form: str, **data: str) -> str:
        response = browser.post(address, fields(form) | data, follow=True)
        assert response.status_code == 200, response.content
        return response.content.decode()

    shown = send("/login/", page("/"), username="first", password=password)
    secret = html.text(shown, "#totp-secret")
    shown = send("/security/authenticator/", shown, otp_token=code(secret))
    recovery_codes = html.texts(shown, "#recovery-codes li code")
    assert len(recovery_codes) == 10

    shown = send("/api-keys/create/", page("/"))
    key = html.attribute(shown, "#api-key-value", "value")
    key_id = html.attribute(shown, "#api-keys tr[data-key-id]", "data-key-id")
    assert key not in page("/api-keys/")

    shown = send(f"/api-keys/{key_id}/view/", page(f"/api-keys/{key_id}/view/"), otp_token=code(secret, ahead=1))
    assert html.attribute(shown, "#api-key-value", "value") == key

    shown = page(f"/api-keys/{key_id}/delete/")
    assert "Confirm Deletion" in shown
    shown = page(f"/api-keys/{key_id}/delete/?confirmed=1")
    shown = send(f"/api-keys/{key_id}/delete/", shown, otp_token=recovery_codes[0])
    assert "has been deleted" in shown
    assert key_id not in shown

    send("/logout/", shown)
    shown = send("/login/", page("/api-keys/"), username="first", password=password)
    assert "Security authentication" in shown
    shown = send("/login/verify/", shown, otp_token=recovery_codes[1])
    assert "API Key Management" in shown
