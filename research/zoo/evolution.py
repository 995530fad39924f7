"""Evolve a NAMM on several models of the zoo at once, under the evictions themselves.

Every generation draws models, samples, intervals and budgets anew; all candidates see the same. The
search is the paper's CMA-ES, or its separable form where thousands of parameters are searched. The
folder holds the whole state after every generation, so that a run that was stopped continues.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from namm_mm.evolution.cma_es import CmaEs
from namm_mm.evolution.search_space import SearchSpace, indices
from namm_mm.evolution.sep_cma import SepCma
from namm_mm.evolution.state import read_tensors, write_tensors
from namm_mm.evolution.strategy import Strategy
from namm_mm.namm import Namm
from namm_mm.namm.params import LAYOUTS
from research.zoo.judging import Case, Conditions, candidates, draw, fitness
from research.zoo.training import LENGTH
from research.zoo.variants import blank, calibrated

STATE, LOG, VALIDATIONS = "state.safetensors", "generations.jsonl", "validations.jsonl"
LARGEST = 500  # parameters that a full covariance is kept for
INTERVALS, FRACTIONS = (16, 32), (0.15, 0.25, 0.4, 0.6)
POOLED = 0.3  # part of the draws in which the heads of a layer share their size
FIXED = (Conditions(16, 0.25), Conditions(16, 0.4), Conditions(32, 0.4, pooled=True))
CALIBRATION = 6  # training samples of a model on which its statistics are measured


@dataclass(frozen=True)
class ZooEvolution:
    """What is evolved, on what.

    Attributes
    ----------
    variant
        What the NAMM sees: see :mod:`research.zoo.variants`.
    subspace
        ``score`` (26 parameters), ``output`` (76) or ``all``.
    trained, left_out
        Models of the zoo that a generation draws from, and those of the validation.
    population, generations, sigma, seed
        Of the search.
    models, samples, length
        Models of a generation, samples of each, and their tokens.
    validate_every, validation_samples
        Generations between two validations of the mean, and samples of each model there.
    """

    variant: str = "relative"
    subspace: str = "score"
    trained: Sequence[str] = ()
    left_out: Sequence[str] = ()
    population: int = 32
    generations: int = 200
    sigma: float = 0.2
    seed: int = 0
    models: int = 2
    samples: int = 2
    length: int = 128
    validate_every: int = 20
    validation_samples: int = 24


def evolve(
    settings: ZooEvolution,
    folder: Path,
    start: Tensor | None = None,
    *,
    minutes: float,
    say: Callable[[str], None] = print,
) -> Tensor:
    """Run until the generations or the minutes are over, and return the vector of the mean.

    Parameters
    ----------
    start
        (4172,) where the search begins; None is zeros.
    """
    folder.mkdir(parents=True, exist_ok=True)
    space = _space(settings, start)
    strategy, begun = _strategy(settings, len(space.index)), time.monotonic()
    if (folder / STATE).is_file():
        tensors, _ = read_tensors(folder / STATE, "the state of the evolution")
        strategy.load(tensors)
        space = replace(space, origin=tensors["origin"])
    while strategy.generation < settings.generations:
        if strategy.generation % settings.validate_every == 0:
            _validate(settings, folder, strategy, space, say)
        if time.monotonic() - begun > 60.0 * minutes:
            break
        clock = time.process_time()
        points = strategy.ask()
        found, drawn = _generation(settings, strategy.generation, space.vectors(points))
        strategy.tell(found.double(), points)
        state = {**strategy.state(), "origin": space.origin}
        write_tensors(folder / STATE, state, asdict(settings))
        line = {
            "generation": strategy.generation,
            "mean": round(float(found.mean()), 4),
            "best": round(float(found.max()), 4),
            "sigma": round(strategy.sigma, 4),
            "cpu_seconds": round(time.process_time() - clock, 2),
            "drawn": drawn,
        }
        _append(folder / LOG, line)
    return space.vectors(strategy.mean[None])[0]


def mean_vector(folder: Path) -> tuple[ZooEvolution, Tensor]:
    """Return the settings of a run, and the vector (4172,) of its mean as it is now."""
    tensors, told = read_tensors(folder / STATE, "the state of the evolution")
    settings = ZooEvolution(**told)
    space = _space(settings, tensors["origin"])
    return settings, space.vectors(tensors["mean"][None])[0]


def _space(settings: ZooEvolution, start: Tensor | None) -> SearchSpace:
    layout = LAYOUTS["bam"]
    origin = torch.zeros(layout.size) if start is None else start
    return SearchSpace(origin.double(), indices(layout, settings.subspace))


def _strategy(settings: ZooEvolution, size: int) -> Strategy:
    kind = CmaEs if size <= LARGEST else SepCma
    zeros = torch.zeros(size, dtype=torch.float64)
    return kind(zeros, settings.sigma, settings.population, seed=settings.seed)


def _generation(
    settings: ZooEvolution, generation: int, vectors: Tensor
) -> tuple[Tensor, list[list[object]]]:
    """Return the fitness (candidate,) and what it was measured on."""
    random = np.random.default_rng([settings.seed, generation])
    names = random.choice(settings.trained, min(settings.models, len(settings.trained)), False)
    values, drawn = [], []
    for name in map(str, names):
        interval, fraction = int(random.choice(INTERVALS)), float(random.choice(FRACTIONS))
        how = Conditions(interval, fraction, bool(random.random() < POOLED))
        seed = 1_000_000 * settings.seed + 1000 * generation + int(random.integers(1000))
        judge = draw(name, "train", seed, settings.samples, settings.length)
        namm = namm_for(settings.variant, name, interval)
        values.append(fitness(candidates(judge, namm, vectors, how), judge))
        drawn.append([name, how.interval, how.budget])
    return torch.stack(values).mean(0), drawn


@lru_cache(maxsize=64)
def namm_for(variant: str, name: str, interval: int) -> Namm:
    """Return a NAMM of zeros with the statistics of a model of the zoo."""
    judge = draw(name, "train", 0, CALIBRATION, LENGTH)
    namm = blank(variant, interval, LAYOUTS["bam"].size)
    return calibrated(namm, judge.model, judge.samples.tokens)


@lru_cache(maxsize=32)
def validation(name: str, samples: int) -> Case:
    """Return the fixed validation samples of a model."""
    return draw(name, "validation", 0, samples, LENGTH)


def _validate(
    settings: ZooEvolution,
    folder: Path,
    strategy: Strategy,
    space: SearchSpace,
    say: Callable[[str], None],
) -> None:
    vector = space.vectors(strategy.mean[None])
    found = {}
    for name in settings.left_out:
        judge = validation(name, settings.validation_samples)
        for how in FIXED:
            namm = namm_for(settings.variant, name, how.interval)
            value = fitness(candidates(judge, namm, vector, how), judge)
            found[f"{name} {how.budget} {how.interval}"] = round(float(value[0]), 4)
    line = {"generation": strategy.generation, **found}
    _append(folder / VALIDATIONS, line)
    say(json.dumps(line))


def _append(path: Path, line: Mapping[str, object]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
