"""The zoo: samples that need memory, candidates in one batch, an evolution that continues."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from namm_mm.errors import RunError, UsageError
from namm_mm.evolution.state import read_tensors
from namm_mm.namm.params import FEATURES, LAYOUTS
from namm_mm.policies.namm import NammPolicy
from research.builders.text.zoo import BuildZoo
from research.zoo import training
from research.zoo.evolution import LOG, STATE, ZooEvolution, evolve, mean_vector, namm_for
from research.zoo.judging import Conditions, candidates, draw, load, under
from research.zoo.recipes import RECIPES, new_model, recipe
from research.zoo.samples import RECALL, Source
from research.zoo.training import zoo_folder
from research.zoo.variants import blank, calibrated

NAME = "qwen2_one"
LENGTH = 96


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of the zoo in a cache of its own, as it is before its training."""
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path))
    monkeypatch.setattr(training, "COMMITTED", tmp_path / "none")
    load.cache_clear()
    namm_for.cache_clear()
    torch.manual_seed(0)
    new_model(recipe(NAME)).save_pretrained(zoo_folder(NAME))
    return NAME


@pytest.mark.parametrize("family", RECALL)
def test_answers_stand_above_the_questions(family: str) -> None:
    samples = Source(recipe(NAME), "validation", 0).draw(4, 128, family)
    origins = samples.origins()
    found = origins[samples.answers]
    assert samples.tokens.shape == (4, 128)
    assert int(samples.answers.sum()) > 0
    assert float((found >= 0).float().mean()) == 1.0
    copied = samples.tokens.gather(1, origins.clamp_min(0))
    assert bool((copied == samples.tokens)[samples.answers].all())


def test_a_seed_gives_its_samples_again() -> None:
    first, second = (Source(recipe(NAME), "train", 3, 0.5).draw(5, LENGTH) for _ in range(2))
    other = Source(recipe(NAME), "train", 4, 0.5).draw(5, LENGTH)
    assert first.tokens.tolist() == second.tokens.tolist()
    assert first.tokens.tolist() != other.tokens.tolist()


@pytest.mark.parametrize("pooled", [False, True])
def test_candidates_in_one_batch_answer_as_alone(untrained: str, *, pooled: bool) -> None:
    judge = draw(untrained, "train", 0, 2, LENGTH)
    how = Conditions(16, 0.4, pooled)
    namm = calibrated(blank("logarithm", 16, 4172), judge.model, judge.samples.tokens)
    vectors = torch.randn(3, 4172, generator=torch.Generator().manual_seed(0)) * 0.1
    together = candidates(judge, namm, vectors, how)
    for vector, values in zip(vectors, together, strict=True):
        alone = NammPolicy(replace(namm, parameters=vector), budget=how.budget, state="float32")
        torch.testing.assert_close(under(judge, alone, how), values, atol=1e-4, rtol=1e-4)


def test_another_scale_shifts_logarithms_by_a_constant() -> None:
    namm, age = blank("logarithm", 16, 4172), torch.full((40,), 100)
    spectrum = torch.rand(40, 17, generator=torch.Generator().manual_seed(0)) + 1.0
    moved = namm.features(8.0 * spectrum, age) - namm.features(spectrum, age)
    assert moved.shape == (40, FEATURES)
    assert float(moved[:, 8:].std(0).max()) < 1e-3


def test_an_evolution_that_was_stopped_continues(untrained: str, tmp_path: Path) -> None:
    settings = ZooEvolution(
        trained=(untrained,), population=4, generations=3, models=1, samples=1, validate_every=100
    )
    whole = evolve(settings, tmp_path / "whole", minutes=5)
    evolve(replace(settings, generations=1), tmp_path / "parts", minutes=5)
    continued = evolve(settings, tmp_path / "parts", minutes=5)
    torch.testing.assert_close(continued, whole, atol=1e-5, rtol=1e-5)
    lines = (tmp_path / "parts" / LOG).read_text().splitlines()
    assert [json.loads(line)["generation"] for line in lines] == [1, 2, 3]
    tensors, _ = read_tensors(tmp_path / "parts" / STATE)
    assert int(tensors["g"]) == 3
    told, vector = mean_vector(tmp_path / "parts")
    assert told.generations == 3
    torch.testing.assert_close(vector, continued)
    assert vector.shape == (LAYOUTS["bam"].size,)


def test_a_model_that_was_not_trained_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMM_MM_CACHE", str(tmp_path))
    monkeypatch.setattr(training, "COMMITTED", tmp_path / "none")
    load.cache_clear()
    with pytest.raises(RunError, match=r"namm-mm build zoo models=\[gpt2_small\]"):
        load("gpt2_small")


def test_an_unknown_model_is_refused_before_any_training() -> None:
    with pytest.raises(UsageError, match="llama_small"):
        BuildZoo(models=("llama_smal",)).build(lambda _line: None)


def test_a_trained_model_is_not_trained_again(untrained: str) -> None:
    said: list[str] = []
    BuildZoo(models=(untrained,)).build(said.append)
    assert said == [f"{untrained}: is there"]


def test_the_shapes_of_the_zoo_differ() -> None:
    shapes = {(r.family, r.heads, r.kv_heads, r.head_dim, r.layers) for r in RECIPES.values()}
    assert len(shapes) == len(RECIPES)
