"""The benchmarks of cost run, and say what they measured."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from research.benchmarks import cost, real_size

RESETS = real_size.RESET.exists()


@pytest.mark.skipif(not RESETS, reason="only Linux tells the peak of a part of a run")
def test_a_tiny_model_of_the_real_kind_is_measured_and_planned() -> None:
    sizes = {"frames": 4, "looked": 2, "interval": 16, "new": 2, "threads": 1}
    given = Namespace(**sizes, fraction=0.25, tiny=True, dtype="bfloat16", out="")
    lines = real_size.run(given).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-3:]]
    assert [row[0] for row in cells] == ["full", "h2o", "namm"]
    peaks, plans = ([float(row[place]) for row in cells] for place in (3, 4))
    assert min(peaks) > 100  # this process, in MiB
    assert min(plans) > 700  # what runs around a model


def test_costs_are_medians_of_ratios_in_the_same_round(tmp_path: Path) -> None:
    def line(row: str, number: int, prefill: float) -> dict[str, Any]:
        told = {"processor": "P", "torch": "T", "shape": "small", "length": 64}
        return {**told, "row": row, "round": number, "prefill": prefill, "token": prefill / 8}

    lines = []
    for number, (plain, other) in enumerate(((1.0, 2.0), (2.0, 2.0), (4.0, 2.0))):
        lines += [line(cost.PLAIN, number, plain), line("namm", number, other)]
    assert cost.ratios(lines, "prefill") == {(cost.PLAIN, 64): 1.0, ("namm", 64): 1.0}
    assert "| namm | 1.00 / 1.00 |" in cost.in_words(lines)
    cost.draw(lines, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").stat().st_size > 1000


def test_every_row_of_the_costs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    tiny |= {"num_attention_heads": 4, "num_key_value_heads": 2}
    monkeypatch.setitem(cost.SHAPES, "small", tiny)
    given = Namespace(shape="small", lengths=[600], new=1, budget=64, rounds=1, only=[""])
    lines = list(cost.run(given))
    assert [line["row"] for line in lines] == [row.name for row in cost.rows(600, 64)]
    full = next(line for line in lines if line["row"] == "full")
    pruned = next(line for line in lines if line["row"] == "namm, prune_after_prefill")
    assert pruned["live_mib"] < full["live_mib"]
