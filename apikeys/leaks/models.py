"""Who reported leaked keys."""

from django.db import models


class LeakReport(models.Model):
    """A report of the last minute, kept to limit how many come from one IP address."""

    address = models.GenericIPAddressField(null=True, editable=False, db_index=True)
    at = models.DateTimeField(auto_now_add=True)
