from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0011_session_digests"),
    ]

    operations = [
        migrations.AddField(
            model_name=model,
            name=name,
            field=field,
        )
        for model in ("authenticator", "recoverycodes")
        for name, field in (
            ("logon_failure_timestamp", models.DateTimeField(editable=False, null=True)),
            ("logon_failure_count", models.PositiveIntegerField(default=0, editable=False)),
        )
    ]
