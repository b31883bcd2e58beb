"""What operators see and do: no secret, digest or factor appears here, and no second way to a key."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import Group
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.access import user_of
from console.accounts import User, folded, lock
from console.ledger.kinds import Kind
from console.ledger.record import record
from console.operators import invite, lift_lockout, reset_factors, set_active

admin.site.unregister(Group)

LIMITS = ("max_active_keys", "max_keys_a_day")
MOST_AT_ONCE = 100  # of an action: each takes the account's lock and writes its ledger, within one request


class OperatorsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read-only, and for operators, whatever Django's permissions say."""

    list_per_page = 50
    list_select_related = ("account",)
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

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """No filter in the URL: it would answer questions about a password's hash, character by character."""
        return False


@admin.register(User)
class UserAdmin(OperatorsAdmin):
    """Accounts and RAM users. An operator never sets a password: a new user gets a link."""

    list_display = ("username", "account", "email", "is_active", "is_staff", "last_login")
    ordering = ("username",)
    search_fields = ("username", "folded_name", "email")
    autocomplete_fields = ("account",)
    actions = ("invite_again", "reset_factors", "lift_lockout", "disable", "enable")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return user_of(request).is_staff

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return user_of(request).is_staff

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        """Whatever the case: SQLite alone knows that of ASCII only."""
        return super().get_search_results(request, queryset, folded(search_term))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("username", "email", "account")
        of_keys = (*LIMITS, "show_once") if obj.is_root_account else ()
        return ("username", "email", "account", *of_keys, "is_active", "is_staff", "date_joined", "last_login")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Not the email address either: whoever changes it receives the owner's notifications.
        own = ("username", "email", "account", "show_once")
        return () if obj is None else (*own, "is_active", "is_staff", "date_joined", "last_login")

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        with transaction.atomic():
            if not change:
                obj.set_unusable_password()
                super().save_model(request, obj, form, change)
                record(Kind.USER_CREATED, obj, user=obj.username)
                return
            lock(obj.root)
            obj.save(update_fields=form.changed_data)  # the other fields may have changed since they were read
            if set(form.changed_data) & set(LIMITS):
                record(Kind.LIMITS_CHANGED, obj, **{name: getattr(obj, name) for name in LIMITS})

    def response_add(self, request: HttpRequest, obj: User, post_url_continue: str | None = None) -> HttpResponse:
        return self.links(request, [(obj, invite(obj))])

    def links(self, request: HttpRequest, invitations: list[tuple[User, str]]) -> HttpResponse:
        """Shown in this response alone: a message would be stored."""
        context = {**self.admin_site.each_context(request), "title": _("Invitations"), "links": invitations}
        return TemplateResponse(request, "console/invitation_links.html", context)

    @admin.action(description=gettext_lazy("Invite again (users without a password)"))
    def invite_again(self, request: HttpRequest, chosen: QuerySet[User]) -> HttpResponse | None:
        invitations = [(user, invite(user)) for user in chosen if not user.has_usable_password()]
        if not invitations:
            message = _("All selected users have a password, which only they can change.")
            self.message_user(request, message, messages.WARNING)
            return None
        return self.links(request, invitations)

    @admin.action(description=gettext_lazy("Reset factors"))
    def reset_factors(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in self.others(request, chosen):
            reset_factors(user)

    @admin.action(description=gettext_lazy("Lift lockout"))
    def lift_lockout(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in chosen:
            lift_lockout(user)
        self.message_user(request, _("Lockouts lifted."))

    @admin.action(description=gettext_lazy("Disable (ends sessions and denies API keys at once, RAM users included)"))
    def disable(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in self.others(request, chosen):
            set_active(user, False)

    @admin.action(description=gettext_lazy("Enable"))
    def enable(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in self.others(request, chosen):
            set_active(user, True)

    def others(self, request: HttpRequest, chosen: QuerySet[User]) -> list[User]:
        """Without oneself: no operator locks himself out, or removes his own second factor."""
        others = [user for user in chosen if user != request.user]
        if others:
            message = ngettext("%(count)s user changed.", "%(count)s users changed.", len(others))
            self.message_user(request, message % {"count": len(others)})
        else:
            self.message_user(
                request, _("You cannot apply this action to yourself. Ask another operator."), messages.WARNING
            )
        return others
