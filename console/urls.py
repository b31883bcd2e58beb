"""Every URL. A route without `open_to` needs the whole log-on (console.access)."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from apikeys.keys import show_once
from apikeys.leaks import pages as leaks
from console import csp_reports, health
from console.access import Access, open_to
from console.pages import activity, email, enrol, invitation, logon, password, recovery, security, sessions, verify

console = [
    path("login/", open_to(Access.ANYONE, logon.LogOn.as_view()), name="logon"),
    path("login/verify/", open_to(Access.PASSWORD, verify.Verify.as_view()), name="verify"),
    path(
        "invitation/<int:user_id>/<slug:token>/",
        open_to(Access.ANYONE, invitation.Invitation.as_view()),
        name="invitation",
    ),
    path("recovery/<slug:token>/", open_to(Access.ANYONE, recovery.RecoveryLink.as_view()), name="recovery"),
    path(
        "recovery/cancel/<slug:token>/",
        open_to(Access.ANYONE, recovery.CancelRecovery.as_view()),
        name="cancel-recovery",
    ),
    path("logout/", open_to(Access.ANYONE, logon.LogOut.as_view()), name="logout"),
    path("security/", security.Security.as_view(), name="security"),
    path("security/authenticator/", open_to(Access.PASSWORD, enrol.Enrol.as_view()), name="authenticator"),
    path("security/recovery-codes/", security.NewRecoveryCodes.as_view(), name="recovery-codes"),
    path("security/password/", open_to(Access.NEW_PASSWORD, password.Password.as_view()), name="password"),
    path("security/email/", open_to(Access.ROOT, email.EmailPage.as_view()), name="email"),
    path("security/show-once/", open_to(Access.ROOT, show_once.ShowOnce.as_view()), name="show-once"),
    path("security/sessions/", sessions.Sessions.as_view(), name="sessions"),
    path("activity/", open_to(Access.ROOT, activity.Activity.as_view()), name="activity"),
    path("activity/csv/", open_to(Access.ROOT, activity.ActivityCsv.as_view()), name="activity-csv"),
]

handler400 = "console.errors.bad_request"
handler500 = "console.errors.server_error"

urlpatterns = [
    path(
        "",
        open_to(
            Access.ANYONE,
            RedirectView.as_view(pattern_name="apikeys:list", http_method_names=["get", "head", "options"]),
        ),
    ),
    path("", include((console, "console"))),
    path("api-keys/", include("apikeys.urls")),
    path("leaked-keys", open_to(Access.ANYONE, leaks.report)),
    path("csp-reports", open_to(Access.ANYONE, csp_reports.report)),
    path("admin/", admin.site.urls),
    path("healthz", open_to(Access.ANYONE, health.healthz)),
    path("readyz", open_to(Access.ANYONE, health.readyz)),
]
