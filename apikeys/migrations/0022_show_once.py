from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0021_deletion_index"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="apikey", name="secret_only_while_active"),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(deleted_at=None) | models.Q(sealed_secret=None), name="secret_only_while_active"
            ),
        ),
    ]
