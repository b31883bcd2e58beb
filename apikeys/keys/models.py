"""The model of an API key: creating, viewing and revoking."""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Count, Max, OuterRef, Q, Subquery, Sum
from django.dispatch import receiver
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apikeys.keys.format import hint, new_secret
from apikeys.keys.limits import CreationRefused, Quota, day_of, limit_or_default
from apikeys.keys.status import Status, status_of
from apikeys.keys.tombstones import Tombstone, note
from console.accounts import User, lock
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.operators import activity_changed
from console.permanent import permanent
from console.vault import VaultError

# The second part is true of every key. It is about a column that `meter` may read (deploy/postgresql-roles.sql).
DELETED = Q(deleted_at__isnull=False) & (Q(expires_at=None) | Q(expires_at__isnull=False))
REVOCATIONS = {"deleted": Kind.KEY_DELETED, "leaked": Kind.KEY_LEAKED}


class KeyDeleted(Exception):
    """The key has already been deleted."""


class ShownOnce(Exception):
    """Of the key, no copy is kept that can be opened."""


def ago(**time: int) -> datetime:
    # unnoticed mutants (1): test_usage notices it, which `make mutants` does not run.
    return timezone.now() - timedelta(**time)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def of(self, account: User) -> "ApiKeyQuerySet":
        return self.filter(account=account)

    def active(self) -> "ApiKeyQuerySet":
        """Those that count towards the limit: all that are not deleted."""
        return self.filter(deleted_at=None)

    def search(self, text: str) -> "ApiKeyQuerySet":
        """Those whose hint has `text` in it; three dots stand for the ellipsis of a hint."""
        return self.filter(hint__icontains=text.replace("...", "…"))

    def with_last_call(self) -> "ApiKeyQuerySet":
        """With `last_call_at` and `last_call_from` of the last accepted call."""
        # unnoticed mutants (3): Django finds a model in any case; test_usage, which is not run, notices the third.
        hours = apps.get_model("apikeys", "Usage")._default_manager.filter(key=OuterRef("pk"))
        last = hours.exclude(last_call_at=None).order_by("-hour")
        # unnoticed mutants (1): SQLite takes the first row of a subquery; PostgreSQL refuses a second one.
        return self.annotate(**{name: Subquery(last.values(name)[:1]) for name in ("last_call_at", "last_call_from")})

    def last_deleted(self, count: int) -> "ApiKeyQuerySet":
        """With the calls `refused` since, and the hour of the last of them; the last deleted first."""
        last = self.exclude(deleted_at=None).order_by("-deleted_at")[:count]
        refused = Q(usage__refused__gt=0)
        return (
            self.filter(pk__in=last.values("pk"))
            .annotate(refused=Sum("usage__refused"), last_refused=Max("usage__hour", filter=refused))
            .order_by("-deleted_at")
        )

    def quota(self, account: User) -> Quota:
        now = timezone.now()
        start, end = day_of(now)
        active, today = Q(deleted_at=None), Q(created_at__gte=start, created_at__lt=end)
        used = (
            self.of(account)
            .filter(active | today)
            .aggregate(active=Count("pk", filter=active), created_today=Count("pk", filter=today))
        )
        return Quota(
            **used,
            max_active=limit_or_default(account.max_active_keys, settings.API_KEYS_MAX_ACTIVE),
            max_created=limit_or_default(account.max_keys_a_day, settings.API_KEYS_MAX_CREATED_PER_DAY),
            now=now,
        )

    def delete_copies(self) -> int:
        """Keep no copy of them that can be opened. How many there were. The account's lock is held."""
        copied = self.active().exclude(sealed_secret=None).order_by("pk").select_for_update()
        return self.filter(pk__in=[key.pk for key in copied.only("pk")]).update(sealed_secret=None)

    def resting_on_older_keys(self) -> "ApiKeyQuerySet":
        """The active ones that no rotation can move to the newest of DIGEST_KEYS, as they are shown once: without the
        older versions they stop working."""
        return self.active().filter(sealed_secret=None).exclude(digest_version=settings.VAULT.versions[0])

    def issue(self, account: User, request_id: uuid.UUID) -> tuple["ApiKey", str]:
        """A new key and its secret, which only View shows again, if anything. Raises CreationRefused at a limit, and
        where `request_id` has created its key already."""
        secret = new_secret()
        key = self.model(account=account, request_id=request_id, hint=hint(secret))
        key.digest, key.digest_version = settings.VAULT.digests("api-key", secret)[0], settings.VAULT.versions[0]
        key.sealed_secret = settings.VAULT.seal(key.place, secret.encode())
        try:
            key.save()
        except CreationRefused as refused:
            with transaction.atomic():
                record(Kind.CREATION_REFUSED, account, reason=refused.code, **refused.facts)
            raise
        return key, secret


