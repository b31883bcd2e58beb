"""Every table of this app, for Django to find."""

from apikeys.keys.models import ApiKey
from apikeys.usage.models import FoldedFile, Usage

__all__ = ["ApiKey", "FoldedFile", "Usage"]
