"""Make a root account."""

import secrets
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from console.ledger import models as ledger
from console.ledger.models import Kind
from console.models import User


def weakness(name: str, password: str) -> str:
    """What is wrong with the password for that user; empty where nothing is."""
    try:
        validate_password(password, User(username=name))
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


def create_root(name: str, password: str = "", *, operator: bool = False, email: str = "") -> str:
    """Make the root account `name`; its password, drawn here where none is given. Raises ValidationError."""
    user = User(username=name, email=email, is_staff=operator, is_superuser=operator)
    password = password or secrets.token_urlsafe(18)
    user.set_password(password)
    user.full_clean()
    with transaction.atomic():
        user.save()
        ledger.record(Kind.USER_CREATED, user, detail=f"{user}")
    return password


class Command(BaseCommand):
    help = (
        "Makes a root account and prints its password, once. "
        "With CONSOLE_ROOT_PASSWORD set, that is the password and is not printed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the user name to log on with")
        parser.add_argument("--email", default="", help="where its owner is told of what happens to it")
        parser.add_argument("--operator", action="store_true", help="may use the operators' site too")

    def handle(self, *args: Any, **options: Any) -> None:
        given = settings.ENVIRONMENT.root_password
        if given and (why := weakness(options["name"], given)):
            raise CommandError(why)
        try:
            password = create_root(options["name"], given, operator=options["operator"], email=options["email"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"Account:  {options['name']}")
        if not given:
            self.stdout.write(f"Password: {password}   (shown only now)")
