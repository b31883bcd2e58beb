from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("apikeys", "0007_key_indexes"),
    ]

    operations = [
        migrations.DeleteModel(name="LeakReport"),
    ]
