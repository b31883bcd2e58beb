"""The comments on unnoticed mutants (tests/mutants.py) are found, and belong to the statement that a mutant changes."""

from pathlib import Path

import pytest

from tests.mutants import explained, place

pytestmark = pytest.mark.once
SOURCE = """
class Gate:
    def ask(self, key):
        # unnoticed mutants (2): both are
        # the same.
        if key and (
            key > 1
        ):
            return key + 1
        # another comment

        return lambda: 0


def twice(number=1):
    return number * 2
"""
MADE = """
class Gate:
    def xǁGateǁask__mutmut_orig(self, key):
        if key and (
            key > 1
        ):
            return key + 1
        return lambda: 0

    def xǁGateǁask__mutmut_1(self, key):
        if key or (
            key > 1
        ):
            return key + 1
        return lambda: 0

    def xǁGateǁask__mutmut_2(self, key):
        if key and (
            key > 1
        ):
            return key + 2
        return lambda: 0

    def xǁGateǁask__mutmut_3(self, key):
        if key and (
            key > 1
        ):
            return key + 1
        return lambda: None


def x_twice__mutmut_orig(number=1):
    return number * 2


def x_twice__mutmut_1(number=2):
    return number * 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file, text in (("apikeys/gate.py", SOURCE), ("mutants/apikeys/gate.py", MADE)):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("mutant", "line"),
    [("xǁGateǁask__mutmut_1", 6), ("xǁGateǁask__mutmut_2", 9), ("xǁGateǁask__mutmut_3", 12), ("x_twice__mutmut_1", 15)],
)
def test_a_mutant_is_at_the_first_line_of_its_statement(folder: Path, mutant: str, line: int) -> None:
    assert place(folder, f"apikeys.gate.{mutant}") == ("apikeys/gate.py", line)


def test_a_comment_explains_the_statement_below_it(folder: Path) -> None:
    assert explained(folder) == {("apikeys/gate.py", 6): 2}
