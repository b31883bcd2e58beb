from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate

from console.ledger import triggers


class ConsoleConfig(AppConfig):
    name = "console"

    def ready(self) -> None:
        from console.ledger.record import begin_installation  # needs the models

        post_migrate.connect(triggers.install, sender=self)
        post_migrate.connect(begin_installation, sender=self)


class ConsoleAdminConfig(AdminConfig):
    default_site = "console.admin_site.ConsoleAdminSite"
