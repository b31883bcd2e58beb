import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0006_mail_address"),
    ]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="account",
            field=models.ForeignKey(
                blank=True,
                help_text="The root account that this RAM user belongs to. Leave empty to create a root account.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="ram_users",
                to=settings.AUTH_USER_MODEL,
                verbose_name="root account",
            ),
        ),
        migrations.AlterField(
            model_name="user",
            name="max_active_keys",
            field=models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="maximum active keys"),
        ),
        migrations.AlterField(
            model_name="user",
            name="max_keys_a_day",
            field=models.PositiveSmallIntegerField(blank=True, null=True, verbose_name="maximum keys created per day"),
        ),
        migrations.RenameModel(old_name="Mail", new_name="Email"),
        migrations.AlterModelOptions(name="email", options={}),
        # Rows that are there have the first format, and stay as they were hashed.
        migrations.AddField(
            model_name="entry",
            name="format",
            field=models.PositiveSmallIntegerField(default=1, editable=False),
        ),
        migrations.AddField(
            model_name="entry",
            name="actor",
            field=models.CharField(default="", editable=False, max_length=16),
        ),
        migrations.AddField(
            model_name="entry",
            name="params",
            field=models.JSONField(default=dict, editable=False),
        ),
        migrations.AlterField(
            model_name="entry",
            name="kind",
            field=models.CharField(editable=False, max_length=32),
        ),
    ]
