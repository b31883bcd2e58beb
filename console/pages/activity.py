"""The Activity page: an account's ledger, and its export."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.generic import ListView

from console.access import user_of
from console.ledger.models import Entry, Kind, write
from console.models import User

KINDS = [(kind.value, kind.capitalize()) for kind in Kind]


class ActivityForm(forms.Form):
    """What to show; anything else shows all."""

    kind = forms.ChoiceField(choices=[("", "Everything"), *KINDS], required=False)
    key = forms.UUIDField(required=False)


class Activity(ListView):  # type: ignore[type-arg]
    """Rows of the account that is logged on, the newest first."""

    template_name = "console/activity.html"
    paginate_by = 50

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = user_of(request)
        if not user.is_root_account:
            raise PermissionDenied(
                "Only the root account can read its activity. You are logged on as a RAM user: "
                f"ask the owner of the root account {user.account}."
            )
        return super().dispatch(request, *args, **kwargs)

    def get_queryset(self) -> Any:
        self.form = ActivityForm(self.request.GET)
        self.form.is_valid()
        chosen = {"kind": self.form.cleaned_data.get("kind"), "key_id": self.form.cleaned_data.get("key")}
        account: User = user_of(self.request)
        return Entry.objects.filter(account=account, **{name: value for name, value in chosen.items() if value})

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        used = Entry.objects.filter(account=user_of(self.request)).exclude(key_id=None)
        keys = used.order_by("key").values_list("key_id", "key").distinct()
        query = self.request.GET.copy()
        query.pop("page", None)
        return context | {"form": self.form, "kinds": KINDS, "keys": keys, "query": query.urlencode()}


class ActivityCsv(Activity):
    """The rows as a file, the oldest first. Unfiltered it is what `manage.py verify_ledger` can prove."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = HttpResponse(content_type="text/csv; charset=utf-8")
        response.headers["Content-Disposition"] = 'attachment; filename="activity.csv"'
        write(response, self.get_queryset().order_by("number").iterator())
        return response
