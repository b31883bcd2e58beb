"""The page of keys. Each of its dialogs has an address, and is that page with the dialog open."""

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.views.generic import ListView, View

from apikeys.models import ApiKey, ApiKeyQuerySet, KeyDeleted
from console.access import user_of
from console.factors.authentication import SecurityForm
from console.ledger import models as ledger
from console.ledger.models import Kind
from console.vault import VaultError

DELETED_SHOWN = 20
DAMAGED = (
    "This key cannot be shown: what is stored of it was changed from outside. It is in the ledger; "
    "tell your operator, and delete the key if nobody can say why."
)
NOT_ROOT = (
    "Only the root account can manage API keys. You are logged on as a RAM user: "
    "ask the owner of the root account {account} to create, view or delete a key."
)


class CreateForm(forms.Form):
    """Carries a random id, so that a reload, a double click or a retry makes no second key."""

    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class RootAccountOnly(View):
    """A page of the root account that is logged on; a RAM user is told why not. Every query starts from `keys`."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = user_of(request)
        if not user.is_root_account:
            if request.method == "POST":
                with transaction.atomic():
                    ledger.record(Kind.KEY_REFUSED, user, detail="Only the root account can manage API keys.")
            raise PermissionDenied(NOT_ROOT.format(account=user.account))
        return super().dispatch(request, *args, **kwargs)

    def keys(self) -> ApiKeyQuerySet:
        return ApiKey.objects.of(user_of(self.request))


class KeyList(RootAccountOnly, ListView):  # type: ignore[type-arg]
    """The active keys of the account."""

    template_name = "apikeys/list.html"
    context_object_name = "keys"
    http_method_names = ["get", "head", "options"]

    def get_queryset(self) -> ApiKeyQuerySet:
        return self.keys().active()

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = {
            "quota": self.keys().quota(user_of(self.request)),
            "create_form": CreateForm(),
            "deleted_keys": self.keys().deleted()[:DELETED_SHOWN],
        }
        return super().get_context_data(**(context | kwargs))

    def respond(self, dialog: str = "", status: int = 200, **context: Any) -> HttpResponse:
        """The list, with the partial of that name as its open dialog."""
        self.object_list = self.get_queryset()
        context["dialog"] = dialog and f"apikeys/dialogs/{dialog}.html"
        return self.render_to_response(self.get_context_data(**context), status=status)


class CreateKey(KeyList):
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest) -> HttpResponse:
        form = CreateForm(request.POST)
        if not form.is_valid():
            return self.respond(problem="This form is incomplete. Reload the page and try again.", status=400)
        try:
            key, secret = ApiKey.objects.issue(user_of(request), form.cleaned_data["request_id"])
        except ValidationError as refused:
            return self.respond(problem=" ".join(refused.messages), status=409)
        return self.respond("secret", key=key, secret=secret, created=True)


class SecuredKey(KeyList):
    """An action on one key: its POST carries the code of a security authentication, which serves that alone."""

    http_method_names = ["get", "head", "post", "options"]
    dialog = ""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except KeyDeleted:
            return self.respond(problem="This key is deleted already, perhaps in another window.", status=404)
        except VaultError:
            return self.respond(problem=DAMAGED, status=500)

    def key(self, key_id: uuid.UUID) -> ApiKey:
        """The account's key of that id. Raises Http404 and KeyDeleted."""
        key = get_object_or_404(self.keys(), pk=key_id)
        if key.deleted_at:
            raise KeyDeleted
        return key

    def get(self, request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
        return self.respond(self.dialog, key=self.key(key_id), form=SecurityForm())

    def post(self, request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
        key = self.key(key_id)
        form = SecurityForm(request.POST)
        if form.authenticate(user_of(request)) is None:
            return self.respond(self.dialog, form.status, key=key, form=form)
        return self.act(key)

    def act(self, key: ApiKey) -> HttpResponse:
        raise NotImplementedError


class ViewKey(SecuredKey):
    dialog = "view"

    def act(self, key: ApiKey) -> HttpResponse:
        return self.respond("secret", key=key, secret=key.reveal())


class DeleteKey(SecuredKey):
    """Confirm Deletion first (a GET, which changes nothing), then security authentication."""

    dialog = "delete"

    def get(self, request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
        dialog = "delete" if "confirmed" in request.GET else "confirm_deletion"
        return self.respond(dialog, key=self.key(key_id), form=SecurityForm())

    def act(self, key: ApiKey) -> HttpResponse:
        key.delete()
        messages.success(self.request, f"Key {key} is deleted. Every call that uses it is refused from now on.")
        return redirect("apikeys:list")
