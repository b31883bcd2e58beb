"""Rows that are never deleted: keys, ledger entries, users."""

from typing import Any, TypeVar

from django.db.models import Model
from django.db.models.deletion import ProtectedError
from django.db.models.signals import pre_delete

M = TypeVar("M", bound=type[Model])


def permanent(model: M) -> M:
    """A class decorator: every way that Django has to delete a row of `model` raises ProtectedError (an instance, a
    queryset, a related manager, a cascade, the admin site). All of them send this signal before they delete a row."""
    pre_delete.connect(refuse, sender=model)
    return model


def refuse(sender: type[Model], instance: Model, **kwargs: Any) -> None:
    raise ProtectedError(f"{sender._meta.label} {instance.pk} is permanent and cannot be deleted.", {instance})
