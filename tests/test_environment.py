"""The environment: what is declared, what is refused and with which words, and that nothing happens before."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from console.environment import VARIABLES, ConfigurationError, read
from console.parsers import Mail
from console.secret_files import exposed
from console.vault import new_key
from tests.support.servers import ROOT, Server, as_another_user

pytestmark = pytest.mark.once
SECRETS = {"SECRET_KEY": "a random text of more than 32 characters", "VAULT_KEYS": new_key(), "DIGEST_KEYS": new_key()}
PORTS = "Set a whole number from 1 to 65535."
WORKERS = "Set a whole number from 1 to 1000."
LIMIT = "Set a whole number from 0 to 1000000."
URL = "Set the URL that people open, such as https://keys.example.org or http://127.0.0.1:8000, without a path."
DATABASE = "Set postgres://user:password@host:port/name"
MAIL = "Set smtp+tls://user:password@host:587; smtp+ssl:// and smtp:// work too. In the user name and password, write"
KEYS = "Set one or more `version:key` pairs separated by commas, each version once, each key 32 bytes in base64url."
ZONE = "Set the name of a time zone, such as UTC or Europe/Berlin."

# What is set, the value as it is shown (empty: as it is), and the remedy.
REFUSED = [
    ("CONSOLE_WORKERS", "0", "", WORKERS),
    ("CONSOLE_WORKERS", "none", "", WORKERS),
    ("CONSOLE_WORKERS", "1001", "", WORKERS),
    ("CONSOLE_WORKERS", "9" * 5000, f"CONSOLE_WORKERS='{'9' * 100}…'", WORKERS),
    ("GATE_WORKERS", "0", "", WORKERS),
    ("GATE_MAX_CONNECTIONS", "-1", "", "Set a whole number from 1 to 1000000."),
    ("METERING_SECONDS", "0", "", "Set a number of seconds from 0.01 to 3600."),
    ("METERING_SECONDS", "nan", "", "Set a number of seconds from 0.01 to 3600."),
    ("METERING_SECONDS", "soon", "", "Set a number of seconds from 0.01 to 3600."),
    ("API_KEYS_MAX_ACTIVE", "abc", "", LIMIT),
    ("API_KEYS_MAX_CREATED_PER_DAY", "-1", "", LIMIT),
    ("PORT", "70000", "", PORTS),
    ("PORT", "8001", "GATE_PORT=8001", "PORT has the same value. Set two different ports."),
    ("GATE_PORT", "٨٠٠١", "GATE_PORT='٨٠٠١'", PORTS),
    ("CONSOLE_URL", "example.org", "", URL),
    ("CONSOLE_URL", "ftp://example.org", "CONSOLE_URL=ftp://…", URL),
    ("CONSOLE_URL", "https://*", "CONSOLE_URL='https://*'", URL),
    ("CONSOLE_URL", "https://.example.org", "", URL),
    ("CONSOLE_URL", "https://example.org/console", "", URL),
    ("CONSOLE_URL", "https://example.org?", "CONSOLE_URL='https://example.org?'", URL),
    ("CONSOLE_URL", "https://example.org:port", "", URL),
    ("CONSOLE_URL", "https://[::1", "CONSOLE_URL='https://[::1'", URL),
    ("CONSOLE_URL", "https://[fe80::1%25eth0]", "CONSOLE_URL='https://[fe80::1%25eth0]'", URL),
    ("CONSOLE_URL", "https://exämple.org", "CONSOLE_URL='https://exämple.org'", URL),
    ("CONSOLE_URL", "https://me:s3cret@example.org", "CONSOLE_URL=https://…", URL),
    ("DATABASE_URL", "nonsense", "", DATABASE),
    ("DATABASE_URL", "mysql://user:s3cret@host/name", "DATABASE_URL=mysql://…", DATABASE),
    ("DATABASE_URL", "host=db password=s3cret", "DATABASE_URL=…", DATABASE),
    ("DATABASE_URL", "postgres://user:s3cret@host", "DATABASE_URL=postgres://…", DATABASE),
    ("DATABASE_URL", "postgres://user:s3cr/et@host/name", "DATABASE_URL=postgres://…", DATABASE),
    ("DATABASE_URL", "postgres://user:1/s3cret@host/name", "DATABASE_URL=postgres://…", DATABASE),
    ("DATABASE_URL", "postgres://user:s3cr@et@host/name", "DATABASE_URL=postgres://…", DATABASE),
    ("DATABASE_URL", "postgres://user:s3cret@host:70000/name", "DATABASE_URL=postgres://…", DATABASE),
    ("DATABASE_URL", "postgres://host/name?pool=s3cret", "DATABASE_URL=postgres://…", DATABASE),
    ("DATABASE_URL", "sqlite://", "DATABASE_URL=sqlite://…", DATABASE),
    ("DATABASE_URL", "sqlite:///:memory:", "DATABASE_URL=sqlite://…", DATABASE),
    ("DATABASE_URL", "sqlite:////folder/", "DATABASE_URL=sqlite://…", DATABASE),
    ("EMAIL_URL", "nonsense", "", MAIL),
    ("EMAIL_URL", "smtp://", "EMAIL_URL=smtp://…", MAIL),
    ("EMAIL_URL", "smtp://user:s3cr/et@host:25", "EMAIL_URL=smtp://…", MAIL),
    ("EMAIL_URL", "pigeon://user:s3cret@host", "EMAIL_URL=pigeon://…", MAIL),
    ("EMAIL_URL", "smtp://[host", "EMAIL_URL=smtp://…", MAIL),
    ("EMAIL_FROM", "console", "", "Set the email of the sender, such as console@example.org."),
    ("EMAIL_FROM", "a@b\nBcc: x", r"EMAIL_FROM='a@b\nBcc: x'", "Set the email of the sender"),
    (
        "TRUSTED_PROXIES",
        "proxy",
        "",
        "'proxy' is not an IP address or network. Set IP addresses",
    ),
    ("TRUSTED_PROXIES", "10.1.2.3/8", "", "'10.1.2.3/8' has host bits set. Set 10.0.0.0/8 for the whole network"),
    ("DELETED_KEYS_FILE", "/dev", "", "/dev is a folder. Set the path of a file."),
    ("DELETED_KEYS_FILE", "/dev/null/file", "", "/dev/null is not a folder. Set an existing folder"),
    ("LEAK_REPORT_PUBLIC_KEYS", "/nowhere", "", "The file cannot be read (No such file or directory). Set the path"),
    ("LEAK_REPORT_PUBLIC_KEYS", "/dev/null", "", "The file has no ECDSA public keys on P-256. Set the path"),
    ("LEAK_REPORT_PUBLIC_KEYS", "pyproject.toml", "", "The file has no ECDSA public keys on P-256. Set the path"),
    ("TIME_ZONE", "Nowhere/Land", "", ZONE),
    ("TIME_ZONE", "Europe", "", ZONE),
    ("TIME_ZONE", "/etc/passwd", "", ZONE),
    ("SECRET_KEY", "short", "SECRET_KEY=…", "Set at least 32 random characters."),
    ("SECRET_KEY", "s3cret" * 4 + "s" * 7, "SECRET_KEY=…", "Set at least 32 random characters."),
    ("SECRET_KEY", "ssss" * 16, "SECRET_KEY=…", "Set at least 32 random characters."),
    ("SECRET_KEY", "s3cret\n" * 8, "SECRET_KEY=…", "Set at least 32 random characters."),
    ("SECRET_KEY_FALLBACKS", f"{SECRETS['SECRET_KEY']},s3cret", "SECRET_KEY_FALLBACKS=…", "Set at least 32 random"),
    ("GATE_DATABASE_URL", "mysql://user:s3cret@host/name", "GATE_DATABASE_URL=mysql://…", DATABASE),
    ("SECRETS_FILE", "/nowhere", "", "There is no such file. Set the file with the secrets."),
    ("VAULT_KEYS", "s3cret", "VAULT_KEYS=…", KEYS),
    ("DIGEST_KEYS", "1:s3cret", "DIGEST_KEYS=…", KEYS),
    (
        "DIGEST_KEYS",
        reduce(lambda keys, _: new_key(keys), range(9), ""),
        "DIGEST_KEYS=…",
        "Set at most 8 keys: remove",
    ),
]


def problems(environ: Mapping[str, str], **options: Mapping[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        read(environ, **options)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(("name", "value", "shown", "remedy"), REFUSED)
def test_what_cannot_be_used_is_named_with_the_remedy(
    tmp_path: Path, name: str, value: str, shown: str, remedy: str
) -> None:
    (problem,) = problems(SECRETS | {"CONSOLE_DATA_DIR": str(tmp_path), name: value})
    assert problem.startswith(f"{shown or f'{name}={value}'}: {remedy}")
    assert "s3c" not in problem and "et@" not in problem


# The same through the command, for each kind of value.
COMMAND = [
    ("CONSOLE_WORKERS", "0"),
    ("GATE_WORKERS", "0"),
    ("GATE_MAX_CONNECTIONS", "-1"),
    ("METERING_SECONDS", "0"),
    ("API_KEYS_MAX_ACTIVE", "abc"),
    ("CONSOLE_URL", "example.org"),
    ("DATABASE_URL", "nonsense"),
    ("EMAIL_URL", "nonsense"),
    ("TIME_ZONE", "Nowhere/Land"),
    ("TRUSTED_PROXIES", "proxy"),
    ("SECRET_KEY", "short"),
]


def start(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Returns when nothing that it started has its output open."""
    command = [sys.executable, "-m", "console.start"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(("name", "value"), COMMAND)
def test_the_start_refuses_it_before_anything_is_written(tmp_path: Path, name: str, value: str) -> None:
    ended = start(Server(tmp_path / "data", **{name: value}).environment)
    assert ended.returncode == 1 and not ended.stdout
    (problem,) = ended.stderr.splitlines()
    shown, remedy = next(row[2:] for row in REFUSED if row[:2] == (name, value))
    assert problem.startswith(f"{shown or f'{name}={value}'}: {remedy}")
    assert not (tmp_path / "data").exists()


def test_the_start_says_all_that_is_wrong(tmp_path: Path) -> None:
    wrong = dict(COMMAND) | {"PORT": "8001", "GATE_PORT": "8001"}
    ended = start(Server(tmp_path / "data", **wrong).environment)
    assert ended.returncode == 1 and not (tmp_path / "data").exists()
    assert {line.partition("=")[0] for line in ended.stderr.splitlines()} == {*dict(COMMAND), "GATE_PORT"}


@pytest.mark.parametrize(
    "words",
    [
        ["manage.py", "check"],
        ["-m", "gunicorn", "-c", "python:console.gunicorn_conf", "console.wsgi"],
        ["-m", "gunicorn", "-c", "python:apikeys.gate.gunicorn_conf", "apikeys.gate.main:gate"],
    ],
)
def test_every_program_refuses_it_with_the_same_words(tmp_path: Path, words: list[str]) -> None:
    environment = Server(tmp_path / "data", TIME_ZONE="Nowhere/Land", **SECRETS).environment
    ended = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 1
    assert ended.stderr == f"TIME_ZONE=Nowhere/Land: {ZONE}\n"


class TestTheDataFolder:
    def test_it_is_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):
            (problem,) = problems({"CONSOLE_DATA_DIR": str(folder)})
            assert problem == (
                f"CONSOLE_DATA_DIR={folder}: {tmp_path / 'file'} is not a folder. "
                "Set an existing folder, or the path of a new one."
            )

    @pytest.mark.parametrize("name", ["", "data", "data/below"])
    def test_a_start_can_write_to_it(self, tmp_path: Path, name: str) -> None:
        tmp_path.chmod(0o555)
        for parent in list(tmp_path.parents)[:3]:
            parent.chmod(parent.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
        environ = SECRETS | {"CONSOLE_DATA_DIR": str(tmp_path / name)}
        with as_another_user() as user:
            found = problems(environ, new_secrets={})
        assert found == [
            f"CONSOLE_DATA_DIR={tmp_path / name}: {tmp_path} is not writable by the user of this program ({user}). "
            "Set a writable folder."
        ]

    def test_an_empty_variable_counts_as_unset(self) -> None:
        found = read(SECRETS | {"CONSOLE_DATA_DIR": "", "PORT": "", "TRUSTED_PROXIES": ""})
        assert found == read(SECRETS)
        assert found.data_dir == (ROOT / "var").resolve() and found.port == 8000

    def test_a_relative_one_starts_at_the_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert read(SECRETS | {"CONSOLE_DATA_DIR": "elsewhere"}).data_dir == ROOT / "elsewhere"

    def test_any_name_will_do(self, tmp_path: Path) -> None:
        folder = tmp_path / "100% mine? #1 $PORT"
        found = read(SECRETS | {"CONSOLE_DATA_DIR": str(folder)})
        assert found.sqlite_file == folder / "console.sqlite3" and found.metering_dir == folder / "metering"
        assert found.deleted_keys_file == folder / "deleted-keys"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_the_database_is_its_owners_alone(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"console.sqlite3{suffix}"
    file.touch()
    file.chmod(0o640)
    for name in ("DATABASE_URL", "GATE_DATABASE_URL"):
        (problem,) = problems(SECRETS | {name: f"sqlite:///{tmp_path}/console.sqlite3"})
        assert problem.startswith(f"{file}: ") and f"chmod 600 {file}" in problem


def test_no_password_is_in_the_environment_of_every_process() -> None:
    given = SECRETS | {"PGPASSWORD": "s3cret"}
    (problem,) = problems(given | {"DATABASE_URL": "postgres:///console"})
    assert problem == "PGPASSWORD=…: Unset it, and put the password into DATABASE_URL or libpq's PGPASSFILE."
    assert read(given)


class TestSecretsFile:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "secrets.env"
        file.touch(0o600)
        file.write_text("".join(f"{name}={value}\n" for name, value in SECRETS.items()))
        return file

    def environ(self, file: Path, **more: str) -> dict[str, str]:
        return {"CONSOLE_DATA_DIR": str(file.parent), **more}

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o700 | 0o010])
    def test_it_is_its_owners_alone(self, file: Path, mode: int) -> None:
        file.chmod(mode)
        (problem,) = problems(self.environ(file))
        assert problem.startswith(f"{file}: ") and f"chmod 600 {file}" in problem
        ended = start(Server(file.parent, **self.environ(file)).environment)
        assert (ended.returncode, ended.stderr) == (1, f"{problem}\n")
        assert [*file.parent.iterdir()] == [file]

    def test_one_of_roots_may_be_for_the_programs_group(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As systemd hands it over: an access control list shows as the group's right."""
        shadow, passwd = Path("/etc/shadow"), Path("/etc/passwd")  # root's, with 0640 and 0644
        for user, refused in ((65534, [passwd]), (0, [shadow, passwd])):
            monkeypatch.setattr(os, "geteuid", lambda user=user: user)
            assert [file for file in (shadow, passwd) if exposed(file)] == refused

    def test_the_environment_wins(self, file: Path) -> None:
        with file.open("a") as out:
            out.write('# by hand\n\n export EMAIL_FROM="a@example.org"\nTIME_ZONE=\nEMAIL_FROM=b@example.org\nPORT=1\n')
        found = read(self.environ(file, PORT="2", TIME_ZONE="Asia/Tokyo"))
        assert (found.port, found.mail_from, found.time_zone) == (2, "a@example.org", "Asia/Tokyo")
        assert found.secret_key == SECRETS["SECRET_KEY"] and found.secrets_file == file

    def test_what_it_may_not_say(self, file: Path) -> None:
        file.write_text(f"{file.read_text()}PGHOST=s3cret\ns3cret\nCONSOLE_DATA_DIR=/s3cret\n")
        assert problems(self.environ(file)) == [
            f"{file}, line 4: PGHOST can be set only in the environment.",
            f"{file}, line 5: Write NAME=value.",
            f"{file}, line 6: CONSOLE_DATA_DIR can be set only in the environment.",
        ]

    @pytest.mark.parametrize("content", [b"\xff", None])
    def test_one_that_cannot_be_read(self, file: Path, content: bytes | None) -> None:
        file.unlink()
        file.mkdir(0o700) if content is None else file.write_bytes(content)
        (problem,) = problems(self.environ(file))
        assert problem.startswith(f"{file}: It cannot be read (")

    def test_without_it_the_secrets_are_missed_by_name(self, file: Path) -> None:
        file.write_text("")
        missed = [f"{name}: Not set. Set it, or add it to {file}." for name in SECRETS]
        assert problems(self.environ(file)) == missed
        file.unlink()
        missed = [f"{name}: Not set. Set it, or run `make run` once, which creates it in {file}." for name in SECRETS]
        assert problems(self.environ(file)) == missed
        assert read(self.environ(file), new_secrets=SECRETS) == read(self.environ(file, **SECRETS))

    def test_no_error_or_representation_shows_one(self) -> None:
        database, mail = "postgres://u:s3cret@localhost/name", "smtp://u:s3cret@host"
        found = read(SECRETS | {"DATABASE_URL": database, "EMAIL_URL": mail, "CONSOLE_ROOT_PASSWORD": "s3cret"})
        assert not re.search("|".join(map(re.escape, ["s3cret", *SECRETS.values()])), repr(found))


@pytest.mark.parametrize(
    ("given", "url", "host"),
    [
        ("https://keys.example.org", "https://keys.example.org", "keys.example.org"),
        ("HTTPS://Keys.Example.org.:443/", "https://keys.example.org", "keys.example.org"),
        ("http://keys:80", "http://keys", "keys"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443", "[2001:db8::1]"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "127.0.0.1"),
    ],
)
def test_the_url_is_what_browsers_send(given: str, url: str, host: str) -> None:
    found = read(SECRETS | {"CONSOLE_URL": given})
    assert (found.console_url, found.host, found.https) == (url, host, url.startswith("https"))


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgres://user:p%2Fw@localhost:5433/name", "user=user password=p/w host=localhost port=5433 dbname=name"),
        ("postgresql:///name?host=/run/postgresql", "host=/run/postgresql dbname=name"),
        ("postgres://%2Frun%2Fpostgresql/name", "host=/run/postgresql dbname=name"),
        ("postgres:////run/postgresql/name", "host=/run/postgresql dbname=name"),
        ("postgres://a,b:5433/name?sslmode=verify-full", "host=a,b port=,5433 dbname=name sslmode=verify-full"),
        ("postgres://?service=mine&sslmode=verify-full", "service=mine sslmode=verify-full"),
    ],
)
def test_postgresql_takes_what_libpq_takes(url: str, parameters: str) -> None:
    found = read(SECRETS | {"DATABASE_URL": url})
    assert found.sqlite_file is None
    assert conninfo_to_dict(found.database.conninfo) == conninfo_to_dict(parameters)


