"""What an installation is made of: every package pinned by hashes, and named in the bill of materials."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import ROOT

pytestmark = pytest.mark.once
PINS = [*ROOT.glob("requirements*.txt"), *ROOT.glob("tests/**/*requirements.txt"), ROOT / "bench" / "requirements.txt"]
PIN = re.compile(r"^([a-z0-9.-]+)==([^ ;\\]+)", re.MULTILINE)


@pytest.mark.parametrize("file", PINS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_package_is_pinned_by_hashes_and_no_registry_is_named(file: Path) -> None:
    text = file.read_text()
    packages = re.split(r"\n(?=[a-z0-9])", text)
    assert packages and all(PIN.match(package) and "--hash=sha256:" in package for package in packages)
    assert "://" not in text and "--index-url" not in text


def test_the_bill_of_materials_names_them_all(tmp_path: Path) -> None:
    subprocess.run(["make", "sbom", f"SBOM={tmp_path}/sbom.json"], cwd=ROOT, check=True)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    named = {(part["name"], part["version"]) for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX" and bill["metadata"]["component"]["name"] == "api-key-console"
    assert named == set(PIN.findall((ROOT / "requirements.txt").read_text()))
