import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0012_logon_failures"),
    ]

    operations = [
        # Sessions that are there count as verified: nobody is told of log-ons that were finished long ago.
        migrations.AddField(
            model_name="session",
            name="verified",
            field=models.BooleanField(default=True, editable=False),
        ),
        migrations.AlterField(
            model_name="session",
            name="verified",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.CreateModel(
            name="Budget",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(editable=False, max_length=32)),
                ("who", models.CharField(editable=False, max_length=150)),
                ("since", models.DateTimeField(editable=False)),
                ("rows", models.PositiveIntegerField(default=0, editable=False)),
                ("more", models.PositiveIntegerField(default=0, editable=False)),
                (
                    "account",
                    models.ForeignKey(
                        editable=False, on_delete=django.db.models.deletion.PROTECT, to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("account", "kind", "who"), name="one_budget_a_kind")],
            },
        ),
    ]
