"""Wapiti, logged on as the owner who is an operator too, finds nothing on any page that it gets to."""

import json
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.attacks.conftest import Site
from tests.support.person import Person
from tests.support.servers import ROOT, installed

pytestmark = [pytest.mark.gateway, pytest.mark.once]
# Not those that ask machines elsewhere, or look for what can have nothing here to be found in (XML, PHP, Java, CGI,
# Apache, LDAP, uploads, CMS).
MODULES = [
    *("backup", "cookieflags", "crlf", "csp", "csrf", "exec", "file", "http_headers", "methods", "permanentxss"),
    *("redirect", "sql", "timesql", "xss"),
]
LIMITS = False  # as from many addresses
CRAWL_SECONDS, MODULE_SECONDS = 60, 10
TIMEOUT = 3  # modules that look for delays ask for one of a second more
PAGES = {  # that it has to have seen from within
    ("GET", "/api-keys/", 200),
    ("POST", "/api-keys/create/", 200),
    ("GET", "/api-keys/ID/view/", 200),
    ("POST", "/api-keys/ID/view/", 422),
    ("POST", "/api-keys/ID/delete/", 422),
    ("GET", "/api-keys/usage/", 200),
    ("GET", "/activity/", 200),
    ("POST", "/security/password/", 422),
    ("POST", "/security/authenticator/", 422),
    ("GET", "/admin/console/user/", 200),
}


@pytest.fixture(scope="session")
def scanner() -> Path:
    """The program, in a virtual environment of its own: it pins what it needs."""
    python = installed(".venv-wapiti", ROOT / "tests" / "attacks" / "wapiti-requirements.txt")
    return Path(python).parent / "wapiti"


def test_it_finds_nothing(site: Site, owner: Person, scanner: Path, tmp_path: Path) -> None:
    (key_id, _), report = owner.create(), tmp_path / "report.json"
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in owner.http.cookies.jar)
    command = [str(scanner), "-u", f"{site.address}/", "-C", cookies, "-m", ",".join(MODULES), "-f", "json", "-dr", "2"]
    command += ["-H", f"Origin: {site.address}", "-x", f"{site.address}/logout/", "-x", f"{site.address}/admin/logout/"]
    for sorting in ("o=", "_changelist_filters="):  # Django's, of every list by all its columns: thousands of addresses
        command += ["-x", f"{site.address}/admin/*{sorting}*"]
    command += [
        "--endpoint",
        f"{site.address}/",
        "--dns-endpoint",
        "127.0.0.1",
        "--no-bugreport",
        "-v",
        "1",
        "-t",
        str(TIMEOUT),
    ]
    command += ["--max-scan-time", str(CRAWL_SECONDS), "--max-attack-time", str(MODULE_SECONDS)]
    command += ["--store-session", str(tmp_path), "--store-config", str(tmp_path), "-o", str(report)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
    assert not [module for module in MODULES if f"Launching module {module}\n" not in said]

    found = json.loads(report.read_text())
    asked = {
        (page["request"]["method"], page["request"]["url"], page["response"]["status_code"])
        for page in found["infos"]["crawled_pages"]
    }
    pages = {(method, urlsplit(url).path.replace(key_id, "ID"), status) for method, url, status in asked}
    assert not PAGES - pages
    told = [one for kind in ("vulnerabilities", "anomalies") for many in found[kind].values() for one in many]
    assert not told, json.dumps(told, indent=1)[:4000]
    assert key_id in owner.key_ids(), "the session is good still, and no key is gone"
    written = site.server.output.read_text() + site.server.errors.read_text()
    assert "Traceback" not in written and '"status": 500' not in written
