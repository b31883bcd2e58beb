"""Create a root account."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from console.accounts import User
from console.operators import create_root


def weakness(name: str, password: str) -> str:
    """Why the password is too weak for that user; empty where it is not."""
    try:
        validate_password(password, User(username=name))
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


class Command(BaseCommand):
    help = (
        "Creates a root account and prints its password, once. It must be changed at the first log-on. "
        "If CONSOLE_ROOT_PASSWORD is set, it becomes the password and is not printed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the user name to log on with")
        parser.add_argument("--email", default="", help="the email that notifications about the account are sent to")
        parser.add_argument("--operator", action="store_true", help="also allow access to the operators' site")

    def handle(self, *args: Any, **options: Any) -> None:
        given = settings.ENVIRONMENT.root_password
        if given and (why := weakness(options["name"], given)):
            raise CommandError(f"CONSOLE_ROOT_PASSWORD: {why}")
        choices = {"operator": options["operator"], "email": options["email"], "printed": not given}
        try:
            password = create_root(options["name"], given, **choices)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"Account:  {options['name']}")
        if not given:
            self.stdout.write(f"Password: {password}   (shown only once)")
