"""Every status that the gate answers with has its place in metrics, gateway, schema and document."""

import re
from pathlib import Path

import pytest
import yaml

from apikeys.gate.metrics import render
from apikeys.gate.policy import CANNOT_CHECK, MESSAGES
from apikeys.keys.status import REFUSALS
from tests.support.servers import ROOT

pytestmark = pytest.mark.once
WORDS = [status.value for status in REFUSALS]
NGINX = (ROOT / "deploy" / "nginx.conf").read_text()


def test_each_has_its_message() -> None:
    assert [*MESSAGES] == [*REFUSALS]
    assert len(set(MESSAGES.values())) == len(MESSAGES)


def test_each_has_its_metric(tmp_path: Path) -> None:
    labels = re.findall(r'^gate_calls_total\{answer="(\w+)"\}', render(tmp_path).decode(), re.MULTILINE)
    assert labels == ["accepted", *WORDS, "unavailable", "other"]


def test_nginx_has_each_with_the_message_of_the_gate() -> None:
    (block,) = re.findall(r"map \$key_status \$refusal \{(.+?)\}", NGINX, re.DOTALL)
    messages = dict(re.findall(r'^ *(\w+) +"(.+)";$', block, re.MULTILINE))
    assert messages.pop("default")
    assert messages == {status.value: message for status, message in MESSAGES.items()}
    assert f'"message": "{CANNOT_CHECK}"' in NGINX


def test_the_schema_has_each() -> None:
    schema = yaml.safe_load((ROOT / "docs" / "gate.openapi.yaml").read_text())
    header = schema["paths"]["/verify"]["get"]["responses"]["401"]["headers"]["X-Api-Key-Status"]
    assert header["schema"]["enum"] == WORDS


def test_the_document_has_each() -> None:
    rows = re.findall(r"^\| 40[13] \| `(\w+)` \| \S", (ROOT / "docs" / "gate.md").read_text(), re.MULTILINE)
    assert rows == WORDS
