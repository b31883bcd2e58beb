"""Every address. One without `open_to` needs the whole log-on (console.access)."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from console import health, views
from console.access import Access, open_to

console = [
    path("login/", open_to(Access.ANYONE, views.LogOn.as_view()), name="logon"),
    path("login/verify/", open_to(Access.PASSWORD, views.Verify.as_view()), name="verify"),
    path("logout/", open_to(Access.ANYONE, LogoutView.as_view()), name="logout"),
    path("security/", views.Security.as_view(), name="security"),
    path("security/authenticator/", open_to(Access.PASSWORD, views.Enrol.as_view()), name="authenticator"),
    path("security/recovery-codes/", views.NewRecoveryCodes.as_view(), name="recovery-codes"),
]

handler400 = "console.views.bad_request"
handler500 = "console.views.server_error"

urlpatterns = [
    path("", open_to(Access.ANYONE, views.Home.as_view())),
    path("", include((console, "console"))),
    path("api-keys/", include("apikeys.urls")),
    path("admin/", admin.site.urls),
    path("healthz", open_to(Access.ANYONE, health.healthz)),
    path("readyz", open_to(Access.ANYONE, health.readyz)),
]
