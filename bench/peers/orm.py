"""The gate's check as a Django view with the ORM, behind the middleware of a new project."""

import os

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path

from console import settings as console

if not settings.configured:
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="bench.peers.orm",
        DATABASES={"default": console.DATABASES["default"] | {"CONN_HEALTH_CHECKS": False}},
        VAULT=console.VAULT,
        AUTH_USER_MODEL="console.User",
        USE_TZ=True,
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "console.apps.ConsoleConfig",
            "apikeys",
        ],
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
    )
os.environ.pop("DJANGO_SETTINGS_MODULE", None)

from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from apikeys.models import ApiKey  # noqa: E402


def verify(request: HttpRequest) -> HttpResponse:
    digest = settings.VAULT.digests("api-key", request.headers.get("dashvector-auth-token", ""))[0]
    try:
        key = ApiKey.objects.active().get(digest=digest)
    except ApiKey.DoesNotExist:
        return HttpResponse(status=401)
    return HttpResponse(headers={"X-Account-Id": str(key.account_id), "X-Api-Key-Id": str(key.pk)})


urlpatterns = [path("verify", verify)]
