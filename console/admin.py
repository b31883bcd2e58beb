"""What operators see and do: no secret, digest or factor is here, and no second way to a key."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from console.access import user_of
from console.ledger import models as ledger
from console.ledger.models import Kind
from console.models import User
from console.pages.invitation import invite

admin.site.unregister(Group)

LIMITS = ("max_active_keys", "max_keys_a_day")


class OperatorsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows, and changes nothing; for operators, whatever Django's permissions say."""

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
        try:
            return super().response_action(request, queryset, *args)
        except (ValueError, OverflowError, ValidationError, DataError) as error:  # rows that can be none
            raise BadRequest("These rows are not there.") from error

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """No filter in the address: it would answer questions about a password's hash, sign by sign."""
        return False


@admin.register(User)
class UserAdmin(OperatorsAdmin):
    """Accounts and RAM users. An operator never sets a password: a new user gets a link."""

    list_display = ("username", "account", "email", "is_active", "is_staff", "last_login")
    search_fields = ("username", "email")
    actions = ("invite_again", "reset_factors", "lift_lockout", "disable", "enable")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return user_of(request).is_staff

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return user_of(request).is_staff

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return ("username", "email", "account")
        limits = LIMITS if obj.is_root_account else ()
        return ("username", "email", "account", *limits, "is_active", "is_staff", "date_joined", "last_login")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Not the mail address either: whoever changes it takes the owner's warnings.
        own = ("username", "email", "account")
        return () if obj is None else (*own, "is_active", "is_staff", "date_joined", "last_login")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(db_field, request, queryset=User.objects.filter(account=None), **kwargs)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        with transaction.atomic():
            if not change:
                obj.set_unusable_password()
                super().save_model(request, obj, form, change)
                ledger.record(Kind.USER_CREATED, obj, detail=f"{obj}")
                return
            ledger.lock(obj.root)
            obj.save(update_fields=form.changed_data)  # the rest may have changed since it was read
            if set(form.changed_data) & set(LIMITS):
                limits = ", ".join(f"{name}: {getattr(obj, name)}" for name in LIMITS)
                ledger.record(Kind.LIMITS_CHANGED, obj, detail=limits)

    def response_add(self, request: HttpRequest, obj: User, post_url_continue: str | None = None) -> HttpResponse:
        return self.links(request, [(obj, invite(obj))])

    def links(self, request: HttpRequest, made: list[tuple[User, str]]) -> HttpResponse:
        """Shown in this answer alone: a message would store them."""
        context = {**self.admin_site.each_context(request), "title": "Invitations", "links": made}
        return TemplateResponse(request, "console/invitation_links.html", context)

    @admin.action(description="Invite again (users without a password)")
    def invite_again(self, request: HttpRequest, chosen: QuerySet[User]) -> HttpResponse | None:
        made = [(user, invite(user)) for user in chosen if not user.has_usable_password()]
        if not made:
            self.message_user(request, "All of them have a password; only they can change it.", messages.WARNING)
            return None
        return self.links(request, made)

    @admin.action(description="Reset the factors")
    def reset_factors(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in self.others(request, chosen):
            user.reset_factors()

    @admin.action(description="Lift a lockout")
    def lift_lockout(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in chosen:
            user.lift_lockout()
        self.message_user(request, "Done.")

    @admin.action(description="Disable: sessions, keys and RAM users stop at once")
    def disable(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in self.others(request, chosen):
            user.set_active(False)

    @admin.action(description="Enable again")
    def enable(self, request: HttpRequest, chosen: QuerySet[User]) -> None:
        for user in self.others(request, chosen):
            user.set_active(True)

    def others(self, request: HttpRequest, chosen: QuerySet[User]) -> list[User]:
        """Not oneself: nobody locks himself out, or takes his own second factor away."""
        found = [user for user in chosen if user != request.user]
        self.message_user(request, f"Done for {len(found)}." if found else "Not for yourself: ask another operator.")
        return found
