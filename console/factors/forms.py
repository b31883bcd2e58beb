"""What a security authentication asks for. The forms validate; console.factors.authentication spends the code."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from console.factors.refusals import MESSAGES, AuthenticationRefused, Reason


class SecurityForm(forms.Form):
    status = AuthenticationRefused.status  # of the response that shows its errors
    otp_token = forms.CharField(
        label=_("Security code"),
        max_length=64,
        error_messages=dict.fromkeys(
            ("required", "max_length", "null_characters_not_allowed"), MESSAGES[Reason.MALFORMED]
        ),
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "autocapitalize": "none",
                "spellcheck": "false",
                "autofocus": True,
            }
        ),
    )


class ReauthenticationForm(SecurityForm):
    """The password and a code: what changing one's own factors, password or email asks for (OWASP ASVS 5.0, 7.5.1)."""

    password = forms.CharField(
        label=_("Your password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    field_order = ["password", "otp_token"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["otp_token"].widget.attrs["autofocus"]
        next(iter(self.fields.values())).widget.attrs["autofocus"] = True
