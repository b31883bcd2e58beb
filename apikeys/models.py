"""The keys and their limits."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Max, Q, Sum
from django.utils import timezone

from apikeys.keys import format as keyformat
from console.ledger import models as ledger
from console.ledger.models import Kind
from console.models import User
from console.vault import VaultError


class KeyDeleted(Exception):
    """The key was deleted meanwhile."""


def day_of(moment: datetime) -> tuple[datetime, datetime]:
    """Start and end, in UTC, of the calendar day of `moment` in the installation's time zone: 23 to 25 hours."""
    zone = timezone.get_default_timezone()
    today = moment.astimezone(zone).date()

    def midnight(days: int) -> datetime:
        return datetime.combine(today + timedelta(days=days), time.min, zone).astimezone(UTC)

    return midnight(0), midnight(1)


def either(own: int | None, everybodys: int) -> int:
    """An account's own limit where it has one; 0 is one."""
    return everybodys if own is None else own


@dataclass(frozen=True)
class Quota:
    """What an account has of its limits, at one moment."""

    active: int
    created_today: int
    max_active: int
    max_created: int
    now: datetime

    @property
    def created_left(self) -> int:
        return max(0, self.max_created - self.created_today)

    @property
    def resets(self) -> str:
        """`at 00:00 UTC, in 3 h`"""
        end = day_of(self.now)[1]
        minutes = max(1, round((end - self.now).total_seconds() / 60))
        wait = f"{round(minutes / 60)} h" if minutes >= 60 else f"{minutes} min"
        return f"at {end.astimezone(timezone.get_default_timezone()):%H:%M %Z}, in {wait}"

    @property
    def refusal(self) -> str:
        """Why no key can be created now, and what to do; empty where one can."""
        if self.active >= self.max_active:
            return (
                f"You have {self.active} of {self.max_active} API keys. "
                "To create a new one, first delete an existing key."
            )
        if not self.created_left:
            return (
                f"You have created {self.created_today} of {self.max_created} API keys today. "
                f"Deleting a key gives no creation back; the limit resets {self.resets}."
            )
        return ""


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def of(self, account: User) -> "ApiKeyQuerySet":
        return self.filter(account=account)

    def active(self) -> "ApiKeyQuerySet":
        return self.filter(deleted_at=None)

    def deleted(self) -> "ApiKeyQuerySet":
        """With the calls that were `refused` since, and the hour of the last of them; the last deleted first."""
        refused = Q(usage__refused__gt=0)
        return (
            self.exclude(deleted_at=None)
            .annotate(refused=Sum("usage__refused"), last_refused=Max("usage__hour", filter=refused))
            .order_by("-deleted_at")
        )

    def quota(self, account: User) -> Quota:
        now = timezone.now()
        keys = self.of(account)
        return Quota(
            active=keys.active().count(),
            created_today=keys.filter(created_at__gte=day_of(now)[0]).count(),
            max_active=either(account.max_active_keys, settings.API_KEYS_MAX_ACTIVE),
            max_created=either(account.max_keys_a_day, settings.API_KEYS_MAX_CREATED_PER_DAY),
            now=now,
        )

    def issue(self, account: User, request_id: uuid.UUID) -> tuple["ApiKey", str]:
        """A new key and its secret, which only View shows again. Raises ValidationError at a limit, and where
        `request_id` has made its key already."""
        secret = keyformat.new_secret()
        key = self.model(account=account, request_id=request_id, hint=keyformat.hint(secret))
        key.digest = settings.VAULT.digests("api-key", secret)[0]
        key.sealed_secret = settings.VAULT.seal(key.place, secret.encode())
        try:
            key.save()
        except ValidationError as refused:
            with transaction.atomic():
                ledger.record(Kind.KEY_REFUSED, account, detail=refused.messages[0])
            raise
        return key, secret


