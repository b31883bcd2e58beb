"""Which vault keys this database was written with."""

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from console.vault import VaultError, check


class VaultKey(models.Model):
    """The fingerprint of a key that something in this database was sealed or digested with: a lost or wrong key shows
    at the start, not at the first View."""

    name = models.CharField(max_length=16, editable=False)
    version = models.PositiveIntegerField(editable=False)
    fingerprint = models.BinaryField(editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="one_fingerprint_a_version")]

    @classmethod
    def check_all(cls) -> None:
        """Compare the keys in use with the recorded ones, and record new versions. Raises ImproperlyConfigured."""
        cls.check_recorded()
        newest = {name: (version, print_) for (name, version), print_ in sorted(settings.VAULT.fingerprints.items())}
        for name, (version, fingerprint) in newest.items():  # older ones were the newest once, or are retired
            cls.objects.get_or_create(name=name, version=version, defaults={"fingerprint": fingerprint})

    @classmethod
    def check_recorded(cls) -> None:
        """Raises ImproperlyConfigured where a recorded key is missing or differs."""
        recorded = {(key.name, key.version): bytes(key.fingerprint) for key in cls.objects.all()}
        try:
            check(recorded, settings.VAULT.fingerprints)
        except VaultError as error:
            raise ImproperlyConfigured(str(error)) from error
