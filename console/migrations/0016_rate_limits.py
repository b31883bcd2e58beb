from django.db import migrations, models
import django.utils.timezone


class Migration(migrations.Migration):
    dependencies = [
        ("console", "0015_every_ledger_has_a_row"),
    ]

    operations = [
        migrations.CreateModel(
            name="Tally",
            fields=[
                ("key", models.CharField(editable=False, max_length=64, primary_key=True, serialize=False)),
                ("subject", models.CharField(db_index=True, editable=False, max_length=64)),
                ("count", models.PositiveIntegerField(default=0, editable=False)),
                ("since", models.DateTimeField(db_index=True, default=django.utils.timezone.now, editable=False)),
            ],
        ),
        # Of django-axes, which counted wrong passwords until now: what was typed as user names, and browsers.
        migrations.RunSQL(
            [f"DROP TABLE IF EXISTS axes_{name}" for name in ("accesslog", "accessfailurelog", "accessattemptexpiration", "accessattempt")],
            migrations.RunSQL.noop,
        ),
        migrations.AddField(
            model_name="user",
            name="must_change_password",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.AlterModelOptions(
            name="email",
            options={"verbose_name": "undelivered email", "verbose_name_plural": "undelivered email"},
        ),
        migrations.AddField(
            model_name="email",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
        ),
        migrations.AddField(
            model_name="email",
            name="given_up_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="given up"),
        ),
        migrations.AddField(
            model_name="email",
            name="error",
            field=models.CharField(default="", editable=False, max_length=200, verbose_name="the mail server’s answer"),
            preserve_default=False,
        ),
        migrations.AlterField(
            model_name="email",
            name="attempts",
            field=models.PositiveIntegerField(default=0, editable=False, verbose_name="attempts"),
        ),
        migrations.AlterField(
            model_name="email",
            name="subject",
            field=models.CharField(editable=False, max_length=200, verbose_name="subject"),
        ),
        migrations.AlterField(
            model_name="email",
            name="to",
            field=models.EmailField(editable=False, max_length=254, verbose_name="to"),
        ),
    ]