class ApiKey(models.Model):
    """A key of a root account. Deleted, its row stays as the trace; its sealed secret goes."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(User, on_delete=models.PROTECT, related_name="api_keys")
    hint = models.CharField(max_length=16, editable=False)
    digest = models.BinaryField(unique=True, editable=False)
    sealed_secret = models.BinaryField(null=True, editable=False)
    request_id = models.UUIDField(editable=False)
    created_at = models.DateTimeField(editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)
    disabled_at = models.DateTimeField(null=True, editable=False)  # by its owner; it keeps its place
    account_disabled = models.BooleanField(default=False, editable=False)  # while its account is
    expires_at = models.DateTimeField(null=True, editable=False)  # refused from this instant on

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["account", "created_at"], name="keys_of_account_by_day"),
            # All that the gate asks for: it reads no row.
            models.Index(
                fields=["digest", "id", "account", "deleted_at", "disabled_at", "account_disabled", "expires_at"],
                name="keys_for_the_gate",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["account", "request_id"], name="one_key_a_request"),
            models.CheckConstraint(
                condition=Q(deleted_at=None, sealed_secret__isnull=False)
                | Q(deleted_at__isnull=False, sealed_secret=None),
                name="secret_only_while_active",
            ),
        ]

    def __str__(self) -> str:
        return self.hint

    @cached_property
    def last_call(self) -> "Usage | None":
        """The hour of the last accepted call, with its time and the caller's address."""
        return self.usage.exclude(last_call_at=None).order_by("-hour").first()

    @property
    def calls_of_a_day(self) -> int:
        """Accepted in the last 24 hours, with all of the hour that they begin in: rather too many than too few."""
        rows = self.usage.filter(hour__gt=timezone.now() - timedelta(hours=25))
        return rows.aggregate(sum=Sum("accepted"))["sum"] or 0

    @property
    def callers(self) -> list[str]:
        """Addresses that it was called from in the last week, the latest first: of each hour the last."""
        rows = self.usage.filter(hour__gt=timezone.now() - timedelta(days=7)).order_by("-last_call_at")
        return list(dict.fromkeys(row.last_call_from for row in rows if row.last_call_from))

    @property
    def place(self) -> str:
        return f"apikeys.apikey.secret:{self.account_id}:{self.id}"

    def clean(self) -> None:
        """The limits of an account, for a key about to be created; `save` calls it under the account's lock."""
        if not self._state.adding:
            return
        if not self.account.is_root_account:
            raise ValidationError("Only a root account can have API keys.")
        if not self.account.is_active:
            raise ValidationError("This account is disabled. Ask your operator.")
        made = ApiKey.objects.of(self.account).filter(request_id=self.request_id).first()
        if made:
            now = "It is deleted since." if made.deleted_at else "Use View to see it."
            raise ValidationError(f"This request has created the key {made} already. {now}")
        if refusal := ApiKey.objects.quota(self.account).refusal:
            raise ValidationError(refusal)

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            self.account = ledger.lock(self.account)
            self.created_at = timezone.now()
            self.full_clean(validate_unique=False, validate_constraints=False)  # the database keeps those
            super().save(*args, **kwargs)
            ledger.record(Kind.KEY_CREATED, self.account, key=self)

    def reveal(self) -> str:
        """The secret. Raises KeyDeleted, or VaultError where the row was changed from outside."""
        try:
            with transaction.atomic():
                ledger.record(Kind.KEY_VIEWED, self.account, key=self)
                self.refresh_from_db(fields=["deleted_at", "digest", "sealed_secret"])
                if self.sealed_secret is None:
                    raise KeyDeleted
                secret = settings.VAULT.open(self.place, bytes(self.sealed_secret)).decode()
                if bytes(self.digest) not in settings.VAULT.digests("api-key", secret):
                    raise VaultError(f"The digest of {self.place} is another's.")
        except VaultError as error:
            with transaction.atomic():
                ledger.record(Kind.KEY_DAMAGED, self.account, key=self, detail=str(error))
            raise
        return secret

    def delete(
        self, *args: Any, kind: Kind = Kind.KEY_DELETED, detail: str = "", who: str = "", **kwargs: Any
    ) -> tuple[int, dict[str, int]]:
        """Refuse the key from this commit on. Raises KeyDeleted where that was done already."""
        with transaction.atomic():
            ledger.record(kind, self.account, key=self, detail=detail, who=who)
            active = ApiKey.objects.active().filter(pk=self.pk)
            count = active.update(deleted_at=timezone.now(), sealed_secret=None)
            if not count:
                raise KeyDeleted
        return count, {self._meta.label: count}


class Usage(models.Model):
    """The calls of one key in one hour. Written by apikeys.metering.fold alone; days are sums."""

    pk = models.CompositePrimaryKey("key", "hour")
    # No constraint in the database: the gate found the key there, and asking again costs as much as the row. The
    # primary key is its index.
    key = models.ForeignKey(ApiKey, models.PROTECT, related_name="usage", db_constraint=False, db_index=False)
    hour = models.DateTimeField(editable=False)
    accepted = models.BigIntegerField(editable=False)
    refused = models.BigIntegerField(editable=False)
    last_call_at = models.DateTimeField(null=True, editable=False)  # of the accepted ones, to the minute
    last_call_from = models.GenericIPAddressField(null=True, editable=False)


class FoldedFile(models.Model):
    """A file of counted calls that is in Usage already: written in the same transaction, so that no crash between
    that and the file's removal counts a call twice."""

    name = models.CharField(max_length=32, primary_key=True)
    folded_at = models.DateTimeField(auto_now_add=True)


class LeakReport(models.Model):
    """Who reported leaked keys in the last minute: so that nobody tries many."""

    address = models.GenericIPAddressField(null=True, editable=False, db_index=True)
    at = models.DateTimeField(auto_now_add=True)
