"""Users as operators see them: no secret, digest or factor appears here, and no second way to a key."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth import admin as _registers_groups  # noqa: F401
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from console.access import user_of
from console.accounts import User, folded, lock
from console.factors.models import Authenticator
from console.ledger.kinds import Kind
from console.ledger.models import InstallationEntry
from console.ledger.record import record
from console.operator_requests import OperatorRequest
from console.operators import (
    end_sessions,
    grant_role,
    invite,
    lift_lockout,
    sessions_of,
    set_active,
    stopping,
    withdraw_role,
)
from console.operators_admin import OperatorsAdmin
from console.outbox import Email
from console.recovery import Lost, Recovery
from console.requests_admin import InstallationEntryAdmin, OperatorRequestAdmin

admin.site.unregister(Group)
admin.site.register(OperatorRequest, OperatorRequestAdmin)
admin.site.register(InstallationEntry, InstallationEntryAdmin)

Link = tuple[User, str, datetime | None]  # and when it can first be used

LOST = ("reset_factors", "reset_password")
LIMITS = ("max_active_keys", "max_keys_a_day")
ENDING_SESSIONS = ("disable", "end_sessions", "withdraw_role")


class AccountSelect(AutocompleteSelect):
    def optgroups(self, name: str, value: Any, attr: Any = None) -> Any:
        """What is no id selects nothing; Django's own fails on it, and on one that no database can have."""
        return super().optgroups(name, [each for each in value if re.fullmatch("[0-9]{1,18}", str(each))], attr)


