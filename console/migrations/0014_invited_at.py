from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0013_sessions_and_budgets"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="invited_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
