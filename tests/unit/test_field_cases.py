"""Every case that went wrong once has a test, and the list of them is true."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
LIST = TESTS / "field_cases.md"


def test_every_case_names_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (\d+) .*\| ([^|]+) \|$", LIST.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 42))
    for number, named in rows:
        for name in named.split(", "):
            file, _, function = name.partition("::")
            if name == "`make numeric`":
                assert "\nnumeric:" in (TESTS.parent / "Makefile").read_text()
            else:
                source = (TESTS / file).read_text()
                assert re.search(rf"def {function}", source), f"case {number}: {name}"
