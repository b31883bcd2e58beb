from django.urls import path

from apikeys.keys import pages as views
from apikeys.usage import pages as usage_views

app_name = "apikeys"

urlpatterns = [
    path("usage/", usage_views.UsagePage.as_view(), name="usage"),
    path("usage/csv/", usage_views.UsageCsv.as_view(), name="usage-csv"),
    path("", views.KeyList.as_view(), name="list"),
    path("create/", views.CreateKey.as_view(), name="create"),
    path("<uuid:key_id>/view/", views.ViewKey.as_view(), name="view"),
    path("<uuid:key_id>/delete/", views.DeleteKey.as_view(), name="delete"),
]
