"""Refuses, in place of Django's: nobody sets another's password."""

from typing import Any

from django.contrib.auth.management.commands import changepassword
from django.core.management.base import CommandError


class Command(changepassword.Command):
    help = "Not available. Use breakglass NAME, which creates a link through which the user sets the password."

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError(
            "Nobody sets another user’s password. Change your own at /security/password/. For a forgotten one, use "
            "`Reset a forgotten password` on the operators’ site, or `manage.py breakglass NAME`."
        )
