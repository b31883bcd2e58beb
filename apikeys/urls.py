from django.urls import path

from apikeys.keys import pages as keys
from apikeys.usage import pages as usage
from console.access import Access, View, open_to

app_name = "apikeys"


def root(view: View) -> View:
    return open_to(Access.ROOT, view)


urlpatterns = [
    path("", root(keys.KeyList.as_view()), name="list"),
    path("create/", root(keys.CreateKey.as_view()), name="create"),
    path("<uuid:key_id>/view/", root(keys.ViewKey.as_view()), name="view"),
    path("<uuid:key_id>/delete/", root(keys.DeleteKey.as_view()), name="delete"),
    path("usage/", root(usage.UsagePage.as_view()), name="usage"),
    path("usage/csv/", root(usage.UsageCsv.as_view()), name="usage-csv"),
]
