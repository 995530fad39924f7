"""What an evolution is, as frozen dataclasses: a start, and stages that build on each other.

:func:`from_mapping` checks everything before any model loads and raises one
:class:`~namm_mm.errors.UsageError` that lists every problem.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from namm_mm.errors import UsageError
from namm_mm.evolution import fitness
from namm_mm.evolution.search import STEPS, SUBSPACES
from namm_mm.execution import ExecutionSettings
from namm_mm.execution import settings as execution_settings
from namm_mm.reader import Choice, Reader
from namm_mm.records import STORAGES
from namm_mm.settings import WANDB_MODES, listed

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
        ``threshold``, with a hard limit ``threshold:N``, or a budget of :mod:`namm_mm.budgets`.
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


KEYS = tuple(EvolutionSettings.__dataclass_fields__)
START_KEYS = tuple(StartSettings.__dataclass_fields__)
STAGE_KEYS = tuple(key for key in StageSettings.__dataclass_fields__ if key != "name")


def from_mapping(data: Mapping[str, Any]) -> EvolutionSettings:
    """Make settings from plain values and check them all.

    Raises
    ------
    UsageError
        One message for all problems.
    """
    from namm_mm.evolution import check

    reader = Reader(data, "")
    reader.allow(KEYS)
    stages = reader.mapping("stages", expected="at least one stage")
    folder = reader.data.get("folder")
    settings = EvolutionSettings(
        name=reader.text("name", "evolution"),
        adapter=reader.choice("adapter"),
        start=_start(reader),
        stages=tuple(_stage(name, stage, reader) for name, stage in stages.items()),
        seed=reader.integer("seed", 0, minimum=0) or 0,
        output=Path(reader.text("output", "runs")).expanduser(),
        folder=Path(reader.text("folder", "")).expanduser() if folder is not None else None,
        minutes=reader.optional("minutes"),
        wandb=reader.one_of("wandb", WANDB_MODES, "") or None,
        execution=execution_settings.read(reader),
    )
    problems = [*reader.problems, *check.problems(settings)]
    if problems:
        raise UsageError(listed(problems))
    return settings


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say what differs between two plain mappings: ``stages.first.sigma: 0.1 -> 0.2``."""
    before, after = dict(_flat(old, "")), dict(_flat(new, ""))
    return [
        f"{key}: {before.get(key, 'nothing')!r} -> {after.get(key, 'nothing')!r}"
        for key in sorted({*before, *after})
        if before.get(key, "nothing") != after.get(key, "nothing")
    ]


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, list(value) if isinstance(value, tuple) else value


def _start(parent: Reader) -> StartSettings:
    reader = Reader(parent.data.get("start") or {}, "start.", parent.problems)
    reader.allow(START_KEYS)
    given = reader.data.get("checkpoint")
    default = StartSettings()
    return StartSettings(
        checkpoint=reader.text("checkpoint", "") if given is not None else None,
        bias=reader.number("bias", default.bias, minimum=0.0),
        gamma=reader.number("gamma", default.gamma, minimum=0.0, above=True),
        interval=reader.integer("interval", default.interval, minimum=1) or 1,
        statistics_prompts=reader.integer(
            "statistics_prompts", default.statistics_prompts, minimum=1
        )
        or 1,
        statistics_clip=(
            reader.optional("statistics_clip")
            if "statistics_clip" in reader.data
            else default.statistics_clip
        ),
        relative=reader.boolean("relative", default.relative),
    )


def _stage(name: str, data: Any, parent: Reader) -> StageSettings:
    reader = Reader(data, f"stages.{name}.", parent.problems)
    reader.allow(STAGE_KEYS)
    default = StageSettings(name, Choice(""))

    def count(key: str, minimum: int = 1) -> int:
        standard: int = getattr(default, key)
        return reader.integer(key, standard, minimum=minimum) or standard

    return StageSettings(
        name=name,
        task=reader.choice("task"),
        generations=count("generations"),
        strategy=reader.one_of("strategy", STRATEGIES, default.strategy),
        subspace=reader.one_of("subspace", SUBSPACES, default.subspace),
        steps=reader.one_of("steps", STEPS, default.steps),
        population=count("population", 4),
        sigma=reader.number("sigma", default.sigma, minimum=0.0, above=True),
        prompts=count("prompts"),
        pool=reader.integer("pool", None, minimum=1),
        fitness=reader.one_of("fitness", fitness.KINDS, default.fitness),
        price=reader.number("price", 0.0, minimum=0.0),
        allowance=reader.number("allowance", 0.0, minimum=0.0),
        floor=reader.optional("floor"),
        budget=reader.text("budget", default.budget),
        storage=reader.one_of("storage", STORAGES, default.storage),
        validation_prompts=count("validation_prompts"),
        validate_every=count("validate_every"),
        average=reader.integer("average", 0, minimum=0) or 0,
    )
