"""What every page of the operators' site keeps to: operators alone, nothing without a code, nothing in bulk unseen."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from console.access import user_of
from console.accounts import User
from console.factors.forms import SecurityForm
from console.operator_requests import OperatorRequest, has_second
from console.pages.secured import authenticated

MOST_AT_ONCE = 100  # of an action: each takes the account's lock and writes its ledger, within one request

Act = Callable[["OperatorsAdmin", HttpRequest, Any], HttpResponse | None]


class SecuredModelForm(SecurityForm, forms.ModelForm):  # type: ignore[type-arg]
    """Once all that it has is valid, its code is spent."""

    request: HttpRequest  # set by OperatorsAdmin.get_form

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["otp_token"].widget.attrs["autofocus"]

    def full_clean(self) -> None:
        super().full_clean()
        if self.is_bound and not self.errors:
            authenticated(self.request, self)


class OperatorsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read-only, and for operators, whatever Django's permissions say. What a subclass allows takes a code: a form has
    a field for it, and an action a page that also says what it stops."""

    form = SecuredModelForm
    needs_second: Sequence[str] = ()  # actions; any is, on more than one item
    list_per_page = 50
    list_select_related: ClassVar[tuple[str, ...]] = ("account",)
    show_full_result_count = False  # beside a search: it counts the whole table

    def has_module_permission(self, request: HttpRequest) -> bool:
        return user_of(request).is_staff

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return user_of(request).is_staff

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """No filter in the URL: it would answer questions about a password's hash, character by character."""
        return False

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form = super().get_form(request, *args, **kwargs)
        return type(form.__name__, (form,), {"request": request})

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> Any:
        """Not in one transaction, as Django's is: a refused code stays counted, whatever becomes of the rest."""
        response = self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]
        shown = (getattr(response, "context_data", None) or {}).get("adminform")
        if shown and shown.form.errors:
            response.status_code = shown.form.status
        return response

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)
        return {name: (partial(confirm, act, name, said), name, said) for name, (act, _, said) in actions.items()}

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any], *args: Any) -> HttpResponse | None:
        chosen = len(request.POST.getlist(ACTION_CHECKBOX_NAME))
        if forms.BooleanField(required=False).clean(request.POST.get("select_across")):
            chosen = queryset.count()
        if chosen > MOST_AT_ONCE:
            message = _("You can select up to %(most)s items at a time. No items have been changed.")
            self.message_user(request, message % {"most": MOST_AT_ONCE}, messages.WARNING)
            return redirect(request.get_full_path())
        try:
            return super().response_action(request, queryset, *args)
        except (ValueError, OverflowError, ValidationError, DataError) as error:  # ids that no row can have
            raise BadRequest("The selected items do not exist.") from error

    def refusal(self, request: HttpRequest, action: str, chosen: Sequence[Any]) -> str:
        """Why that cannot be done, whatever the code."""
        return "" if chosen else _("The selected items no longer exist.")

    def owners(self, chosen: Sequence[Any]) -> list[User]:
        """Whose ledgers have a request about these."""
        return [*chosen]

    def waits_for_second(self, request: HttpRequest, action: str, chosen: Sequence[Any]) -> bool:
        return (action in self.needs_second or len(chosen) > 1) and has_second(user_of(request))

    def effects(self, action: str, chosen: Sequence[Any]) -> list[str]:
        """What it stops, a sentence each."""
        raise NotImplementedError


def confirm(
    act: Act, action: str, said: str, admin: OperatorsAdmin, request: HttpRequest, found: QuerySet[Any]
) -> HttpResponse | None:
    """Do it, for a POST that carries a code; for any other, the page that asks for one."""
    chosen = list(found)
    if refusal := admin.refusal(request, action, chosen):
        admin.message_user(request, refusal, messages.WARNING)
        return None
    form = SecurityForm(request.POST if "otp_token" in request.POST else None)
    waits = admin.waits_for_second(request, action, chosen)
    if form.is_valid() and authenticated(request, form):
        if not waits:
            return act(admin, request, chosen)
        OperatorRequest.ask(user_of(request), action, chosen, admin.owners(chosen))
        admin.message_user(request, _("Another operator has to confirm this within 24 hours."), messages.SUCCESS)
        return None
    context = {
        **admin.admin_site.each_context(request),
        "title": said,
        "form": form,
        "action": action,
        "chosen": chosen,
        "effects": admin.effects(action, chosen),
        "waits": waits,
    }
    return TemplateResponse(
        request, "console/confirm_action.html", context, status=form.status if form.is_bound else 200
    )
