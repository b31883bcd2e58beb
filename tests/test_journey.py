"""The whole journey through the Django test client, with nothing mocked."""

import re

import pytest
from django.test import Client

from console.operators import create_root
from tests.support.person import code, element, fields


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
    secret = element(shown, r'id="totp-secret">([A-Z2-7]+)<')
    shown = send("/security/authenticator/", shown, otp_token=code(secret))
    recovery_codes = re.findall(r"<li><code>([^<]+)</code></li>", shown)
    assert len(recovery_codes) == 10

    shown = send("/api-keys/create/", page("/"))
    key = element(shown, r'id="api-key-value"[^>]*value="([^"]+)"')
    key_id = element(shown, r'data-key-id="([^"]+)"')
    assert key not in page("/api-keys/")

    shown = send(f"/api-keys/{key_id}/view/", page(f"/api-keys/{key_id}/view/"), otp_token=code(secret, ahead=1))
    assert element(shown, r'id="api-key-value"[^>]*value="([^"]+)"') == key

    shown = page(f"/api-keys/{key_id}/delete/")
    assert "Confirm Deletion" in shown
    shown = page(f"/api-keys/{key_id}/delete/?confirmed=1")
    shown = send(f"/api-keys/{key_id}/delete/", shown, otp_token=recovery_codes[0])
    assert "is deleted" in shown
    assert key_id not in shown

    send("/logout/", shown)
    shown = send("/login/", page("/api-keys/"), username="first", password=password)
    assert "Security authentication" in shown
    shown = send("/login/verify/", shown, otp_token=recovery_codes[1])
    assert "API Key Management" in shown
