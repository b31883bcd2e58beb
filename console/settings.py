"""Django's settings; what differs between installations comes from the environment (console.environment)."""

import os
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import SimpleLazyObject

from console import environment, logs
from console.vault import Vault


def configured(needs: Collection[str] | None) -> environment.Environment:
    try:
        return environment.read(needs=needs)
    except environment.ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from None


def vault() -> Vault:
    found = configured({"VAULT_KEYS", "DIGEST_KEYS"})
    return Vault(found.vault_keys, found.digest_keys)


os.umask(0o077)  # whatever a program writes is for its user alone
ENVIRONMENT = configured(None)

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = ENVIRONMENT.data_dir  # everything written at run time lives there
SECRETS_FILE = ENVIRONMENT.secrets_file

DEBUG = False
SECRET_KEY = ENVIRONMENT.secret_key
SECRET_KEY_FALLBACKS = ENVIRONMENT.secret_key_fallbacks  # verify what an earlier SECRET_KEY has signed
VAULT = cast(Vault, SimpleLazyObject(vault))  # `meter` and `housekeep` have no keys, and need none

# The URL that people open. With https, the settings that need it are on.
CONSOLE_URL = ENVIRONMENT.console_url
HTTPS = ENVIRONMENT.https
ALLOWED_HOSTS = [ENVIRONMENT.host, "127.0.0.1", "localhost", "[::1]"]
CSRF_TRUSTED_ORIGINS = [CONSOLE_URL]

INSTALLED_APPS = [
    "console.apps.ConsoleAdminConfig",
    "console.apps.ConsoleConfig",  # before Django's own, two of whose commands it replaces
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_otp",
    "csp",
    "apikeys",
]

MIDDLEWARE = [
    "console.requests.RequestMiddleware",
    "console.health.any_host",
    "console.unavailable.WritesMiddleware",
    "csp.middleware.CSPMiddleware",  # before any that may refuse: error pages have its nonce
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "console.access.AccessMiddleware",
]

ROOT_URLCONF = "console.urls"
WSGI_APPLICATION = "console.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]

SQLITE_FILE = ENVIRONMENT.sqlite_file
DATABASE: dict[str, Any]
if SQLITE_FILE:
    DATABASE = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(SQLITE_FILE)}
    if SQLITE_FILE.exists():  # never create an empty one in place of one that was moved away
        DATABASE["NAME"] = f"{SQLITE_FILE.as_uri()}?mode=rw"
    # timeout: how many seconds a transaction waits for another to end.
    # IMMEDIATE takes the write lock where a transaction begins, so that limits are counted under it.
    # synchronous=FULL: a deletion that was answered survives a power failure.
    DATABASE["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 4,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }
else:
    DATABASE = {"ENGINE": "console.postgres", "OPTIONS": dict(ENVIRONMENT.database.postgres)}
    for key, name in [
        ("NAME", "dbname"),
        ("HOST", "host"),
        ("PORT", "port"),
        ("USER", "user"),
        ("PASSWORD", "password"),
    ]:
        DATABASE[key] = DATABASE["OPTIONS"].pop(name, "")
# A connection lives as long as its thread; opening one for each request costs PostgreSQL a factor of ten.
DATABASES = {"default": DATABASE | {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}}

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "console.User"
AUTHENTICATION_BACKENDS = [
    "console.security.PasswordBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 15},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "console.passwords.ContextValidator"},
]
PASSWORD_RESET_TIMEOUT = 24 * 60 * 60  # an invitation's
RECOVERY_DELAY = timedelta(hours=24)  # in which an owner with an email can cancel a recovery link (console.recovery)
LOGIN_URL = "console:logon"
LOGIN_REDIRECT_URL = "apikeys:list"
LOGOUT_REDIRECT_URL = "console:logon"

# How many wrong passwords are checked in 15 minutes (console.security).
GUESSES_PER_NAME_AND_NETWORK = 10
GUESSES_PER_NETWORK = 20  # for any user names, from an IPv4 address or the /64 of an IPv6 address
GUESSES_PER_SITE = 60  # for any user names, from the /48 of an IPv6 address
GUESSES_PER_ACCOUNT = 100  # from all networks that the user has not logged on from lately
GUESSES_PER_DEVICE = 10  # from a browser that the user has logged on with
GUESSES_PER_SESSION = 10  # for one's own password, while logged on
FAMILIAR = timedelta(days=90)  # how long a network or a browser counts as one that the user logs on from

SESSION_ENGINE = "console.sessions.store"
SESSION_COOKIE_AGE = 15 * 60  # idle; the cookie itself ends with the browser
LOGON_SECONDS = 15 * 60  # from the password to the security code
SESSION_SECONDS = 8 * 60 * 60  # from the log-on, however busy
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-sessionid" if HTTPS else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if HTTPS else "csrftoken"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "console.errors.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# gunicorn learns from a trusted proxy's X-Forwarded-Proto which requests came over TLS (console.gunicorn_conf).
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # joining the browsers' preload list is for the domain's owner to decide
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [NONCE],
        "style-src": [NONCE],
        "img-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": [NONE],
        "report-uri": ["/csp-reports"],
        # Browsers send to the endpoint that console.requests names over HTTPS alone, and then ignore report-uri.
        "report-to": ["csp"] if HTTPS else None,
    }
}

MAIL = ENVIRONMENT.mail
BACKENDS = {"consolemail": "console", "dummymail": "dummy", "filemail": "filebased", "memorymail": "locmem"}
EMAIL_BACKEND = "console.smtp.EmailBackend"
if MAIL.scheme in BACKENDS:
    EMAIL_BACKEND = f"django.core.mail.backends.{BACKENDS[MAIL.scheme]}.EmailBackend"
EMAIL_HOST, EMAIL_PORT = MAIL.host, MAIL.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAIL.user, MAIL.password
EMAIL_USE_TLS, EMAIL_USE_SSL = MAIL.scheme == "smtp+tls", MAIL.scheme == "smtp+ssl"
EMAIL_FILE_PATH = MAIL.folder
EMAIL_TIMEOUT = 10  # to connect
EMAIL_CONVERSATION_SECONDS = 30  # with the server, for one message
DEFAULT_FROM_EMAIL = ENVIRONMENT.mail_from

DELETED_KEYS_FILE = ENVIRONMENT.deleted_keys_file
LEAK_REPORT_PUBLIC_KEYS = ENVIRONMENT.leak_report_public_keys

LEDGER_HEADS_FILE = ENVIRONMENT.ledger_heads_file
LEDGER_HEADS_KEY = ENVIRONMENT.ledger_heads_key

LANGUAGE_CODE = "en"
TIME_ZONE = ENVIRONMENT.time_zone
USE_I18N = True
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_TZ = True

FILE_UPLOAD_PERMISSIONS = 0o600  # of static files as they are collected
STATIC_URL = "/static/"
WHITENOISE_ALLOW_ALL_ORIGINS = False
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

LOGGING = logs.CONFIG

TRUSTED_PROXIES = ENVIRONMENT.trusted_proxies
METERING_DIR = ENVIRONMENT.metering_dir
METERING_SECONDS = ENVIRONMENT.metering_seconds

# Limits for each account; deleting a key does not restore a creation.
API_KEYS_MAX_ACTIVE = ENVIRONMENT.api_keys_max_active
API_KEYS_MAX_CREATED_PER_DAY = ENVIRONMENT.api_keys_max_created_per_day
