"""The gate has nothing but its configuration, which the environment gives it in one place."""

import subprocess
import sys
from pathlib import Path

import pytest

from apikeys.gate import main
from console.proxies import TrustedProxies
from console.vault import Vault, new_key
from tests.support.servers import ROOT

pytestmark = pytest.mark.once
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules["django"] = None  # whoever imports it now fails
import apikeys.gate, apikeys.metering
for package in (apikeys.gate, apikeys.metering):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name != "apikeys.gate.gunicorn_conf":  # which shares the console's hooks
            print(importlib.import_module(module.name).__name__)
assert "console.settings" not in sys.modules
"""


def test_neither_gate_nor_metering_imports_django() -> None:
    imported = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True)
    assert imported.returncode == 0, imported.stderr
    assert {"apikeys.gate.main", "apikeys.gate.worker", "apikeys.metering.fold"} <= {*imported.stdout.split()}


def test_the_environment_is_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = new_key(), new_key()
    for name, value in {
        "CONSOLE_DATA_DIR": str(tmp_path),
        "VAULT_KEYS": keys[0],
        "DIGEST_KEYS": keys[1],
        "TRUSTED_PROXIES": "10.0.0.0/8,unix",
        "METERING_SECONDS": "7.5",
        "GATE_MAX_CONNECTIONS": "12",
        "DATABASE_URL": "",
    }.items():
        monkeypatch.setenv(name, value)
    gate = main.gate()
    gate.close()
    found = gate.configuration
    assert (found.database, found.metering_dir) == (tmp_path / "console.sqlite3", tmp_path / "metering")
    assert found.deleted_keys_file == tmp_path / "deleted-keys"
    assert (found.metering_seconds, found.max_connections) == (7.5, 12)
    assert found.trusted_proxies == TrustedProxies.parse("10.0.0.0/8,unix")
    assert found.digests("api-key", "secret") == Vault(*keys).digests("api-key", "secret")
    monkeypatch.setenv("DATABASE_URL", "postgres://somebody@127.0.0.1:1/console")
    gate = main.gate()
    assert "host=127.0.0.1" in str(gate.configuration.database)
