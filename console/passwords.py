"""Password rules beside length and commonness (OWASP ASVS 5.0, 6.2.11)."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

WORDS = ("api", "key", "console", "dashvector", "password", "admin", "root")
ENOUGH = 8  # characters outside the words that one would guess


class ContextValidator:
    """Refuses a password of little more than the user's name and words of this site."""

    def validate(self, password: str, user: Any = None) -> None:
        names = [name for name in (getattr(user, "username", ""), getattr(user, "email", "").partition("@")[0]) if name]
        words = sorted({*WORDS, *(name.casefold() for name in names)}, key=len, reverse=True)
        rest = re.sub("|".join(map(re.escape, words)), "", password.casefold())
        if len(re.sub(r"[\W_]", "", rest)) < ENOUGH:
            raise ValidationError(_("This password is little more than your name or words of this site."))

    def get_help_text(self) -> str:
        return _("Your password can’t be little more than your name or words of this site.")
