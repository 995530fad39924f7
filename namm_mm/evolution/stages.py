"""What an evolution is, as frozen dataclasses: a start, and stages that build on each other.

:func:`from_mapping` checks everything before any model loads and raises one
:class:`~namm_mm.errors.UsageError` that lists every problem.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from namm_mm.execution import ExecutionSettings
from namm_mm.registry.reader import Choice

STRATEGIES = ("cma", "cma_official", "sep_cma")


@dataclass(frozen=True)
class StartSettings:
    """Where a search starts.

    Attributes
    ----------
    checkpoint
        A bundled NAMM or a file, which brings gamma, interval and statistics; None starts with a
        BAM of zeros.
    bias
        Without a checkpoint: score of every token at the start. At the published 0 a first step of
        a small population can evict everything; above 0 everything is kept at first.
    gamma, interval
        Without a checkpoint: the spectrogram's memory, and tokens between two updates.
    statistics_prompts
        Without a checkpoint: prompts of the first stage on which the features are measured, with
        the full cache.
    statistics_clip
        Without a checkpoint: quantile at which the features are cut off before their mean and
        variance are taken; None pools all of them, as published, and lets sinks set the scale.
    relative
        Without a checkpoint: see attention relative to an equal share, which looks alike in short
        contexts and long ones, and not the published features.
    """

    checkpoint: str | None = None
    bias: float = 1.0
    gamma: float = 0.999
    interval: int = 128
    statistics_prompts: int = 10
    statistics_clip: float | None = 0.98
    relative: bool = False


@dataclass(frozen=True)
class StageSettings:
    """One stage.

    Attributes
    ----------
    task
        Where prompts come from; its families count as tasks.
    generations
        How many.
    strategy
        ``cma`` (covariance decomposed when it has changed), ``cma_official`` (every generation, as
        published) or ``sep_cma``.
    subspace
        Parameters that move: ``all``, ``output`` or ``score``.
    steps
        ``plain``, as published, or ``fitted``: see :mod:`namm_mm.evolution.search`.
    population, sigma
        Candidates per generation, and the first step size.
    prompts
        Prompts per generation, the same for all candidates, spread over the families.
    pool
        Training prompts to draw from; None takes all of the task.
    fitness, price, allowance, floor
        See :class:`namm_mm.evolution.fitness.Fitness`.
    budget
        ``threshold``, with a hard limit ``threshold:N``, or a budget of
        :mod:`namm_mm.policies.budgets`.
    storage
        ``shared`` or ``per_head``.
    validation_prompts, validate_every
        The mean is tried on a fixed batch at the start and every so many generations.
    average
        With it the average of so many last means is tried: a mean follows the prompts of its last
        generations, and the average less so (Polyak and Juditsky 1992). 0 tries the mean alone, as
        published.
    """

    name: str
    task: Choice
    generations: int = 100
    strategy: str = "cma"
    subspace: str = "all"
    steps: str = "plain"
    population: int = 32
    sigma: float = 0.065
    prompts: int = 64
    pool: int | None = None
    fitness: str = "likelihood"
    price: float = 0.0
    allowance: float = 0.0
    floor: float | None = None
    budget: str = "threshold"
    storage: str = "shared"
    validation_prompts: int = 24
    validate_every: int = 10
    average: int = 0


@dataclass(frozen=True)
class EvolutionSettings:
    """All that a run needs to be made again.

    Attributes
    ----------
    output, folder
        The run folder is `folder`, or a new ``OUTPUT/NAME/TIME``. A folder that holds a run is
        gone on with.
    minutes
        Stop after the generation in which so many minutes are over; None never does.
    execution
        What runs the evaluations; the numbers do not depend on it.
    """

    name: str
    adapter: Choice
    start: StartSettings
    stages: tuple[StageSettings, ...]
    seed: int = 0
    output: Path = Path("runs")
    folder: Path | None = None
    minutes: float | None = None
    wandb: str | None = None
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)

    def as_mapping(self) -> dict[str, Any]:
        """Return plain values that :func:`from_mapping` reads back."""
        stages = {}
        for stage in self.stages:
            plain = {key: value for key, value in asdict(stage).items() if key != "name"}
            stages[stage.name] = {
                **plain,
                "task": {"name": stage.task.name, **stage.task.options},
            }
        start = asdict(self.start)
        if not self.start.relative:  # so that runs from before there was a choice go on
            del start["relative"]
        return {
            "name": self.name,
            "seed": self.seed,
            "adapter": {"name": self.adapter.name, **self.adapter.options},
            "start": start,
            "stages": stages,
            "output": self.output.as_posix(),
            "folder": self.folder.as_posix() if self.folder else None,
            "minutes": self.minutes,
            "wandb": self.wandb,
            "execution": self.execution.as_mapping(),
        }

    @property
    def deciding(self) -> dict[str, Any]:
        """What the numbers may depend on."""
        elsewhere = ("output", "folder", "minutes", "wandb", "execution")
        return {key: value for key, value in self.as_mapping().items() if key not in elsewhere}

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON of :attr:`deciding`."""
        text = json.dumps(self.deciding, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
