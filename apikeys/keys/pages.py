"""The page of keys. Each of its dialogs has a URL, and is that page with the dialog open."""

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View
from django.views.generic.base import TemplateResponseMixin

from apikeys.keys.limits import CreationRefused
from apikeys.keys.models import ApiKey, ApiKeyQuerySet, KeyDeleted, ShownOnce
from console.access import user_of
from console.factors.forms import SecurityForm
from console.pages.paged import page_of, search_text
from console.pages.secured import SecuredView
from console.vault import VaultError

DELETED_SHOWN = 20
INCOMPLETE = gettext_lazy("This form is incomplete. Reload the page and try again.")
ALREADY_DELETED = gettext_lazy("This API key has already been deleted, perhaps in another window.")
DAMAGED = gettext_lazy(
    "This API key cannot be decrypted: its stored data was modified outside the console. Check the Activity page and "
    "contact your operator. If the change cannot be explained, delete the key."
)


class CreateForm(forms.Form):
    """Carries a random id, so that a reload, a double click or a retry creates no second key."""

    request_id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class OwnKeys(View):
    """A page of the logged-on account. Every query starts from `keys`."""

    def keys(self) -> ApiKeyQuerySet:
        return ApiKey.objects.of(user_of(self.request))


class KeyList(TemplateResponseMixin, OwnKeys):
    """The active keys of the account, those with `?q=` in their hint."""

    template_name = "apikeys/list.html"
    http_method_names = ["get", "head", "options"]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.respond()

    @property
    def list_params(self) -> dict[str, str]:
        """The search and the page of the list, to which its dialogs return."""
        return {name: self.request.GET[name] for name in ("q", "page") if self.request.GET.get(name)}

    @property
    def list_query(self) -> str:
        return f"?{urlencode(self.list_params)}" if self.list_params else ""

    def respond(self, dialog: str = "", status: int = 200, **context: Any) -> HttpResponse:
        """The list, with the partial of that name as its open dialog, behind which the deleted keys are left out."""
        search = search_text(self.request)
        keys = self.keys().active().with_last_call()
        context |= {
            **page_of(self.request, keys.search(search) if search else keys),
            "search": search,
            "list_params": self.list_params,
            "list_query": self.list_query,
            "quota": self.keys().quota(user_of(self.request)),
            "create_form": CreateForm(),
            "deleted_keys": () if dialog else self.keys().last_deleted(DELETED_SHOWN),
            "dialog": dialog and f"apikeys/dialogs/{dialog}.html",
        }
        return self.render_to_response(context, status=status)


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
        except ShownOnce:
            return self.respond("shown_once", status=409 if request.method == "POST" else 200, key=self.key)
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
    """Of a key that is shown once there is nothing to view, and no code is spent."""

    dialog = "view"

    def form(self, *data: Any) -> SecurityForm:
        form = super().form(*data)
        if self.key.sealed_secret is None:
            raise ShownOnce
        return form

    def act(self, form: SecurityForm) -> HttpResponse:
        return self.respond("secret", key=self.key, secret=self.key.reveal())


class DeleteKey(SecuredKey):
    """First Confirm Deletion (a GET, which changes nothing), then security authentication."""

    dialog = "delete"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        form = self.form()
        dialog = "delete" if "confirmed" in request.GET else "confirm_deletion"
        return self.respond(dialog, key=self.key, form=form)

    def act(self, form: SecurityForm) -> HttpResponse:
        self.key.revoke()
        messages.success(self.request, _("The API key %s has been deleted. Calls that use it are denied.") % self.key)
        return redirect(reverse("apikeys:list") + self.list_query)
