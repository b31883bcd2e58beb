from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0006_status"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["account", "deleted_at", "created_at"], name="active_keys_of_account"),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["created_at", "id"], name="keys_by_age"),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(fields=["hint"], name="keys_by_hint"),
        ),
    ]
