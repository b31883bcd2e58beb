"""What makes a password weak beside its length and being common (OWASP ASVS 5.0, 6.2.11)."""

import re
from typing import Any

from django.core.exceptions import ValidationError

WORDS = ("api", "key", "console", "dashvector", "password", "admin", "root")
ENOUGH = 8  # signs that are in no word that one would guess here


class ContextValidator:
    """Refuses one that is little more than the user's name and words of this site."""

    def validate(self, password: str, user: Any = None) -> None:
        names = [name for name in (getattr(user, "username", ""), getattr(user, "email", "").partition("@")[0]) if name]
        words = sorted({*WORDS, *(name.casefold() for name in names)}, key=len, reverse=True)
        rest = re.sub("|".join(map(re.escape, words)), "", password.casefold())
        if len(re.sub(r"[\W_]", "", rest)) < ENOUGH:
            raise ValidationError("This password is little more than your name or words of this site.")

    def get_help_text(self) -> str:
        return "Your password can’t be little more than your name or words of this site."
