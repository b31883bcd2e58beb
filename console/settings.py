"""One settings file, driven by the environment; docs/operations.md lists every variable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import make_conninfo

from console import logs
from console.proxies import TrustedProxies
from console.vault import Vault

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# Everything written at run time lives here; secrets.env is what the first `make run` made.
DATA_DIR = Path(env.str("CONSOLE_DATA_DIR", str(BASE_DIR / "var"))).resolve()
SECRETS_FILE = DATA_DIR / "secrets.env"
if SECRETS_FILE.exists():
    env.read_env(str(SECRETS_FILE))


def secret(name: str) -> str:
    value: str = env.str(name, "")
    if not value:
        raise ImproperlyConfigured(
            f"{name} is not set. Set SECRET_KEY, VAULT_KEYS and DIGEST_KEYS in the environment, or start once "
            f"with `make run`, which makes them in {SECRETS_FILE}."
        )
    return value


DEBUG = False
SECRET_KEY = secret("SECRET_KEY")
try:
    VAULT = Vault(secret("VAULT_KEYS"), secret("DIGEST_KEYS"))
except ValueError as error:
    raise ImproperlyConfigured(str(error)) from error

# The address people use. An https address turns on everything that only makes sense there.
CONSOLE_URL = env.str("CONSOLE_URL", f"http://127.0.0.1:{env.int('PORT', 8000)}")
HTTPS = urlsplit(CONSOLE_URL).scheme == "https"
ALLOWED_HOSTS = [urlsplit(CONSOLE_URL).hostname or "", "127.0.0.1", "localhost", "[::1]"]
CSRF_TRUSTED_ORIGINS = [CONSOLE_URL]

INSTALLED_APPS = [
    "console.apps.ConsoleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_otp",
    "axes",
    "csp",
    "console.apps.ConsoleConfig",
    "apikeys",
]

MIDDLEWARE = [
    "console.logs.RequestMiddleware",
    "csp.middleware.CSPMiddleware",  # before whatever may refuse: the pages of errors have its nonce
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
    "axes.middleware.AxesMiddleware",
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


def from_url(read: Callable[..., dict[str, Any]], name: str, default: str) -> dict[str, Any]:
    try:
        return read(name, default)
    except ValueError:  # whose text has parts of the password
        raise ImproperlyConfigured(
            f"{name} cannot be read. In its user and password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A."
        ) from None


DATABASES = {"default": from_url(env.db_url, "DATABASE_URL", f"sqlite:///{DATA_DIR / 'console.sqlite3'}")}
# A connection lives as long as its thread; opening one for each request costs PostgreSQL a factor of ten.
DATABASES["default"] |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
SQLITE_FILE: Path | None = None
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    SQLITE_FILE = Path(DATABASES["default"]["NAME"]).absolute()
    if SQLITE_FILE.exists():  # one that is moved away is gone: no process makes an empty one in its place
        DATABASES["default"]["NAME"] = f"{SQLITE_FILE.as_uri()}?mode=rw"
    # IMMEDIATE takes the write lock where a transaction begins, so that limits are counted under it.
    # synchronous=FULL: a deletion that was answered survives a power failure.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL",
    }


DJANGOS_OWN = {"assume_role", "isolation_level", "pool", "server_side_binding"}  # options that libpq does not know


def postgres_conninfo(database: dict[str, Any]) -> str:
    """The same database for a driver without Django, as libpq takes it."""
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    options = {name: value for name, value in database.get("OPTIONS", {}).items() if name not in DJANGOS_OWN}
    return make_conninfo("", **options | {name: database[key] for name, key in names.items() if database.get(key)})


DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "console.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "console.factors.authentication.PasswordBackend",
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
LOGIN_URL = "console:logon"
LOGIN_REDIRECT_URL = "apikeys:list"
LOGOUT_REDIRECT_URL = "console:logon"

# Guessing is locked by user name and address together, so that a stranger elsewhere locks nobody out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 10
GUESSES_AN_ACCOUNT = 100  # in the same time, from all addresses that it was never logged on from
AXES_COOLOFF_TIME = 0.25  # hours
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "console.pages.logon.locked_out"
AXES_CLIENT_IP_CALLABLE = "console.access.client_address"
AXES_ENABLE_ADMIN = False
AXES_SENSITIVE_PARAMETERS = ["username", "next", "csrfmiddlewaretoken", "new_password", "otp_token"]
AXES_SENSITIVE_PARAMETERS += ["current-password", "current-otp_token"]
AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

SESSION_ENGINE = "console.sessions.store"
SESSION_COOKIE_AGE = 15 * 60  # idle; the cookie itself ends with the browser
SESSION_SECONDS = 8 * 60 * 60  # from the log-on, however busy
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_NAME = "__Host-sessionid" if HTTPS else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if HTTPS else "csrftoken"
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "console.errors.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

# Which requests came over TLS, gunicorn knows from a trusted proxy's X-Forwarded-Proto (console.gunicorn_conf).
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SILENCED_SYSTEM_CHECKS = ["security.W021"]  # whether a domain joins the browsers' preload list is its owner's to say
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
    }
}

# Where mail to owners goes; without it none is sent.
vars().update(from_url(env.email_url, "EMAIL_URL", "dummymail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", "console@localhost")

LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
WHITENOISE_ALLOW_ALL_ORIGINS = False
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

LOGGING = logs.CONFIG

# Whose word for a caller's address is taken.
try:
    TRUSTED_PROXIES = TrustedProxies.parse(env.str("TRUSTED_PROXIES", ""))
except ValueError as error:
    raise ImproperlyConfigured(f"TRUSTED_PROXIES: {error}") from error

# Past so many connections a worker of the gate answers 503.
GATE_MAX_CONNECTIONS = env.int("GATE_MAX_CONNECTIONS", 4096)

# The gate counts in files there and hands them over every so many seconds: what a power failure can lose.
METERING_DIR = DATA_DIR / "metering"
METERING_SECONDS = env.float("METERING_SECONDS", 5.0)

# What one account may have (the document's limits; deleting gives no creation back).
API_KEYS_MAX_ACTIVE = env.int("API_KEYS_MAX_ACTIVE", 3)
API_KEYS_MAX_CREATED_PER_DAY = env.int("API_KEYS_MAX_CREATED_PER_DAY", 10)
