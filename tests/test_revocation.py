"""A deleted key is refused from the commit of its deletion, by every worker, under load."""

from pathlib import Path

import pytest

from tests.support.revocation import measure


@pytest.mark.django_db(transaction=True)
def test_no_call_that_begins_after_a_deletion_is_accepted(tmp_path: Path) -> None:
    result = measure(tmp_path, deletions=40)
    assert result.leaked == 0
    assert result.accepted > 40 and result.refused >= 40
