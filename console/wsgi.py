import os
from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.core.wsgi import get_wsgi_application
from django.utils.http import parse_header_parameters

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")


class Utf8Request(WSGIRequest):
    """A request in UTF-8, whatever charset it names: Python's codecs that are no charset of forms, or that make lone
    surrogates, would fail before or behind every form."""

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        try:
            self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
        except (LookupError, ValueError):
            self.content_type, self.content_params = "", {}
        self.content_params.pop("charset", None)


WSGIHandler.request_class = Utf8Request
application = get_wsgi_application()
