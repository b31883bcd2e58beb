from typing import Any

from django.db import migrations
from django.utils import timezone

from console.ledger.chain import START, params_text, row_hash


def begin(apps: Any, schema_editor: Any) -> None:
    """Accounts from before there were ledgers, to which nothing has happened since."""
    Entry = apps.get_model("console", "Entry")
    for user in apps.get_model("console", "User").objects.filter(account=None, ledger=None):
        at, params = timezone.now(), {"reason": "earlier", "user": user.username}
        row = dict.fromkeys(("who", "address", "factor", "browser", "key_id", "key"), "")
        row |= {"number": "1", "format": "2", "kind": "user.created", "actor": "system", "params": params_text(params)}
        row["at"] = f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"
        Entry.objects.create(
            account=user,
            number=1,
            format=2,
            at=at,
            kind=row["kind"],
            actor=row["actor"],
            params=params,
            hash=row_hash(START, row),
        )


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0014_invited_at"),
    ]

    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
