"""The product's settings with secrets of the moment, a cheap password hasher and static files as they lie."""

import os
import secrets
import tempfile

from console.vault import new_key

os.environ.setdefault("CONSOLE_DATA_DIR", tempfile.mkdtemp(prefix="console-tests-"))
os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(48))
os.environ.setdefault("VAULT_KEYS", new_key())
os.environ.setdefault("DIGEST_KEYS", new_key())

from console.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"  # noqa: F405
DATABASES["default"]["TEST"] = {"NAME": None}  # noqa: F405
