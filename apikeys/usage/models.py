"""Counted calls, as the database keeps them."""

from django.db import models

from apikeys.keys.models import ApiKey


class Usage(models.Model):
    """The calls of one key in one hour. Written by apikeys.metering alone; days are sums."""

    pk = models.CompositePrimaryKey("key", "hour")
    # No constraint in the database: the gate found the key there, and checking again costs as much as the row. The
    # primary key is its index.
    key = models.ForeignKey(ApiKey, models.PROTECT, related_name="usage", db_constraint=False, db_index=False)
    hour = models.DateTimeField(editable=False)
    accepted = models.BigIntegerField(editable=False)
    refused = models.BigIntegerField(editable=False)
    last_call_at = models.DateTimeField(null=True, editable=False)  # of the accepted ones, to the minute
    last_call_from = models.GenericIPAddressField(null=True, editable=False)


class FoldedFile(models.Model):
    """A file of counted calls that has been added to Usage: recorded in the same transaction, so that a crash before
    the file is removed counts no call twice."""

    name = models.CharField(max_length=32, primary_key=True)
    folded_at = models.DateTimeField(auto_now_add=True)
