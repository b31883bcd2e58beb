"""The same check as views of Django: with the ORM, and with two packages as they install."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from knox.auth import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_api_key.permissions import HasAPIKey

from apikeys.models import ApiKey


def orm(request: HttpRequest) -> HttpResponse:
    digest = settings.VAULT.digests("api-key", request.headers.get("dashvector-auth-token", ""))[0]
    try:
        key = ApiKey.objects.active().get(digest=digest)
    except ApiKey.DoesNotExist:
        return HttpResponse(status=401)
    return HttpResponse(headers={"x-account-id": str(key.account_id)})


class WithApiKey(APIView):
    permission_classes = [HasAPIKey]

    def get(self, request: Request) -> Response:
        return Response()


class WithKnox(APIView):
    authentication_classes = [TokenAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        return Response()


urlpatterns = [path("orm", orm), path("api-key", WithApiKey.as_view()), path("knox", WithKnox.as_view())]
