from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0005_gate_index"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="apikey",
            options={"ordering": ["-created_at"], "verbose_name": "API key", "verbose_name_plural": "API keys"},
        ),
        migrations.RemoveIndex(model_name="apikey", name="keys_for_the_gate"),
        migrations.RenameField(model_name="apikey", old_name="disabled", new_name="account_disabled"),
        migrations.AddField(
            model_name="apikey",
            name="disabled_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="apikey",
            name="expires_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddIndex(
            model_name="apikey",
            index=models.Index(
                fields=["digest", "id", "account", "deleted_at", "disabled_at", "account_disabled", "expires_at"],
                name="keys_for_the_gate",
            ),
        ),
    ]
