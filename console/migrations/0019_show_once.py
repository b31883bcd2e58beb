from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0018_second_operator"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="show_once",
            field=models.BooleanField(default=False, verbose_name="API keys are shown once"),
        ),
    ]
