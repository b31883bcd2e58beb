"""Every address. One without `open_to` needs the whole log-on (console.access)."""

from django.contrib import admin
from django.urls import include, path

from apikeys.leaks import report as leaks
from console import errors, health
from console.access import Access, open_to
from console.pages import activity, invitation, logon, security

console = [
    path("login/", open_to(Access.ANYONE, logon.LogOn.as_view()), name="logon"),
    path("login/verify/", open_to(Access.PASSWORD, logon.Verify.as_view()), name="verify"),
    path(
        "invitation/<int:user_id>/<slug:token>/",
        open_to(Access.ANYONE, invitation.Invitation.as_view()),
        name="invitation",
    ),
    path("logout/", open_to(Access.ANYONE, logon.LogOut.as_view()), name="logout"),
    path("security/", security.Security.as_view(), name="security"),
    path("security/authenticator/", open_to(Access.PASSWORD, security.Enrol.as_view()), name="authenticator"),
    path("activity/", activity.Activity.as_view(), name="activity"),
    path("activity/csv/", activity.ActivityCsv.as_view(), name="activity-csv"),
    path("security/password/", security.Password.as_view(), name="password"),
    path("security/email/", security.Email.as_view(), name="email"),
    path("security/sessions/", security.Sessions.as_view(), name="sessions"),
    path("security/recovery-codes/", security.NewRecoveryCodes.as_view(), name="recovery-codes"),
]

handler400 = "console.errors.bad_request"
handler500 = "console.errors.server_error"

urlpatterns = [
    path("", open_to(Access.ANYONE, errors.Home.as_view())),
    path("", include((console, "console"))),
    path("api-keys/", include("apikeys.urls")),
    path("leaked-keys", open_to(Access.ANYONE, leaks.report)),
    path("admin/", admin.site.urls),
    path("healthz", open_to(Access.ANYONE, health.healthz)),
    path("readyz", open_to(Access.ANYONE, health.readyz)),
]
