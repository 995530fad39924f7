"""What a class says of itself is read from a few lines of its source."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from namm_mm.registry.source import describe

MODULE = '''"""Policies of mine. More."""

from mine.base import (
    Base,
    Other as Renamed,
)

LINES = """
class InAString
"""


class Plain(Base):
    """Says \\"so\\" in one line.

    And more.
    """

    def score(self) -> int:
        return 1


@decorated
class Silent(Renamed):
    limit = 3

    def score(self) -> int:
        """Not that of the class."""
        return 2


def make(
    name: str = "(",
) -> Plain:
    """Make one."""
    return Plain()
'''
BASE = '''class Root:
    pass


class Base(Root):
    \'\'\'In other quotes.\'\'\'


class Other:
    """Other."""
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of a name of its own, since sources are read once."""
    name = f"mine_{tmp_path.name}".replace("-", "_")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "policies.py").write_text(MODULE.replace("mine.base", f"{name}.base"))
    (folder / "base.py").write_text(BASE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def test_a_class_is_described_by_its_head_and_its_docstring(mine: str) -> None:
    plain = describe(f"{mine}.policies:Plain")
    assert plain is not None
    assert plain.about == 'Says "so" in one line'
    assert plain.module == "Policies of mine. More"
    assert plain.bases == {"Base", "Root"}


def test_a_class_without_a_docstring_says_nothing(mine: str) -> None:
    silent = describe(f"{mine}.policies:Silent")
    assert silent is not None
    assert silent.about == ""
    assert silent.bases == {"Other"} or silent.bases == {"Renamed"}


def test_functions_imported_names_and_names_that_are_not_there(mine: str) -> None:
    made, base = describe(f"{mine}.policies:make"), describe(f"{mine}.policies:Base")
    assert made is not None
    assert made.about == "Make one"
    assert made.bases == frozenset()
    assert base is not None
    assert base.about == "In other quotes"
    assert describe(f"{mine}.policies:InAString") is None
    assert describe(f"{mine}.nowhere:Plain") is None
    assert describe("no_such_package:Plain") is None