@permanent
class ApiKey(models.Model):
    """A key of a root account. After its deletion the row stays as the trace; its sealed secret does not."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(User, on_delete=models.PROTECT, related_name="api_keys")
    hint = models.CharField(max_length=16, editable=False)
    digest = models.BinaryField(unique=True, editable=False)
    digest_version = models.PositiveIntegerField(null=True, editable=False)  # of DIGEST_KEYS; None of earlier ones
    sealed_secret = models.BinaryField(null=True, editable=False)  # the copy for View; none where it is shown once
    request_id = models.UUIDField(editable=False)
    created_at = models.DateTimeField(editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)
    disabled_at = models.DateTimeField(null=True, editable=False)  # by its owner; it still counts towards the limit
    account_disabled = models.BooleanField(default=False, editable=False)  # while its account is
    expires_at = models.DateTimeField(null=True, editable=False)  # denied from this instant on

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        indexes = [
            models.Index(fields=["account", "created_at"], name="keys_of_account_by_day"),
            models.Index(fields=["account", "deleted_at", "created_at"], name="active_keys_of_account"),
            models.Index(fields=["created_at", "id"], name="keys_by_age"),  # the operators' list
            models.Index(fields=["hint"], name="keys_by_hint"),
            # Of all accounts (apikeys.keys.deletions). Without the second condition, which holds for each of them,
            # PostgreSQL would look for an account's last deleted keys in it too.
            models.Index(fields=["deleted_at"], name="keys_by_deletion", condition=DELETED),
            # All that the gate queries, so that it never reads a row.
            models.Index(
                fields=["digest", "id", "account", "deleted_at", "disabled_at", "account_disabled", "expires_at"],
                name="keys_for_the_gate",
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["account", "request_id"], name="one_key_a_request"),
            models.CheckConstraint(
                condition=Q(deleted_at=None) | Q(sealed_secret=None), name="secret_only_while_active"
            ),
        ]

    def __str__(self) -> str:
        return self.hint

    @property
    def status(self) -> Status:
        return status_of(
            deleted=self.deleted_at is not None,
            disabled=self.disabled_at is not None or self.account_disabled,
            expires_at=self.expires_at.timestamp() if self.expires_at else None,
            now=timezone.now().timestamp(),
        )

    @cached_property
    def last_hours(self) -> list[Any]:
        """The hours (apikeys.usage.models.Usage) of the last week, and that of the last accepted call; latest first."""
        last_call = self.usage.exclude(last_call_at=None).order_by("-hour").values("hour")[:1]
        return [*self.usage.filter(Q(hour__gt=ago(days=7)) | Q(hour=Subquery(last_call))).order_by("-hour")]

    @property
    def last_call(self) -> Any:
        """The hour of the last accepted call, with its time and the caller's address."""
        return next((hour for hour in self.last_hours if hour.last_call_at), None)

    @property
    def calls_in_24_hours(self) -> int:
        """Accepted calls of the last 24 hours, including the whole hour in which they begin."""
        return sum(hour.accepted for hour in self.last_hours if hour.hour > ago(hours=25))

    @property
    def callers(self) -> list[str]:
        """IP addresses that the key was used from in the last week, latest first: the last one of each hour."""
        week = (hour.last_call_from for hour in self.last_hours if hour.hour > ago(days=7))
        return [*dict.fromkeys(filter(None, week))]

    @property
    def place(self) -> str:
        return f"apikeys.apikey.secret:{self.account_id}:{self.id}"

    def clean(self) -> None:
        """The limits of an account, for a key about to be created; `save` calls it under the account's lock."""
        if not self._state.adding:
            return
        if not self.account.is_root_account:
            raise ValidationError(_("Only a root account can have API keys."))
        if not self.account.is_active:
            raise CreationRefused("account_disabled")
        existing = ApiKey.objects.of(self.account).filter(request_id=self.request_id).first()
        if existing:
            code = "request_used" if existing.sealed_secret else "request_used_shown_once"
            raise CreationRefused("request_used_key_deleted" if existing.deleted_at else code, existing=existing.hint)
        if refusal := ApiKey.objects.quota(self.account).refusal:
            raise refusal

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            # unnoticed mutants (2): what is passed on are options of Django's that nobody here uses.
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            self.account = lock(self.account)
            self.created_at = timezone.now()
            if self.account.show_once:
                self.sealed_secret = None
            self.clean_fields()
            self.clean()  # uniqueness and constraints are the database's
            # unnoticed mutants (2): a row with a new primary key is inserted with or without `force_insert`.
            super().save(*args, **kwargs)
            record(Kind.KEY_CREATED, self.account, key=self)

    def reveal(self) -> str:
        """The secret. Raises KeyDeleted, ShownOnce, or VaultError where the row was modified outside the console."""
        try:
            with transaction.atomic():
                record(Kind.KEY_VIEWED, self.account, key=self)
                # unnoticed mutants (1): None reads the other columns too; they are not used.
                self.refresh_from_db(fields=["deleted_at", "digest", "sealed_secret"])
                if self.deleted_at:
                    raise KeyDeleted
                if self.sealed_secret is None:
                    raise ShownOnce
                secret = settings.VAULT.open(self.place, bytes(self.sealed_secret)).decode()
                if bytes(self.digest) not in settings.VAULT.digests("api-key", secret):
                    raise VaultError(f"The digest of {self.place} belongs to another secret.")
        except VaultError:
            with transaction.atomic():
                record(Kind.KEY_DAMAGED, self.account, key=self)
            raise
        return secret

    def revoke(self, reason: str = "deleted", facts: Mapping[str, Any] | None = None) -> None:
        """Deny the key from this commit on and drop its secret; once this returns, no change to the database makes it
        active again. `reason` is one of REVOCATIONS; `facts` are further parameters for the ledger. Raises KeyDeleted
        where the key is already deleted."""
        now = timezone.now()
        with transaction.atomic():
            record(REVOCATIONS[reason], self.account, key=self, **(facts or {}))
            active = ApiKey.objects.active().filter(pk=self.pk)
            if not active.update(deleted_at=now, sealed_secret=None):
                raise KeyDeleted
            # A rotation of the vault's keys may have renewed it.
            # unnoticed mutants (1): None reads the other columns too; they are not used.
            self.refresh_from_db(fields=["digest"])
            deleted = Tombstone(now, self.pk, bytes(self.digest))
            transaction.on_commit(partial(note, settings.DELETED_KEYS_FILE, deleted))


@receiver(activity_changed)
def follow_account(sender: object, user: User, **kwargs: Any) -> None:
    """Keys are denied while their account is disabled."""
    keys = ApiKey.objects.of(user)
    list(keys.order_by("pk").select_for_update())  # locked in the order in which a rotation of the vault locks them
    keys.update(account_disabled=not user.is_active)
