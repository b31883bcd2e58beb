"""Every table of this app, for Django to find."""

from apikeys.keys import deletions  # noqa: F401  (receives a signal)
from apikeys.keys.models import ApiKey
from apikeys.usage.models import FoldedFile, Usage

__all__ = ["ApiKey", "FoldedFile", "Usage"]
