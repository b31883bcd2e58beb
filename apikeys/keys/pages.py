"""The page of keys. Each of its dialogs has a URL, and is that page with the dialog open."""

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import ListView, View

from apikeys.keys.limits import CreationRefused
from apikeys.keys.models import ApiKey, ApiKeyQuerySet, KeyDeleted
from console.access import user_of
from console.factors.forms import SecurityForm
from console.pages.secured import SecuredView
from console.vault import VaultError

DELETED_SHOWN = 20
INCOMPLETE = gettext_lazy("This form is incomplete. Reload the page and try again.")
ALREADY_DELETED = gettext_lazy("This API key has already been deleted, perhaps in another window.")
DAMAGED = gettext_lazy(
    "This API key cannot be shown: its stored data was modified outside the console. See the activity of your "
    "account. Contact your operator, and delete the key if nobody can explain it."
)


class CreateForm(forms.Form):
    """Carries a random id, so that a reload, a double click or a retry creates no second key."""

    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class OwnKeys(View):
    """A page of the account that is logged on. Every query starts from `keys`."""

    def keys(self) -> ApiKeyQuerySet:
        return ApiKey.objects.of(user_of(self.request))


class KeyList(OwnKeys, ListView):  # type: ignore[type-arg]
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
            return self.respond(problem=INCOMPLETE, status=400)
        try:
            key, secret = ApiKey.objects.issue(user_of(request), form.cleaned_data["request_id"])
        except CreationRefused as refused:
            return self.respond(problem=refused.messages[0], problem_code=refused.code, status=409)
        return self.respond("secret", key=key, secret=secret, created=True)


class SecuredKey(SecuredView, KeyList):
    """An act on one key behind security authentication, as a dialog of the list."""

    http_method_names = ["get", "head", "post", "options"]
    dialog: str

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except KeyDeleted:
            return self.respond(problem=ALREADY_DELETED, status=404)
        except VaultError:
            return self.respond(problem=DAMAGED, status=500)

    def form(self, *data: Any) -> SecurityForm:
        """Finds the key first, before a code is spent. Raises Http404 and KeyDeleted."""
        self.key = get_object_or_404(self.keys(), pk=self.kwargs["key_id"])
        if self.key.deleted_at:
            raise KeyDeleted
        return SecurityForm(*data)

    def page(self, form: SecurityForm, status: int = 200) -> HttpResponse:
        return self.respond(self.dialog, status, key=self.key, form=form)


class ViewKey(SecuredKey):
    dialog = "view"

    def act(self, form: SecurityForm) -> HttpResponse:
        return self.respond("secret", key=self.key, secret=self.key.reveal())


class DeleteKey(SecuredKey):
    """Confirm Deletion first (a GET, which changes nothing), then security authentication."""

    dialog = "delete"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form = self.form()
        dialog = "delete" if "confirmed" in request.GET else "confirm_deletion"
        return self.respond(dialog, key=self.key, form=form)

    def act(self, form: SecurityForm) -> HttpResponse:
        self.key.revoke()
        messages.success(self.request, _("The API key %s has been deleted. Calls that use it are denied.") % self.key)
        return redirect("apikeys:list")
