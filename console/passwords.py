"""Password rules besides length and the list of common passwords (OWASP ASVS 5.0, 6.2.11)."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

WORDS = ("api", "key", "console", "dashvector", "password", "admin", "root")
MIN_OTHER = 8  # characters besides the words that are easily guessed


class ContextValidator:
    """Refuses a password that is mostly the user's name and words used on this site."""

    def validate(self, password: str, user: Any = None) -> None:
        names = [name for name in (getattr(user, "username", ""), getattr(user, "email", "").partition("@")[0]) if name]
        words = sorted({*WORDS, *(name.casefold() for name in names)}, key=len, reverse=True)
        rest = re.sub("|".join(map(re.escape, words)), "", password.casefold())
        if len(re.sub(r"[\W_]", "", rest)) < MIN_OTHER:
            raise ValidationError(_("This password is mostly your user name, your email, or words used on this site."))

    def get_help_text(self) -> str:
        return _("Your password can’t be mostly your user name, your email, or words used on this site.")
