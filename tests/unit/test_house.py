"""The code does not become harder to read: each figure that is counted has a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from research.benchmarks.house import House, circles, measure

ROOT = Path(__file__).resolve().parents[2]

# `python research/benchmarks/house.py --list` prints where each counted thing stands.
LIMITS = {
    "long_files": 0,
    "long_functions": 0,
    "many_parameters": 0,
    "root_modules": 3,
    "probes": 1,
    "untyped_parts": 0,
    "late_imports": 0,
    "circles": 0,
    "repeated_blocks": 91,
}


@pytest.fixture(scope="module")
def house() -> House:
    return measure(ROOT)


@pytest.mark.parametrize("figure", list(LIMITS))
def test_it_stays_within_its_limit(house: House, figure: str) -> None:
    places = getattr(house, figure)
    assert len(places) <= LIMITS[figure], "\n".join([f"{figure}:", *places])


def test_every_figure_has_a_limit(house: House) -> None:
    assert set(LIMITS) == set(vars(house))


def test_what_breaks_a_limit_is_counted(tmp_path: Path) -> None:
    package = tmp_path / "namm_mm"
    (package / "memory").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "memory" / "__init__.py").write_text("")
    body = "\n".join(f"    line_{i} = {i}" for i in range(70))
    names = ", ".join(f"p{i}" for i in range(9))
    (package / "memory" / "one.py").write_text(
        f"def long({names}, adapter: Any) -> None:\n"
        f"    from namm_mm.memory import two\n{body}\n    hasattr(two, 'x')\n"
        + "\n" * 240
        + "x = 1\n"
    )
    (package / "memory" / "two.py").write_text(f"from . import one\ndef same():\n{body}\n")
    found = measure(tmp_path)
    assert len(found.long_files) == len(found.long_functions) - 1 == 1
    assert found.many_parameters == ["namm_mm/memory/one.py:1 long 10"]
    assert found.untyped_parts == ["namm_mm/memory/one.py:1 adapter"]
    assert len(found.probes) == len(found.late_imports) == 1
    assert found.circles == ["namm_mm.memory.one namm_mm.memory.two"]
    assert len(found.repeated_blocks) == 65
    assert found.root_modules == ["namm_mm/__init__.py"]


def test_a_long_file_of_tests_is_counted(tmp_path: Path) -> None:
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_long.py").write_text("x = 1\n" * 301)
    (tmp_path / "tests" / "unit" / "test_short.py").write_text("x = 1\n" * 300)
    assert measure(tmp_path).long_files == ["tests/unit/test_long.py 301"]


def test_a_chain_of_imports_is_no_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
