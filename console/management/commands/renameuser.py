"""Rename a user."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from console.accounts import User
from console.operators import rename


class Command(BaseCommand):
    help = "Changes the user name that a user logs on with. Sessions, keys, factors, and the password are kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the current user name")
        parser.add_argument("new_name", help="the new user name")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.named(options["name"])
        if user is None:
            raise CommandError(f"There is no user named {options['name']}.")
        earlier = user.username
        try:
            rename(user, options["new_name"])
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(f"{earlier} is now {user.username}.")
