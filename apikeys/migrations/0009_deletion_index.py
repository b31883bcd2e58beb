from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0008_no_leak_reports"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(
                fields=["deleted_at"],
                name="keys_by_deletion",
                condition=models.Q(
                    ("deleted_at__isnull", False),
                    models.Q(("expires_at", None), ("expires_at__isnull", False), _connector="OR"),
                ),
            ),
        ),
    ]
