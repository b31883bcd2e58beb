"""Schemathesis asks the gate whatever docs/gate.openapi.yaml allows, and checks each answer against it."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import unsupported_method

from apikeys.keys import format as keyformat
from tests.support.person import Person
from tests.support.servers import ROOT, Server

pytestmark = pytest.mark.once
schema = schemathesis.openapi.from_path(ROOT / "docs" / "gate.openapi.yaml")
ANY_METHOD: list[Any] = [unsupported_method]  # is answered, as the contract says
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def key(server: Server) -> Iterator[str]:
    with Person(server.address) as owner:
        yield owner.log_on().create()[1]


@schema.parametrize()
@many
def test_with_a_good_key(case: schemathesis.Case[Any], server: Server, key: str) -> None:
    address = f"http://127.0.0.1:{server.gate_port}"
    answer = case.call_and_validate(
        base_url=address, headers={"dashvector-auth-token": key}, excluded_checks=ANY_METHOD
    )
    assert answer.status_code == 200


@schema.include(path_regex="^/verify").parametrize()
@many
def test_with_whatever_is_no_key(case: schemathesis.Case[Any], server: Server) -> None:
    address = f"http://127.0.0.1:{server.gate_port}"
    headers = {"dashvector-auth-token": keyformat.new_secret()}
    answer = case.call_and_validate(base_url=address, headers=headers, excluded_checks=ANY_METHOD)
    assert answer.status_code == 401
