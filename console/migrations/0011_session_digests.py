import hashlib
from typing import Any

from django.db import migrations, models


def digest_keys(apps: Any, schema_editor: Any) -> None:
    """Sessions that are live stay so."""
    Session = apps.get_model("console", "Session")
    for session_key in [*Session.objects.values_list("session_key", flat=True)]:  # read before any is added
        session = Session.objects.get(session_key=session_key)
        session.session_key = hashlib.sha256(session_key.encode()).hexdigest()
        session.save(force_insert=True)
        Session.objects.filter(session_key=session_key).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0010_ledger_indexes"),
    ]

    operations = [
        migrations.AlterField(
            model_name="session",
            name="session_key",
            field=models.CharField(editable=False, max_length=64, primary_key=True, serialize=False),
        ),
        migrations.RunPython(digest_keys, migrations.RunPython.noop),
    ]
