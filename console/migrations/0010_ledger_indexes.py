import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0009_spent_steps"),
    ]

    operations = [
        migrations.AlterField(
            model_name="user",
            name="account",
            field=models.ForeignKey(
                blank=True,
                help_text="The root account that this RAM user belongs to. Leave empty to create a root account.",
                limit_choices_to={"account": None},
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="ram_users",
                to=settings.AUTH_USER_MODEL,
                verbose_name="root account",
            ),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["account", "kind", "number"], name="ledger_by_kind"),
        ),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(fields=["account", "key_id", "number"], name="ledger_by_key"),
        ),
    ]
