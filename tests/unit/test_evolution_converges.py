"""Evolution learns to forget from a start that keeps everything, and only from there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from needle_model import NEEDLES, NeedleAdapter, NeedleTask

from namm_mm.adapters import ADAPTERS
from namm_mm.evolution import loop, reading
from namm_mm.evolution.state import Position
from namm_mm.tasks import TASKS

GENERATIONS = 10


@dataclass(frozen=True)
class Seen:
    """What a run was seen to do; parts kept are those of each candidate, on each prompt."""

    position: Position
    fitness: list[float]
    kept: list[float]
    first_kept: list[float]


def evolve(folder: Path, bias: float, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Run an evolution whose start scores every token with `bias`."""
    for registry, made in ((ADAPTERS, NeedleAdapter), (TASKS, NeedleTask)):
        known: Any = registry._scan()
        monkeypatch.setitem(known, "needle", made)
    stage = {
        "task": "needle",
        "generations": GENERATIONS,
        "subspace": "score",
        "population": 8,
        "sigma": 0.2,
        "prompts": 4,
        "pool": 16,
        "penalty": 1.0,  # fitness: nats lost, and the fraction of the tokens kept
        "validation_prompts": 8,
        "validate_every": GENERATIONS,
    }
    start = {"checkpoint": None, "bias": bias, "interval": 64, "statistics_prompts": 4}
    settings = reading.from_mapping(
        {
            "name": "needle",
            "adapter": "needle",
            "wandb": "disabled",
            "start": {**start, "statistics_clip": None},
            "stages": {"one": stage},
        }
    )
    outcome = loop.run(settings, folder)
    lines = [json.loads(x) for x in (folder / "generations.jsonl").read_text().splitlines()]
    journal = [json.loads(x) for x in (folder / "evaluations.jsonl").read_text().splitlines()]
    first = next(x["result"]["kept"] for x in journal if len(x["result"]["kept"]) == 8)
    return Seen(
        outcome.position,
        [line["fitness/mean"] for line in lines],
        [line["kept/mean"] for line in lines],
        [layers[0] for layers in first],
    )


def test_the_model_knows_the_needle_while_it_has_it() -> None:
    adapter, task = NeedleAdapter(), NeedleTask()
    adapter.load()
    (sample,) = task.samples("train", 1, 0)
    ids = adapter.prepare(sample).tensors["input_ids"]
    lost = ids.clone()
    lost[lost == int(sample.answer)] = 0
    right = adapter.continuation(sample, sample.answer)[0]
    with torch.no_grad():
        known, guessed = (adapter.backbone(x).logits[0, -1].softmax(-1)[right] for x in (ids, lost))
    assert known > 0.9
    assert guessed < 1 / NEEDLES


def test_from_a_positive_bias_it_learns_what_to_forget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = evolve(tmp_path / "run", 1.0, monkeypatch)
    assert min(seen.first_kept) > 0.75, "a first perturbation evicts nearly everything"
    assert seen.position.start_kept == 1.0
    assert seen.position.start_fitness == pytest.approx(-1.0)
    assert seen.position.best_fitness > -0.8
    assert seen.position.best_kept < 0.4
    assert max(seen.fitness[:2]) < -1.0
    # Some generations hold a candidate that lost the needle, which depends on the last bits.
    assert max(seen.fitness[-3:]) > -0.5
    assert seen.kept[-1] < 0.5 * seen.kept[0]


def test_from_zero_a_first_perturbation_evicts_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = evolve(tmp_path / "run", 0.0, monkeypatch)
    assert sum(part < 0.4 for part in seen.first_kept) >= 2  # 0.27 came after the last update
    assert min(seen.fitness[-3:]) < -0.5  # candidates still fall on either side of the threshold
