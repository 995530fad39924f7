"""The factorial: every cell holds as many tokens, and a run that was stopped goes on."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from namm_mm.evolution.prompts import Prompt
from namm_mm.namm import Namm
from namm_mm.namm.checkpoint import save
from namm_mm.records import Inputs, Sample
from research.benchmarks.factorial import (
    ORDERS,
    SIZES,
    Bench,
    Cell,
    _order,
    in_words,
    make_table,
    run,
)
from research.benchmarks.oracle_order import oracle_scores
from research.zoo.recipes import new_model, recipe


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An untrained model with two key heads for four queries."""
    torch.manual_seed(0)
    model: Any = new_model(recipe("llama_code"))
    model.eval()
    return Bench(model, "fraction", 0.4, 32, "general", tmp_path / "heads.json")


def _prompt(seed: int) -> Prompt:
    tokens = torch.randint(0, 192, (1, 130), generator=torch.Generator().manual_seed(seed))
    sample = Sample(id=f"one-{seed}", family="passkey", context="", question="", answer="x")
    return Prompt(Inputs({"input_ids": tokens}, (), sample), (5, 6), "")


def test_cells_hold_as_many_tokens_and_are_run_once(bench: Bench) -> None:
    prompt = _prompt(0)
    make_table(bench, "untrained", [{"input_ids": prompt.inputs.tensors["input_ids"]}])
    cells = [Cell(sizes, order) for sizes in SIZES for order in ORDERS]
    lines = list(run(bench, prompt, cells, []))
    assert {(line["sizes"], line["order"]) for line in lines[1:]} == {
        (sizes, order) for sizes in SIZES for order in ORDERS
    }
    kept = [line["kept"] for line in lines[1:]]
    assert max(kept) - min(kept) < 0.02
    assert [line["sizes"] for line in run(bench, prompt, cells[:2], [])] == [
        "full",
        "equal",
        "equal",
    ]
    assert lines[0]["kept"] == 1.0
    assert list(run(bench, prompt, cells, lines)) == []
    assert [line["sizes"] for line in run(bench, prompt, cells, lines[:-1])] == ["probed"]
    assert in_words(lines).count("\n") == 2 + len(SIZES) * len(ORDERS)


def test_the_orders_of_several_namms_are_told_apart(bench: Bench, tmp_path: Path) -> None:
    path = save(Namm.from_pretrained("evolved_pure"), tmp_path / "mine.safetensors")
    cells = [Cell("probed", order) for order in ("namm", "namm:evolved", f"namm:{path}")]
    lines = list(run(bench, _prompt(0), cells, []))
    assert [line["order"] for line in lines] == ["full", "namm", "namm:evolved", "namm:mine"]
    assert len({line["nats"] for line in lines}) == 4
    assert list(run(bench, _prompt(0), cells, lines)) == []
    with pytest.raises(ArgumentTypeError, match="unknown order: got 'nam', expected namm, h2o"):
        _order("nam")


@pytest.mark.parametrize("kind", ["fraction", "bytes"])
def test_the_oracle_keeps_what_the_end_looks_at(bench: Bench, kind: str) -> None:
    bench = replace(bench, kind=kind, fraction=0.2)
    prompt = _prompt(0)
    tokens = torch.cat([prompt.inputs.tensors["input_ids"], torch.tensor([[5]])], 1)
    scores = oracle_scores(bench.model, tokens, 2)
    with torch.no_grad():
        bench.model.set_attn_implementation("eager")
        expected = bench.model(tokens, output_attentions=True).attentions
        bench.model.set_attn_implementation("sdpa")
    for layer, weights in zip(scores, expected, strict=True):
        heads = weights[0, :, -26:].unflatten(0, (layer.shape[0], -1)).amax((1, 2))
        torch.testing.assert_close(layer, heads, atol=1e-5, rtol=1e-4)
    cells = [Cell(sizes, order) for sizes in ("equal", "probed") for order in ("oracle", "random")]
    lines = {(line["sizes"], line["order"]): line for line in run(bench, prompt, cells, [])}
    for sizes in ("equal", "probed"):
        assert lines[sizes, "oracle"]["kept"] == pytest.approx(lines[sizes, "random"]["kept"])
