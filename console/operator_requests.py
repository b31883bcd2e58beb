"""What one operator may not do alone where there is another: it is requested, and the other one confirms it."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Self

from django.apps import apps
from django.db import models, transaction
from django.db.models import Model, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from console.accounts import User, lock
from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.models import InstallationEntry
from console.ledger.record import record
from console.ledger.sentences import ACTIONS

VALID = timedelta(hours=24)


def has_second(user: User) -> bool:
    """Whether there is another operator, with a factor; or there was, until less than a day ago: whoever stops the
    others at once does not act alone at once."""
    active = Q(is_staff=True, is_active=True) & (Q(account=None) | Q(account__is_active=True))
    others = User.objects.exclude(pk=user.pk)
    if others.filter(active, pk__in=Authenticator.objects.filter(confirmed=True).values("user")).exists():
        return True
    lately = InstallationEntry.objects.filter(at__gt=timezone.now() - VALID)
    withdrawn = lately.filter(kind=Kind.OPERATOR_WITHDRAWN).exclude(params__user=user.username)
    stopped = lately.filter(kind=Kind.DISABLED).values_list("params__user", flat=True)
    disabled = others.filter(is_staff=True).filter(Q(username__in=[*stopped]) | Q(account__username__in=[*stopped]))
    return withdrawn.exists() or disabled.exists()


class OperatorRequest(models.Model):
    """An action on rows that another operator can still confirm. Once confirmed or rejected, the ledgers have it."""

    action = models.CharField(max_length=32, editable=False)
    model = models.CharField(max_length=64, editable=False)
    chosen = models.JSONField(editable=False)  # the rows' names by their ids
    by = models.ForeignKey(User, models.CASCADE, editable=False)
    at = models.DateTimeField(editable=False)

    class Meta:
        ordering = ["-at"]
        verbose_name, verbose_name_plural = _("request"), _("requests to confirm")

    def __str__(self) -> str:
        return f"{ACTIONS[self.action]}: {', '.join(self.chosen.values())}"

    @classmethod
    def ask(cls, by: User, action: str, chosen: Sequence[Model], owners: Iterable[User]) -> Self:
        with transaction.atomic():
            cls.objects.filter(at__lte=timezone.now() - VALID).delete()
            record_each(Kind.ACT_REQUESTED, owners, action=action)
            names, model = {str(row.pk): str(row) for row in chosen}, chosen[0]._meta.label
            return cls.objects.create(action=action, model=model, chosen=names, by=by, at=timezone.now())

    @classmethod
    def waiting(cls) -> "models.QuerySet[Self]":
        """Those of who is an operator still."""
        asked = cls.objects.filter(at__gt=timezone.now() - VALID, by__is_staff=True, by__is_active=True)
        return asked.filter(Q(by__account=None) | Q(by__account__is_active=True))

    def rows(self) -> list[Any]:
        return [*apps.get_model(self.model)._default_manager.filter(pk__in=[*self.chosen])]

    def end(self, kind: Kind, owners: Iterable[User]) -> bool:
        """Confirmed or rejected, once: False where it was meanwhile."""
        with transaction.atomic():
            if not OperatorRequest.waiting().filter(pk=self.pk).delete()[0]:
                return False
            record_each(kind, owners, action=self.action, by=self.by.username)
        return True


def record_each(kind: Kind, owners: Iterable[User], **params: Any) -> None:
    """In the ledger of each account: locked in one order before the installation's is, so that no two deadlock."""
    accounts = {owner.root.pk: owner.root for owner in owners}
    for _pk, account in sorted(accounts.items()):
        lock(account)
    for account in accounts.values():
        record(kind, account, **params)
