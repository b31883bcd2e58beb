"""Refuses, in place of Django's: `createroot` has the rules and the ledger."""

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.core.management.base import CommandError


class Command(createsuperuser.Command):
    help = "Not available. Use createroot NAME --operator, which creates an operator's root account."

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError("Use `manage.py createroot NAME --operator`, which creates an operator’s root account.")