@admin.register(User)
class UserAdmin(OperatorsAdmin):
    """Accounts and RAM users. An operator never sets a password: a new user gets a link."""

    list_display = ("username", "account", "email", "is_active", "is_staff", "last_login")
    ordering = ("username",)
    search_fields = ("username", "folded_name", "email")
    autocomplete_fields = ("account",)
    actions = (
        "invite_again",
        "reset_factors",
        "reset_password",
        "lift_lockout",
        "end_sessions",
        "disable",
        "enable",
        "grant_role",
        "withdraw_role",
    )
    needs_second = ("reset_factors", "reset_password", "grant_role")

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(
            db_field, request, widget=AccountSelect(db_field, self.admin_site), **kwargs
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return user_of(request).is_staff

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Of the limits, which are a root account's."""
        return user_of(request).is_staff and (obj is None or obj.is_root_account)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        """Whatever the case: SQLite alone knows that of ASCII only."""
        return super().get_search_results(request, queryset, folded("".join(filter(str.isprintable, search_term))))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("username", "email", "account", "otp_token")
        of_keys = ("show_once", *LIMITS, "otp_token") if obj.is_root_account else ()
        return ("username", "email", "account", "is_active", "is_staff", "date_joined", "last_login", *of_keys)

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
            elif changed := {*form.changed_data} & {*LIMITS}:
                lock(obj.root)
                obj.save(update_fields=changed)  # the other fields may have changed since they were read
                record(Kind.LIMITS_CHANGED, obj, **{name: getattr(obj, name) for name in LIMITS})

    def response_add(self, request: HttpRequest, obj: User, post_url_continue: str | None = None) -> HttpResponse:
        return self.links(request, _("Invitations"), [(obj, invite(obj), None)])

    def links(self, request: HttpRequest, title: str, links: Sequence[Link]) -> HttpResponse:
        """Shown in this response alone: a message would be stored."""
        context = {**self.admin_site.each_context(request), "title": title, "links": links}
        return TemplateResponse(request, "console/invitation_links.html", context)

    def refusal(self, request: HttpRequest, action: str, chosen: Sequence[User]) -> str:
        if request.user in chosen:  # nobody locks himself out, or lets himself try again
            return _("You cannot apply this action to yourself. Ask another operator.")
        if action == "invite_again" and all(user.has_usable_password() for user in chosen):
            return _("All selected users have a password, which only they can change.")
        if action == "invite_again" and any(user.is_staff for user in chosen):
            return _("An operator is not invited: whoever opens the link would be one. Withdraw the role first.")
        if action == "grant_role" and len(self.recoverable(chosen)) < len(chosen):
            return _("An operator needs a password and an authenticator first, which the user sets.")
        if action in LOST and not self.recoverable(chosen):
            return _("None of the selected users has both a password and an authenticator. Use `manage.py breakglass`.")
        return super().refusal(request, action, chosen)

    def effects(self, action: str, chosen: Sequence[User]) -> list[str]:
        found = []
        if action in ENDING_SESSIONS:
            count = sum(sessions_of(user).count() for user in chosen)
            found.append(ngettext("%(count)s session ends.", "%(count)s sessions end.", count) % {"count": count})
        if action == "disable":
            members = User.objects.filter(account__in=chosen).count()
            said = ngettext("%(count)s RAM user is logged out.", "%(count)s RAM users are logged out.", members)
            found.append(said % {"count": members})
            for _receiver, sentences in stopping.send(User, accounts=chosen):
                found += sentences or []
        return found

    @admin.action(description=gettext_lazy("Invite again (users without a password)"))
    def invite_again(self, request: HttpRequest, chosen: list[User]) -> HttpResponse:
        invited = [user for user in chosen if not user.has_usable_password()]
        return self.links(request, _("Invitations"), [(user, invite(user), None) for user in invited])

    @admin.action(description=gettext_lazy("End sessions (of a root account, also those of its RAM users)"))
    def end_sessions(self, request: HttpRequest, chosen: list[User]) -> None:
        self.each(request, chosen, end_sessions)

    @admin.action(description=gettext_lazy("Reset a lost authenticator: a link, which asks for the password"))
    def reset_factors(self, request: HttpRequest, chosen: list[User]) -> HttpResponse:
        return self.recover(request, chosen, Lost.FACTORS)

    @admin.action(description=gettext_lazy("Reset a forgotten password: a link, which asks for a security code"))
    def reset_password(self, request: HttpRequest, chosen: list[User]) -> HttpResponse:
        return self.recover(request, chosen, Lost.PASSWORD)

    def recover(self, request: HttpRequest, chosen: list[User], lost: Lost) -> HttpResponse:
        links = [(user, *Recovery.begin(user, lost)) for user in self.recoverable(chosen)]
        return self.links(request, _("Recovery links"), links)

    def recoverable(self, chosen: Sequence[User]) -> list[User]:
        """Those who have what is asked for, and what is replaced."""
        enrolled = {*Authenticator.objects.filter(user__in=chosen, confirmed=True).values_list("user", flat=True)}
        return [user for user in chosen if user.has_usable_password() and user.pk in enrolled]

    @admin.action(description=gettext_lazy("Lift lockout"))
    def lift_lockout(self, request: HttpRequest, chosen: list[User]) -> None:
        self.each(request, chosen, lift_lockout)

    @admin.action(description=gettext_lazy("Disable (ends sessions and denies API keys at once, RAM users included)"))
    def disable(self, request: HttpRequest, chosen: list[User]) -> None:
        self.each(request, chosen, lambda user: set_active(user, False))

    @admin.action(description=gettext_lazy("Enable"))
    def enable(self, request: HttpRequest, chosen: list[User]) -> None:
        self.each(request, chosen, lambda user: set_active(user, True))

    @admin.action(description=gettext_lazy("Make an operator"))
    def grant_role(self, request: HttpRequest, chosen: list[User]) -> None:
        self.each(request, chosen, grant_role)

    @admin.action(description=gettext_lazy("Withdraw the operator’s role"))
    def withdraw_role(self, request: HttpRequest, chosen: list[User]) -> None:
        self.each(request, chosen, withdraw_role)

    def each(self, request: HttpRequest, chosen: list[User], act: Any) -> None:
        for user in chosen:
            act(user)
        message = ngettext("%(count)s user changed.", "%(count)s users changed.", len(chosen))
        self.message_user(request, message % {"count": len(chosen)}, messages.SUCCESS)


@admin.register(Email)
class EmailAdmin(OperatorsAdmin):
    """Email that the mail server has not accepted. Its text is for its recipient only."""

    list_display = fields = ("to", "subject", "created_at", "attempts", "given_up_at", "error")
    list_display_links = None
    list_select_related = ()
    ordering = ("-created_at",)
    actions = None