@pytest.mark.parametrize("name", ["DATABASE_URL", "GATE_DATABASE_URL"])
@pytest.mark.parametrize(
    ("url", "libpqs", "refused"),
    [
        ("postgres://db.example.org/name", {}, True),
        ("postgres://10.0.0.7/name?sslmode=require", {}, True),
        ("postgres://10.0.0.7/name?sslmode=verify-ca", {}, True),
        ("postgres://localhost,10.0.0.7/name", {}, True),
        ("postgres://localhost/name?hostaddr=10.0.0.7", {}, True),
        ("postgres://db.example.org/name?hostaddr=127.0.0.1", {}, True),
        ("postgres:///name", {"PGHOST": "10.0.0.7"}, True),
        ("postgres://db.example.org/name", {"PGSSLMODE": "verify-full"}, False),
        ("postgres://?service=mine", {"PGHOST": "localhost", "PGSSLMODE": "verify-full"}, True),
        ("postgres://db.example.org/name?sslmode=verify-full", {}, False),
        ("postgres://[::1],127.0.0.2,localhost/name", {}, False),
        ("postgres:///name", {}, False),
        ("postgres:///name", {"PGHOST": "/run/postgresql"}, False),
    ],
)
def test_another_machines_database_is_asked_over_tls_alone(
    name: str, url: str, libpqs: dict[str, str], refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in libpqs.items():
        monkeypatch.setenv(variable, value)
    if not refused:
        assert read(SECRETS | {name: url})
        return
    (problem,) = problems(SECRETS | {name: url})
    assert problem.startswith(
        f"{name}=postgres://…: The connection to a database on another machine must be verified. Add ?sslmode="
    )


def test_sqlite_takes_a_path(tmp_path: Path) -> None:
    found = read(SECRETS | {"DATABASE_URL": f"sqlite:///{tmp_path}/a%20b.sqlite3"})
    assert found.sqlite_file == tmp_path / "a b.sqlite3" and found.database.conninfo == ""
    assert read(SECRETS | {"DATABASE_URL": "sqlite:///here.sqlite3"}).sqlite_file == ROOT / "here.sqlite3"


@pytest.mark.parametrize(
    ("url", "mail"),
    [
        ("smtp+tls://user:p%40ss@host", Mail("smtp+tls", "host", 587, "user", "p@ss")),
        ("smtps://host:2525", Mail("smtp+tls", "host", 2525)),
        ("smtp+ssl://host/", Mail("smtp+ssl", "host", 465)),
        ("smtp://[::1]", Mail("smtp", "::1", 25)),
        ("filemail:////var/mail%20box", Mail("filemail", folder="/var/mail box")),
        ("dummymail://", Mail()),
    ],
)
def test_mail_goes_where_the_url_says(url: str, mail: Mail) -> None:
    assert read(SECRETS | {"EMAIL_URL": url}).mail == mail


def test_the_document_has_the_same_names_and_defaults() -> None:
    table = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", table, re.MULTILINE)
    words = {None: "made on the first start", "": "none"}
    assert rows == [(one.name, words.get(one.default, f"`{one.default}`")) for one in VARIABLES.values()]


def test_no_other_module_reads_the_environment() -> None:
    allowed = {'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")'}
    sources = [ROOT / "manage.py", *(ROOT / "console").rglob("*.py"), *(ROOT / "apikeys").rglob("*.py")]
    found = {
        f"{file.relative_to(ROOT)}: {line.strip()}"
        for file in sources
        for line in file.read_text().splitlines()
        if re.search(r"\b(environb?|getenvb?)\b", line) and line.strip() not in allowed
    }
    assert {line.partition(":")[0] for line in found} == {"console/environment.py"}
