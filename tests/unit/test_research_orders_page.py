"""The tables of part G are made from lines of the factorial."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from research.benchmarks import orders_page
from research.benchmarks.factorial_page import keep
from research.benchmarks.results_page import KEPT

CELLS = (("full", (2.0, 2.1, 2.2)), ("probed namm", (2.1, 2.2, 2.36)))


def _lines() -> list[dict[str, Any]]:
    """Ten samples, of which the last was answered by the full cache alone."""
    found = []
    for number in range(10):
        one = {"sample": f"s{number}", "sizes": "full", "order": "full", "budget": "full"}
        found.append({**one, "exact": 1.0, "nats": -0.1})
        if number == 9:
            break
        orders = ("namm", "random", "namm:two_models_0", "namm:two_models_1")
        for place, order in enumerate(orders):
            cell = {"sizes": "probed", "order": order, "budget": "bytes:0.2"}
            right, nats = float(number >= 4 - place), -1.0 + 0.1 * place - 0.01 * number
            found.append({**one, **cell, "exact": right, "nats": nats})
    return found


def test_the_tables_count_shared_samples_and_compare_the_mean_of_the_seeds() -> None:
    rows = orders_page.answers(_lines()).splitlines()
    assert rows[0] == "| order of tokens | 20%, n = 9: exact match | nats to full |"
    assert rows[2].startswith("| full cache | 1.00 ")
    assert rows[3].startswith("| `namm` | 0.56 ")
    found = orders_page.differences(_lines())
    assert "| 20% | nats | `mean of both seeds` | `namm` | **+0.25 [" in found
    assert "`namm` | `namm`" not in found
    both = orders_page.mean_of([{"a": 1.0, "b": 2.0}, {"a": 3.0}])
    assert both == {"a": 2.0}


def test_lines_are_kept_and_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr(orders_page, "KEPT", kept)
    text = "".join(json.dumps(line) + "\n" for line in _lines())
    (tmp_path / "orders_gemma_3_270m.jsonl").write_text(text)
    before = [{**line, "sample": f"d{line['sample']}"} for line in _lines()]
    keep((json.dumps(line) for line in before), kept / "targets_gemma_3_270m.jsonl.gz")
    prose = [
        {"passage": at, "cell": cell, "nats": nats, "kept": 0.4, "cpu_seconds": 1.0}
        for cell, several in CELLS
        for at, nats in enumerate(several)
    ]
    (tmp_path / "prose_smollm2.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prose))
    monkeypatch.setattr(sys, "argv", ["orders_page.py", "--keep", str(tmp_path)])
    orders_page.main()
    said = capsys.readouterr().out
    assert "| probed namm | 3 | +0.120 [+0." in said
    assert "## Gemma-3-270m\n\n| order of tokens | 20%, n = 9:" in said
    assert "| Gemma-3-270m | exact match | 18 | `random` | -0.11 [" in said  # both sets


def test_the_tables_of_the_page_are_those_of_the_kept_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["orders_page.py"])
    orders_page.main()
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = {line for line in printed if not line.startswith("| ---")}
    assert len(rows) > 20
    page = (KEPT / "orders.md").read_text(encoding="utf-8")
    assert rows <= set(page.splitlines())
