from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0009_deletion_index"),
    ]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="digest_version",
            field=models.PositiveIntegerField(editable=False, null=True),
        ),
        migrations.RemoveConstraint(model_name="apikey", name="secret_only_while_active"),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(deleted_at=None) | models.Q(sealed_secret=None), name="secret_only_while_active"
            ),
        ),
    ]
