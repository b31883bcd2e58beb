"""djangorestframework-api-key and django-rest-knox as they install, with a key each in a SQLite database.

`python -m bench.peers.drf` makes the database and prints a key and a token.
"""

import os
import sys
from typing import Any

import django
from django.conf import settings
from django.urls import path

settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="bench.peers.drf",
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["PEER_DATABASE"],
            "CONN_MAX_AGE": None,
            "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"},
        }
    },
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "rest_framework",
        "rest_framework_api_key",
        "knox",
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
sys.modules["bench.peers.drf"] = sys.modules[__name__]  # also when run as a program
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from knox.auth import TokenAuthentication  # noqa: E402
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework_api_key.permissions import HasAPIKey  # noqa: E402


class ApiKeyView(APIView):
    authentication_classes: list[Any] = []
    permission_classes = [HasAPIKey]

    def get(self, request: Any) -> Response:
        return Response()


class KnoxView(ApiKeyView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]


urlpatterns = [path("api-key", ApiKeyView.as_view()), path("knox", KnoxView.as_view())]
application = get_wsgi_application()

if __name__ == "__main__":
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from knox.models import get_token_model
    from rest_framework_api_key.models import APIKey

    call_command("migrate", verbosity=0)
    _, key = APIKey.objects.create_key(name="bench")
    _, token = get_token_model().objects.create(user=User.objects.create_user("bench"))
    print(key, token)
