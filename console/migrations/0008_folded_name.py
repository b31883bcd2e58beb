from typing import Any

from django.db import migrations, models

from console.accounts import fold_names


def fold(apps: Any, schema_editor: Any) -> None:
    fold_names(apps.get_model("console", "User").objects)


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0007_ledger_codes"),
    ]

    operations = [
        migrations.AlterModelManagers(name="user", managers=[]),
        migrations.AddField(
            model_name="user",
            name="folded_name",
            field=models.CharField(editable=False, max_length=300, null=True),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(fields=("folded_name",), name="one_user_a_name"),
        ),
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
