from typing import Any

from django.db import migrations, models


def keep_last_step(apps: Any, schema_editor: Any) -> None:
    authenticators = apps.get_model("console", "Authenticator").objects
    for pk, step in authenticators.filter(last_step__gte=0).values_list("pk", "last_step"):
        authenticators.filter(pk=pk).update(spent_steps=[step])


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0008_folded_name"),
    ]

    operations = [
        migrations.AddField(
            model_name="authenticator",
            name="spent_steps",
            field=models.JSONField(default=list, editable=False),
        ),
        migrations.RunPython(keep_last_step, migrations.RunPython.noop),
        migrations.RemoveField(model_name="authenticator", name="last_step"),
    ]
