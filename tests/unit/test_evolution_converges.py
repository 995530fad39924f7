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

pytestmark = pytest.mark.numeric

GENERATIONS, POPULATION, PENALTY = 10, 12, 2.0


@dataclass(frozen=True)
class Seen:
    """Where a run ended, and the part of the tokens that each candidate of the first kept."""

    position: Position
    first_kept: list[float]


def evolve(
    folder: Path, bias: float, seed: int, generations: int, monkeypatch: pytest.MonkeyPatch
) -> Seen:
    """Run an evolution whose start scores every token with `bias`."""
    for registry, made in ((ADAPTERS, NeedleAdapter), (TASKS, NeedleTask)):
        known: Any = registry._scan()
        monkeypatch.setitem(known, "needle", made)
    stage = {
        "task": "needle",
        "generations": generations,
        "subspace": "score",
        "population": POPULATION,
        "sigma": 0.2,
        "prompts": 8,
        "pool": 8,
        "penalty": PENALTY,  # fitness: nats lost, and the fraction of the tokens kept
        "validation_prompts": 8,
        "validate_every": 1,
    }
    start = {"checkpoint": None, "bias": bias, "interval": 64, "statistics_prompts": 4}
    settings = reading.from_mapping(
        {
            "name": "needle",
            "seed": seed,
            "adapter": "needle",
            "wandb": "disabled",
            "start": {**start, "statistics_clip": None},
            "stages": {"one": stage},
        }
    )
    outcome = loop.run(settings, folder)
    journal = [json.loads(x) for x in (folder / "evaluations.jsonl").read_text().splitlines()]
    first = next(x["result"]["kept"] for x in journal if len(x["result"]["kept"]) == POPULATION)
    return Seen(outcome.position, [layers[0] for layers in first])


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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_from_a_positive_bias_it_learns_what_to_forget(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of a run pays much less, whatever course the run takes on a processor."""
    seen = evolve(tmp_path / "run", 1.0, seed, GENERATIONS, monkeypatch)
    assert min(seen.first_kept) > 0.5, "a first perturbation evicts nearly everything"
    assert seen.position.start_kept == 1.0
    assert seen.position.start_fitness == pytest.approx(-PENALTY)
    assert seen.position.best_kept < 0.75
    lost = -seen.position.best_fitness - PENALTY * seen.position.best_kept
    assert lost < 1.0, "the needles are lost: a guess among 8 would lose 2 nats"
    assert seen.position.best_fitness > -0.9 * PENALTY


def test_from_zero_a_first_perturbation_evicts_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = evolve(tmp_path / "run", 0.0, 0, 1, monkeypatch)
    assert min(seen.first_kept) < 0.5
