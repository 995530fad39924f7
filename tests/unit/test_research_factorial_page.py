"""The tables of the probe: made from kept lines, with what holds after correction in bold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from research.benchmarks import factorial_page
from research.benchmarks.results_page import KEPT


def _lines() -> list[dict[str, object]]:
    cells = {("full", "full"): 1.0, ("equal", "namm"): 0.0, ("probed", "namm"): 1.0}
    cells |= {("equal", "random"): 0.0, ("probed", "random"): 1.0}
    return [
        {
            "sample": f"s{number}", "budget": "full" if sizes == "full" else "fraction:0.4",
            "sizes": sizes, "order": order, "exact": exact, "nats": exact - 2.0,
        }
        for number in range(20)
        for (sizes, order), exact in cells.items()
    ]  # fmt: skip


def test_a_row_for_each_order_and_bold_where_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "probed_tiny.jsonl.gz"
    factorial_page.keep((json.dumps(line) for line in _lines()), file)
    again = tmp_path / "again.jsonl.gz"
    factorial_page.keep((json.dumps(line) + "\n" for line in _lines()), again)
    assert file.read_bytes() == again.read_bytes()
    monkeypatch.setattr(sys, "argv", ["factorial_page.py", str(file)])
    factorial_page.main()
    printed = capsys.readouterr().out
    assert "n = 20" in printed
    assert "| namm | 0.00 [0.00, 0.16] | -1.00 [-1.00, -1.00] | 1.00 [0.84, 1.00] |" in printed
    assert "| probed namm | equal random | **+1.00 [" in printed
    assert "| probed namm | probed random | +0.00 [" in printed


def test_the_tables_of_the_page_are_those_of_the_kept_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(map(str, KEPT.glob("probed_*.jsonl.gz")))
    assert len(files) >= 3
    monkeypatch.setattr(sys, "argv", ["factorial_page.py", *files])
    factorial_page.main()
    page = (KEPT / "probed.md").read_text(encoding="utf-8")
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = {line for line in printed if not line.startswith("| ---")}
    assert rows <= set(page.splitlines())
