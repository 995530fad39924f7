"""Settings of an evolution, as frozen dataclasses: a start, and stages that follow each other."""

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
    """The NAMM that a search starts from.

    Attributes
    ----------
    checkpoint
        A bundled NAMM or a file, which brings gamma, interval and statistics. None starts with a
        BAM of zeros; the fields below apply only then.
    bias
        Score of every token at the start. At 0, as published, the first step of a small population
        can evict everything; above 0 everything is kept at first.
    gamma, interval
        Decay of the spectrogram, and tokens between two updates.
    statistics_prompts
        Prompts of the first stage on which the features are measured with the full cache.
    statistics_clip
        Quantile at which the features are clipped before their mean and variance are taken. None
        pools all values, as published; attention sinks then set the scale.
    relative
        Use attention relative to an equal share, which has the same scale in short and in long
        contexts, instead of the published features.
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
    """One stage of an evolution.

    Attributes
    ----------
    task
        Source of the prompts; its families count as tasks.
    generations
        Generations of the stage.
    strategy
        ``cma`` (the covariance is decomposed when it has changed), ``cma_official`` (in every
        generation, as published) or ``sep_cma``.
    subspace
        Parameters that are searched: ``all``, ``output`` or ``score``.
    steps
        ``plain``, as published, or ``fitted``: see :mod:`namm_mm.evolution.search_space`.
    population, sigma
        Candidates per generation, and the first step size.
    prompts
        Prompts per generation, the same for all candidates, spread evenly over the families.
    pool
        Training prompts to draw from; None takes all prompts of the task.
    fitness, penalty, free_fraction, loss_clip
        See :class:`namm_mm.evolution.fitness.Fitness`.
    budget
        ``threshold``, ``threshold:N`` with a hard limit, or a budget of
        :mod:`namm_mm.policies.budgets`.
    storage
        ``shared`` or ``per_head``.
    probed
        Whether a probe of the model divides the budget among its heads
        (:class:`namm_mm.policies.probed.Probed`); needs a budget with a size, and ``per_head``.
    validation_prompts, validate_every
        The mean is validated on so many fixed prompts, at the start and every so many generations.
    average
        The average of so many last means is validated too (Polyak and Juditsky 1992): a mean is
        biased to the prompts of its last generations, and the average less so. 0 validates the
        mean alone, as published.
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
    penalty: float = 0.0
    free_fraction: float = 0.0
    loss_clip: float | None = None
    budget: str = "threshold"
    storage: str = "shared"
    probed: bool = False
    validation_prompts: int = 24
    validate_every: int = 10
    average: int = 0


@dataclass(frozen=True)
class EvolutionSettings:
    """Everything that is needed to repeat a run.

    Attributes
    ----------
    output, folder
        The run folder is `folder`, or a new ``OUTPUT/NAME/TIME``. A run that is in the folder is
        continued.
    minutes
        The run stops after the generation in which so many minutes have passed; None has no limit.
    execution
        What runs the evaluations. The results do not depend on it.
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
        """Return plain values that :func:`namm_mm.evolution.reading.from_mapping` reads."""
        stages = {}
        for stage in self.stages:
            plain = {key: value for key, value in asdict(stage).items() if key != "name"}
            if not stage.probed:  # runs from before this choice have no such key
                del plain["probed"]
            stages[stage.name] = {
                **plain,
                "task": {"name": stage.task.name, **stage.task.options},
            }
        start = asdict(self.start)
        if not self.start.relative:  # runs from before this choice have no such key
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
        """The values that the results may depend on."""
        elsewhere = ("output", "folder", "minutes", "wandb", "execution")
        return {key: value for key, value in self.as_mapping().items() if key not in elsewhere}

    @property
    def config_hash(self) -> str:
        """SHA-256 of the canonical JSON of :attr:`deciding`."""
        text = json.dumps(self.deciding, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
