"""The page of part D: its tables are those of the kept lines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from research.benchmarks import targets_page
from research.benchmarks.results_page import KEPT


def _line(number: int, budget: str, sizes: str, order: str, exact: float) -> dict[str, object]:
    cell = {"budget": budget, "sizes": sizes, "order": order}
    return {"sample": f"s{number}", **cell, "exact": exact, "nats": -1.0}


def _lines() -> list[dict[str, object]]:
    cells = {
        ("full", "full", "full"): 1.0,
        ("bytes:0.2", "probed", "namm"): 1.0,
        ("bytes:0.2", "probed", "random"): 0.0,
        ("bytes:0.4", "probed", "namm"): 1.0,
        ("fraction:0.2", "table", "random"): 0.0,
    }
    return [_line(n, *cell, exact) for n in range(20) for cell, exact in cells.items()]


def test_answers_have_a_column_for_each_budget_and_a_row_for_each_order() -> None:
    rows = targets_page.answers(_lines()).splitlines()
    assert rows[0] == "n = 20"
    assert "20% of the tokens" in rows[2]
    assert "| `namm` | probed |  | 1.00 [0.84, 1.00] | 1.00 [0.84, 1.00] |  |  |" in rows
    assert "| `random` | table |  |  |  |  | 0.00 [0.00, 0.16] |" in rows


def test_only_cells_of_one_budget_are_compared_and_what_holds_is_bold() -> None:
    rows = targets_page.differences(_lines())
    assert rows.count("**+1.00") == 2
    assert "| 20% of the bytes | namm, probed | random, table | **+1.00" in rows
    assert "| 40% of the bytes | namm, probed | full cache | +0.00" in rows
    assert "40% of the bytes | namm, probed | random" not in rows


def test_the_picture_has_a_panel_for_each_model(tmp_path: Path) -> None:
    targets_page.draw({"smollm2": _lines()}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_the_tables_of_the_page_are_those_of_the_kept_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["targets_page.py"])
    monkeypatch.setattr(targets_page, "PICTURE", tmp_path / "curve.png")
    targets_page.main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = {line for line in printed if not line.startswith("| ---")}
    assert len(rows) > 20
    page = (KEPT / "targets.md").read_text(encoding="utf-8")
    assert rows <= set(page.splitlines())
