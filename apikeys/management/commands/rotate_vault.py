"""Re-encrypt everything that is stored with the newest vault keys."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, models, transaction

from apikeys.keys.models import ApiKey
from console.factors.models import Authenticator, RecoveryCodes
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.start.secrets_file import write_atomically
from console.vault import MAX_DIGEST_KEYS, VaultError, new_key, parse_keys
from console.vault_keys import VaultKey

BUSY_SECONDS = 60  # for another writer
BATCH = 200  # rows that are locked together
NAMED = 20  # in an error
WIDTH = 40  # of the progress bar


def some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")


class Command(BaseCommand):
    help = (
        "Re-encrypts all API keys and factors with the newest VAULT_KEYS, and digests API keys with the newest "
        "DIGEST_KEYS. The console and the gate can stay in use; if interrupted, run it again and it resumes. First "
        "give the new versions to every gate, then to every console: --add does so in secrets.env."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--add", action="store_true", help="only add a new version of both keys to secrets.env")
        parser.add_argument(
            "--retire", action="store_true", help="then also make the older versions of DIGEST_KEYS dispensable"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor == "sqlite":  # unlike a page, a rotation can wait for other writers
            connection.cursor().execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        VaultKey.check_all()
        if options["add"]:
            self.add()
            return
        sealed: list[models.QuerySet[Any]] = [
            Authenticator.objects.all(),
            ApiKey.objects.filter(sealed_secret__isnull=False),
        ]
        self.recorded = 0
        self.damaged: list[Authenticator | ApiKey] = []
        moved = self.rotate_all(sealed)
        if not self.damaged and self.rotate_all(sealed):  # rows that were written in the meantime
            raise CommandError(
                "A console still writes with older keys. Restart every console with the new ones, then run this again."
            )
        if self.damaged:
            raise CommandError(
                f"{moved} moved; {len(self.damaged)} cannot be decrypted and were left unchanged (see the ledger). "
                "Keep every version of VAULT_KEYS."
            )
        newest = max(version for name, version in settings.VAULT.fingerprints if name == "VAULT_KEYS")
        VaultKey.objects.filter(name="VAULT_KEYS", version__lt=newest).delete()
        self.stdout.write(f"{moved} moved, {self.done - moved} already had the newest keys.")
        self.stdout.write("Older versions of VAULT_KEYS can be removed now.")
        if options["retire"]:
            self.retire()
        else:
            if count := ApiKey.objects.resting_on_older_keys().count():
                self.stdout.write(f"API keys that are shown once and rest on older versions of DIGEST_KEYS: {count}.")
            needed = "keys that are shown once, deleted keys and unused recovery codes"
            self.stdout.write(f"Keep those of DIGEST_KEYS: they recognize {needed}.")

    def retire(self) -> None:
        """Every key with a copy that can be opened has the newest digest by now."""
        resting = ApiKey.objects.resting_on_older_keys().order_by("account__username")
        names = [*resting.values_list("account__username", flat=True).distinct()]
        if names:
            raise CommandError(
                f"{len(names)} accounts have API keys that are shown once and rest on older versions of DIGEST_KEYS: "
                f"{some(names)}. Have their owners replace these keys, and run this again."
            )
        codes = RecoveryCodes.objects.order_by("user__username").select_related("user")
        names = [each.user.username for each in codes if each.rests_on_older_keys()]
        if names:
            raise CommandError(
                f"{len(names)} users have recovery codes that rest on older versions of DIGEST_KEYS: {some(names)}. "
                "Have them create new ones at /security/recovery-codes/, or reset their factors, and run this again."
            )
        VaultKey.objects.filter(name="DIGEST_KEYS", version__lt=settings.VAULT.versions[0]).delete()
        self.stdout.write(
            "Older versions of DIGEST_KEYS can be removed now. Keys that were deleted before the newest one was added "
            "are answered `unknown` from then on, no longer `deleted`."
        )

    def rotate_all(self, sealed: list[models.QuerySet[Any]]) -> int:
        self.total, self.done = sum(rows.count() for rows in sealed), 0
        moved = sum(self.rotate(rows) for rows in sealed)
        self.show()
        sys.stderr.write("\n")
        return moved

    def rotate(self, rows: models.QuerySet[Any]) -> int:
        """Batch by batch, each in a transaction. How many rows were changed."""
        moved, last = 0, None
        while True:
            with transaction.atomic():
                batch = list((rows.filter(pk__gt=last) if last else rows).order_by("pk").select_for_update()[:BATCH])
                changed = [row for row in batch if self.renew(row)]
                for row in changed:
                    row.save()
            self.record_damaged()
            if not batch:
                return moved
            last = batch[-1].pk
            moved += len(changed)
            self.done += len(batch)
            self.show()

    def renew(self, row: Authenticator | ApiKey) -> bool:
        """Re-encrypt the row if necessary. Whether it was changed."""
        try:
            secret = settings.VAULT.open(row.place, bytes(row.sealed_secret or b""))
        except VaultError:
            self.damaged.append(row)
            return False
        before = row.sealed_secret, getattr(row, "digest_version", None)
        if not settings.VAULT.newest(bytes(row.sealed_secret or b"")):
            row.sealed_secret = settings.VAULT.seal(row.place, secret)
        if isinstance(row, ApiKey):
            digests = settings.VAULT.digests("api-key", secret.decode())
            if bytes(row.digest) not in digests:
                self.damaged.append(row)
                return False
            row.digest, row.digest_version = digests[0], settings.VAULT.versions[0]
        return before != (row.sealed_secret, getattr(row, "digest_version", None))

    def record_damaged(self) -> None:
        for row in self.damaged[self.recorded :]:
            with transaction.atomic():
                if isinstance(row, ApiKey):
                    record(Kind.KEY_DAMAGED, row.account, key=row)
                else:
                    record(Kind.FACTOR_DAMAGED, row.user, user=row.user.username, factor=row.kind)
        self.recorded = len(self.damaged)

    def show(self) -> None:
        part = self.done / self.total if self.total else 1
        bar = "#" * round(part * WIDTH)
        sys.stderr.write(f"\r[{bar:{WIDTH}}] {part:4.0%}  {self.done:,} of {self.total:,}")
        sys.stderr.flush()

    def add(self) -> None:
        """Add the new versions to secrets.env, atomically."""
        file: Path = settings.SECRETS_FILE
        text = file.read_text() if file.exists() else ""
        lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        used = {"VAULT_KEYS": settings.ENVIRONMENT.vault_keys, "DIGEST_KEYS": settings.ENVIRONMENT.digest_keys}
        for name, keys in used.items():
            if lines.get(name) != keys:
                raise CommandError(f"{name} does not come from {file}. Add a version where it is set.")
            if name == "VAULT_KEYS" or len(parse_keys(name, lines[name])) < MAX_DIGEST_KEYS:
                lines[name] = new_key(lines[name])
        changed = [
            f"{name}={lines[name]}\n" if (name := line.partition("=")[0]) in lines else f"{line}\n"
            for line in text.splitlines()
        ]
        try:
            write_atomically(file, "".join(changed))
        except OSError as error:
            raise CommandError(f"{file} cannot be written ({error}). Add a version where it comes from.") from error
        self.stdout.write(f"{file} has new versions. Back it up; restart the gates, then the consoles, then rotate.")
        if lines["DIGEST_KEYS"] == used["DIGEST_KEYS"]:
            self.stdout.write(f"DIGEST_KEYS is unchanged: it has {MAX_DIGEST_KEYS} versions, the maximum.")
