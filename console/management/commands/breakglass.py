"""Emergency access for a user who has lost both password and factors, or whom no operator can help."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from console.accounts import User
from console.recovery import Lost, Recovery


class Command(BaseCommand):
    help = (
        "Prints a link through which the user sets a new password and enrolls a new authenticator. It works at once, "
        "once, for 24 hours, and asks for nothing. It is recorded in the account's ledger and emailed to its owner."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the user name")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.named(options["name"])
        if user is None:
            raise CommandError(f"There is no user named {options['name']}.")
        if not user.may_log_on:
            raise CommandError(f"{user} is disabled. An operator has to enable the account first.")
        link, _ = Recovery.begin(user, Lost.BOTH)
        self.stdout.write(f"Link for {user}: {link}   (shown only once)")
