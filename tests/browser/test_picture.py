"""The README's picture can be renewed: the script still finds its way through the product."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

pytestmark = pytest.mark.browser


def test_the_picture_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "console.png"
    subprocess.run([sys.executable, "-m", "docs.picture", str(file)], cwd=ROOT, check=True, timeout=120)
    header = file.read_bytes()[:24]  # PNG, 5.2 and 11.2.2: the signature, and the width and height of IHDR
    assert header.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:])) == (1280, 640)
