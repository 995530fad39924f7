"""The tables of part G are made from lines of the factorial."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from research.benchmarks import orders_page
from research.benchmarks.factorial_page import keep


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
    assert rows[0] == "n = 9"
    assert rows[4].startswith("| full cache | 1.00 ")
    assert rows[5].startswith("| `namm` | 0.56 ")
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
    keep((json.dumps(line) for line in _lines()), kept / "orders_smollm2_validation.jsonl.gz")
    monkeypatch.setattr(sys, "argv", ["orders_page.py", "--keep", str(tmp_path)])
    orders_page.main()
    said = capsys.readouterr().out
    assert "## Gemma-3-270m\n\nn = 9" in said
    assert "## SmolLM2-135M, validation\n" in said
