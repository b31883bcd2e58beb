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
if "sqlite3" in DATABASES["default"]["ENGINE"]:  # noqa: F405
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}  # noqa: F405  (in memory it has other locks)
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405
